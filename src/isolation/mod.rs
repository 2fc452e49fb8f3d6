//! What the gRPC layer hands jobs to: launches them in namespaces and cgroups, and keeps watch over them.

pub mod cgroup;
pub mod doctor;
mod failure;
pub mod ipc;
pub mod launcher;
pub mod layout;
pub mod sandbox;
pub mod supervisor;
pub mod timings;

pub use failure::Failure;
