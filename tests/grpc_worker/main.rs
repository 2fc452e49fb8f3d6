//! The server and its gRPC services, against a launcher that does what the test says.

#[path = "../support/mod.rs"]
mod support;

mod lifecycle;
