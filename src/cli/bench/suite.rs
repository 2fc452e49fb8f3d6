//! The measurements in their order.

use std::sync::Arc;
use std::time::Duration;

use super::commands::Launch;
use super::load::{self, COMMAND};
use super::{
    BenchArgs, BenchError, Durability, Host, Interruption, Load, Measurement, Part, Plan, PrivateWorker,
    Progress, Results, Settings, output, peers,
};
use crate::cli::client::Address;
use crate::cli::client_options::TlsOptions;

const REST: Duration = Duration::from_millis(100);
const FLOOD_BYTES: u64 = 128 << 20;
const FLOODS: usize = 3;
const DELAYED_LINES: usize = 200;
const MIB: f64 = 1_048_576.0;

/// The worker that is measured.
#[derive(Debug)]
pub(super) struct Target {
    private: Option<PrivateWorker>,
    address: Address,
    tls: TlsOptions,
    load: Load,
    description: String,
}

impl Target {
    pub(super) async fn open(args: &BenchArgs, interruption: &Interruption) -> Result<Self, BenchError> {
        let (private, address, description) = match &args.endpoint {
            Some(address) => (None, address.clone(), address.to_string()),
            None => {
                let durability = args.durability.unwrap_or(Durability::Power);
                let settings = Settings {
                    durability,
                    max_running: 1024.max(args.clients as usize),
                    scripts_dir: None,
                };
                let worker = PrivateWorker::start(&own_binary()?, settings)?;
                let address = Address::Unix(worker.socket());
                let description = format!("its own, durability = \"{}\"", durability.word());
                (Some(worker), address, description)
            }
        };
        // The environment's are for a worker that is named.
        let tls = args
            .endpoint
            .as_ref()
            .map_or_else(TlsOptions::default, |_| args.tls.clone());
        let load = Load::connect(&address, &tls, interruption.clone()).await?;
        Ok(Self {
            private,
            address,
            tls,
            load,
            description,
        })
    }

    /// Another connection for the same jobs.
    async fn another(&self) -> Result<Load, BenchError> {
        let load = Load::connect(&self.address, &self.tls, self.load.interruption.clone()).await?;
        Ok(load.sharing(&self.load))
    }

    /// Takes back what a worker of others was given; the own one goes as a whole.
    async fn tidy(&self) -> Result<(), BenchError> {
        match self.private {
            Some(_) => Ok(()),
            None => self.load.remove_jobs().await,
        }
    }

    pub(super) async fn close(self) -> Result<(), BenchError> {
        self.tidy().await?;
        self.private.map_or(Ok(()), PrivateWorker::stop)
    }
}

fn own_binary() -> Result<std::path::PathBuf, BenchError> {
    std::env::current_exe().map_err(BenchError::prepare("finding the own binary"))
}

pub(super) async fn run(
    plan: &Plan,
    target: &Target,
    progress: &Arc<Progress>,
    interruption: &Interruption,
) -> Result<Results, BenchError> {
    let suite = Suite {
        plan,
        target,
        progress,
        interruption,
    };
    let host = Host::examine();
    let mut measurements = Vec::new();
    for part in &plan.parts {
        interruption.check()?;
        measurements.append(&mut suite.measure(*part).await?);
        target.tidy().await?;
    }
    Ok(Results {
        version: env!("CARGO_PKG_VERSION"),
        optimized: !cfg!(debug_assertions),
        host,
        worker: target.description.clone(),
        measurements,
    })
}

struct Suite<'a> {
    plan: &'a Plan,
    target: &'a Target,
    progress: &'a Arc<Progress>,
    interruption: &'a Interruption,
}

impl Suite<'_> {
    async fn measure(&self, part: Part) -> Result<Vec<Measurement>, BenchError> {
        match part {
            Part::Launch => {
                self.latency(
                    part,
                    "StartJob to exit, back to back",
                    self.plan.jobs,
                    Duration::ZERO,
                )
                .await
            }
            Part::Idle => {
                let jobs = self.plan.jobs.div_ceil(10);
                self.latency(part, "StartJob to exit, after 100 ms of rest", jobs, REST)
                    .await
            }
            Part::Throughput => self.throughput().await,
            Part::Run => self.run_itself().await,
            Part::Output => self.floods(part, "a job's output into files").await,
            Part::Follow => self.floods(part, "a job's output to one reader").await,
            Part::Delay => self.delay().await,
            Part::Peers => self.peers().await,
        }
    }

    async fn latency(
        &self,
        part: Part,
        name: &str,
        jobs: usize,
        rest: Duration,
    ) -> Result<Vec<Measurement>, BenchError> {
        let mut load = self.target.load.clone();
        let samples = load.latency(name, jobs, rest, self.progress).await?;
        Ok(vec![Measurement::new(part, name).with_times(samples)])
    }

    async fn throughput(&self) -> Result<Vec<Measurement>, BenchError> {
        let mut measurements = Vec::new();
        for &count in &self.plan.clients {
            let mut clients = Vec::with_capacity(count);
            for _ in 0..count {
                clients.push(self.target.another().await?);
            }
            let name = format!("jobs a second, {count} at one time");
            let found = load::throughput(clients, self.plan.length, &name, self.progress).await?;
            measurements.push(
                Measurement::new(Part::Throughput, name)
                    .with_clients(count)
                    .with_rate(found.per_second, "jobs/s")
                    .with_times(found.samples),
            );
            self.target.tidy().await?;
        }
        Ok(measurements)
    }

    /// Beside it what a process costs without any sandbox: the least that anything here can take.
    async fn run_itself(&self) -> Result<Vec<Measurement>, BenchError> {
        let run = Launch::new(own_binary()?, &["run", "--", COMMAND]);
        let plain = Launch::new(COMMAND, &[]);
        Ok(vec![
            self.timed(Part::Run, "stockade run", &run).await?,
            self.timed(Part::Run, "a plain process, no sandbox", &plain)
                .await?,
        ])
    }

    async fn timed(&self, part: Part, name: &str, launch: &Launch) -> Result<Measurement, BenchError> {
        let samples = launch
            .latency(
                name,
                self.plan.jobs,
                Duration::ZERO,
                self.progress,
                self.interruption,
            )
            .await?;
        Ok(Measurement::new(part, name).with_times(samples))
    }

    /// The best of a few: other work can only slow one down.
    async fn floods(&self, part: Part, name: &str) -> Result<Vec<Measurement>, BenchError> {
        let mut load = self.target.load.clone();
        let mut best = 0.0_f64;
        for done in 0..FLOODS {
            self.progress.begin(&format!("{name} {done}/{FLOODS}"));
            let rate = match part {
                Part::Follow => output::followed(&mut load, FLOOD_BYTES).await?,
                _ => output::unread(&mut load, FLOOD_BYTES).await?,
            };
            best = best.max(rate);
            load.remove_jobs().await?;
        }
        Ok(vec![Measurement::new(part, name).with_rate(best / MIB, "MiB/s")])
    }

    async fn delay(&self) -> Result<Vec<Measurement>, BenchError> {
        let mut load = self.target.load.clone();
        let measurement = Measurement::new(Part::Delay, "from a job's write to its reader");
        Ok(vec![
            match output::delay(&mut load, DELAYED_LINES, self.progress).await {
                Ok(samples) => measurement.with_times(samples),
                Err(BenchError::Unfit(reason)) => measurement.with_note(reason),
                Err(error) => return Err(error),
            },
        ])
    }

    async fn peers(&self) -> Result<Vec<Measurement>, BenchError> {
        let dir = tempfile::Builder::new()
            .prefix("stockade-bench-")
            .tempdir()
            .map_err(BenchError::prepare("a temporary folder"))?;
        let found = peers::installed(dir.path(), &[COMMAND])?;
        if found.is_empty() {
            let note = "neither bwrap, crun, nsjail nor isolate is installed";
            return Ok(vec![Measurement::new(Part::Peers, "others").with_note(note)]);
        }
        let mut measurements = Vec::new();
        for peer in found {
            let measured = self.timed(Part::Peers, peer.name, &peer.launch).await;
            measurements.push(match measured {
                Ok(measurement) => measurement.with_note(peer.isolation),
                // One that cannot run here is no failure of ours.
                Err(error @ BenchError::Failed { .. }) => {
                    Measurement::new(Part::Peers, peer.name).with_note(error.to_string())
                }
                Err(error) => return Err(error),
            });
        }
        Ok(measurements)
    }
}
