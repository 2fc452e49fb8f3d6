//! Results on the standard output, messages on the standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::SystemTime;

use prost_types::Timestamp;
use serde::Serialize;

use super::client_options::Format;
use super::error::CliError;
use super::render::{JobJson, Style, job_detail, job_list};
use crate::proto::v1::Job;

/// Prints results in the format that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    pub(super) format: Format,
    pub(super) style: Style,
}

impl Printer {
    /// One job: all of it.
    pub(super) fn job(self, job: &Job) -> Result<(), CliError> {
        match self.format {
            Format::Json => json(&JobJson::from(job)),
            Format::Table => text(&job_detail(job, &now(), self.style)),
        }
    }

    /// Jobs as one table, or as one array.
    pub(super) fn jobs(self, jobs: &[Job]) -> Result<(), CliError> {
        match self.format {
            Format::Json => json(&jobs.iter().map(JobJson::from).collect::<Vec<_>>()),
            Format::Table => text(&job_list(jobs, &now(), self.style)),
        }
    }

    /// An id, for scripts to use; or the whole job.
    pub(super) fn id(self, job: &Job) -> Result<(), CliError> {
        match self.format {
            Format::Json => json(&JobJson::from(job)),
            Format::Table => text(&format!("{}\n", job.id)),
        }
    }
}

pub(super) fn text(text: &str) -> Result<(), CliError> {
    write_out(text.as_bytes())
}

pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| CliError::Output(error.into()))?;
    text.push(b'\n');
    write_out(&text)
}

/// One value of a stream: a line, flushed, so that a reader has it at once.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_vec(value).map_err(|error| CliError::Output(error.into()))?;
    text.push(b'\n');
    write_out(&text)
}

/// A message for people. Where nobody reads them, nothing is to be done.
pub(super) fn note(message: impl Display) {
    let _ = writeln!(io::stderr(), "stockade: {message}");
}

pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn write_out(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(CliError::Output)
}
