use crate::job::{Blob, JobRequest, Limit, LimitsRequest, Network, OnOutputLimit};
use crate::proto::v1;

/// The request as it goes over the wire.
pub(in crate::cli) fn start_request(
    request: JobRequest,
    idempotency_key: Option<String>,
) -> v1::StartJobRequest {
    let bytes = |blob: Option<Blob>| blob.map(|blob| blob.0).unwrap_or_default();
    v1::StartJobRequest {
        argv: request.argv,
        script: bytes(request.script),
        path: request.path.unwrap_or_default(),
        args: request.args,
        env: request.env.into_iter().collect(),
        files: request
            .files
            .into_iter()
            .map(|file| v1::File {
                path: file.path,
                content: file.content.0,
                mode: file.mode,
            })
            .collect(),
        stdin: bytes(request.stdin),
        working_dir: request.working_dir.unwrap_or_default(),
        policy: request.policy.unwrap_or_default(),
        limits: Some(limits(&request.limits)),
        labels: request.labels.into_iter().collect(),
        idempotency_key: idempotency_key.unwrap_or_default(),
        stop_signal: request
            .stop_signal
            .map(|signal| signal.number().to_string())
            .unwrap_or_default(),
        grace_ms: request.grace_ms,
        on_output_limit: match request.on_output_limit {
            None => v1::OnOutputLimit::Unspecified,
            Some(OnOutputLimit::Truncate) => v1::OnOutputLimit::Truncate,
            Some(OnOutputLimit::Kill) => v1::OnOutputLimit::Kill,
        }
        .into(),
        network: match request.network {
            None => "",
            Some(Network::None) => "none",
            Some(Network::Host) => "host",
        }
        .to_owned(),
        require: Some(v1::IsolationFloor {
            namespaces: request.require.namespaces,
            seccomp: request.require.seccomp,
            landlock_abi: request.require.landlock_abi,
            no_capabilities: request.require.no_capabilities,
            cgroup_limits: request.require.cgroup_limits,
        }),
    }
}

/// 0 on the wire is the policy's value: a request that names 0 was refused before.
fn limits(limits: &LimitsRequest) -> v1::Limits {
    let value = |limit| limits.get(limit).unwrap_or(0);
    v1::Limits {
        memory_bytes: value(Limit::Memory),
        pids: value(Limit::Pids),
        cpu_millis: value(Limit::Cpu),
        cpu_time_ms: value(Limit::CpuTime),
        wall_time_ms: value(Limit::WallTime),
        output_bytes: value(Limit::Output),
        disk_bytes: value(Limit::Disk),
        inodes: value(Limit::Inodes),
        open_files: value(Limit::OpenFiles),
    }
}
