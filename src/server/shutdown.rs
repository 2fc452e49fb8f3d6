use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::LogLevel;
use super::{Running, ServerError};

/// A terminal sends its signal to the whole process group, and the launcher passes its own on: that is one
/// wish and not two.
const SAME_WISH: Duration = Duration::from_millis(500);

/// The signals that this process answers to.
#[derive(Debug)]
pub(super) struct Signals {
    hang_up: Signal,
    end: End,
}

#[derive(Debug)]
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, ServerError> {
        let catch = |kind| signal(kind).map_err(ServerError::system("catching a signal"));
        Ok(Self {
            hang_up: catch(SignalKind::hangup())?,
            end: End {
                terminate: catch(SignalKind::terminate())?,
                interrupt: catch(SignalKind::interrupt())?,
            },
        })
    }

    /// Waits for the wish to end and fulfils it. A second one ends the process at once.
    pub(super) async fn obey(&mut self, running: Running, log_level: Option<LogLevel>) -> ExitCode {
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => {
                    if let (Some(level), Some(log_level)) = (running.reload().await, &log_level) {
                        log_level.change(&level);
                    }
                }
                () = self.end.wished() => break,
            }
        }
        tracing::info!("shutting down");
        tokio::select! {
            () = running.shut_down() => ExitCode::SUCCESS,
            () = self.end.wished_again() => {
                tracing::warn!("ending at once");
                ExitCode::FAILURE
            }
        }
    }
}

impl End {
    async fn wished(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn wished_again(&mut self) {
        let first = Instant::now();
        loop {
            self.wished().await;
            if first.elapsed() >= SAME_WISH {
                return;
            }
        }
    }
}
