use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade::cli::bench::{BenchError, Durability, Interruption, Load, PrivateWorker, Progress, Settings};

const LONGEST: Duration = Duration::from_secs(1200);
const LONGEST_QUICK: Duration = Duration::from_secs(55);

/// How much is measured, and until when.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) quick: bool,
    pub(crate) progress: Arc<Progress>,
    pub(crate) interruption: Interruption,
    pub(crate) began: Instant,
    deadline: Instant,
}

impl Context {
    pub(crate) fn new(quick: bool, limit: Option<Duration>) -> Result<Self, BenchError> {
        let interruption = Interruption::catch().map_err(|source| BenchError::Prepare {
            what: "signals",
            source,
        })?;
        let usual = if quick { LONGEST_QUICK } else { LONGEST };
        let began = Instant::now();
        Ok(Self {
            quick,
            progress: Arc::new(Progress::on_terminal()),
            interruption,
            began,
            deadline: began + limit.unwrap_or(usual),
        })
    }

    /// The one value in a whole run, the other in a quick one.
    pub(crate) fn scaled<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// Whether there is time for something that takes about so long. A table that ends early says so.
    pub(crate) fn has_time_for(&self, length: Duration) -> bool {
        Instant::now() + length < self.deadline
    }

    pub(crate) fn binary() -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_stockade"))
    }

    pub(crate) async fn worker(&self, durability: Durability) -> Result<(PrivateWorker, Load), BenchError> {
        self.worker_with_scripts(durability, None).await
    }

    pub(crate) async fn worker_with_scripts(
        &self,
        durability: Durability,
        scripts_dir: Option<&Path>,
    ) -> Result<(PrivateWorker, Load), BenchError> {
        let settings = Settings {
            durability,
            max_running: 8192,
            scripts_dir,
        };
        let worker = PrivateWorker::start(&Self::binary(), settings)?;
        let load = self.connect(&worker).await?;
        Ok((worker, load))
    }

    pub(crate) async fn connect(&self, worker: &PrivateWorker) -> Result<Load, BenchError> {
        Load::connect_unix(worker.socket(), self.interruption.clone()).await
    }
}

/// Off the runtime's thread, which must go on to see signals.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(BenchError::Unfit(error.to_string())),
    }
}
