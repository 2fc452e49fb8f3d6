use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::LaunchTrace;
use crate::config::Config;
use crate::job::{JobId, Receipt, State, StopOrder, Timestamp};
use crate::policy::Tenant;
use crate::server::admission::{Admission, Place};
use crate::server::view::JobView;

/// A job that is not over, as those who wait for it see it.
#[derive(Debug)]
pub(in crate::server) struct Live {
    view: watch::Sender<JobView>,
}

impl Live {
    pub(super) fn new(view: JobView) -> Arc<Self> {
        Arc::new(Self {
            view: watch::Sender::new(view),
        })
    }

    pub(in crate::server) fn view(&self) -> JobView {
        self.view.borrow().clone()
    }

    pub(super) fn has_started(&self) -> bool {
        self.view.borrow().started_at.is_some()
    }

    pub(in crate::server) fn state(&self) -> State {
        self.view.borrow().state
    }

    pub(in crate::server) fn belongs_to(&self, tenant: &Tenant) -> bool {
        self.view.borrow().facts.tenant == tenant.name
    }

    /// Follows the job. Its end is seen only once it is durable.
    pub(in crate::server) fn watch(&self) -> watch::Receiver<JobView> {
        self.view.subscribe()
    }

    /// Waits until the job has reached `state` or gone beyond it.
    pub(in crate::server) async fn reached(&self, state: State) -> JobView {
        let mut view = self.watch();
        // The sender lives as long as `self`.
        match view.wait_for(|view| view.state >= state).await {
            Ok(view) => view.clone(),
            Err(_) => self.view(),
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut JobView)) -> JobView {
        let mut changed = None;
        self.view.send_modify(|view| {
            change(view);
            changed = Some(view.clone());
        });
        changed.expect("send_modify calls its closure")
    }

    pub(super) fn replace(&self, view: JobView) {
        self.view.send_replace(view);
    }
}

/// What a job that is not over waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the store: its record is being written, or its request read.
    Preparing,
    /// For a place to run.
    Queued,
    /// For the launcher: it has the job.
    Launched,
    /// For its exit record to be durable. Nothing can change any more.
    Ending,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) live: Arc<Live>,
    pub(super) phase: Phase,
    pub(super) place: Place,
    /// A stop that came while it was PREPARING.
    pub(super) stop: Option<StopOrder>,
    pub(super) trace: LaunchTrace,
}

impl Entry {
    /// Its command runs.
    pub(super) fn start(&mut self, started_at: Timestamp, receipt: Receipt) -> JobView {
        self.trace.mark("started");
        self.live.update(|view| {
            // A stop may have come first.
            let _ = view.state.advance(State::Running);
            view.started_at = Some(started_at);
            view.receipt = Some(Arc::new(receipt));
        })
    }
}

#[derive(Debug)]
pub(super) struct Table {
    jobs: HashMap<JobId, Entry>,
    pub(super) admission: Admission,
}

impl Table {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            jobs: HashMap::new(),
            admission: Admission::new(config),
        }
    }

    pub(super) fn insert(&mut self, view: JobView, phase: Phase, place: Place) -> Arc<Live> {
        let id = view.id();
        let live = Live::new(view);
        let entry = Entry {
            live: Arc::clone(&live),
            phase,
            place,
            stop: None,
            trace: LaunchTrace::default(),
        };
        self.jobs.insert(id, entry);
        live
    }

    pub(super) fn get(&mut self, id: JobId) -> Option<&mut Entry> {
        self.jobs.get_mut(&id)
    }

    /// A job that the launcher has.
    pub(super) fn launched(&mut self, id: JobId) -> Option<&mut Entry> {
        self.get(id).filter(|entry| entry.phase == Phase::Launched)
    }

    pub(super) fn live(&self, id: JobId) -> Option<Arc<Live>> {
        self.jobs.get(&id).map(|entry| Arc::clone(&entry.live))
    }

    pub(super) fn ids(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    pub(super) fn launched_ids(&self) -> Vec<JobId> {
        let launched = |(id, entry): (&JobId, &Entry)| (entry.phase == Phase::Launched).then_some(*id);
        self.jobs.iter().filter_map(launched).collect()
    }

    pub(super) fn launched_jobs(&self) -> Vec<Arc<Live>> {
        let launched = |entry: &&Entry| entry.phase == Phase::Launched;
        self.jobs
            .values()
            .filter(launched)
            .map(|entry| Arc::clone(&entry.live))
            .collect()
    }

    /// Takes a job out and gives its place back.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Arc<Live>> {
        let entry = self.jobs.remove(&id)?;
        if entry.phase != Phase::Ending {
            self.admission
                .release(&entry.live.view().facts.tenant, entry.place);
        }
        Some(entry.live)
    }
}
