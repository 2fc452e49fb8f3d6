//! What a row launches, and one turn of it.

use std::time::Duration;

use stockade::cli::bench::commands::Launch;
use stockade::cli::bench::load::{self, Throughput};
use stockade::cli::bench::{BenchError, Load, PrivateWorker, Samples};
use stockade::proto::v1::StartJobRequest;

use crate::context::{Context, blocking};
use crate::floor::{self, Program, Recipe};

const REST: Duration = Duration::from_millis(100);
/// Before each turn, for what the kernel still has to do for the one before.
const SETTLE: Duration = Duration::from_millis(200);
const SETTLE_LONG: Duration = Duration::from_secs(1);
/// Launches of one turn, and those after a rest.
const COUNT: usize = 100;
const RESTS: usize = 6;
/// They take longer.
const COUNT_OF_COMMANDS: usize = 30;
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

/// The times of one turn.
pub(super) struct Times {
    pub(super) back_to_back: Samples,
    pub(super) rested: Samples,
}

/// What one round of several clients has brought.
pub(super) struct Rates {
    pub(super) per_second: f64,
    /// With a few clients, where a worker serves them.
    pub(super) few: Option<Samples>,
}

impl Subject<'_> {
    pub(super) async fn times(&mut self, context: &Context, name: &str) -> Result<Times, BenchError> {
        tokio::time::sleep(context.scaled(SETTLE, Duration::ZERO)).await;
        Ok(Times {
            back_to_back: self.latency(context, name, COUNT, Duration::ZERO).await?,
            rested: self.latency(context, name, RESTS, REST).await?,
        })
    }

    async fn latency(
        &mut self,
        context: &Context,
        name: &str,
        count: usize,
        rest: Duration,
    ) -> Result<Samples, BenchError> {
        let (progress, interruption) = (&context.progress, &context.interruption);
        interruption.check()?;
        match self {
            Self::Kernel(recipe, program) => {
                progress.begin(name);
                let (recipe, program) = (*recipe, *program);
                blocking(move || floor::latency(recipe, program, count, rest)).await
            }
            Self::Worker(client) => client.load.latency(name, count, rest, progress).await,
            Self::Command(launch) => {
                let count = count.min(COUNT_OF_COMMANDS);
                launch.latency(name, count, rest, progress, interruption).await
            }
        }
    }

    pub(super) async fn rates(&mut self, context: &Context, name: &str) -> Result<Rates, BenchError> {
        let (progress, interruption) = (&context.progress, &context.interruption);
        interruption.check()?;
        tokio::time::sleep(context.scaled(SETTLE_LONG, Duration::ZERO)).await;
        let alone = |per_second| Rates {
            per_second,
            few: None,
        };
        match self {
            Self::Kernel(recipe, program) => {
                progress.begin(name);
                let (recipe, program, length) = (*recipe, *program, length(context));
                let interruption = interruption.clone();
                blocking(move || floor::throughput(recipe, program, CLIENTS, length, &interruption))
                    .await
                    .map(alone)
            }
            Self::Worker(client) => {
                let Client { worker, job, .. } = &**client;
                let long = context.scaled(Duration::from_secs(10), length(context));
                let several = throughput(context, worker, job, CLIENTS, long).await?;
                let short = context.scaled(Duration::from_secs(2), length(context));
                let few = throughput(context, worker, job, CLIENTS_OF_TAIL, short).await?;
                Ok(Rates {
                    per_second: several.per_second,
                    few: Some(few.samples),
                })
            }
            Self::Command(launch) => launch
                .throughput(CLIENTS, length(context), interruption)
                .await
                .map(alone),
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
