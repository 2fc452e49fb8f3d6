//! What each tenant has of the worker, and whose turn it is.

use std::collections::{HashMap, VecDeque};

use crate::config::{Config, Quota, Tenants};
use crate::job::JobId;

/// One queue a tenant. The next place goes to the tenant that runs the fewest jobs, so that no number of jobs,
/// however long they run, keeps another tenant under its share for longer than one job takes.
#[derive(Debug)]
pub(super) struct Shares {
    config: Tenants,
    /// Clients are told apart, so one of them must not take all places to wait.
    several: bool,
    tenants: HashMap<String, Share>,
    turn: u64,
}

#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) running: usize,
    /// Memory limits of the jobs that run, in bytes.
    pub(super) memory: u64,
    pub(super) pending: usize,
    pub(super) pending_bytes: usize,
    /// Jobs that wait for a place to run, with their memory limits.
    pub(super) queue: VecDeque<(JobId, u64)>,
    /// When its last job was taken from the queue.
    served: u64,
}

impl Shares {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.tenants.clone(),
            several: config.tells_tenants_apart(),
            tenants: HashMap::new(),
            turn: 0,
        }
    }

    pub(super) fn quota(&self, tenant: &str) -> Quota {
        self.config.of(tenant)
    }

    pub(super) fn of(&self, tenant: &str) -> Option<&Share> {
        self.tenants.get(tenant)
    }

    pub(super) fn make(&mut self, tenant: &str) -> &mut Share {
        self.tenants.entry(tenant.to_owned()).or_default()
    }

    /// A tenant that has nothing here costs nothing.
    pub(super) fn forget_idle(&mut self, tenant: &str) {
        if self
            .of(tenant)
            .is_some_and(|share| share.running == 0 && share.pending == 0 && share.queue.is_empty())
        {
            self.tenants.remove(tenant);
        }
    }

    /// Whether a new job overtakes nobody who could run now.
    pub(super) fn may_run_now(&self, tenant: &str, memory: u64) -> bool {
        let fits = match self.of(tenant) {
            Some(share) => share.fits(self.quota(tenant), memory),
            None => true,
        };
        fits && self.next().is_none()
    }

    /// A tenant may have as many places to wait as are still free: there are always some left for the next one.
    pub(super) fn may_wait(
        &self,
        tenant: &str,
        bytes: usize,
        free: usize,
        free_bytes: usize,
        quota: Quota,
    ) -> bool {
        let (pending, pending_bytes) = self
            .of(tenant)
            .map_or((0, 0), |share| (share.pending, share.pending_bytes));
        let within_quota = quota.max_pending == 0 || pending < quota.max_pending as usize;
        let fair = !self.several || (pending < free && pending_bytes.saturating_add(bytes) <= free_bytes);
        within_quota && fair
    }

    /// Takes the next job from its queue, if any may run.
    pub(super) fn pop(&mut self) -> Option<(String, JobId, u64)> {
        let tenant = self.next()?.to_owned();
        self.turn += 1;
        let share = self.tenants.get_mut(&tenant)?;
        share.served = self.turn;
        let (id, memory) = share.queue.pop_front()?;
        Some((tenant, id, memory))
    }

    /// The tenant whose first waiting job is to run next.
    fn next(&self) -> Option<&str> {
        self.tenants
            .iter()
            .filter(|(name, share)| {
                share
                    .queue
                    .front()
                    .is_some_and(|(_, memory)| share.fits(self.quota(name), *memory))
            })
            .min_by_key(|(name, share)| (share.running, share.served, *name))
            .map(|(name, _)| name.as_str())
    }
}

impl Share {
    fn fits(&self, quota: Quota, memory: u64) -> bool {
        let jobs = quota.max_running == 0 || self.running < quota.max_running as usize;
        let bytes = quota.max_memory == 0 || self.memory.saturating_add(memory) <= quota.max_memory;
        jobs && bytes
    }
}
