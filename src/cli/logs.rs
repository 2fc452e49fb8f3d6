//! `stockade logs`: the kept output of a job.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::client::{Patience, connect};
use super::client_options::{ClientOptions, ReconnectOption};
use super::error::CliError;
use super::follow::{Follower, Selection};
use crate::proto::v1::Stream;

/// Show the output of a job, byte for byte
///
/// The job's stdout goes to stdout, its stderr to stderr. Bytes that were not kept are told on stderr.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogsArgs {
    /// Id of the job
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID")]
    id: String,

    /// Go on until the job is over
    ///
    /// A lost connection is made again and the output goes on at the byte where it stopped.
    /// Default: off: what there is so far. Example: -f
    #[arg(short, long)]
    follow: bool,

    /// Begin at this byte of each stream
    ///
    /// In bytes, or with K, M, G, T. Of both streams, one that ends before it is empty; for one that --stream
    /// names, that is an error. Default: 0, the beginning. Example: --offset 4096
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = crate::units::parse_bytes)]
    offset: u64,

    /// Only this stream: stdout or stderr
    ///
    /// Default: both. Example: --stream stderr
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    stream: Option<StreamName>,

    #[command(flatten)]
    reconnect: ReconnectOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade logs 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
  stockade logs -f \"$id\"
  stockade logs --stream stdout \"$id\" > result.bin
  stockade logs --stream stdout --offset 1M \"$id\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StreamName {
    Stdout,
    Stderr,
}

impl From<StreamName> for Stream {
    fn from(name: StreamName) -> Self {
        match name {
            StreamName::Stdout => Self::Stdout,
            StreamName::Stderr => Self::Stderr,
        }
    }
}

pub(super) async fn execute(args: LogsArgs) -> Result<ExitCode, CliError> {
    let worker = connect(&args.client).await?;
    let selection = Selection {
        job_id: args.id,
        streams: args.stream.map(Stream::from).into_iter().collect(),
        offset: args.offset,
        follow: args.follow,
        needs_readers: true,
    };
    let patience = Patience::new(args.reconnect.reconnect);
    Follower::new(worker, selection, patience).run().await?;
    Ok(ExitCode::SUCCESS)
}
