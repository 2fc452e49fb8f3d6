//! `stockade stop`: end jobs.

use std::process::ExitCode;

use clap::Args;

use super::client::connect;
use super::client_options::{ClientOptions, FormatOption};
use super::error::CliError;
use super::print::{Printer, note};
use super::render::Style;
use crate::job::Signal;
use crate::proto::v1::StopJobRequest;

/// Stop jobs: signal, grace period, then the kill of everything that is left
///
/// The signal goes to the job's process group; the kill reaches every process of its cgroup, whatever it did
/// to get away. To stop a job that is over is no error.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StopArgs {
    /// Ids of the jobs
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Return only when nothing of the job is left
    ///
    /// Default: return as soon as the stop is under way. Example: --wait
    #[arg(long)]
    wait: bool,

    /// How long to wait between the signal and the kill
    ///
    /// Seconds, or with ms, s, m, h, d; 0s kills at once. Default: the job's own. Example: --grace 5s
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration_ms)]
    grace: Option<u64>,

    /// The signal that asks the job to end: a name or a number
    ///
    /// Default: the job's own. Example: --signal INT
    #[arg(long, value_name = "SIGNAL", value_parser = super::values::signal)]
    signal: Option<Signal>,

    /// Why, for the job's record
    ///
    /// At most 255 bytes. Default: none. Example: --reason superseded
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade stop 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
  stockade stop --wait --grace 2s --reason superseded \"$id\"
  stockade stop --grace 0s \"$first\" \"$second\"";

pub(super) async fn execute(args: StopArgs, style: Style) -> Result<ExitCode, CliError> {
    let mut worker = connect(&args.client).await?;
    let mut stopped = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let request = StopJobRequest {
            job_id: id.clone(),
            signal: args
                .signal
                .map(|signal| signal.number().to_string())
                .unwrap_or_default(),
            grace_ms: args.grace,
            reason: args.reason.clone(),
            wait: args.wait,
        };
        match worker.stop_job(request).await {
            Ok(answer) => stopped.push(answer.into_inner().job.ok_or(CliError::Incomplete("job"))?),
            // The others are to be stopped all the same.
            Err(status) if args.ids.len() > 1 => note(format_args!("{id}: {}", CliError::from(status))),
            Err(status) => return Err(status.into()),
        }
    }
    let format = args.format.format;
    Printer { format, style }.jobs(&stopped)?;
    all_or_some(stopped.len(), args.ids.len())
}

/// Success, where every one of `all` went well.
pub(super) fn all_or_some(done: usize, all: usize) -> Result<ExitCode, CliError> {
    if done == all {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(CliError::Some {
            failed: all - done,
            all,
        })
    }
}
