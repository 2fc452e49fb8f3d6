//! The generated wire types.

mod codec;

/// The existing scheduler's contract.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications
)]
pub mod jobscheduler {
    tonic::include_proto!("jobscheduler");
}

/// Stockade's own interface.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications
)]
pub mod v1 {
    tonic::include_proto!("stockade.v1");
}

/// The compiled descriptors of both, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
