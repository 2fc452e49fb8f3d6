//! `stockade drain`: no new jobs.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::ClientOptions;
use super::error::CliError;
use crate::proto::v1::DrainWorkerRequest;

/// Let a worker take no new jobs and leave its scheduler; those that run go on
///
/// Lasts until the worker is started anew. Where a worker tells its clients apart by certificates, only those that its
/// configuration names as operators may.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade drain
  stockade drain --endpoint unix:/run/stockade.sock";

pub(super) async fn execute(args: DrainArgs) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    worker.drain_worker(DrainWorkerRequest {}).await?;
    Ok(ExitCode::SUCCESS)
}
