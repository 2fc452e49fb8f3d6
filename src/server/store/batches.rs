//! Which changes share a transaction.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::change::{Change, Write};

/// How long a change that nobody waits for may wait for others to share its commit.
const LAZY: Duration = Duration::from_millis(20);
/// Between two tries of changes that the disk refused.
const RETRY: Duration = Duration::from_secs(1);
const BATCH: usize = 512;

pub(super) struct Batches {
    queue: Receiver<Write>,
    /// Changes that the disk refused and that must happen.
    owed: Vec<Write>,
    /// Changes that nobody waits for, and until when they may wait.
    held: Vec<Write>,
    held_until: Option<Instant>,
    closed: bool,
}

impl Batches {
    pub(super) const fn new(queue: Receiver<Write>) -> Self {
        Self {
            queue,
            owed: Vec::new(),
            held: Vec::new(),
            held_until: None,
            closed: false,
        }
    }

    /// Takes a change for a later batch.
    pub(super) fn owe(&mut self, write: Write) {
        self.owed.push(write);
    }

    /// What waits, together; `None` when the store is closed.
    pub(super) fn next(&mut self) -> Option<Vec<Write>> {
        if self.closed {
            return None;
        }
        let mut batch = std::mem::take(&mut self.owed);
        // Owed changes wait out their pause; others are committed as soon as somebody waits for one.
        let retry = (!batch.is_empty()).then(|| Instant::now() + RETRY);
        loop {
            while batch.len() < BATCH
                && let Ok(write) = self.queue.try_recv()
            {
                self.sort_in(write, &mut batch);
            }
            let urgent = |write: &Write| retry.is_none() || (write.urgent && !write.must_happen());
            if batch.len() >= BATCH || batch.iter().any(urgent) {
                return Some(self.with_held(batch));
            }
            let came = match retry.or(self.held_until) {
                None => self.queue.recv().map_err(RecvTimeoutError::from),
                Some(until) => self
                    .queue
                    .recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match came {
                Ok(write) => self.sort_in(write, &mut batch),
                Err(RecvTimeoutError::Timeout) => return Some(self.with_held(batch)),
                Err(RecvTimeoutError::Disconnected) => {
                    self.closed = true;
                    return Some(self.with_held(batch));
                }
            }
        }
    }

    fn sort_in(&mut self, write: Write, batch: &mut Vec<Write>) {
        if write.urgent {
            batch.push(write);
        } else {
            self.held_until.get_or_insert_with(|| Instant::now() + LAZY);
            self.held.push(write);
        }
    }

    /// `batch` behind those of the held changes that must come before it, or have waited long enough. That a short job runs
    /// is written together with its end, and so not at all.
    fn with_held(&mut self, batch: Vec<Write>) -> Vec<Write> {
        let of_jobs = |write: &Write| matches!(write.change, Change::Insert(_) | Change::Update(_));
        let all = self.closed
            || self.held_until.is_some_and(|until| until <= Instant::now())
            || self.held.len() >= BATCH
            || !batch.iter().all(of_jobs);
        let goes = |held: &Write| all || batch.iter().any(|write| write.supersedes(held));
        let (mut joined, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(goes);
        self.held = held;
        if self.held.is_empty() {
            self.held_until = None;
        }
        joined.extend(batch);
        joined
    }
}
