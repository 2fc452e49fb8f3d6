//! What could not be removed at once: tried again until it is gone.

use std::time::{Duration, Instant};

use super::spawn::Sandboxes;
use crate::isolation::cgroup::JobCgroup;
use crate::job::{ExitRecord, JobId};

const FIRST_TRY_AGAIN: Duration = Duration::from_millis(2);
const LAST_TRY_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Item {
    cgroup: String,
    open: Option<JobCgroup>,
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
    pub(super) fn add(
        &mut self,
        cgroup: String,
        open: Option<JobCgroup>,
        outcome: Option<(JobId, ExitRecord)>,
    ) {
        self.items.push(Item {
            cgroup,
            open,
            outcome,
            again: Instant::now(),
            wait: FIRST_TRY_AGAIN,
        });
    }

    /// When something is to be tried again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let next = self.items.iter().map(|item| item.again).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Tries everything once more, due or not. What then stays is for the next start.
    pub(super) fn last_turn(&mut self, sandboxes: &Sandboxes) {
        for item in &mut self.items {
            item.again = Instant::now();
        }
        let _ = self.turn(sandboxes);
    }

    /// Tries what is due; gives the outcomes that can be told now.
    pub(super) fn turn(&mut self, sandboxes: &Sandboxes) -> Vec<(JobId, ExitRecord)> {
        let mut outcomes = Vec::new();
        if self.items.is_empty() {
            return outcomes;
        }
        let now = Instant::now();
        self.items.retain_mut(|item| {
            if item.again > now {
                return true;
            }
            let gone = match &item.open {
                Some(cgroup) if item.outcome.is_none() => matches!(cgroup.remove(), Ok(true)),
                _ => sandboxes.cgroups().sweep(&item.cgroup),
            };
            if gone {
                outcomes.extend(item.outcome.take());
                return false;
            }
            item.open = None;
            item.again = now + item.wait;
            item.wait = (item.wait * 2).min(LAST_TRY_AGAIN);
            true
        });
        outcomes
    }
}
