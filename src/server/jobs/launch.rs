use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::isolation::ipc::{Launch, Order};
use crate::job::{Cause, ExitRecord, JobId};
use crate::server::Refusal;
use crate::server::admission::{Demand, Place};
use crate::server::launcher::Encoded;
use crate::server::store::{Change, NewJob, StoreError, WriteError};

use super::{Jobs, LaunchTrace, Live, Phase};
use crate::sys::fault_point;

/// Between two tries to read a request.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A job that has a place and whose record is on its way to the disk.
#[derive(Debug)]
pub(in crate::server) struct Recording {
    pub(in crate::server) live: Arc<Live>,
    /// It waits for a place to run.
    pub(in crate::server) waits: bool,
    pub(in crate::server) durable: oneshot::Receiver<Result<(), WriteError>>,
}

impl Jobs {
    /// Admits a job and records it; when the record is durable it is launched or joins the queue.
    ///
    /// That does not depend on the caller: a client that hangs up meanwhile leaves no job behind that is
    /// recorded and never run.
    pub(in crate::server) fn record(
        self: &Arc<Self>,
        job: NewJob,
        launch: Launch,
        mut trace: LaunchTrace,
    ) -> Result<Recording, Refusal> {
        let id = launch.id;
        let bytes = job.request.as_ref().map_or(0, Vec::len);
        let congested = self.launcher.is_congested();
        let (place, live) = {
            let mut table = self.lock();
            let facts = &job.view.facts;
            let demand = Demand {
                bytes,
                memory: facts.memory_bytes(),
            };
            let place = table.admission.admit(&facts.tenant, demand, congested)?;
            trace.mark("admission");
            let live = table.insert(job.view.clone(), Phase::Preparing, place);
            if let Some(entry) = table.get(id) {
                entry.trace = trace;
            }
            (place, live)
        };
        // A job that waits is read from the store when its time has come, so that the queue takes no memory.
        let order =
            matches!(place, Place::Run { .. }).then(|| Encoded::new(&Order::Launch(Box::new(launch))));
        let waits = order.is_none();
        let (answer, durable) = oneshot::channel();
        let jobs = Arc::clone(self);
        let then = move |result: Result<(), WriteError>| {
            if result.is_ok() {
                let _ = fault_point!("server.launch");
                jobs.proceed(id, order);
            } else {
                jobs.lock().remove(id);
            }
            // The place of a job that is not recorded is another's.
            jobs.launch_waiting();
            let _ = answer.send(result);
        };
        self.store.write(Change::Insert(Box::new(job)), Box::new(then));
        Ok(Recording { live, waits, durable })
    }

    /// Launches as many waiting jobs as there are places.
    pub(in crate::server) fn launch_waiting(self: &Arc<Self>) {
        loop {
            let congested = self.launcher.is_congested();
            let Some(id) = self.take_next(congested) else {
                return;
            };
            self.launch_stored(id);
        }
    }

    /// Launches a job that has its place, by the request that the store has of it.
    fn launch_stored(self: &Arc<Self>, id: JobId) {
        match self.load(id) {
            Ok(Some(order)) => self.proceed(id, Some(order)),
            Ok(None) | Err(StoreError::Malformed { .. }) => {
                let why = "its request could not be read from the store".to_owned();
                self.finish(id, ExitRecord::without_run(Cause::Lost { why }));
            }
            Err(error) => {
                tracing::error!(job = %id, error = &error as &dyn std::error::Error, "reading a request");
                let jobs = Arc::clone(self);
                self.runtime.spawn(async move {
                    tokio::time::sleep(READ_AGAIN).await;
                    match jobs.is_stopped(id) {
                        true => jobs.proceed(id, None),
                        false => jobs.launch_stored(id),
                    }
                });
            }
        }
    }

    fn is_stopped(&self, id: JobId) -> bool {
        self.lock().get(id).is_some_and(|entry| entry.stop.is_some())
    }

    /// The next step of a job whose preparation is done: stop, launch or wait.
    pub(super) fn proceed(self: &Arc<Self>, id: JobId, order: Option<Encoded>) {
        let mut table = self.lock();
        // A shutdown stops or awaits those that are launched: none may follow. The job waits for the next start.
        let order = order.filter(|_| !table.admission.is_closed());
        let Some(entry) = table.get(id) else { return };
        if let Some(stop) = entry.stop.take() {
            return self.end_unrun(&mut table, id, &stop);
        }
        entry.trace.mark("store");
        match order {
            Some(order) => {
                entry.phase = Phase::Launched;
                self.launcher.enqueue(order);
                if entry.trace.is_on() {
                    // Before the lock is given up: the answer must not be marked first.
                    self.launcher.flush();
                    entry.trace.mark("launcher");
                }
            }
            None => {
                entry.phase = Phase::Queued;
                let live = Arc::clone(&entry.live);
                let facts = live.view().facts;
                table.admission.enqueue(&facts.tenant, id, facts.memory_bytes());
            }
        }
        drop(table);
        self.launcher.flush();
    }

    fn take_next(&self, congested: bool) -> Option<JobId> {
        let mut table = self.lock();
        let (id, place) = table.admission.next(congested)?;
        // Whoever takes a job out of the table takes it out of its queue.
        let entry = table.get(id)?;
        let waited = std::mem::replace(&mut entry.place, place);
        entry.phase = Phase::Preparing;
        entry.trace.mark("queue");
        let tenant = entry.live.view().facts.tenant.clone();
        table.admission.release(&tenant, waited);
        Some(id)
    }

    fn load(&self, id: JobId) -> Result<Option<Encoded>, StoreError> {
        let Some(live) = self.lock().live(id) else {
            return Ok(None);
        };
        let view = live.view();
        let stored = self.store.request(id)?;
        Ok(stored.map(|(request, idempotency_key)| {
            Encoded::new(&Order::Launch(Box::new(Launch {
                id,
                tenant: view.facts.tenant.clone(),
                created_at: view.facts.created_at,
                request,
                idempotency_key,
            })))
        }))
    }
}
