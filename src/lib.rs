//! Stockade runs untrusted scripts in sandboxes. ARCHITECTURE.md is the map of this crate.

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
