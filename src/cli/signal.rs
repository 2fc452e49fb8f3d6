//! `stockade signal`: a signal to a job.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::ClientOptions;
use super::error::CliError;
use crate::job::Signal;
use crate::proto::v1::SignalJobRequest;

/// Send a signal to a job's process group
///
/// What the job makes of it is its own matter: `stockade stop` ends it for certain.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignalArgs {
    /// Id of the job
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID")]
    id: String,

    /// The signal: a name or a number
    ///
    /// Example: HUP
    #[arg(value_name = "SIGNAL", value_parser = super::values::signal)]
    signal: Signal,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade signal 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52 HUP
  stockade signal \"$id\" SIGUSR1
  stockade signal \"$id\" 10";

pub(super) async fn execute(args: SignalArgs) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    let request = SignalJobRequest {
        job_id: args.id,
        signal: args.signal.number().to_string(),
    };
    worker.signal_job(request).await?;
    Ok(ExitCode::SUCCESS)
}
