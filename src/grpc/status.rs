use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::job::InvalidField;
use crate::server::Refusal;

/// The one place where errors become statuses.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Invalid(invalid) => invalid_field(message, invalid),
            Refusal::NotFound => Self::not_found(message),
            Refusal::KeyTaken => Self::already_exists(message),
            Refusal::Exhausted { retry_after, .. } => exhausted(message, retry_after),
            Refusal::TooLong(_) => Self::resource_exhausted(message),
            Refusal::RequestLate(_) => Self::deadline_exceeded(message),
            Refusal::Forbidden { .. } | Refusal::ScriptUnreadable | Refusal::OperatorsOnly => {
                Self::permission_denied(message)
            }
            Refusal::Draining | Refusal::WrongState(_) | Refusal::Unattainable { .. } => {
                Self::failed_precondition(message)
            }
            Refusal::ShuttingDown | Refusal::Unavailable(_) => Self::unavailable(message),
        }
    }
}

/// For what is refused before the server is asked.
pub(super) fn invalid(invalid: InvalidField) -> Status {
    Refusal::Invalid(invalid).into()
}

fn invalid_field(message: String, invalid: InvalidField) -> Status {
    let details = ErrorDetails::with_bad_request_violation(invalid.field, invalid.reason);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn exhausted(message: String, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::State;

    #[test]
    fn every_refusal_has_its_code() {
        let forbidden = Refusal::Forbidden {
            policy: "strict".into(),
            rule: "maximum.memory".into(),
            reason: "too much".into(),
        };
        let exhausted = Refusal::Exhausted {
            what: "too many jobs wait",
            retry_after: Duration::from_secs(1),
        };
        let unattainable = Refusal::Unattainable {
            policy: "ci".into(),
            unmet: "no seccomp filter".into(),
        };
        for (refusal, code) in [
            (unattainable, Code::FailedPrecondition),
            (Refusal::invalid("argv", "empty"), Code::InvalidArgument),
            (Refusal::NotFound, Code::NotFound),
            (Refusal::KeyTaken, Code::AlreadyExists),
            (exhausted, Code::ResourceExhausted),
            (Refusal::TooLong(1), Code::ResourceExhausted),
            (
                Refusal::RequestLate(Duration::from_secs(1)),
                Code::DeadlineExceeded,
            ),
            (forbidden, Code::PermissionDenied),
            (Refusal::ScriptUnreadable, Code::PermissionDenied),
            (Refusal::OperatorsOnly, Code::PermissionDenied),
            (Refusal::Draining, Code::FailedPrecondition),
            (Refusal::WrongState(State::Running), Code::FailedPrecondition),
            (Refusal::ShuttingDown, Code::Unavailable),
            (Refusal::Unavailable("x"), Code::Unavailable),
        ] {
            assert_eq!(Status::from(refusal).code(), code);
        }
    }

    #[test]
    fn details_say_which_field_and_when_to_come_back() {
        let status = Status::from(Refusal::invalid("limits.pids", "too many"));
        let violations = status.get_details_bad_request().expect("bad request");
        assert_eq!(violations.field_violations[0].field, "limits.pids");
        let status = Status::from(Refusal::Exhausted {
            what: "too many jobs wait",
            retry_after: Duration::from_secs(1),
        });
        let retry = status.get_details_retry_info().expect("retry info");
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
    }
}
