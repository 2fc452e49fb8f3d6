//! Stockade runs untrusted scripts in sandboxes. ARCHITECTURE.md is the map of this crate.

/// What the build script has written.
mod build_output {
    /// See `policy::compile_built_in`. Empty where it could not.
    pub(crate) const POLICIES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policies.bin"));
}

pub mod cli;
pub mod config;
pub mod grpc;
pub mod isolation;
pub mod job;
pub mod policy;
pub mod proto;
pub mod server;
pub mod sys;
pub mod units;
