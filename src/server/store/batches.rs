//! Which changes share a transaction.

use std::time::{Duration, Instant};

use super::change::{Change, Write};
use super::queue::{Nothing, Receiver};

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
        // A client may ask again and again for what has to wait.
        if !self.owed.iter().any(|owed| write.repeats(owed)) {
            self.owed.push(write);
        }
    }

    /// What waits, together; `None` when the store is closed.
    pub(super) fn next(&mut self) -> Option<Vec<Write>> {
        if self.closed {
            return None;
        }
        // Owed changes wait out their pause; others are committed as soon as somebody waits for one.
        let retry = (!self.owed.is_empty()).then(|| Instant::now() + RETRY);
        let mut batch = Vec::new();
        loop {
            while batch.len() < BATCH
                && let Some(write) = self.queue.try_receive()
            {
                self.sort_in(write, &mut batch);
            }
            let urgent = |write: &Write| retry.is_none() || !write.is_silent();
            if batch.len() >= BATCH || batch.iter().any(urgent) {
                return Some(self.in_order(batch));
            }
            match self.queue.receive(retry.or(self.held_until)) {
                Ok(write) => self.sort_in(write, &mut batch),
                Err(Nothing::InTime) => return Some(self.in_order(batch)),
                Err(Nothing::Ever) => {
                    self.closed = true;
                    return Some(self.in_order(batch));
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

    /// What is owed, then those of the held changes that have waited long enough or must come before one of `batch`, then
    /// that. So that a short job runs is in one batch with its end, and needs no record of its own.
    fn in_order(&mut self, batch: Vec<Write>) -> Vec<Write> {
        let of_jobs = |write: &Write| matches!(write.change, Change::Insert(_) | Change::Update(_));
        let all = self.closed
            || self.held_until.is_some_and(|until| until <= Instant::now())
            || self.held.len() >= BATCH
            || !batch.iter().all(of_jobs);
        let goes = |held: &Write| all || batch.iter().any(|write| write.supersedes(held));
        let (joined, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(goes);
        self.held = held;
        if self.held.is_empty() {
            self.held_until = None;
        }
        let mut ordered = std::mem::take(&mut self.owed);
        ordered.extend(joined);
        ordered.extend(batch);
        ordered
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::queue::{Sender, queue};
    use super::*;
    use crate::job::{Cause, ExitRecord, JobId, State, Timestamp};
    use crate::server::view::{JobFacts, JobView};

    fn batches() -> (Sender<Write>, Batches) {
        let (changes, queue) = queue();
        (changes, Batches::new(queue))
    }

    fn job() -> JobView {
        JobView::pending(JobFacts {
            id: JobId::random(),
            tenant: "default".to_owned(),
            policy: "default".to_owned(),
            policy_hash: String::new(),
            labels: BTreeMap::new(),
            limits: None,
            created_at: Timestamp::from_micros(1),
        })
    }

    fn in_state(job: &JobView, state: State) -> Change {
        let mut view = job.clone();
        view.state = state;
        Change::Update(view)
    }

    fn ended(job: &JobView) -> Change {
        Change::Update(job.finished(ExitRecord::without_run(Cause::Exited { code: 0 })))
    }

    fn send(changes: &Sender<Write>, write: Write) {
        assert!(changes.send([write]).is_ok());
    }

    fn urgent(changes: &Sender<Write>, change: Change) {
        send(changes, Write::urgent(change, Box::new(drop)));
    }

    fn lazy(changes: &Sender<Write>, change: Change) {
        send(changes, Write::lazy(change));
    }

    fn states(batch: &[Write]) -> Vec<(JobId, State)> {
        let of = |write: &Write| match &write.change {
            Change::Update(view) => Some((view.id(), view.state)),
            _ => None,
        };
        batch.iter().filter_map(of).collect()
    }

    #[test]
    fn what_nobody_waits_for_comes_with_what_follows_on_it_and_else_later() {
        let (changes, mut batches) = batches();
        let (short, long) = (job(), job());
        lazy(&changes, in_state(&long, State::Running));
        lazy(&changes, in_state(&short, State::Running));
        urgent(&changes, ended(&short));
        let first = states(&batches.next().expect("open"));
        let of_short: Vec<_> = first.iter().filter(|(id, _)| *id == short.id()).collect();
        assert_eq!(
            of_short,
            [&(short.id(), State::Running), &(short.id(), State::Finished)]
        );
        // On a machine that was slow meanwhile it has waited long enough.
        if first.len() == 2 {
            let second = batches.next().expect("open");
            assert_eq!(states(&second), [(long.id(), State::Running)]);
        }
    }

    #[test]
    fn whoever_asks_for_all_before_gets_it() {
        let (changes, mut batches) = batches();
        let job = job();
        lazy(&changes, in_state(&job, State::Running));
        urgent(&changes, Change::Nothing);
        let batch = batches.next().expect("open");
        assert_eq!(states(&batch), [(job.id(), State::Running)]);
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn what_the_disk_has_refused_comes_first() {
        let (changes, mut batches) = batches();
        let job = job();
        batches.owe(Write::lazy(in_state(&job, State::Running)));
        lazy(&changes, in_state(&job, State::Stopping));
        urgent(&changes, ended(&job));
        // Not before its pause is over, though somebody waits for the end.
        let began = Instant::now();
        let batch = batches.next().expect("open");
        assert!(began.elapsed() >= RETRY);
        assert_eq!(
            states(&batch),
            [State::Running, State::Stopping, State::Finished].map(|state| (job.id(), state))
        );
    }

    #[test]
    fn nothing_is_left_behind_when_the_store_is_closed() {
        let (changes, mut batches) = batches();
        let job = job();
        lazy(&changes, in_state(&job, State::Running));
        drop(changes);
        assert_eq!(batches.next().map(|batch| batch.len()), Some(1));
        assert!(batches.next().is_none());
    }
}
