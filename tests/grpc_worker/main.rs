//! The server and its gRPC services, against a launcher that does what the test says.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod lifecycle;
mod listing;
mod old_contract;
mod output;
mod python;
mod records;
mod registration;
mod requests;
mod restart;
mod retention;
mod tenants;
mod tls;
mod transport;
mod watch;
