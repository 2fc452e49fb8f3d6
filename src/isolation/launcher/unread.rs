//! Jobs that are over and whose record could not be read, for want of a descriptor as a rule: looked at again until it is.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::job::JobId;

const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Unread {
    ids: HashSet<JobId>,
    again: Option<Instant>,
}

impl Unread {
    /// Whether it is a new one.
    pub(super) fn add(&mut self, id: JobId) -> bool {
        self.again.get_or_insert_with(|| Instant::now() + AGAIN);
        self.ids.insert(id)
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.ids.remove(&id);
    }

    pub(super) fn next_try(&self) -> Option<Duration> {
        self.again
            .map(|again| again.saturating_duration_since(Instant::now()))
    }

    /// All of them, once it is time.
    pub(super) fn due(&mut self) -> Vec<JobId> {
        if self.again.is_none_or(|again| again > Instant::now()) {
            return Vec::new();
        }
        self.again = (!self.ids.is_empty()).then(|| Instant::now() + AGAIN);
        self.ids.iter().copied().collect()
    }
}
