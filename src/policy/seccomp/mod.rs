//! Seccomp: readable profiles, and their compilation to the classic BPF that the kernel runs on each call.
//!
//! A profile is a list of [`Rule`]s; the first that fits a call decides it, else the default. [`Filter::decide`]
//! is that definition in Rust; the compiled program must agree with it for every call, and tests hold it to that.

mod action;
mod assemble;
mod compile;
mod filter;
pub mod instruction;
#[cfg(test)]
mod interpret;
mod names;
mod oci;
mod profile;
mod profiles;
mod search;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use assemble::{Assembler, Label};
pub use compile::{CompileError, LONGEST_PROGRAM};
pub use filter::{Call, Condition, Filter, Rule, Test};
pub use names::{NATIVE_ARCH, call_name, call_number};
pub(super) use profiles::{BUILT_IN, Profiles, check_file};
pub use search::search;
