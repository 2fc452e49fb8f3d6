//! `stockade wait`: until jobs are over.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::args::OWN_FAILURE;
use super::client::{Patience, Worker, connect, connection_lost};
use super::client_options::{ClientOptions, Format, FormatOption, ReconnectOption};
use super::error::CliError;
use super::print::{Printer, json_line, note};
use super::render::{JobJson, Style, exit_status};
use crate::proto::v1::{Cause, Job, WaitJobRequest};

/// Wait until jobs are over and exit with their status
///
/// With several ids the exit status is that of the first one, in the order given, whose status is not 0. One that
/// the worker refuses counts as 125, and is told on stderr.
/// As JSON each job is one line, printed in that order as soon as it is known.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitArgs {
    /// Ids of the jobs
    ///
    /// Example: 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Give up after this time, with status 125
    ///
    /// Seconds, or with ms, s, m, h, d; for all of the jobs together. The jobs go on.
    /// Default: no end. Example: --timeout 10m
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration_ms)]
    timeout: Option<u64>,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    reconnect: ReconnectOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade wait 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52
  stockade wait --timeout 10m \"$first\" \"$second\"
  stockade wait -o json \"$id\" | jq .usage

Exit status:
  N       the job's own exit code
  128+N   signal N ended the job
  124     wall time or CPU time used up
  125     stockade's own failure, and a --timeout that is over
  126     the command cannot be executed inside the sandbox
  127     the command is not found inside the sandbox
  137     out of memory";

/// When to give up, and what was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    after_ms: u64,
}

impl Deadline {
    /// `None` where the time lies beyond what a clock can tell: that is no end.
    fn after(after_ms: u64) -> Option<Self> {
        let at = Instant::now().checked_add(Duration::from_millis(after_ms))?;
        Some(Self { at, after_ms })
    }
}

pub(super) async fn execute(args: WaitArgs, style: Style) -> Result<ExitCode, CliError> {
    let deadline = args.timeout.and_then(Deadline::after);
    let mut worker = connect(&args.client).await?;
    let mut patience = Patience::new(args.reconnect.reconnect);
    let mut over = Vec::with_capacity(args.ids.len());
    let mut gave_up = None;
    for id in &args.ids {
        match until_over(&mut worker, id, deadline, &mut patience).await {
            Ok(job) => {
                if args.format.format == Format::Json {
                    or_nobody_reads(json_line(&JobJson::from(&job)))?;
                }
                over.push(Some(job));
            }
            // The others are waited for all the same.
            Err(CliError::Rpc(refusal)) if args.ids.len() > 1 && !connection_lost(&refusal) => {
                note(format_args!("{id}: {}", CliError::from(refusal)));
                over.push(None);
            }
            Err(error) => {
                gave_up = Some(error);
                break;
            }
        }
    }
    let jobs: Vec<Job> = over.iter().flatten().cloned().collect();
    if args.format.format == Format::Table && !jobs.is_empty() {
        let format = Format::Table;
        or_nobody_reads(Printer { format, style }.jobs(&jobs))?;
    }
    jobs.iter().for_each(explain);
    if let Some(error) = gave_up {
        return Err(error);
    }
    match over
        .iter()
        .find(|job| job.as_ref().and_then(exit_status) != Some(0))
    {
        Some(Some(job)) => status_of(job).map(ExitCode::from),
        Some(None) => Ok(ExitCode::from(OWN_FAILURE)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Waits for one job, asking again where the connection is lost.
pub(super) async fn until_over(
    worker: &mut Worker,
    id: &str,
    deadline: Option<Deadline>,
    patience: &mut Patience,
) -> Result<Job, CliError> {
    loop {
        let left = deadline.map(|deadline| (deadline, deadline.at.saturating_duration_since(Instant::now())));
        let request = WaitJobRequest {
            job_id: id.to_owned(),
            // 0 would be without end.
            timeout_ms: left.map_or(0, |(_, left)| {
                u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
            }),
        };
        match worker.wait_job(request).await {
            Ok(answer) => {
                patience.restore();
                let job = answer.into_inner().job.ok_or(CliError::Incomplete("job"))?;
                match left {
                    _ if exit_status(&job).is_some() => return Ok(job),
                    Some((deadline, _)) if deadline.at <= Instant::now() => {
                        return Err(CliError::Timeout {
                            id: id.to_owned(),
                            after_ms: deadline.after_ms,
                        });
                    }
                    // The worker may answer early, but not without end.
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            Err(status) if connection_lost(&status) => {
                if patience.is_fresh() {
                    note("the connection is lost, trying again");
                }
                if !patience.pause().await {
                    return Err(status.into());
                }
            }
            Err(status) => return Err(status.into()),
        }
    }
}

/// The job's status, and on stderr why it is that one.
pub(super) fn exit_code(job: &Job) -> Result<ExitCode, CliError> {
    let status = status_of(job)?;
    explain(job);
    Ok(ExitCode::from(status))
}

/// A job that is not over has none.
fn status_of(job: &Job) -> Result<u8, CliError> {
    exit_status(job).ok_or(CliError::Incomplete("outcome"))
}

/// Says on stderr what the exit status alone does not tell, as `run` does.
fn explain(job: &Job) {
    let is_the_jobs_own = matches!(job.cause(), Cause::Exited | Cause::Signaled | Cause::Stopped);
    if !is_the_jobs_own || exit_status(job) == Some(OWN_FAILURE) {
        let text = super::render::printable(&job.error_text);
        note(format_args!("{}: {text}", job.id));
    }
}

/// The exit status is told even where nobody reads the table.
pub(super) fn or_nobody_reads(printed: Result<(), CliError>) -> Result<(), CliError> {
    match printed {
        Err(error) if error.is_broken_pipe() => Ok(()),
        printed => printed,
    }
}
