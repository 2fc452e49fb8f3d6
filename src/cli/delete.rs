//! `stockade delete`: forget finished jobs.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::ClientOptions;
use super::error::CliError;
use super::print::note;
use super::stop::all_or_some;
use crate::proto::v1::DeleteJobRequest;

/// Remove the records and the output of finished jobs
///
/// A job that is not over is refused: stop it first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DeleteArgs {
    /// Ids of the jobs
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade delete 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
  stockade list --state finished -o json | jq -r '.[].id' | xargs stockade delete";

pub(super) async fn execute(args: DeleteArgs) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    let mut deleted = 0;
    for id in &args.ids {
        let request = DeleteJobRequest { job_id: id.clone() };
        match worker.delete_job(request).await {
            Ok(_) => deleted += 1,
            // The others are to be deleted all the same.
            Err(status) if args.ids.len() > 1 => note(format_args!("{id}: {}", CliError::from(status))),
            Err(status) => return Err(status.into()),
        }
    }
    all_or_some(deleted, args.ids.len())
}
