//! When to look at a job's CPU time.

use std::time::Duration;

use crate::isolation::cgroup::CPU_PERIOD_US;
use crate::job::Limits;

/// CPU usage is looked at when it may have reached the limit, but not more often than this.
const CPU_LOOK: Duration = Duration::from_millis(10);
/// The scheduler's, within which a quota holds.
const CPU_PERIOD: Duration = Duration::from_micros(CPU_PERIOD_US);

/// The limit of CPU time cannot be reached before the quota has let the job use what is left of it, whatever CPUs it has
/// itself run on. A period's quota may be used at the period's beginning.
pub(super) fn until(limits: &Limits, used_us: u64) -> Duration {
    /// The kernel takes no smaller quota.
    const LEAST_MILLIS: u64 = 10;
    let left_us = limits.cpu_time_ms.saturating_mul(1000).saturating_sub(used_us);
    let shortest_us = left_us.saturating_mul(1000) / limits.cpu_millis.max(LEAST_MILLIS);
    Duration::from_micros(shortest_us)
        .saturating_sub(CPU_PERIOD)
        .max(CPU_LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_looked_at_before_the_quota_can_have_used_it_up() {
        let limits = |cpu_millis| Limits {
            memory_bytes: 1 << 20,
            pids: 1,
            cpu_millis,
            cpu_time_ms: 60_000,
            wall_time_ms: 1000,
            output_bytes: 1,
            disk_bytes: 1 << 20,
            inodes: 1,
            open_files: 3,
        };
        let millis = |cpu_millis, used_ms: u64| until(&limits(cpu_millis), used_ms * 1000).as_millis();
        assert_eq!(millis(1000, 0), 59_900);
        assert_eq!(millis(64_000, 0), 837);
        assert_eq!(millis(500, 50_000), 19_900);
        assert_eq!(millis(1000, 59_950), CPU_LOOK.as_millis());
        assert_eq!(millis(1000, 70_000), CPU_LOOK.as_millis());
    }
}
