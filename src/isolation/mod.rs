//! What the gRPC layer hands jobs to: launches them in namespaces and cgroups, and keeps watch over them.

pub mod ipc;
pub mod layout;
