//! The command line: one file per subcommand.
//!
//! [`main`] parses and hands over. Nothing here starts a thread before the subcommand is known: `run` and
//! `serve` fork, and a fork from a process with threads can deadlock.

#![forbid(unsafe_code)]

mod args;
mod client_options;
mod doctor;
mod error;
mod inputs;
mod job_options;
mod job_request;
mod run;
mod serve;
mod values;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// Parses the arguments and runs the subcommand.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return args::report(&usage),
    };
    match arguments.command {
        Command::Run(args) => run::execute(args),
        Command::Serve(args) => serve::execute(args),
        Command::Doctor(args) => doctor::execute(args),
    }
}
