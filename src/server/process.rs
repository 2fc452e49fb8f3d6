use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::fs::Mode;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::config::Config;
use crate::isolation::ipc::Channel;

use super::accept::{TlsSettings, accept};
use super::logging::{self, LogLevel};
use super::registration::Registration;
use super::reload::Reload;
use super::shutdown::Signals;
use super::{Prepared, Server, ServerError, retention};

/// Two are enough: the work is done by the supervisors.
const WORKERS: usize = 2;
/// Against connections whose other end is silently gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
const STREAMS_PER_CONNECTION: u32 = 1024;
/// Between the last answer and the end of the process.
const FAREWELL: Duration = Duration::from_secs(1);

/// The life of the server process: serves until it is told to end, or its launcher is gone.
///
/// `services` makes the gRPC services; it is called within the runtime.
pub fn run<S>(config: Config, prepared: Prepared, channel: Channel, services: S) -> ExitCode
where
    S: FnOnce(&Arc<Server>) -> Routes,
{
    let log_level = logging::start(&config.log.level);
    // What the launcher blocks for its own sake is inherited.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        tracing::error!(%errno, "unblocking signals");
        return ExitCode::FAILURE;
    }
    // The database and its log are nobody else's.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
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
    let mut signals = Signals::catch()?;
    let (server, lost) = Server::start_up(&config, channel).await?;
    let tls = Arc::new(TlsSettings::new(prepared.tls));
    let reload = Reload::new(&config, log_level, Arc::clone(&tls), Arc::clone(&server));
    let listening = prepared.listener.describe();
    let connections = accept(prepared.listener, tls)?;
    let closing = Arc::clone(&server);
    let grpc = tokio::spawn(
        transport()
            .add_routes(services(&server))
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
                closing.closing().await;
            }),
    );
    tokio::spawn(retention::keep_within(Arc::clone(&server), config.retention));
    tracing::info!(address = listening, "serving");
    let registration = Registration::start(&config, &listening, prepared.scheduler_tls);
    let outcome = tokio::select! {
        lost = lost => Err(ServerError::Launcher(
            lost.unwrap_or(crate::isolation::ipc::TransportError::Closed),
        )),
        code = signals.until_shut_down(&server, &config.worker, registration, &reload) => Ok(code),
    };
    if outcome.is_ok() {
        // Calls that were answered a moment ago still reach their clients.
        let _ = tokio::time::timeout(FAREWELL, grpc).await;
    }
    outcome
}

/// How gRPC is spoken, for every service alike.
fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
}
