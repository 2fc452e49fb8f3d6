//! The sandbox itself, one file per kernel feature. Runs in the supervisor, but for [`stub`], which becomes
//! the payload.

mod builder;
pub mod by_users;
mod devices;
pub mod etc;
pub mod files;
pub mod identity;
pub mod landlock;
pub mod namespaces;
pub mod network;
pub mod parts;
pub mod plan;
pub mod proc;
pub mod receipt;
pub mod rlimits;
pub mod room;
pub mod rootfs;
pub mod scratch;
pub mod seccomp;
pub mod stub;
pub mod template;
mod unmapped;
