//! Who may start a job now, who waits, and who is refused.

use std::time::Duration;

use crate::config::{Config, Quota};
use crate::job::JobId;

use super::Refusal;
use super::shares::Shares;

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
    /// As if draining, until the scheduler is back.
    scheduler_lost: bool,
    /// No further job is launched: the server goes down.
    closed: bool,
    shares: Shares,
}

/// What a new job got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It holds a place to run, and as many bytes of memory.
    Run { memory: u64 },
    /// It holds a place to wait, and as many bytes of disk.
    Wait { bytes: usize },
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand {
    /// Length of its request.
    pub(super) bytes: usize,
    /// Its memory limit.
    pub(super) memory: u64,
}

/// Jobs that run and wait, of all tenants and of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) running: usize,
    pub(super) pending: usize,
    pub(super) tenant_running: usize,
    pub(super) tenant_pending: usize,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_running: config.worker.max_running as usize,
            max_pending: config.worker.max_pending as usize,
            running: 0,
            pending: 0,
            pending_bytes: 0,
            draining: false,
            scheduler_lost: false,
            closed: false,
            shares: Shares::new(config),
        }
    }

    pub(super) fn counts(&self, tenant: &str) -> Counts {
        let share = self.shares.of(tenant);
        Counts {
            running: self.running,
            pending: self.pending,
            tenant_running: share.map_or(0, |share| share.running),
            tenant_pending: share.map_or(0, |share| share.pending),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining || self.scheduler_lost
    }

    /// From now on no job is admitted; those that wait still run.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn set_scheduler_lost(&mut self, lost: bool) {
        self.scheduler_lost = lost;
    }

    /// From now on nothing is admitted and nothing is taken from the queue.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// A place for a new job. `congested`: the launcher lags behind.
    pub(super) fn admit(&mut self, tenant: &str, demand: Demand, congested: bool) -> Result<Place, Refusal> {
        if self.closed {
            return Err(Refusal::ShuttingDown);
        }
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let quota = self.shares.quota(tenant);
        if quota.max_memory > 0 && demand.memory > quota.max_memory {
            return Err(Refusal::invalid(
                "limits.memory_bytes",
                format!(
                    "more than the {} that this tenant may have in all",
                    quota.max_memory
                ),
            ));
        }
        // Nobody overtakes those who wait, but for jobs that wait for their own tenant's quota alone.
        if self.has_room(congested) && self.shares.may_run_now(tenant, demand.memory) {
            return Ok(self.take(tenant, demand.memory));
        }
        self.wait(tenant, demand.bytes, quota)
    }

    fn wait(&mut self, tenant: &str, bytes: usize, quota: Quota) -> Result<Place, Refusal> {
        let exhausted = |what| {
            Err(Refusal::Exhausted {
                what,
                retry_after: RETRY_AFTER,
            })
        };
        let free = self.max_pending.saturating_sub(self.pending);
        let free_bytes = PENDING_BYTES.saturating_sub(self.pending_bytes);
        if free == 0 || bytes > free_bytes {
            return exhausted("too many jobs wait");
        }
        if !self.shares.may_wait(tenant, bytes, free, free_bytes, quota) {
            return exhausted("too many jobs of this tenant wait");
        }
        Ok(self.readmit(tenant, bytes))
    }

    /// A place for a job that runs already, whatever the limits say.
    pub(super) fn adopt(&mut self, tenant: &str, memory: u64) -> Place {
        self.take(tenant, memory)
    }

    /// A place to wait for a job that had one before a restart.
    pub(super) fn readmit(&mut self, tenant: &str, bytes: usize) -> Place {
        self.pending += 1;
        self.pending_bytes += bytes;
        let share = self.shares.make(tenant);
        share.pending += 1;
        share.pending_bytes += bytes;
        Place::Wait { bytes }
    }

    /// Puts a job that holds a place to wait into its tenant's queue.
    pub(super) fn enqueue(&mut self, tenant: &str, id: JobId, memory: u64) {
        self.shares.make(tenant).queue.push_back((id, memory));
    }

    /// The next job that may run, if there is a place for one, and the place, which is taken.
    pub(super) fn next(&mut self, congested: bool) -> Option<(JobId, Place)> {
        if self.closed || !self.has_room(congested) {
            return None;
        }
        let (tenant, id, memory) = self.shares.pop()?;
        Some((id, self.take(&tenant, memory)))
    }

    /// Takes a waiting job out of its queue.
    pub(super) fn withdraw(&mut self, tenant: &str, id: JobId) {
        let share = self.shares.make(tenant);
        share.queue.retain(|(other, _)| *other != id);
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, tenant: &str, place: Place) {
        let share = self.shares.make(tenant);
        match place {
            Place::Run { memory } => {
                self.running = self.running.saturating_sub(1);
                share.running = share.running.saturating_sub(1);
                share.memory = share.memory.saturating_sub(memory);
            }
            Place::Wait { bytes } => {
                self.pending = self.pending.saturating_sub(1);
                self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
                share.pending = share.pending.saturating_sub(1);
                share.pending_bytes = share.pending_bytes.saturating_sub(bytes);
            }
        }
        self.shares.forget_idle(tenant);
    }

    fn has_room(&self, congested: bool) -> bool {
        !congested && self.running < self.max_running
    }

    fn take(&mut self, tenant: &str, memory: u64) -> Place {
        self.running += 1;
        let share = self.shares.make(tenant);
        share.running += 1;
        share.memory = share.memory.saturating_add(memory);
        Place::Run { memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Place = Place::Run { memory: 0 };

    fn admission(max_running: u32, max_pending: u32, change: impl FnOnce(&mut Config)) -> Admission {
        let mut config = Config::default();
        config.worker.max_running = max_running;
        config.worker.max_pending = max_pending;
        change(&mut config);
        Admission::new(&config)
    }

    fn several_tenants(config: &mut Config) {
        config.grpc_server.client_ca_file = Some("clients.pem".into());
    }

    fn small(bytes: usize) -> Demand {
        Demand { bytes, memory: 0 }
    }

    fn of_memory(memory: u64) -> Demand {
        Demand { bytes: 0, memory }
    }

    fn order(admission: &mut Admission) -> Vec<JobId> {
        std::iter::from_fn(|| admission.next(false).map(|(id, _)| id)).collect()
    }

    #[test]
    fn places_to_run_then_places_to_wait_then_refusal() {
        let mut admission = admission(1, 1, |_| {});
        let admit = |admission: &mut Admission| admission.admit("a", small(10), false);
        assert_eq!(admit(&mut admission).expect("first"), RUN);
        let waiting = admit(&mut admission).expect("second");
        assert_eq!(waiting, Place::Wait { bytes: 10 });
        assert!(matches!(admit(&mut admission), Err(Refusal::Exhausted { .. })));
        admission.release("a", waiting);
        assert_eq!(admit(&mut admission).expect("third"), waiting);
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let mut admission = admission(1, 10, |_| {});
        admission.admit("a", small(0), false).expect("runs");
        admission.admit("a", small(0), false).expect("waits");
        admission.enqueue("a", JobId::random(), 0);
        admission.release("a", RUN);
        // A place is free, but it belongs to the one who waits.
        for tenant in ["a", "b"] {
            let place = admission.admit(tenant, small(0), false);
            assert!(matches!(place, Ok(Place::Wait { .. })));
        }
    }

    #[test]
    fn tenants_take_turns() {
        let mut admission = admission(10, 10, |_| {});
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        for id in &ids[..3] {
            admission.enqueue("greedy", *id, 0);
        }
        admission.enqueue("modest", ids[3], 0);
        assert_eq!(order(&mut admission), [ids[0], ids[3], ids[1], ids[2]]);
    }

    #[test]
    fn who_runs_less_is_next() {
        let mut admission = admission(3, 10, |_| {});
        for _ in 0..3 {
            admission.admit("greedy", small(0), false).expect("runs");
        }
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        for id in &ids[..2] {
            admission.enqueue("greedy", *id, 0);
        }
        for id in &ids[2..] {
            admission.enqueue("modest", *id, 0);
        }
        // Long jobs of the one do not keep the other at a job now and then.
        for expected in [ids[2], ids[0], ids[3]] {
            admission.release("greedy", RUN);
            assert_eq!(admission.next(false).map(|(id, _)| id), Some(expected));
        }
    }

    #[test]
    fn a_tenant_leaves_room_to_wait_for_others() {
        let mut admission = admission(1, 8, several_tenants);
        admission.admit("greedy", small(0), false).expect("runs");
        let waits = |admission: &mut Admission, tenant: &str| {
            std::iter::repeat_with(|| admission.admit(tenant, small(0), false))
                .take_while(Result::is_ok)
                .count()
        };
        assert_eq!(waits(&mut admission, "greedy"), 4);
        assert_eq!(waits(&mut admission, "greedier"), 2);
        assert_eq!(waits(&mut admission, "modest"), 1);
    }

    #[test]
    fn quotas_hold_and_bind_nobody_else() {
        let mut admission = admission(10, 10, |config| {
            config.tenants.quota = Quota {
                max_running: 2,
                max_pending: 2,
                max_memory: 100,
            };
        });
        let mut admit = |tenant: &str, memory| admission.admit(tenant, of_memory(memory), false);
        assert_eq!(admit("a", 60).expect("runs"), Place::Run { memory: 60 });
        assert!(matches!(admit("a", 60), Ok(Place::Wait { .. })), "memory");
        assert_eq!(admit("a", 30).expect("runs"), Place::Run { memory: 30 });
        assert!(matches!(admit("a", 1), Ok(Place::Wait { .. })), "jobs");
        assert!(matches!(admit("a", 1), Err(Refusal::Exhausted { .. })), "waiting");
        assert!(matches!(admit("a", 101), Err(Refusal::Invalid(_))), "never");
        assert_eq!(admit("b", 60).expect("runs"), Place::Run { memory: 60 });
        let id = JobId::random();
        admission.enqueue("a", id, 60);
        assert_eq!(admission.next(false), None);
        admission.release("a", Place::Run { memory: 60 });
        assert_eq!(admission.next(false), Some((id, Place::Run { memory: 60 })));
    }

    #[test]
    fn a_withdrawn_job_is_not_run() {
        let mut admission = admission(10, 10, |_| {});
        let (gone, stays) = (JobId::random(), JobId::random());
        admission.enqueue("a", gone, 0);
        admission.enqueue("b", stays, 0);
        admission.withdraw("a", gone);
        assert_eq!(order(&mut admission), [stays]);
    }

    #[test]
    fn a_congested_launcher_holds_launches_back() {
        let mut admission = admission(10, 10, |_| {});
        assert!(matches!(
            admission.admit("a", small(0), true),
            Ok(Place::Wait { .. })
        ));
        admission.enqueue("a", JobId::random(), 0);
        assert_eq!(admission.next(true), None);
        assert!(admission.next(false).is_some());
    }

    #[test]
    fn draining_and_closing_refuse() {
        let mut admission = admission(1, 1, |_| {});
        let admit = |admission: &mut Admission| admission.admit("a", small(0), false);
        admission.set_scheduler_lost(true);
        assert!(matches!(admit(&mut admission), Err(Refusal::Draining)));
        admission.set_scheduler_lost(false);
        assert!(admit(&mut admission).is_ok());
        admission.drain();
        assert!(matches!(admit(&mut admission), Err(Refusal::Draining)));
        admission.close();
        assert!(matches!(admit(&mut admission), Err(Refusal::ShuttingDown)));
    }
}
