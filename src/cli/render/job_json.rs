//! A job as JSON: `-o json` of the client and `--report` of `run` alike.
//!
//! Every field is always there. `null` is what is not known yet or does not apply: `cause` before the job is
//! FINISHED, `exit_code` of a job that a signal ended, `stop` of a job that nobody stopped. `sha256` is empty
//! until the stream has ended.

use std::collections::BTreeMap;

use serde::Serialize;

use super::job_wire;
use super::time::{on_the_wire, rfc3339};
use crate::job::{Cause, ExitRecord, JobId, Limits, Output, Receipt, Stop, Timestamp, Usage};
use crate::proto::v1;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct JobView {
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

/// A job that ran without a worker, with what its exit record leaves out.
#[derive(Debug)]
pub(in crate::cli) struct FinishedJob<'a> {
    pub(in crate::cli) id: JobId,
    pub(in crate::cli) tenant: &'a str,
    pub(in crate::cli) policy: &'a str,
    pub(in crate::cli) labels: &'a BTreeMap<String, String>,
    pub(in crate::cli) created_at: Timestamp,
    /// As applied.
    pub(in crate::cli) limits: Limits,
    /// Empty where the job succeeded.
    pub(in crate::cli) error_text: &'a str,
    pub(in crate::cli) record: &'a ExitRecord,
}

impl From<&v1::Job> for JobView {
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
            isolation: job.isolation.as_ref().map(job_wire::receipt),
            start_failure: job.start_failure.as_ref().map(|failure| StartFailureView {
                step: failure.step.clone(),
                errno: failure.errno.clone(),
            }),
        }
    }
}

impl From<&FinishedJob<'_>> for JobView {
    fn from(job: &FinishedJob<'_>) -> Self {
        let record = job.record;
        let ending = Ending::of(&record.cause);
        let date = |time: Timestamp| rfc3339(&on_the_wire(time));
        Self {
            id: job.id.to_string(),
            tenant: job.tenant.to_owned(),
            policy: job.policy.to_owned(),
            labels: job.labels.clone(),
            state: v1::State::Finished.as_str_name().to_owned(),
            cause: Some(record.cause.name().to_owned()),
            cause_detail: ending.detail,
            exit_code: ending.exit_code,
            signal: ending.signal,
            core_dumped: ending.core_dumped,
            error_text: job.error_text.to_owned(),
            created_at: Some(date(job.created_at)),
            started_at: record.started_at.map(date),
            finished_at: Some(date(record.finished_at)),
            limits: Some(job.limits),
            usage: Some(record.usage),
            output: Some(record.output.clone()),
            stop: record.stop.clone(),
            isolation: Some(record.receipt.clone()),
            start_failure: ending.start_failure,
        }
    }
}

/// What a cause carries, spread over the fields of the interface.
#[derive(Debug, Default)]
struct Ending {
    exit_code: Option<i32>,
    signal: Option<i32>,
    core_dumped: bool,
    detail: Option<String>,
    start_failure: Option<StartFailureView>,
}

impl Ending {
    fn of(cause: &Cause) -> Self {
        let mut ending = Self::default();
        match cause {
            Cause::Exited { code } => ending.exit_code = Some(*code),
            Cause::Signaled { signal, core_dumped } => {
                ending.signal = Some(*signal);
                ending.core_dumped = *core_dumped;
            }
            Cause::Stopped { signal, code } => {
                ending.signal = *signal;
                ending.exit_code = *code;
            }
            Cause::SyscallDenied { name } => ending.detail = Some(name.clone()),
            Cause::Lost { why } => ending.detail = Some(why.clone()),
            Cause::StartFailed { step, errno, .. } => {
                ending.start_failure = Some(StartFailureView {
                    step: step.to_string(),
                    errno: errno_name(*errno),
                });
            }
            Cause::OutOfMemory | Cause::CpuTime | Cause::WallTime | Cause::OutputLimit => {}
        }
        ending
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

fn errno_name(errno: i32) -> String {
    match errno {
        0 => String::new(),
        known_or_not => match nix::errno::Errno::from_raw(known_or_not) {
            nix::errno::Errno::UnknownErrno => known_or_not.to_string(),
            known => format!("{known:?}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::StartStep;
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

    fn record_json(cause: Cause) -> Value {
        let record = ExitRecord {
            finished_at: Timestamp::from_micros(1_700_000_001_000_000),
            ..ExitRecord::without_run(cause)
        };
        let labels = BTreeMap::from([("build".to_owned(), "42".to_owned())]);
        let view = JobView::from(&FinishedJob {
            id: JobId::from_bytes([0x11; 16]),
            tenant: "local",
            policy: "default",
            labels: &labels,
            created_at: Timestamp::from_micros(1_700_000_000_500_000),
            limits: LIMITS,
            error_text: "",
            record: &record,
        });
        serde_json::to_value(view).expect("a job has only string keys")
    }

    #[test]
    fn a_report_has_the_names_of_the_interface() {
        let receipt = serde_json::to_value(Receipt::default()).expect("json");
        assert_eq!(
            record_json(Cause::Exited { code: 3 }),
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
                "error_text": "",
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
                "isolation": receipt,
                "start_failure": null
            })
        );
    }

    #[test]
    fn a_start_failure_names_step_and_errno() {
        let json = record_json(Cause::StartFailed {
            step: StartStep::PivotRoot,
            errno: libc::EPERM,
            detail: String::new(),
        });
        assert_eq!(
            json["start_failure"],
            json!({"step": "pivot-root", "errno": "EPERM"})
        );
        assert_eq!(json["cause"], "START_FAILED");
        assert_eq!(errno_name(0), "");
        assert_eq!(errno_name(4095), "4095");
    }

    #[test]
    fn the_wire_and_the_record_have_the_same_fields() {
        let wire = serde_json::to_value(JobView::from(&v1::Job::default())).expect("json");
        let record = record_json(Cause::OutOfMemory);
        let keys = |value: &Value| {
            value
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys(&wire), keys(&record));
        assert_eq!(wire["cause"], Value::Null);
        assert_eq!(wire["usage"], Value::Null);
    }

    #[test]
    fn words_of_a_newer_worker_are_shown_as_numbers() {
        assert_eq!(state_name(9), "STATE_9");
        assert_eq!(cause_name(77).as_deref(), Some("CAUSE_77"));
        assert_eq!(cause_name(0), None);
    }
}
