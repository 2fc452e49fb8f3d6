//! `stockade doctor`: what this host can and cannot isolate.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::OWN_FAILURE;
use super::client_options::FormatOption;

/// Tell what this host can and cannot isolate, and how to mend it
///
/// One line for each ability: ok, weaker or missing, the reason, and the exact command or flag that mends
/// it. Exits with 1 where `stockade run` with the default policy would fail.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) format: FormatOption,

    /// Judge for the worker that this config.toml describes
    ///
    /// Default: the built-in configuration. Example: --config /etc/stockade/config.toml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  stockade doctor
  stockade doctor -o json | jq '.[] | select(.status != \"ok\")'";

/// Probes the host and prints what was found.
pub(super) fn execute(args: &DoctorArgs) -> ExitCode {
    let _ = args;
    eprintln!("stockade: doctor: not available in this build");
    ExitCode::from(OWN_FAILURE)
}
