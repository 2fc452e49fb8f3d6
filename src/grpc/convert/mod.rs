//! Between the wire and the types of the project. What comes in is refused field by field; what goes out is total.

mod enums;
mod job;
mod limits;
mod request;
#[cfg(test)]
mod tests;

pub(super) use enums::{listed_state, output_request};
pub(crate) use job::job_to_wire;
pub(super) use job::{event_to_wire, part_to_wire, status_to_wire};
pub(super) use request::{job_request, labels, listing, page_token, parse_signal, stop_order};

use std::str::FromStr;

use crate::job::{InvalidField, JobId};
use crate::server::Refusal;

/// What is no id cannot be the id of a job.
pub(super) fn job_id(text: &str) -> Result<JobId, Refusal> {
    JobId::from_str(text).map_err(|_| Refusal::NotFound)
}

/// Proto3 does not tell an empty string from none.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn unknown_value(field: &str, value: i32) -> InvalidField {
    InvalidField::new(field, format!("unknown value {value}"))
}
