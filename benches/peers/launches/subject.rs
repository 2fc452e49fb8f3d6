//! What a row launches, and one round of it.

use std::time::Duration;

use stockade::cli::bench::commands::Launch;
use stockade::cli::bench::load::{self, Throughput};
use stockade::cli::bench::{BenchError, Load, PrivateWorker, Samples};
use stockade::proto::v1::StartJobRequest;

use crate::context::{Context, blocking};
use crate::floor::{self, Program, Recipe};

const REST: Duration = Duration::from_millis(100);
const CLIENTS: usize = 8;
const CLIENTS_OF_TAIL: usize = 4;

pub(super) enum Subject<'a> {
    Kernel(Recipe, Program),
    Worker(Box<Client<'a>>),
    Command(Launch),
}

/// Of a worker, with the job that it launches.
pub(super) struct Client<'a> {
    pub(super) worker: &'a PrivateWorker,
    pub(super) load: Load,
    pub(super) job: StartJobRequest,
}

/// What one round has brought.
pub(super) struct Round {
    pub(super) back_to_back: Samples,
    pub(super) rested: Samples,
    pub(super) per_second: f64,
    /// With a few clients, where a worker serves them.
    pub(super) few: Option<Samples>,
}

impl Subject<'_> {
    pub(super) async fn round(&mut self, context: &Context, name: &str) -> Result<Round, BenchError> {
        let (progress, interruption) = (&context.progress, &context.interruption);
        interruption.check()?;
        let rests = context.scaled(30, 5);
        match self {
            Self::Kernel(recipe, program) => {
                progress.begin(name);
                let (recipe, program, length) = (*recipe, *program, length(context));
                let count = context.scaled(500, 100);
                let interruption = interruption.clone();
                blocking(move || {
                    Ok(Round {
                        back_to_back: floor::latency(recipe, program, count, Duration::ZERO)?,
                        rested: floor::latency(recipe, program, rests, REST)?,
                        per_second: floor::throughput(recipe, program, CLIENTS, length, &interruption)?,
                        few: None,
                    })
                })
                .await
            }
            Self::Worker(client) => {
                let Client { worker, load, job } = &mut **client;
                let count = context.scaled(500, 100);
                let back_to_back = load.latency(name, count, Duration::ZERO, progress).await?;
                let rested = load.latency(name, rests, REST, progress).await?;
                let long = context.scaled(Duration::from_secs(10), length(context));
                let several = throughput(context, worker, job, CLIENTS, long).await?;
                let short = context.scaled(Duration::from_secs(2), length(context));
                let few = throughput(context, worker, job, CLIENTS_OF_TAIL, short).await?;
                Ok(Round {
                    back_to_back,
                    rested,
                    per_second: several.per_second,
                    few: Some(few.samples),
                })
            }
            Self::Command(launch) => {
                let count = context.scaled(150, 20);
                let latency = launch.latency(name, count, Duration::ZERO, progress, interruption);
                let back_to_back = latency.await?;
                Ok(Round {
                    back_to_back,
                    rested: launch.latency(name, rests, REST, progress, interruption).await?,
                    per_second: launch.throughput(CLIENTS, length(context), interruption).await?,
                    few: None,
                })
            }
        }
    }
}

/// So many clients, each with a connection of its own, for a while.
pub(crate) async fn throughput(
    context: &Context,
    worker: &PrivateWorker,
    job: &StartJobRequest,
    clients: usize,
    length: Duration,
) -> Result<Throughput, BenchError> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(context.connect(worker).await?.of(job.clone()));
    }
    let name = format!("jobs a second, {clients} clients");
    load::throughput(connections, length, &name, &context.progress).await
}

/// Not much shorter: the kernel takes namespaces down behind those who had them.
fn length(context: &Context) -> Duration {
    context.scaled(Duration::from_secs(4), Duration::from_millis(700))
}
