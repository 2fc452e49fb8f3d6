use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{OnShutdown, Worker};
use crate::job::{State, StopOrder};

use super::registration::Registration;
use super::reload::Reload;
use super::{Server, ServerError};

/// A terminal sends its signal to the whole process group, and the launcher passes its own on: that is one
/// wish and not two.
const SAME_WISH: Duration = Duration::from_millis(500);

/// The signals that this process answers to.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, ServerError> {
        let catch = |kind| signal(kind).map_err(ServerError::system("catching a signal"));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the wish to end and fulfils it. A second one ends the process at once.
    pub(super) async fn until_shut_down(
        &mut self,
        server: &Arc<Server>,
        worker: &Worker,
        registration: Option<Registration>,
        reload: &Reload,
    ) -> ExitCode {
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => reload.again(),
                () = end(&mut self.terminate, &mut self.interrupt) => break,
            }
        }
        tracing::info!("shutting down");
        let first = Instant::now();
        let impatient = async {
            loop {
                end(&mut self.terminate, &mut self.interrupt).await;
                if first.elapsed() >= SAME_WISH {
                    return;
                }
            }
        };
        tokio::select! {
            () = shut_down(server, worker, registration) => ExitCode::SUCCESS,
            () = impatient => {
                tracing::warn!("ending at once");
                ExitCode::FAILURE
            }
        }
    }
}

async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn shut_down(server: &Arc<Server>, worker: &Worker, registration: Option<Registration>) {
    server.jobs.close();
    if let Some(registration) = registration {
        registration.end().await;
    }
    let limit = Duration::from_secs(worker.shutdown_timeout_s);
    match worker.on_shutdown {
        OnShutdown::Leave => {}
        OnShutdown::Wait => wait_for_jobs(server, limit).await,
        OnShutdown::Stop => {
            server.jobs.stop_all(&StopOrder {
                signal: None,
                grace_ms: None,
                by: "shutdown".to_owned(),
                reason: "the worker shuts down".to_owned(),
            });
            wait_for_jobs(server, limit).await;
        }
    }
    if let Err(error) = server.store.sync().await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the last changes are not durable"
        );
    }
    server.close();
}

async fn wait_for_jobs(server: &Arc<Server>, limit: Duration) {
    let all_over = async {
        loop {
            let launched = server.jobs.launched();
            if launched.is_empty() {
                return;
            }
            for live in launched {
                live.reached(State::Finished).await;
            }
        }
    };
    if tokio::time::timeout(limit, all_over).await.is_err() {
        tracing::warn!("jobs are still running; the next start takes them up");
    }
}
