//! `stockade start`: hand a job to a worker.

use std::process::ExitCode;

use clap::Args;

use super::client::{Patience, connect, start_request};
use super::client_options::{ClientOptions, FormatOption, ReconnectOption};
use super::error::CliError;
use super::follow::{Follower, Selection};
use super::job_options::JobOptions;
use super::print::Printer;
use super::render::Style;
use super::wait;

/// Start a job on a worker
///
/// Prints the job's id as soon as the worker has it on disk; the job may still be waiting for its turn.
/// Options after COMMAND belong to COMMAND.
///
/// Script, files and input together are at most 4 MiB: they travel in one message.
#[derive(Debug, Args)]
#[command(override_usage = "stockade start [OPTIONS] [--] COMMAND [ARG]...", after_help = EXAMPLES)]
pub(super) struct StartArgs {
    #[command(flatten)]
    job: JobOptions,

    /// Start it only once, however often this is repeated
    ///
    /// The same key with the same job gives the job that exists already; with another job it is an error.
    /// At most 255 bytes. Default: none. Example: --idempotency-key build-42
    #[arg(long, value_name = "KEY", help_heading = "Starting")]
    idempotency_key: Option<String>,

    /// Wait until the job is over and exit with its status, as `stockade wait`
    ///
    /// Default: off. Example: --wait
    #[arg(long, help_heading = "Starting", conflicts_with = "follow")]
    wait: bool,

    /// Pass its output through until the job is over and exit with its status
    ///
    /// The id goes to stderr. Ctrl-C ends the watching, not the job; a reader that closes the pipe ends neither.
    /// Default: off. Example: --follow
    #[arg(long, help_heading = "Starting", conflicts_with = "format")]
    follow: bool,

    #[command(flatten)]
    format: FormatOption,

    #[command(flatten)]
    reconnect: ReconnectOption,

    #[command(flatten)]
    client: ClientOptions,
}

const EXAMPLES: &str = "\
Examples:
  stockade start -- bash -c 'echo hello'
  stockade start --script job.py --label build=42 -- python3
  stockade start --path nightly/report.sh -- bash
  stockade start --memory 1G --wall-time 10m --input src:code -- make -C code
  stockade start --require-seccomp --require-namespaces user,pid,net -- ./tool
  id=$(stockade start -- sleep 5) && stockade wait \"$id\"";

impl StartArgs {
    /// Whether the exit status is the job's.
    pub(super) const fn takes_the_jobs_status(&self) -> bool {
        self.wait || self.follow
    }
}

pub(super) async fn execute(args: StartArgs, style: Style) -> Result<ExitCode, CliError> {
    let request = start_request(args.job.to_request()?, args.idempotency_key);
    let mut worker = connect(&args.client).await?;
    let answer = worker.start_job(request).await?.into_inner();
    let job = answer.job.ok_or(CliError::Incomplete("job"))?;
    let printer = Printer {
        format: args.format.format,
        style,
    };
    let mut patience = Patience::new(args.reconnect.reconnect);
    if args.follow {
        super::print::note(format_args!("job {}", job.id));
        let selection = Selection {
            job_id: job.id.clone(),
            streams: Vec::new(),
            offset: 0,
            follow: true,
            // The status is told even where nobody reads the output.
            needs_readers: false,
        };
        let end = Follower::new(worker, selection, patience).run().await?;
        let job = end.and_then(|end| end.job).ok_or(CliError::Incomplete("job"))?;
        return wait::exit_code(&job);
    }
    if args.wait {
        let job = wait::until_over(&mut worker, &job.id, None, &mut patience).await?;
        wait::or_nobody_reads(printer.job(&job))?;
        return wait::exit_code(&job);
    }
    printer.id(&job)?;
    Ok(ExitCode::SUCCESS)
}
