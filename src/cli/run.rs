//! `stockade run`: one job in the foreground, without a daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::args::OWN_FAILURE;
use super::job_options::JobOptions;
use super::print;
use super::report::Report;
use crate::config::Config;
use crate::isolation::launcher::foreground::{self, Ahead, Outcome};
use crate::isolation::timings::Timings;
use crate::job::{Cause, ExitRecord, JobId, Timestamp};
use crate::policy::{PolicySet, Resolved, Site, Tenant};
use crate::server::{JobFacts, JobView};
use crate::units::{format_bytes, format_duration_ms};

/// Run one job in the foreground, without a daemon
///
/// Starts COMMAND in a sandbox, passes its output through byte for byte as it comes, and exits with its
/// status. No port is opened and nothing is left behind. Options after COMMAND belong to COMMAND.
///
/// SIGINT and SIGTERM stop the job: its stop signal, then after the grace period the kill of all of it.
#[derive(Debug, Args)]
#[command(override_usage = "stockade run [OPTIONS] [--] COMMAND [ARG]...", after_help = EXAMPLES)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) job: JobOptions,

    /// Write the final job record as JSON to FILE
    ///
    /// The file is written when the job is over, whatever its outcome, and replaced in one step; a link, a pipe or
    /// a device is written to. What cannot be written is refused before the job starts.
    /// Default: none is written. Example: --report result.json
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(super) report: Option<PathBuf>,

    /// Take policies, scripts folder and host ids from this config.toml
    ///
    /// Default: the built-in configuration; a config.toml in the working directory is not looked at.
    /// Example: --config /etc/stockade/config.toml
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(super) config: Option<PathBuf>,

    /// Print on stderr how long each step of the launch took
    ///
    /// In microseconds, when the job is over. Default: off. Example: --timings
    #[arg(long, help_heading = "Running")]
    pub(super) timings: bool,
}

const EXAMPLES: &str = "\
Examples:
  stockade run -- bash -c 'id; ls /'
  stockade run --script job.py -- python3
  stockade run --script job.sh --arg one --arg two
  stockade run --memory 256M --cpus 0.5 --wall-time 10s -- make test
  stockade run --input src:code --workdir code -- cargo test
  echo 2+2 | stockade run --stdin - --report result.json -- bc

Exit status:
  N       the job's own exit code
  128+N   signal N ended the job
  124     wall time or CPU time used up
  125     stockade's own failure: the message says the step
  126     the command cannot be executed inside the sandbox
  127     the command is not found inside the sandbox
  137     out of memory";

/// Runs the job to its end.
pub(super) fn execute(args: &RunArgs, ahead: Option<Ahead>, timings: Timings) -> ExitCode {
    match run(args, ahead, timings) {
        Ok(code) => code,
        Err(message) => {
            print::note(&message);
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn run(args: &RunArgs, ahead: Option<Ahead>, mut timings: Timings) -> Result<ExitCode, String> {
    let config = match &args.config {
        Some(path) => Config::load(Some(path)).map_err(|error| error.to_string())?,
        None => Config::default(),
    };
    let request = args.job.to_request().map_err(|error| error.to_string())?;
    let report = args.report.as_deref().map(Report::open).transpose();
    let report = report.map_err(|error| error.to_string())?;
    timings.mark("request");
    // What it fails at is told only of a job that its policy allows.
    let begun = foreground::begin(&config.isolation, ahead, timings);
    let policies = match &config.worker.policies_dir {
        Some(dir) => PolicySet::load(dir).map_err(|error| error.to_string())?,
        None => PolicySet::built_in_alone(request.policy.as_ref().unwrap_or(&config.worker.default_policy)),
    };
    let site = Site {
        default_policy: config.worker.default_policy.clone(),
        scripts_dir: config.worker.scripts_dir.clone(),
    };
    let tenant = Tenant {
        name: "local".to_owned(),
    };
    let resolved = policies
        .resolve(&request, &site, &tenant)
        .map_err(|error| error.to_string())?;
    let (id, created_at) = (JobId::random(), Timestamp::now());
    let outcome = begun.and_then(|begun| begun.run(&resolved, request.require.clone()));
    if let Ok(outcome) = &outcome
        && args.timings
    {
        print_timings(outcome);
    }
    let (record, losses) = outcome.map_or_else(
        |failure| (ExitRecord::without_run(failure.into_cause()), Vec::new()),
        |outcome| (outcome.record, outcome.losses),
    );
    explain(&record, &resolved);
    if let Some(report) = report {
        let facts = JobFacts {
            id,
            tenant: tenant.name,
            policy: resolved.policy,
            policy_hash: resolved.policy_hash,
            labels: request.labels,
            limits: Some(resolved.spec.limits),
            created_at,
        };
        let finished = JobView::pending(facts).finished(record.clone());
        report.write(&finished).map_err(|error| error.to_string())?;
    }
    if !losses.is_empty() {
        return Err(losses.join("; "));
    }
    Ok(ExitCode::from(
        u8::try_from(record.cause.exit_status()).unwrap_or(OWN_FAILURE),
    ))
}

fn print_timings(outcome: &Outcome) {
    let of = |name, timings: &Timings| {
        for (step, micros) in timings.steps() {
            print::note(format!("{micros:>8} µs  {name}: {step}"));
        }
    };
    of("launcher", &outcome.launcher);
    if let Some(supervisor) = &outcome.supervisor {
        of("supervisor", supervisor);
    }
}

/// Says on stderr what the exit status alone does not tell.
fn explain(record: &ExitRecord, resolved: &Resolved) {
    let limits = &resolved.spec.limits;
    match &record.cause {
        Cause::Exited { .. } | Cause::Signaled { .. } | Cause::Stopped { .. } => {}
        Cause::OutOfMemory => print::note(format!(
            "out of memory (limit {})",
            format_bytes(limits.memory_bytes)
        )),
        Cause::CpuTime => print::note(format!(
            "CPU time used up ({})",
            format_duration_ms(limits.cpu_time_ms)
        )),
        Cause::WallTime => print::note(format!(
            "wall time used up ({})",
            format_duration_ms(limits.wall_time_ms)
        )),
        other => print::note(other.text()),
    }
    for (name, stream, to) in [
        ("stdout", &record.output.stdout, io::stdout().as_fd()),
        ("stderr", &record.output.stderr, io::stderr().as_fd()),
    ] {
        if stream.dropped_bytes > 0 && has_reader(to) {
            print::note(format!(
                "{name} was cut after {}: {} bytes were dropped (--output-limit)",
                format_bytes(stream.kept_bytes()),
                stream.dropped_bytes,
            ));
        }
    }
}

/// Whether somebody could still read what is written there: poll(2) tells that the other end is closed.
fn has_reader(to: BorrowedFd<'_>) -> bool {
    let mut to = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    let now = Timespec::default();
    poll(&mut to, Some(&now)).is_err() || !to[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
