//! What there is to say of a job of which no process is left.

use super::Watch;
use crate::isolation::supervisor::evidence::{Evidence, Trigger};
use crate::isolation::supervisor::output::Totals;
use crate::job::{ExitRecord, OnOutputLimit, Timestamp};
use crate::sys;

impl Watch<'_> {
    /// How it ended, and whether its sandbox can have no other job: what moved its output has gone, or a step failed.
    pub(super) fn into_record(mut self) -> (ExitRecord, bool) {
        let children = sys::children_usage().since(self.children_before);
        let mut usage = self.meter.usage();
        let wait_status = self.main_status.unwrap_or(libc::SIGKILL);
        if !self.meter.measures_cpu() {
            // Of those that were waited for: all, once none is left.
            (usage.cpu_user_us, usage.cpu_system_us) = (children.user_us, children.system_us);
            let used_ms = (children.user_us + children.system_us) / 1000;
            if self.trigger.is_none()
                && libc::WTERMSIG(wait_status) == libc::SIGKILL
                && used_ms * 4 / 3 >= self.go.spec.limits.cpu_time_ms
            {
                // RLIMIT_CPU, in the place of a cgroup. The kernel counts for it by ticks, which on a busy machine is a
                // fifth more than what it tells afterwards.
                self.trigger = Some(Trigger::CpuTime);
            }
        }
        usage.wall_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        usage.io_read_bytes = children.read_bytes;
        usage.io_write_bytes = children.written_bytes;
        let Totals { output, lost } = self.streams.finish();
        if lost {
            self.trigger.get_or_insert(Trigger::OutputLost);
        } else if self.go.spec.on_output_limit == OnOutputLimit::Kill
            && output.is_over(self.go.spec.limits.output_bytes)
        {
            // It was over before it could be killed.
            self.trigger.get_or_insert(Trigger::OutputLimit);
        }
        let cause = Evidence {
            wait_status,
            trigger: self.trigger,
            oom_kills: usage.oom_kills,
            denied: self.denied.as_deref(),
            failed: self.failed.as_ref(),
        }
        .cause();
        let record = ExitRecord {
            cause,
            started_at: Some(self.start.started_at),
            finished_at: Timestamp::now(),
            usage,
            output,
            stop: self.stop,
            receipt: self.start.receipt,
        };
        (record, lost || self.failed.is_some())
    }
}
