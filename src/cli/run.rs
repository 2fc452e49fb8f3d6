//! `stockade run`: one job in the foreground, without a daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::OWN_FAILURE;
use super::job_options::JobOptions;

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
    /// The file is written when the job is over, whatever its outcome, and replaced in one step.
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
pub(super) fn execute(args: &RunArgs) -> ExitCode {
    let _ = args;
    eprintln!("stockade: run: not available in this build");
    ExitCode::from(OWN_FAILURE)
}
