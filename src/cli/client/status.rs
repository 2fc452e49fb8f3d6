use std::error::Error;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::innermost;
use crate::cli::render::printable;

/// A refusal of the worker in one line, `MESSAGE (CODE, field FIELD)`, or what happened to the connection.
pub(in crate::cli) fn describe(status: &Status) -> String {
    if let Some(source) = status.source() {
        return format!(
            "the connection to the worker is lost: {}",
            printable(&innermost(source))
        );
    }
    let mut notes = vec![code_name(status.code()).to_owned()];
    let details = status.get_error_details();
    if let Some(bad_request) = details.bad_request() {
        let fields = bad_request.field_violations.iter();
        notes.extend(fields.map(|violation| format!("field {}", printable(&violation.field))));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        notes.push(format!("try again in {:?}", delay));
    }
    format!("{} ({})", printable(status.message()), notes.join(", "))
}

/// Whether the answer is missing because the connection broke or the worker is starting again: asking anew
/// may help. A status that the worker itself sent has no source.
pub(in crate::cli) fn connection_lost(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}

/// Whether a request was refused for this field.
pub(in crate::cli) fn names_field(status: &Status, field: &str) -> bool {
    let details = status.get_error_details();
    let bad_request = details.bad_request();
    bad_request.is_some_and(|bad| {
        bad.field_violations
            .iter()
            .any(|violation| violation.field == field)
    })
}

/// The code as the gRPC specification spells it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic_types::ErrorDetails;

    #[test]
    fn field_and_delay_are_told() {
        let details = ErrorDetails::with_bad_request_violation("limits.pids", "0 is less than 1");
        let status =
            Status::with_error_details(Code::InvalidArgument, "limits.pids: 0 is less than 1", details);
        assert_eq!(
            describe(&status),
            "limits.pids: 0 is less than 1 (INVALID_ARGUMENT, field limits.pids)"
        );
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the queue is full", details);
        assert_eq!(
            describe(&status),
            "the queue is full (RESOURCE_EXHAUSTED, try again in 1.5s)"
        );
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let status = Status::not_found("\u{1b}[2Jjob not found\n");
        assert_eq!(describe(&status), "?[2Jjob not found? (NOT_FOUND)");
    }

    #[test]
    fn a_lost_connection_is_told_by_its_cause() {
        let broken = std::io::Error::other("reset by the test");
        assert_eq!(
            describe(&Status::from_error(Box::new(broken))),
            "the connection to the worker is lost: reset by the test"
        );
    }

    #[test]
    fn only_a_broken_connection_is_worth_another_try() {
        assert!(connection_lost(&Status::unavailable("starting")));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(connection_lost(&Status::from_error(Box::new(broken))));
        assert!(!connection_lost(&Status::not_found("job not found")));
        assert!(!connection_lost(&Status::internal("no")));
    }
}
