//! The command line: one file per subcommand.
//!
//! [`main`] parses and hands over. Nothing here starts a thread before the subcommand is known: `run` and
//! `serve` fork, and a fork from a process with threads can deadlock.

#![forbid(unsafe_code)]

mod args;
pub mod bench;
mod client;
mod client_options;
mod completions;
mod delete;
mod doctor;
mod drain;
mod error;
mod events;
mod follow;
mod inputs;
mod job_options;
mod job_request;
mod list;
mod logs;
mod man;
mod policy;
mod print;
mod query;
mod render;
mod report;
mod run;
mod serve;
mod signal;
mod start;
mod stop;
mod values;
mod wait;
mod worker;

use std::process::ExitCode;

use args::{Arguments, Command, OWN_FAILURE};
use client::block_on;
use error::CliError;

use crate::isolation::launcher::foreground::Ahead;
use crate::isolation::timings::Timings;

/// Parses the arguments and runs the subcommand.
#[must_use]
pub fn main() -> ExitCode {
    let mut timings = Timings::start();
    crate::sys::start_faults();
    let words = args::of_this_process();
    // It has something to do while the rest of the command line is read.
    let ahead = args::is_run(&words).then(|| Ahead::fork(&mut timings)).flatten();
    let arguments = match Arguments::of(&words) {
        Ok(arguments) => arguments,
        Err(usage) => return args::report(&usage),
    };
    let style = render::Style::new(arguments.everywhere.color);
    match arguments.command {
        Command::Run(args) => {
            timings.mark("command line");
            run::execute(&args, ahead, timings)
        }
        Command::Serve(args) => serve::execute(&args),
        Command::Start(args) => {
            let failure = args.takes_the_jobs_status().then_some(OWN_FAILURE);
            conclude(block_on(|| start::execute(args, style)), failure)
        }
        Command::Stop(args) => conclude(block_on(|| stop::execute(args, style)), None),
        Command::Query(args) => conclude(block_on(|| query::execute(args, style)), None),
        Command::Wait(args) => conclude(block_on(|| wait::execute(args, style)), Some(OWN_FAILURE)),
        Command::Logs(args) => conclude(block_on(|| logs::execute(args)), None),
        Command::List(args) => conclude(block_on(|| list::execute(args, style)), None),
        Command::Events(args) => conclude(block_on(|| events::execute(args, style)), None),
        Command::Signal(args) => conclude(block_on(|| signal::execute(args)), None),
        Command::Delete(args) => conclude(block_on(|| delete::execute(args)), None),
        Command::Worker(args) => conclude(block_on(|| worker::execute(args, style)), None),
        Command::Drain(args) => conclude(block_on(|| drain::execute(args)), None),
        Command::Policy(args) => conclude(policy::execute(&args, style), None),
        Command::Doctor(args) => conclude(doctor::execute(&args, style), None),
        Command::Bench(args) => conclude(block_on(|| bench::execute(args, style)), None),
        Command::Completions(args) => conclude(completions::execute(&args), None),
        Command::Man(args) => conclude(man::execute(&args), None),
    }
}

/// Tells an error on stderr. Its exit status is `failure` where the other statuses are a job's.
fn conclude(result: Result<ExitCode, CliError>, failure: Option<u8>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            print::note(&error);
            ExitCode::from(failure.unwrap_or_else(|| error.exit_status()))
        }
    }
}
