use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::BenchError;

/// How long a measurement may take to notice that it is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// SIGINT, SIGTERM and SIGHUP end a benchmark early, but not without its clean-up.
#[derive(Debug, Clone)]
pub struct Interruption(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The signal that came, or 0.
    signal: AtomicU8,
    came: Notify,
}

impl Interruption {
    /// Catches the signals from now on; must be called within the runtime.
    pub fn catch() -> io::Result<Self> {
        let interruption = Self::never();
        for (kind, number) in [
            (SignalKind::interrupt(), 2),
            (SignalKind::terminate(), 15),
            (SignalKind::hangup(), 1),
        ] {
            tokio::spawn(note(interruption.0.clone(), signal(kind)?, number));
        }
        Ok(interruption)
    }

    /// One that does not come.
    #[must_use]
    pub fn never() -> Self {
        Self(Arc::default())
    }

    #[must_use]
    pub fn signal(&self) -> Option<u8> {
        Some(self.0.signal.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// To be asked between two steps of a measurement.
    pub fn check(&self) -> Result<(), BenchError> {
        match self.signal() {
            Some(_) => Err(BenchError::Interrupted),
            None => Ok(()),
        }
    }

    /// `work`, which asks [`Interruption::check`]; where it hangs, it is left.
    pub async fn bound<T, E: From<BenchError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let given_up = async {
            self.0.came.notified().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            done = work => done,
            () = given_up => Err(BenchError::Interrupted.into()),
        }
    }
}

async fn note(state: Arc<State>, mut signal: Signal, number: u8) {
    signal.recv().await;
    state.signal.store(number, Ordering::Relaxed);
    state.came.notify_one();
}
