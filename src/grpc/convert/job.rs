use prost_types::Timestamp as WireTimestamp;

use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::job::{Cause, ExitRecord, Output, Receipt, Stop, StreamTotals, Timestamp, Usage};
use crate::proto::v1;
use crate::server::{JobEvent, JobView, Part, StreamName, WorkerStatus};

use super::enums::state_to_wire;
use super::limits::limits_to_wire;

const MICROS: i64 = 1_000_000;

pub(crate) fn job_to_wire(job: &JobView) -> v1::Job {
    let facts = &job.facts;
    let exit = job.exit.as_deref();
    let mut wire = v1::Job {
        id: facts.id.to_string(),
        tenant: facts.tenant.clone(),
        policy: facts.policy.clone(),
        labels: facts.labels.clone().into_iter().collect(),
        state: state_to_wire(job.state).into(),
        created_at: Some(timestamp(facts.created_at)),
        started_at: job.started_at.map(timestamp),
        finished_at: exit.map(|exit| timestamp(exit.finished_at)),
        limits: facts.limits.as_ref().map(limits_to_wire),
        stop: exit
            .map_or(job.stop.as_deref(), |exit| exit.stop.as_ref())
            .map(stop),
        isolation: job.receipt().map(isolation),
        ..v1::Job::default()
    };
    if let Some(exit) = exit {
        wire.usage = Some(usage(&exit.usage));
        wire.output = Some(output(&exit.output));
        set_cause(&mut wire, exit);
    }
    wire
}

fn set_cause(wire: &mut v1::Job, exit: &ExitRecord) {
    wire.error_text = exit.cause.text();
    let cause = match &exit.cause {
        Cause::Exited { code } => {
            wire.exit_code = Some(*code);
            v1::Cause::Exited
        }
        Cause::Signaled { signal, core_dumped } => {
            wire.signal = Some(*signal);
            wire.core_dumped = *core_dumped;
            v1::Cause::Signaled
        }
        Cause::OutOfMemory => v1::Cause::OutOfMemory,
        Cause::CpuTime => v1::Cause::CpuTime,
        Cause::WallTime => v1::Cause::WallTime,
        Cause::OutputLimit => v1::Cause::OutputLimit,
        Cause::SyscallDenied { name } => {
            wire.cause_detail.clone_from(name);
            v1::Cause::SyscallDenied
        }
        Cause::Stopped { signal, code } => {
            wire.signal = *signal;
            wire.exit_code = *code;
            v1::Cause::Stopped
        }
        Cause::StartFailed { step, errno, .. } => {
            wire.start_failure = Some(v1::StartFailure {
                step: step.to_string(),
                errno: errno_name(*errno),
            });
            v1::Cause::StartFailed
        }
        Cause::Lost { why } => {
            wire.cause_detail.clone_from(why);
            v1::Cause::Lost
        }
    };
    wire.set_cause(cause);
}

pub(in crate::grpc) fn event_to_wire(event: &JobEvent) -> v1::JobEvent {
    v1::JobEvent {
        position: event.position,
        job: Some(job_to_wire(&event.job)),
    }
}

pub(in crate::grpc) fn part_to_wire(part: Part) -> v1::StreamOutputResponse {
    use v1::stream_output_response::Part as Wire;
    let part = match part {
        Part::Chunk { stream, offset, data } => Wire::Chunk(v1::Chunk {
            stream: stream_to_wire(stream).into(),
            offset,
            data,
        }),
        Part::Gap { stream, from, to } => Wire::Gap(v1::Gap {
            stream: stream_to_wire(stream).into(),
            from,
            to,
        }),
        Part::End { job, output: totals } => Wire::End(v1::End {
            job: Some(job_to_wire(&job)),
            output: Some(output(&totals)),
        }),
    };
    v1::StreamOutputResponse { part: Some(part) }
}

pub(in crate::grpc) fn status_to_wire(status: WorkerStatus) -> v1::GetWorkerResponse {
    let count = |jobs: usize| u32::try_from(jobs).unwrap_or(u32::MAX);
    v1::GetWorkerResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        jobs_running: count(status.running),
        jobs_pending: count(status.pending),
        jobs_max: status.max_running,
        policies: status.policies,
        draining: status.draining,
        host: status.host.into_iter().map(ability).collect(),
        output_bytes_kept: status.output_bytes_kept,
        clean_up: status.clean_up,
        tenant: status.tenant.name,
        tenant_jobs_running: count(status.tenant.running),
        tenant_jobs_pending: count(status.tenant.pending),
        tenant_output_bytes_kept: status.tenant.output_bytes_kept,
    }
}

fn ability(ability: HostAbility) -> v1::HostAbility {
    let status = match ability.status {
        AbilityStatus::Ok => "ok",
        AbilityStatus::Weaker => "weaker",
        AbilityStatus::Missing => "missing",
    };
    v1::HostAbility {
        name: ability.name,
        status: status.to_owned(),
        detail: ability.detail,
    }
}

const fn stream_to_wire(stream: StreamName) -> v1::Stream {
    match stream {
        StreamName::Stdout => v1::Stream::Stdout,
        StreamName::Stderr => v1::Stream::Stderr,
    }
}

fn timestamp(at: Timestamp) -> WireTimestamp {
    let micros = at.as_micros();
    WireTimestamp {
        seconds: micros.div_euclid(MICROS),
        nanos: i32::try_from(micros.rem_euclid(MICROS) * 1000).unwrap_or(0),
    }
}

fn usage(usage: &Usage) -> v1::Usage {
    v1::Usage {
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

fn output(output: &Output) -> v1::Output {
    let totals = |totals: &StreamTotals| v1::StreamTotals {
        total_bytes: totals.total_bytes,
        dropped_bytes: totals.dropped_bytes,
        sha256: totals.sha256.clone(),
    };
    v1::Output {
        stdout: Some(totals(&output.stdout)),
        stderr: Some(totals(&output.stderr)),
    }
}

fn stop(stop: &Stop) -> v1::Stop {
    v1::Stop {
        by: stop.by.clone(),
        reason: stop.reason.clone(),
        escalated: stop.escalated,
        killed: stop.killed,
    }
}

fn isolation(receipt: &Receipt) -> v1::Isolation {
    v1::Isolation {
        namespaces: receipt.namespaces.clone(),
        host_uid: receipt.host_uid,
        cgroup_version: receipt.cgroup_version.clone(),
        limits: receipt.limits.clone().into_iter().collect(),
        seccomp_profile: receipt.seccomp_profile.clone(),
        seccomp_hash: receipt.seccomp_hash.clone(),
        seccomp_default_action: receipt.seccomp_default_action.clone(),
        landlock_abi: receipt.landlock_abi,
        capabilities: receipt.capabilities.clone().into_iter().collect(),
        no_new_privs: receipt.no_new_privs,
        rootfs: receipt.rootfs.clone(),
        network: receipt.network.clone(),
        weaker: receipt.weaker.clone(),
    }
}

/// Such as "ENOENT"; empty where the kernel gave none.
fn errno_name(errno: i32) -> String {
    if errno == 0 {
        return String::new();
    }
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}
