//! The jobs that are not over: what each waits for, and the only way in which it goes on.
//!
//! All transitions happen under one short lock in which nothing waits: what must be written is queued for the
//! store and what must be ordered is queued for the launcher while the lock is held, so that neither sees two
//! changes of a job in another order than this table.

mod finish;
mod launch;
mod restart;
mod table;
mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::isolation::ipc::Order;
use crate::job::{JobId, Receipt, Signal, State, StopOrder, Timestamp};
use crate::policy::Tenant;

use super::Refusal;
use super::admission::Counts;
use super::launcher::{Encoded, Launcher};
use super::store::{Change, Store};
use super::view::JobView;
pub(super) use table::Live;
use table::{Phase, Table};
pub(super) use trace::LaunchTrace;

#[derive(Debug)]
pub(super) struct Jobs {
    table: Mutex<Table>,
    store: Arc<Store>,
    launcher: Launcher,
    runtime: Handle,
}

/// A job that a tenant may see.
#[derive(Debug)]
pub(super) enum Found {
    Live(Arc<Live>),
    /// As the store has it: over, or left alone for a newer worker, whose end this one never learns.
    Stored(Box<JobView>),
}

impl Found {
    pub(super) fn view(&self) -> JobView {
        match self {
            Self::Live(live) => live.view(),
            Self::Stored(view) => (**view).clone(),
        }
    }

    /// Waits until the job has reached `state` or gone beyond it.
    pub(super) async fn reached(&self, state: State) -> JobView {
        match self {
            Self::Live(live) => live.reached(state).await,
            Self::Stored(view) if view.state >= state => (**view).clone(),
            Self::Stored(_) => std::future::pending().await,
        }
    }
}

impl Jobs {
    /// Must be called within the runtime.
    pub(super) fn new(config: &crate::config::Config, store: Arc<Store>, launcher: Launcher) -> Self {
        Self {
            table: Mutex::new(Table::new(config)),
            store,
            launcher,
            runtime: Handle::current(),
        }
    }

    /// A tenant's job. Another tenant's is as unknown as one that never was.
    pub(super) fn find(&self, tenant: &Tenant, id: JobId) -> Result<Found, Refusal> {
        let live = self.lock().live(id);
        let found = match live {
            Some(live) => Found::Live(live),
            None => Found::Stored(Box::new(self.store.find(id)?.ok_or(Refusal::NotFound)?)),
        };
        let owner = match &found {
            Found::Live(live) => live.belongs_to(tenant),
            Found::Stored(view) => view.facts.tenant == tenant.name,
        };
        if owner { Ok(found) } else { Err(Refusal::NotFound) }
    }

    /// The launcher says that the command runs.
    pub(super) fn started(&self, id: JobId, started_at: Timestamp, receipt: Receipt) {
        let mut table = self.lock();
        let Some(entry) = table.launched(id) else {
            return tracing::warn!(job = %id, "started, but not launched by this server");
        };
        let view = entry.start(started_at, receipt);
        self.store.write_lazily(Change::Update(view));
    }

    /// Orders the end of a job; what has ended already stays as it is.
    pub(super) fn stop(self: &Arc<Self>, id: JobId, order: StopOrder) {
        self.order_stop(id, order);
        // Another may have waited behind it alone.
        self.launch_waiting();
    }

    fn order_stop(self: &Arc<Self>, id: JobId, order: StopOrder) {
        let mut table = self.lock();
        let Some(entry) = table.get(id) else { return };
        match entry.phase {
            Phase::Preparing => {
                // Noted, too: a server that dies now must not leave a job behind that runs all the same.
                self.note_stopping(&entry.live, &order);
                entry.stop.get_or_insert(order);
            }
            Phase::Queued => self.end_unrun(&mut table, id, &order),
            Phase::Launched if self.launcher.take_back(id) => self.end_unrun(&mut table, id, &order),
            Phase::Launched => {
                self.note_stopping(&entry.live, &order);
                self.launcher.enqueue(Encoded::new(&Order::Stop { id, order }));
            }
            Phase::Ending => {}
        }
        drop(table);
        self.launcher.flush();
    }

    /// Orders the end of everything that runs.
    pub(super) fn stop_all(self: &Arc<Self>, order: &StopOrder) {
        let ids = self.lock().launched_ids();
        for id in ids {
            self.order_stop(id, order.clone());
        }
    }

    /// Orders the end of everything that runs or waits.
    pub(super) fn stop_unfinished(self: &Arc<Self>, order: &StopOrder) {
        let ids = self.lock().ids();
        for id in ids {
            self.order_stop(id, order.clone());
        }
        self.launch_waiting();
    }

    pub(super) fn signal(&self, id: JobId, signal: Signal) -> Result<(), Refusal> {
        let mut table = self.lock();
        let state = match table.get(id) {
            Some(entry) if entry.phase == Phase::Launched => entry.live.state(),
            Some(entry) if entry.phase == Phase::Ending => return Err(Refusal::WrongState(State::Finished)),
            Some(entry) => return Err(Refusal::WrongState(entry.live.state())),
            None => return Err(Refusal::WrongState(State::Finished)),
        };
        if state == State::Pending {
            return Err(Refusal::WrongState(state));
        }
        self.launcher.enqueue(Encoded::new(&Order::Signal { id, signal }));
        drop(table);
        self.launcher.flush();
        Ok(())
    }

    pub(super) fn counts(&self, tenant: &Tenant) -> Counts {
        self.lock().admission.counts(&tenant.name)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.lock().admission.is_draining()
    }

    pub(super) fn drain(&self) {
        self.lock().admission.drain();
    }

    /// Admits nothing while the scheduler is lost.
    pub(super) fn set_scheduler_lost(&self, lost: bool) {
        self.lock().admission.set_scheduler_lost(lost);
    }

    /// Starts nothing any more: neither new jobs nor those that wait, nor those that are being recorded.
    pub(super) fn close(&self) {
        self.lock().admission.close();
    }

    /// The jobs that the launcher has.
    pub(super) fn launched(&self) -> Vec<Arc<Live>> {
        self.lock().launched_jobs()
    }

    fn note_stopping(&self, live: &Live, order: &StopOrder) {
        if live.state() >= State::Stopping {
            return;
        }
        let view = live.update(|view| {
            view.state = State::Stopping;
            view.set_order(order);
        });
        self.store.write_lazily(Change::Update(view));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every transition leaves the table whole before anything that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
