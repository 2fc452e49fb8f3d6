//! The whole command line as clap sees it, and what a usage error exits with.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use super::{
    completions, delete, doctor, drain, events, list, logs, man, query, run, serve, signal, start, stop,
    wait, worker,
};

/// Runs untrusted scripts in sandboxes of namespaces, cgroups, seccomp and landlock.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, max_term_width = 80, after_help = EXAMPLES)]
#[command(
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    /// Colours and relative times: auto, always or never
    ///
    /// "auto" uses them on a terminal, unless the environment variable NO_COLOR is set and not empty.
    /// Default: auto. Example: --color never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    #[arg(hide_possible_values = true)]
    pub(super) color: ColorChoice,

    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stockade run -- bash -c 'id; ls /'
  stockade run --memory 256M --wall-time 10s --script job.py -- python3
  stockade serve --config /etc/stockade/config.toml
  stockade start --label build=42 -- make test
  stockade logs -f 7d1c3f0e-5b7a-4c7e-9a57-0d6f3d1f6a52

`stockade SUBCOMMAND --help` tells more; `stockade man` prints the manual.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(run::RunArgs),
    Serve(serve::ServeArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Query(query::QueryArgs),
    Wait(wait::WaitArgs),
    Logs(logs::LogsArgs),
    List(list::ListArgs),
    Events(events::EventsArgs),
    Signal(signal::SignalArgs),
    Delete(delete::DeleteArgs),
    Worker(worker::WorkerArgs),
    Drain(drain::DrainArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Exit status of a usage error, and of `run` and `wait`, whose other statuses are the job's.
pub(super) const USAGE: u8 = 2;
pub(super) const OWN_FAILURE: u8 = 125;

/// Prints help, version or the usage error, and gives the exit status that belongs to it.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    // Nothing is left to do where the terminal has gone.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(usage_status(std::env::args_os().skip(1)))
    } else {
        ExitCode::SUCCESS
    }
}

/// `run` and `wait` exit with a job's own status, which may be 2: their usage errors are 125, as with env(1)
/// and timeout(1).
fn usage_status(words: impl Iterator<Item = OsString>) -> u8 {
    let command = Arguments::command();
    let subcommand = words
        .filter_map(|word| {
            command
                .find_subcommand(word)
                .map(|found| found.get_name().to_owned())
        })
        .next();
    match subcommand.as_deref() {
        Some("run" | "wait") => OWN_FAILURE,
        _ => USAGE,
    }
}
