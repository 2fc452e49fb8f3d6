use std::sync::{Arc, MutexGuard};

use crate::isolation::ipc::Order;
use crate::job::{Cause, ExitRecord, JobId, Stop, StopOrder};
use crate::server::store::Change;
use crate::server::view::JobView;

use super::{Jobs, Phase, Table};

impl Jobs {
    /// A job is over: its place is free at once, its end is told when it is durable.
    pub(in crate::server) fn finished(self: &Arc<Self>, id: JobId, record: ExitRecord) {
        let mut table = self.lock();
        let start = Self::untold_start(&mut table, id, &record);
        self.finish_in(&mut table, id, record, start);
        drop(table);
        self.launch_waiting();
    }

    /// That a short job has run is told with its end.
    fn untold_start(table: &mut Table, id: JobId, record: &ExitRecord) -> Option<JobView> {
        let started_at = record.started_at?;
        let entry = table.launched(id).filter(|entry| !entry.live.has_started())?;
        Some(entry.start(started_at, record.receipt.clone()))
    }

    /// The launcher does not know a job that this server believed to run.
    pub(in crate::server) fn unknown(self: &Arc<Self>, id: JobId) {
        if self.lock().launched(id).is_some() {
            let why = "the launcher does not know it".to_owned();
            self.finished(id, ExitRecord::without_run(Cause::Lost { why }));
        }
    }

    pub(super) fn finish(self: &Arc<Self>, id: JobId, record: ExitRecord) {
        let mut table = self.lock();
        self.finish_in(&mut table, id, record, None);
    }

    /// Ends a job that was never launched.
    pub(super) fn end_unrun(
        self: &Arc<Self>,
        table: &mut MutexGuard<'_, Table>,
        id: JobId,
        order: &StopOrder,
    ) {
        let mut record = ExitRecord::without_run(Cause::Stopped {
            signal: None,
            code: None,
        });
        record.stop = Some(Stop {
            by: order.by.clone(),
            reason: order.reason.clone(),
            escalated: false,
            killed: 0,
        });
        self.finish_in(table, id, record, None);
    }

    /// `start` is written with it.
    fn finish_in(
        self: &Arc<Self>,
        table: &mut MutexGuard<'_, Table>,
        id: JobId,
        record: ExitRecord,
        start: Option<JobView>,
    ) {
        let Some(entry) = table.get(id) else {
            tracing::debug!(job = %id, "finished, but not known to this server");
            // An earlier server may have recorded it, and its launcher have died before it could forget it.
            if matches!(self.store.is_settled(id), Ok(true)) {
                self.launcher.send(&Order::Recorded { id });
            }
            return;
        };
        if entry.phase == Phase::Ending {
            return;
        }
        let was_queued = entry.phase == Phase::Queued;
        entry.phase = Phase::Ending;
        let mut trace = std::mem::take(&mut entry.trace);
        trace.mark("finished");
        let place = entry.place;
        let over = entry.live.view().finished(record);
        if was_queued {
            table.admission.withdraw(&over.facts.tenant, id);
        }
        table.admission.release(&over.facts.tenant, place);
        let jobs = Arc::clone(self);
        let told = over.clone();
        let then = move |result: Result<(), _>| {
            // Not durable: nobody is told. The writer tries again as long as it lives.
            if result.is_ok()
                && let Some(live) = jobs.lock().remove(id)
            {
                live.replace(told);
                if !was_queued {
                    jobs.launcher.send(&Order::Recorded { id });
                }
                trace.mark("recorded");
            }
        };
        self.store
            .write_after(start.map(Change::Update), Change::Update(over), Box::new(then));
    }
}
