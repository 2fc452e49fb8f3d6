//! What could not be removed at once: tried again until it is gone.

use std::time::{Duration, Instant};

use super::slot::Slot;
use super::spawn::Sandboxes;
use crate::job::{ExitRecord, JobId};

const FIRST_TRY_AGAIN: Duration = Duration::from_millis(2);
const LAST_TRY_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Item {
    cgroup: String,
    /// What is left of a sandbox of this launcher's own.
    slot: Option<Slot>,
    /// Told only once nothing of the job is left.
    outcome: Option<(JobId, ExitRecord)>,
    again: Instant,
    wait: Duration,
}

#[derive(Debug, Default)]
pub(super) struct CleanUp {
    items: Vec<Item>,
}

impl CleanUp {
    /// A cgroup to kill and remove, and the outcome to tell after that.
    pub(super) fn add(&mut self, cgroup: String, outcome: Option<(JobId, ExitRecord)>) {
        self.push(cgroup, None, outcome);
    }

    /// A sandbox whose job is over, or that never had one. What can be used again is taken back once its supervisor has
    /// ended; with an outcome to tell, all of it is removed.
    pub(super) fn add_slot(&mut self, slot: Slot, outcome: Option<(JobId, ExitRecord)>) {
        // A supervisor whose launcher hangs up before it has a job ends.
        let _ = rustix::net::shutdown(&slot.control, rustix::net::Shutdown::Both);
        self.push(slot.berth.cgroup_name.clone(), Some(slot), outcome);
    }

    fn push(&mut self, cgroup: String, slot: Option<Slot>, outcome: Option<(JobId, ExitRecord)>) {
        self.items.push(Item {
            cgroup,
            slot,
            outcome,
            again: Instant::now(),
            wait: FIRST_TRY_AGAIN,
        });
    }

    /// A child has ended; false if it was the supervisor of none of these.
    pub(super) fn reaped(&mut self, pid: i32) -> bool {
        let of_child = |item: &&mut Item| {
            let slot = item.slot.as_ref();
            slot.is_some_and(|slot| slot.supervisor.as_raw_nonzero().get() == pid)
        };
        let Some(item) = self.items.iter_mut().find(of_child) else {
            return false;
        };
        item.again = Instant::now();
        if let Some(slot) = &mut item.slot {
            slot.reaped = true;
        }
        true
    }

    /// When something is to be tried again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let next = self.items.iter().map(|item| item.again).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Tries what is due; gives the outcomes that can be told now.
    pub(super) fn turn(&mut self, sandboxes: &mut Sandboxes) -> Vec<(JobId, ExitRecord)> {
        let mut outcomes = Vec::new();
        if self.items.is_empty() {
            return outcomes;
        }
        let now = Instant::now();
        self.items.retain_mut(|item| {
            if item.again > now {
                return true;
            }
            let gone = match item.slot.take_if(|_| item.outcome.is_none()) {
                Some(slot) if slot.reaped => {
                    sandboxes.take_back(slot);
                    true
                }
                Some(slot) => {
                    item.slot = Some(slot);
                    false
                }
                None => sandboxes.cgroups().sweep(&item.cgroup),
            };
            if gone {
                outcomes.extend(item.outcome.take());
                return false;
            }
            item.again = now + item.wait;
            item.wait = (item.wait * 2).min(LAST_TRY_AGAIN);
            true
        });
        outcomes
    }
}
