//! `stockade bench`: what launches and output cost on this host.
//!
//! The measuring parts are public: benches/peers writes docs/performance.md with them.

pub mod commands;
mod error;
mod histogram;
mod host;
pub mod load;
mod oci;
pub mod output;
mod peers;
mod private;
mod progress;
mod report;
mod result;
mod samples;
mod signals;
mod suite;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::client::Address;
use super::client_options::{FormatOption, TlsOptions};
use super::error::CliError;
use super::print;
use super::render::Style;

pub use error::BenchError;
pub use host::Host;
pub use load::Load;
pub use peers::{Peer, installed};
pub use private::{Durability, PrivateWorker, Settings};
pub use progress::Progress;
pub use result::{Measurement, Part, Rate, Results, Times};
pub use samples::Samples;
pub use signals::Interruption;

/// Measure what launches and output cost on this host
///
/// Starts a worker of its own in a temporary folder, on a Unix socket, with the policy `default`; or asks the one
/// at --endpoint. All of it runs /bin/true, or writes output, one part after the other. Nothing is left behind:
/// at another worker the jobs of this benchmark are deleted when they have been counted.
///
/// Where bwrap, crun, nsjail or isolate are installed, they run the same command, with isolation as alike as
/// each of them allows. Figures are worth what the quiet of the machine is worth.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    format: FormatOption,

    /// Launches of each latency measurement
    ///
    /// 1 to 1000000. After 100 ms of rest it is a tenth of them. Default: 300. Example: --jobs 1000
    #[arg(long, value_name = "N", default_value_t = 300, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,

    /// How long each throughput measurement runs
    ///
    /// Seconds, 1 to 3600. Default: 3. Example: --seconds 10
    #[arg(long, value_name = "N", default_value_t = 3, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Clients that start jobs at one time, at most
    ///
    /// 1 to 1024. Throughput is measured with 1, 2, 4, … up to so many. Default: 8. Example: --clients 64
    #[arg(long, value_name = "N", default_value_t = 8, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,

    /// Only these parts: launch, idle, throughput, run, output, follow, delay, peers
    ///
    /// Separated by commas. launch: back to back; idle: after 100 ms of rest; run: `stockade run` and a plain
    /// process; output: a job's output into files; follow: to one reader; delay: from the write to the reader.
    /// Default: all. Example: --only launch,throughput
    #[arg(long, value_name = "PARTS", value_delimiter = ',', action = ArgAction::Append)]
    #[arg(hide_possible_values = true)]
    only: Vec<Part>,

    /// Leave out bwrap, crun, nsjail and isolate
    ///
    /// Default: off. Example: --no-peers
    #[arg(long)]
    no_peers: bool,

    /// What the own worker's records survive: process or power
    ///
    /// As worker.durability in config.toml: the death of any process, or a loss of power.
    /// Default: power. Example: --durability process
    #[arg(long, value_name = "WHAT", conflicts_with = "endpoint")]
    #[arg(hide_possible_values = true)]
    durability: Option<Durability>,

    /// Measure this worker: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    ///
    /// The environment variable STOCKADE_ENDPOINT is not looked at: it may name a worker with other work to do.
    /// Default: a worker of its own. Example: --endpoint unix:/run/stockade.sock
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    endpoint: Option<Address>,

    #[command(flatten)]
    tls: TlsOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade bench
  stockade bench --only launch,idle --jobs 1000 --durability process
  stockade bench --no-peers -o json | jq '.measurements[].times.p50_us'
  stockade bench --endpoint http://127.0.0.1:50000 --clients 64";

/// How much is measured.
#[derive(Debug, Clone)]
struct Plan {
    parts: Vec<Part>,
    jobs: usize,
    length: Duration,
    clients: Vec<usize>,
}

impl BenchArgs {
    fn plan(&self) -> Result<Plan, CliError> {
        if self.no_peers && self.only.contains(&Part::Peers) {
            return Err(CliError::option("--no-peers", "contradicts --only peers"));
        }
        let wanted = |part: &Part| match part {
            Part::Peers if self.no_peers => false,
            _ => self.only.is_empty() || self.only.contains(part),
        };
        Ok(Plan {
            parts: Part::value_variants().iter().copied().filter(wanted).collect(),
            jobs: self.jobs as usize,
            length: Duration::from_secs(self.seconds),
            clients: doubling(self.clients as usize),
        })
    }
}

/// 1, 2, 4, … and `most`.
fn doubling(most: usize) -> Vec<usize> {
    let below = std::iter::successors(Some(1_usize), |count| count.checked_mul(2));
    below.take_while(|count| *count < most).chain([most]).collect()
}

/// Measures and prints; a signal ends it early, with all cleaned up.
pub(super) async fn execute(args: BenchArgs, style: Style) -> Result<ExitCode, CliError> {
    let plan = args.plan()?;
    let interruption = Interruption::catch().map_err(CliError::Runtime)?;
    let progress = Arc::new(Progress::on_terminal());
    let worker = suite::Target::open(&args, &interruption).await?;
    let outcome = interruption
        .bound(suite::run(&plan, &worker, &progress, &interruption))
        .await;
    progress.clear();
    worker.close().await?;
    if let Some(signal) = interruption.signal() {
        print::note("interrupted; nothing is left behind");
        return Ok(ExitCode::from(signal.saturating_add(128)));
    }
    report::print(&outcome?, args.format.format, style)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_doubled_up_to_the_most() {
        assert_eq!(doubling(1), [1]);
        assert_eq!(doubling(8), [1, 2, 4, 8]);
        assert_eq!(doubling(10), [1, 2, 4, 8, 10]);
    }
}
