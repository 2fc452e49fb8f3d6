use crate::job::{Limits, LimitsRequest};
use crate::proto::v1;

/// 0 is the policy's value.
pub(super) fn limits_request(limits: Option<v1::Limits>) -> LimitsRequest {
    let limits = limits.unwrap_or_default();
    let given = |value: u64| (value != 0).then_some(value);
    LimitsRequest {
        memory_bytes: given(limits.memory_bytes),
        pids: given(limits.pids),
        cpu_millis: given(limits.cpu_millis),
        cpu_time_ms: given(limits.cpu_time_ms),
        wall_time_ms: given(limits.wall_time_ms),
        output_bytes: given(limits.output_bytes),
        disk_bytes: given(limits.disk_bytes),
        inodes: given(limits.inodes),
        open_files: given(limits.open_files),
    }
}

pub(super) const fn limits_to_wire(limits: &Limits) -> v1::Limits {
    v1::Limits {
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
