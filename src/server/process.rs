use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use rustix::fs::Mode;
use tonic::service::Routes;

use crate::config::Config;
use crate::isolation::ipc::Channel;

use super::logging::{self, LogLevel};
use super::shutdown::Signals;
use super::{Prepared, Running, Server, ServerError};

/// More have nothing to do: launching and moving output is the work of other processes.
const MOST_WORKERS: usize = 4;

/// The life of the server process: serves until it is told to end, or its launcher is gone.
///
/// `services` makes the gRPC services; it is called within the runtime.
pub fn run<S>(config: Config, prepared: Prepared, channel: Channel, services: S) -> ExitCode
where
    S: FnOnce(&Arc<Server>) -> Routes,
{
    let log_level = logging::start(&config.log.level);
    crate::sys::share_heap();
    // What the launcher blocks for its own sake is inherited.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        tracing::error!(%errno, "unblocking signals");
        return ExitCode::FAILURE;
    }
    // The database and its log are nobody else's.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    crate::sys::find_hosts_without_libraries();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .max_blocking_threads(16)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "starting the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(serve(config, prepared, channel, log_level, services));
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the server ends");
            ExitCode::FAILURE
        }
    }
}

/// Half of the CPUs, which leaves the other half to those processes. Two on two CPUs mostly wake each other.
fn workers() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus / 2).clamp(1, MOST_WORKERS)
}

async fn serve<S>(
    config: Config,
    prepared: Prepared,
    channel: Channel,
    log_level: Option<LogLevel>,
    services: S,
) -> Result<ExitCode, ServerError>
where
    S: FnOnce(&Arc<Server>) -> Routes,
{
    // Before anything that a signal should end in order.
    let mut signals = Signals::catch()?;
    let mut running = Running::start(config, prepared, channel, services).await?;
    let lost = running.launcher_lost();
    tokio::select! {
        lost = lost => Err(lost),
        code = signals.obey(running, log_level) => Ok(code),
    }
}
