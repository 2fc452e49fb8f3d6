//! Jobs at a worker, timed as their client sees them: from StartJob to the answer of WaitJob.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tonic::Code;
use tonic::transport::Channel;

use super::{BenchError, Interruption, Progress, Samples};
use crate::cli::client::{Address, connect_to};
use crate::cli::client_options::TlsOptions;
use crate::proto::v1::worker_client::WorkerClient;
use crate::proto::v1::{Cause, DeleteJobRequest, Job, StartJobRequest, StopJobRequest, WaitJobRequest};

/// What every tool runs alike: nothing, by a small dynamic program.
pub const COMMAND: &str = "/bin/true";
/// The label of a benchmark's jobs, so that an operator can tell them from others.
const LABEL: &str = "stockade.bench";
/// Calls in flight while a benchmark's jobs are removed.
const REMOVALS: usize = 16;

/// A connection to the worker that is measured, and the jobs that it has been given.
#[derive(Debug, Clone)]
pub struct Load {
    client: WorkerClient<Channel>,
    /// What it launches.
    job: StartJobRequest,
    started: Arc<Mutex<Vec<String>>>,
    pub interruption: Interruption,
}

/// Jobs of several clients in a given time.
#[derive(Debug)]
pub struct Throughput {
    pub per_second: f64,
    pub samples: Samples,
}

impl Load {
    /// Over a Unix socket.
    pub async fn connect_unix(
        path: std::path::PathBuf,
        interruption: Interruption,
    ) -> Result<Self, BenchError> {
        Self::connect(&Address::Unix(path), &TlsOptions::default(), interruption).await
    }

    pub(super) async fn connect(
        address: &Address,
        tls: &TlsOptions,
        interruption: Interruption,
    ) -> Result<Self, BenchError> {
        Ok(Self::over(connect_to(address, tls).await?, interruption))
    }

    fn over(client: WorkerClient<Channel>, interruption: Interruption) -> Self {
        Self {
            client,
            job: nothing(),
            started: Arc::default(),
            interruption,
        }
    }

    /// Launches `job` in place of one that does nothing.
    pub fn of(mut self, job: StartJobRequest) -> Self {
        self.job = job;
        self
    }

    /// The same jobs, by another connection.
    pub fn sharing(mut self, other: &Self) -> Self {
        self.started = Arc::clone(&other.started);
        self
    }

    pub fn client(&self) -> WorkerClient<Channel> {
        self.client.clone()
    }

    /// Starts a job, which [`Load::remove_jobs`] will remove.
    pub async fn start(&mut self, mut request: StartJobRequest) -> Result<String, BenchError> {
        self.interruption.check()?;
        request.labels.insert(LABEL.to_owned(), "1".to_owned());
        let answer = self.client.start_job(request).await?.into_inner();
        let id = answer.job.ok_or(BenchError::Incomplete("job"))?.id;
        self.started().push(id.clone());
        Ok(id)
    }

    /// The end of a job, which must be a success.
    pub async fn wait(&mut self, id: &str) -> Result<Job, BenchError> {
        let request = WaitJobRequest {
            job_id: id.to_owned(),
            timeout_ms: 0,
        };
        let answer = self.client.wait_job(request).await?.into_inner();
        let job = answer.job.ok_or(BenchError::Incomplete("job"))?;
        if job.cause() != Cause::Exited || job.exit_code != Some(0) {
            return Err(BenchError::Job(match job.error_text.as_str() {
                "" => format!("exit code {}", job.exit_code.unwrap_or(-1)),
                text => text.to_owned(),
            }));
        }
        Ok(job)
    }

    /// From the call to the knowledge of the end.
    pub async fn launch(&mut self) -> Result<Duration, BenchError> {
        let before = Instant::now();
        let id = self.start(self.job.clone()).await?;
        self.wait(&id).await?;
        Ok(before.elapsed())
    }

    /// So many launches, one after the other, each after a rest.
    pub async fn latency(
        &mut self,
        name: &str,
        count: usize,
        rest: Duration,
        progress: &Progress,
    ) -> Result<Samples, BenchError> {
        // The first ones fill caches and the worker's stock of sandboxes.
        for _ in 0..count.div_ceil(20).min(10) {
            self.launch().await?;
        }
        let mut times = Vec::with_capacity(count);
        for done in 0..count {
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
            times.push(self.launch().await?);
            progress.step(name, done, count);
        }
        Samples::new(times).ok_or(BenchError::Incomplete("jobs"))
    }

    /// Removes what the worker keeps of this benchmark's jobs, stopping those that still run.
    pub async fn remove_jobs(&self) -> Result<(), BenchError> {
        let ids = std::mem::take(&mut *self.started());
        let removed = stream::iter(ids)
            .map(|id| remove(self.client.clone(), id))
            .buffer_unordered(REMOVALS)
            .collect::<Vec<_>>();
        removed.await.into_iter().collect()
    }

    fn started(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several clients, each with a connection of its own, for a while.
pub async fn throughput(
    clients: Vec<Load>,
    length: Duration,
    name: &str,
    progress: &Arc<Progress>,
) -> Result<Throughput, BenchError> {
    let began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (name, progress) = (name.to_owned(), Arc::clone(progress));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < length {
                    times.push(client.launch().await?);
                    let (done, of) = (began.elapsed().as_secs(), length.as_secs());
                    progress.step(
                        &name,
                        usize::try_from(done).unwrap_or(0),
                        usize::try_from(of).unwrap_or(0),
                    );
                }
                Ok::<_, BenchError>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(
            task.await
                .map_err(|error| BenchError::Unfit(error.to_string()))??,
        );
    }
    // To the end of the last job: those that were under way at the deadline count, and so does their time.
    let seconds = began.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let per_second = times.len() as f64 / seconds;
    let samples = Samples::new(times).ok_or(BenchError::Incomplete("jobs"))?;
    Ok(Throughput { per_second, samples })
}

/// A job that does nothing.
#[must_use]
pub fn nothing() -> StartJobRequest {
    StartJobRequest {
        argv: vec![COMMAND.to_owned()],
        ..StartJobRequest::default()
    }
}

async fn remove(mut client: WorkerClient<Channel>, id: String) -> Result<(), BenchError> {
    let request = DeleteJobRequest { job_id: id.clone() };
    match client.delete_job(request.clone()).await {
        Err(status) if status.code() == Code::FailedPrecondition => {
            let stop = StopJobRequest {
                job_id: id,
                grace_ms: Some(0),
                reason: "the benchmark is over".to_owned(),
                wait: true,
                ..StopJobRequest::default()
            };
            client.stop_job(stop).await?;
            client.delete_job(request).await?;
            Ok(())
        }
        // Retention was faster.
        Err(status) if status.code() == Code::NotFound => Ok(()),
        done => Ok(done.map(drop)?),
    }
}
