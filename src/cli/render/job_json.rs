//! A job as JSON: `-o json` of the client and `--report` of `run` alike, both from the message of the wire.
//!
//! Every field is always there. `null` is what is not known yet or does not apply: `cause` before the job is
//! FINISHED, `exit_code` of a job that a signal ended, `stop` of a job that nobody stopped. `sha256` is empty
//! until the stream has ended.

use std::collections::BTreeMap;

use serde::Serialize;

use super::job_wire;
use super::time::rfc3339;
use crate::job::{Limits, Output, Receipt, Stop, Usage};
use crate::proto::v1;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct JobJson {
    id: String,
    tenant: String,
    policy: String,
    labels: BTreeMap<String, String>,
    state: String,
    cause: Option<String>,
    cause_detail: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    core_dumped: bool,
    error_text: String,
    created_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    limits: Option<Limits>,
    usage: Option<Usage>,
    output: Option<Output>,
    stop: Option<Stop>,
    isolation: Option<Receipt>,
    start_failure: Option<StartFailureView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct StartFailureView {
    step: String,
    /// A name such as "ENOENT"; empty where the kernel gave none.
    errno: String,
}

impl From<&v1::Job> for JobJson {
    fn from(job: &v1::Job) -> Self {
        Self {
            id: job.id.clone(),
            tenant: job.tenant.clone(),
            policy: job.policy.clone(),
            labels: job.labels.clone().into_iter().collect(),
            state: state_name(job.state),
            cause: cause_name(job.cause),
            cause_detail: Some(job.cause_detail.clone()).filter(|detail| !detail.is_empty()),
            exit_code: job.exit_code,
            signal: job.signal,
            core_dumped: job.core_dumped,
            error_text: job.error_text.clone(),
            created_at: job.created_at.as_ref().map(rfc3339),
            started_at: job.started_at.as_ref().map(rfc3339),
            finished_at: job.finished_at.as_ref().map(rfc3339),
            limits: job.limits.as_ref().map(job_wire::limits),
            usage: job.usage.as_ref().map(job_wire::usage),
            output: job.output.as_ref().map(job_wire::output),
            stop: job.stop.as_ref().map(job_wire::stop),
            isolation: job_wire::isolation(job).map(job_wire::receipt),
            start_failure: job.start_failure.as_ref().map(|failure| StartFailureView {
                step: failure.step.clone(),
                errno: failure.errno.clone(),
            }),
        }
    }
}

pub(super) fn state_name(state: i32) -> String {
    v1::State::try_from(state).map_or_else(
        |_| format!("STATE_{state}"),
        |state| state.as_str_name().to_owned(),
    )
}

pub(super) fn cause_name(cause: i32) -> Option<String> {
    match v1::Cause::try_from(cause) {
        Ok(v1::Cause::Unspecified) => None,
        Ok(cause) => Some(cause.as_str_name().to_owned()),
        Err(_) => Some(format!("CAUSE_{cause}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::job_to_wire;
    use crate::job::{Cause, ExitRecord, JobId, StartStep, Timestamp};
    use crate::server::{JobFacts, JobView};
    use serde_json::{Value, json};

    const LIMITS: Limits = Limits {
        memory_bytes: 1 << 28,
        pids: 64,
        cpu_millis: 500,
        cpu_time_ms: 10_000,
        wall_time_ms: 60_000,
        output_bytes: 1 << 24,
        disk_bytes: 1 << 26,
        inodes: 10_000,
        open_files: 256,
    };

    /// What `run --report` writes of a job that ended so.
    fn report_of(cause: Cause) -> Value {
        let record = ExitRecord {
            finished_at: Timestamp::from_micros(1_700_000_001_000_000),
            ..ExitRecord::without_run(cause)
        };
        let job = JobView::pending(JobFacts {
            id: JobId::from_bytes([0x11; 16]),
            tenant: "local".into(),
            policy: "default".into(),
            policy_hash: String::new(),
            labels: BTreeMap::from([("build".to_owned(), "42".to_owned())]),
            limits: Some(LIMITS),
            created_at: Timestamp::from_micros(1_700_000_000_500_000),
        });
        let json = JobJson::from(&job_to_wire(&job.finished(record)));
        serde_json::to_value(json).expect("a job has only string keys")
    }

    #[test]
    fn a_report_has_the_names_of_the_interface() {
        assert_eq!(
            report_of(Cause::Exited { code: 3 }),
            json!({
                "id": "11111111-1111-1111-1111-111111111111",
                "tenant": "local",
                "policy": "default",
                "labels": {"build": "42"},
                "state": "FINISHED",
                "cause": "EXITED",
                "cause_detail": null,
                "exit_code": 3,
                "signal": null,
                "core_dumped": false,
                "error_text": "exit status 3",
                "created_at": "2023-11-14T22:13:20.500Z",
                "started_at": null,
                "finished_at": "2023-11-14T22:13:21Z",
                "limits": {
                    "memory_bytes": 268_435_456, "pids": 64, "cpu_millis": 500, "cpu_time_ms": 10_000,
                    "wall_time_ms": 60_000, "output_bytes": 16_777_216, "disk_bytes": 67_108_864,
                    "inodes": 10_000, "open_files": 256
                },
                "usage": {
                    "wall_ms": 0, "cpu_user_us": 0, "cpu_system_us": 0, "memory_peak_bytes": 0,
                    "pids_peak": 0, "io_read_bytes": 0, "io_write_bytes": 0, "oom_kills": 0
                },
                "output": {
                    "stdout": {"total_bytes": 0, "dropped_bytes": 0, "sha256": ""},
                    "stderr": {"total_bytes": 0, "dropped_bytes": 0, "sha256": ""}
                },
                "stop": null,
                "isolation": null,
                "start_failure": null
            })
        );
    }

    #[test]
    fn a_receipt_is_of_what_was_applied() {
        let started = Some(prost_types::Timestamp::default());
        let namespaces = || vec!["pid".to_owned()];
        for (started_at, namespaces, told) in [
            (None, Vec::new(), false),
            (None, namespaces(), true),
            (started, Vec::new(), true),
            (started, namespaces(), true),
        ] {
            let isolation = v1::Isolation {
                namespaces,
                ..v1::Isolation::default()
            };
            let job = v1::Job {
                started_at,
                isolation: Some(isolation),
                ..v1::Job::default()
            };
            assert_eq!(JobJson::from(&job).isolation.is_some(), told, "{job:?}");
        }
    }

    #[test]
    fn a_start_failure_names_step_and_errno() {
        let json = report_of(Cause::StartFailed {
            step: StartStep::PivotRoot,
            errno: libc::EPERM,
            detail: String::new(),
        });
        assert_eq!(
            json["start_failure"],
            json!({"step": "pivot-root", "errno": "EPERM"})
        );
        assert_eq!(json["cause"], "START_FAILED");
    }

    #[test]
    fn a_job_that_is_not_over_has_the_same_fields() {
        let pending = serde_json::to_value(JobJson::from(&v1::Job::default())).expect("json");
        let finished = report_of(Cause::OutOfMemory);
        let keys = |value: &Value| {
            value
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys(&pending), keys(&finished));
        assert_eq!(pending["cause"], Value::Null);
        assert_eq!(pending["usage"], Value::Null);
    }

    #[test]
    fn words_of_a_newer_worker_are_shown_as_numbers() {
        assert_eq!(state_name(9), "STATE_9");
        assert_eq!(cause_name(77).as_deref(), Some("CAUSE_77"));
        assert_eq!(cause_name(0), None);
    }
}
