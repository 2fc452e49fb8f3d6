//! `stockade worker`: what a worker has and can do.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::{ClientOptions, Format, FormatOption};
use super::error::CliError;
use super::print::{json, text};
use super::render::{Style, WorkerView, worker_detail};
use crate::proto::v1::GetWorkerRequest;

/// Tell a worker's version, capacity, policies and what its host can isolate
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade worker
  stockade worker --endpoint https://worker-3:50000 --tls-ca ca.pem
  stockade worker -o json | jq '.jobs_running'";

pub(super) async fn execute(args: WorkerArgs, style: Style) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    let answer = worker.get_worker(GetWorkerRequest {}).await?.into_inner();
    match args.format.format {
        Format::Json => json(&WorkerView::from(&answer))?,
        Format::Table => text(&worker_detail(&answer, style))?,
    }
    Ok(ExitCode::SUCCESS)
}
