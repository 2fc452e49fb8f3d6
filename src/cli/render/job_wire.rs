//! From the wire's messages to the types of [`crate::job`].
//!
//! Names of enum values that a newer worker may send and this client does not know are kept out of
//! [`cause`], so that nothing is mistaken for success.

use crate::job::{Cause, Limits, Output, Receipt, StartStep, Stop, StreamTotals, Usage};
use crate::proto::v1;

/// Why the job is over; `None` while it is not.
fn cause(job: &v1::Job) -> Option<Cause> {
    let lost = |why: &str| Cause::Lost { why: why.to_owned() };
    if job.state != v1::State::Finished as i32 {
        return None;
    }
    Some(match v1::Cause::try_from(job.cause) {
        Ok(v1::Cause::Exited) => match job.exit_code {
            Some(code) => Cause::Exited { code },
            None => lost("the worker told no exit code"),
        },
        Ok(v1::Cause::Signaled) => match job.signal {
            Some(signal) => Cause::Signaled {
                signal,
                core_dumped: job.core_dumped,
            },
            None => lost("the worker told no signal"),
        },
        Ok(v1::Cause::OutOfMemory) => Cause::OutOfMemory,
        Ok(v1::Cause::CpuTime) => Cause::CpuTime,
        Ok(v1::Cause::WallTime) => Cause::WallTime,
        Ok(v1::Cause::OutputLimit) => Cause::OutputLimit,
        Ok(v1::Cause::SyscallDenied) => Cause::SyscallDenied {
            name: job.cause_detail.clone(),
        },
        Ok(v1::Cause::Stopped) => Cause::Stopped {
            signal: job.signal,
            code: job.exit_code,
        },
        Ok(v1::Cause::StartFailed) => start_failed(job.start_failure.as_ref()),
        Ok(v1::Cause::Lost) => lost(&job.cause_detail),
        Ok(v1::Cause::Unspecified) | Err(_) => lost("the worker told a cause that this client does not know"),
    })
}

/// What `wait` and `start --follow` exit with, once the job is over.
pub(in crate::cli) fn exit_status(job: &v1::Job) -> Option<u8> {
    // A code outside of a byte cannot come from a wait status: nothing is known then.
    cause(job).map(|cause| u8::try_from(cause.exit_status()).unwrap_or(crate::cli::args::OWN_FAILURE))
}

/// Only what the exit status depends on is taken from the names: whether exec failed, and with ENOENT.
fn start_failed(failure: Option<&v1::StartFailure>) -> Cause {
    let (step, errno) = failure.map_or(("", ""), |failure| (&*failure.step, &*failure.errno));
    Cause::StartFailed {
        step: if step == StartStep::Exec.as_str() {
            StartStep::Exec
        } else {
            StartStep::Supervisor
        },
        errno: if errno == "ENOENT" { libc::ENOENT } else { 0 },
        detail: String::new(),
    }
}

pub(super) fn limits(limits: &v1::Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        cpu_millis: limits.cpu_millis,
        cpu_time_ms: limits.cpu_time_ms,
        wall_time_ms: limits.wall_time_ms,
        output_bytes: limits.output_bytes,
        disk_bytes: limits.disk_bytes,
        inodes: limits.inodes,
        open_files: limits.open_files,
    }
}

pub(super) fn usage(usage: &v1::Usage) -> Usage {
    Usage {
        wall_ms: usage.wall_ms,
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        pids_peak: usage.pids_peak,
        io_read_bytes: usage.io_read_bytes,
        io_write_bytes: usage.io_write_bytes,
        oom_kills: usage.oom_kills,
    }
}

pub(super) fn output(output: &v1::Output) -> Output {
    let totals = |totals: Option<&v1::StreamTotals>| {
        totals.map_or_else(StreamTotals::default, |totals| StreamTotals {
            total_bytes: totals.total_bytes,
            dropped_bytes: totals.dropped_bytes,
            sha256: totals.sha256.clone(),
        })
    };
    Output {
        stdout: totals(output.stdout.as_ref()),
        stderr: totals(output.stderr.as_ref()),
    }
}

pub(super) fn stop(stop: &v1::Stop) -> Stop {
    Stop {
        by: stop.by.clone(),
        reason: stop.reason.clone(),
        escalated: stop.escalated,
        killed: stop.killed,
    }
}

/// The receipt. That of a job which came to no sandbox holds zeros, and host uid 0 would look like root's.
pub(super) fn isolation(job: &v1::Job) -> Option<&v1::Isolation> {
    let applied = |receipt: &&v1::Isolation| job.started_at.is_some() || !receipt.namespaces.is_empty();
    job.isolation.as_ref().filter(applied)
}

pub(super) fn receipt(isolation: &v1::Isolation) -> Receipt {
    let isolation = isolation.clone();
    Receipt {
        namespaces: isolation.namespaces,
        host_uid: isolation.host_uid,
        cgroup_version: isolation.cgroup_version,
        limits: isolation.limits.into_iter().collect(),
        seccomp_profile: isolation.seccomp_profile,
        seccomp_hash: isolation.seccomp_hash,
        seccomp_default_action: isolation.seccomp_default_action,
        landlock_abi: isolation.landlock_abi,
        capabilities: isolation.capabilities.into_iter().collect(),
        no_new_privs: isolation.no_new_privs,
        rootfs: isolation.rootfs,
        network: isolation.network,
        weaker: isolation.weaker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(cause: v1::Cause) -> v1::Job {
        v1::Job {
            state: v1::State::Finished as i32,
            cause: cause as i32,
            ..v1::Job::default()
        }
    }

    #[test]
    fn exit_statuses_are_those_of_the_interface() {
        let failed = |step: &str, errno: &str| v1::Job {
            start_failure: Some(v1::StartFailure {
                step: step.into(),
                errno: errno.into(),
            }),
            ..finished(v1::Cause::StartFailed)
        };
        let exited = |code| v1::Job {
            exit_code: Some(code),
            ..finished(v1::Cause::Exited)
        };
        let signaled = v1::Job {
            signal: Some(15),
            ..finished(v1::Cause::Signaled)
        };
        for (job, status) in [
            (exited(0), 0),
            (exited(3), 3),
            (signaled, 143),
            (finished(v1::Cause::OutOfMemory), 137),
            (finished(v1::Cause::WallTime), 124),
            (finished(v1::Cause::CpuTime), 124),
            (failed("exec", "ENOENT"), 127),
            (failed("exec", "EACCES"), 126),
            (failed("cgroup", "ENOENT"), 125),
            (finished(v1::Cause::Lost), 125),
        ] {
            assert_eq!(exit_status(&job), Some(status), "{job:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_success() {
        let unknown = v1::Job {
            cause: 99,
            ..finished(v1::Cause::Exited)
        };
        for job in [
            unknown,
            finished(v1::Cause::Exited),
            finished(v1::Cause::Unspecified),
        ] {
            assert_eq!(exit_status(&job), Some(125), "{job:?}");
        }
        assert_eq!(exit_status(&v1::Job::default()), None, "not over yet");
    }
}
