//! `stockade query`: all that is known of a job.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::{ClientOptions, FormatOption};
use super::error::CliError;
use super::print::Printer;
use super::render::Style;
use crate::proto::v1::QueryJobRequest;

/// Tell all that is known of a job
///
/// State, outcome, what it used, its limits and the isolation it really got.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueryArgs {
    /// Id of the job
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade query 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
  stockade query -o json \"$id\" | jq -r '.state, .cause'
  stockade query -o json \"$id\" | jq .isolation";

pub(super) async fn execute(args: QueryArgs, style: Style) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    let request = QueryJobRequest { job_id: args.id };
    let answer = worker.query_job(request).await?.into_inner();
    let job = answer.job.ok_or(CliError::Incomplete("job"))?;
    let format = args.format.format;
    Printer { format, style }.job(&job)?;
    Ok(ExitCode::SUCCESS)
}
