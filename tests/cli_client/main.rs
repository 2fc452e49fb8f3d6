//! The client subcommands of the real binary against a worker that answers from a script.

mod connection;
mod fake;
mod harness;
mod jobs;
mod output;
mod streams;
