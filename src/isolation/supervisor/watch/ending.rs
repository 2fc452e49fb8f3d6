//! Ends a job: by a signal and a grace period, or at once.

use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::Watch;
use crate::isolation::supervisor::evidence::Trigger;
use crate::job::{Signal, Stop, StopOrder};
use crate::sys;

/// After a kill of everything: how soon to do it again.
const KILL_AGAIN: Duration = Duration::from_millis(100);

impl Watch<'_> {
    pub(super) fn signal(&self, signal: Signal) {
        if self.main_status.is_none()
            && let Some(group) = Pid::from_raw(self.main)
        {
            let _ = sys::signal_group(group, signal.number());
        }
    }

    /// Signals the job's process group, and sets the end of the grace period. A second order can only shorten it; one that is
    /// given again, as by a launcher whose predecessor was killed before it had noted that, changes nothing.
    pub(super) fn stop(&mut self, order: StopOrder) {
        if self.main_status.is_some() || self.trigger.is_some_and(|trigger| trigger != Trigger::Stop) {
            return;
        }
        if self.order.as_ref() == Some(&order) {
            return;
        }
        self.order = Some(order.clone());
        self.trigger = Some(Trigger::Stop);
        let grace = Duration::from_millis(order.grace_ms.unwrap_or(self.go.spec.grace_ms));
        let end = Instant::now() + grace;
        self.grace_end = Some(self.grace_end.map_or(end, |earlier| earlier.min(end)));
        if !grace.is_zero() {
            self.signal(order.signal.unwrap_or(self.go.spec.stop_signal));
        }
        self.stop.get_or_insert(Stop {
            by: order.by,
            reason: order.reason,
            escalated: false,
            killed: 0,
        });
    }

    /// Kills the job. One that is being stopped already has been stopped all the same, but by the kill.
    pub(super) fn end_for(&mut self, trigger: Trigger) {
        if self.has_deadlines() {
            match &mut self.stop {
                Some(stop) => stop.escalated = true,
                None => self.trigger = Some(trigger),
            }
            self.grace_end = None;
            self.kill_everything();
        }
    }

    pub(super) fn kill_everything(&mut self) {
        if let Some(stop) = &mut self.stop {
            let processes = u32::try_from(self.meter.processes()).unwrap_or(u32::MAX);
            stop.killed = stop.killed.max(processes);
        }
        self.meter.kill_all();
        let _ = sys::kill_all_others();
        self.kill_again = Some(Instant::now() + KILL_AGAIN);
    }
}
