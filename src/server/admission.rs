//! Who may start a job now, who waits, and who is refused.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::config::Worker;
use crate::job::JobId;

use super::Refusal;

/// Requests that wait are on disk; this bounds how much of it they take.
const PENDING_BYTES: usize = 1 << 30;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Places to run and places to wait. Lives inside the job table's lock.
#[derive(Debug)]
pub(super) struct Admission {
    max_running: usize,
    max_pending: usize,
    running: usize,
    pending: usize,
    pending_bytes: usize,
    draining: bool,
    /// No further job is taken from the queue: the server goes down.
    closed: bool,
    queues: Queues,
}

/// What a new job got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It holds a place to run.
    Run,
    /// It holds a place to wait, and as many bytes.
    Wait { bytes: usize },
}

impl Admission {
    pub(super) fn new(worker: &Worker) -> Self {
        Self {
            max_running: worker.max_running as usize,
            max_pending: worker.max_pending as usize,
            running: 0,
            pending: 0,
            pending_bytes: 0,
            draining: false,
            closed: false,
            queues: Queues::default(),
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// From now on no job is admitted; those that wait still run.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// From now on nothing is admitted and nothing is taken from the queue.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// A place for a new job whose request is `bytes` long. `congested`: the launcher lags behind.
    pub(super) fn admit(&mut self, bytes: usize, congested: bool) -> Result<Place, Refusal> {
        if self.closed {
            return Err(Refusal::ShuttingDown);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        if self.running < self.max_running && self.pending == 0 && !congested {
            self.running += 1;
            return Ok(Place::Run);
        }
        if self.pending >= self.max_pending || self.pending_bytes.saturating_add(bytes) > PENDING_BYTES {
            return Err(Refusal::Exhausted {
                what: "too many jobs wait",
                retry_after: RETRY_AFTER,
            });
        }
        self.pending += 1;
        self.pending_bytes += bytes;
        Ok(Place::Wait { bytes })
    }

    /// A place for a job that runs already, whatever the limits say.
    pub(super) fn adopt(&mut self) -> Place {
        self.running += 1;
        Place::Run
    }

    /// A place to wait for a job that had one before a restart.
    pub(super) fn readmit(&mut self, bytes: usize) -> Place {
        self.pending += 1;
        self.pending_bytes += bytes;
        Place::Wait { bytes }
    }

    /// Puts a job that holds a place to wait into its tenant's queue.
    pub(super) fn enqueue(&mut self, tenant: &str, id: JobId) {
        self.queues.push(tenant, id);
    }

    /// The next job that may run, if there is a place for one. The place is taken.
    pub(super) fn next(&mut self, congested: bool) -> Option<JobId> {
        if self.closed || congested || self.running >= self.max_running {
            return None;
        }
        let id = self.queues.pop()?;
        self.running += 1;
        Some(id)
    }

    /// Takes a waiting job out of its queue.
    pub(super) fn withdraw(&mut self, tenant: &str, id: JobId) {
        self.queues.remove(tenant, id);
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, place: Place) {
        match place {
            Place::Run => self.running = self.running.saturating_sub(1),
            Place::Wait { bytes } => {
                self.pending = self.pending.saturating_sub(1);
                self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
            }
        }
    }
}

/// One queue a tenant, served in turn: a tenant that queues a thousand jobs delays another by one, not a thousand.
/// Quotas and weights belong here.
#[derive(Debug, Default)]
struct Queues {
    jobs: HashMap<String, VecDeque<JobId>>,
    /// Tenants with waiting jobs, the one to be served next in front.
    turns: VecDeque<String>,
}

impl Queues {
    fn push(&mut self, tenant: &str, id: JobId) {
        if let Some(queue) = self.jobs.get_mut(tenant) {
            queue.push_back(id);
            return;
        }
        self.jobs.insert(tenant.to_owned(), VecDeque::from([id]));
        self.turns.push_back(tenant.to_owned());
    }

    fn pop(&mut self) -> Option<JobId> {
        let tenant = self.turns.pop_front()?;
        let queue = self.jobs.get_mut(&tenant)?;
        let id = queue.pop_front();
        if queue.is_empty() {
            self.jobs.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        id
    }

    fn remove(&mut self, tenant: &str, id: JobId) {
        let Some(queue) = self.jobs.get_mut(tenant) else {
            return;
        };
        queue.retain(|other| *other != id);
        if queue.is_empty() {
            self.jobs.remove(tenant);
            self.turns.retain(|other| other != tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_running: u32, max_pending: u32) -> Admission {
        Admission::new(&Worker {
            max_running,
            max_pending,
            ..Worker::default()
        })
    }

    #[test]
    fn places_to_run_then_places_to_wait_then_refusal() {
        let mut admission = admission(1, 1);
        assert_eq!(admission.admit(10, false).expect("first"), Place::Run);
        let waiting = admission.admit(10, false).expect("second");
        assert_eq!(waiting, Place::Wait { bytes: 10 });
        assert!(matches!(
            admission.admit(10, false),
            Err(Refusal::Exhausted { .. })
        ));
        admission.release(waiting);
        assert_eq!(admission.admit(10, false).expect("third"), waiting);
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let mut admission = admission(1, 10);
        admission.admit(0, false).expect("runs");
        admission.admit(0, false).expect("waits");
        admission.release(Place::Run);
        // A place is free, but it belongs to the one who waits.
        assert!(matches!(admission.admit(0, false), Ok(Place::Wait { .. })));
    }

    #[test]
    fn tenants_take_turns() {
        let mut admission = admission(10, 10);
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        for id in &ids[..3] {
            admission.enqueue("greedy", *id);
        }
        admission.enqueue("modest", ids[3]);
        let order: Vec<JobId> = std::iter::from_fn(|| admission.next(false)).collect();
        assert_eq!(order, [ids[0], ids[3], ids[1], ids[2]]);
    }

    #[test]
    fn a_withdrawn_job_is_not_run() {
        let mut admission = admission(10, 10);
        let (gone, stays) = (JobId::random(), JobId::random());
        admission.enqueue("a", gone);
        admission.enqueue("b", stays);
        admission.withdraw("a", gone);
        assert_eq!(admission.next(false), Some(stays));
        assert_eq!(admission.next(false), None);
    }

    #[test]
    fn a_congested_launcher_holds_launches_back() {
        let mut admission = admission(10, 10);
        assert!(matches!(admission.admit(0, true), Ok(Place::Wait { .. })));
        admission.enqueue("a", JobId::random());
        assert_eq!(admission.next(true), None);
        assert!(admission.next(false).is_some());
    }

    #[test]
    fn draining_and_closing_refuse() {
        let mut admission = admission(1, 1);
        admission.drain();
        assert!(matches!(admission.admit(0, false), Err(Refusal::Draining)));
        admission.close();
        assert!(matches!(admission.admit(0, false), Err(Refusal::ShuttingDown)));
    }
}
