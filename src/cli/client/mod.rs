//! The gRPC client: the connection to a worker and what its failures look like.

use std::error::Error;

use super::error::CliError;

mod address;
mod connect;
mod retry;
mod start_request;
mod status;

pub(super) use address::Address;
pub(super) use connect::{ConnectError, Worker, connect, connect_to};
pub(super) use retry::Patience;
pub(super) use start_request::start_request;
pub(super) use status::{connection_lost, describe, names_field};

/// The cause of an error of the transport, whose outer layers say only "transport error".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Runs a client to its end on this one thread.
///
/// Never inlined: its stack holds all of the future, and the stack of who calls it would be touched as far as that reaches,
/// by subcommands that have no future, too.
#[inline(never)]
pub(super) fn block_on<T, F>(work: impl FnOnce() -> F) -> Result<T, CliError>
where
    F: Future<Output = Result<T, CliError>>,
{
    crate::sys::find_hosts_without_libraries();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(work())
}
