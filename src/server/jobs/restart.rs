//! After a restart: what the store says, what the launcher says, and what follows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::isolation::ipc::{KnownJob, Origin};
use crate::job::{Cause, ExitRecord, JobId, Output, State, StopOrder};
use crate::server::store::{Change, IdempotencyKey, NewJob, StoreError, WriteError};
use crate::server::view::{JobFacts, JobView};

use super::{Jobs, Phase};

impl Jobs {
    /// Takes up the jobs of an earlier run. Called once, before any request is served.
    ///
    /// `kept` tells what is on disk of a job's output.
    pub(in crate::server) fn take_up(
        self: &Arc<Self>,
        known: Vec<KnownJob>,
        kept: impl Fn(JobId) -> Output,
    ) -> Result<(), StoreError> {
        let mut known: HashMap<JobId, KnownJob> = known.into_iter().map(|job| (job.id, job)).collect();
        for (view, request_bytes) in self.store.unfinished()? {
            match known.remove(&view.id()) {
                Some(job) if job.origin == Origin::Newer => self.leave_alone(view),
                Some(job) => self.adopt(view, job),
                None if view.state == State::Pending => self.requeue(view, request_bytes),
                None => {
                    let output = kept(view.id());
                    self.lose(view, output);
                }
            }
        }
        for job in known.into_values() {
            // Of a launch that failed there is nothing to make a record of.
            if job.origin == Origin::Launched && self.store.find(job.id)?.is_none() {
                self.restore(job);
            }
        }
        self.launch_waiting();
        Ok(())
    }

    /// The launcher has it: it runs on, or has ended meanwhile.
    fn adopt(self: &Arc<Self>, view: JobView, job: KnownJob) {
        let id = job.id;
        let was_stopping = view.state == State::Stopping;
        let mut table = self.lock();
        let place = table
            .admission
            .adopt(&view.facts.tenant, view.facts.memory_bytes());
        let live = table.insert(view, Phase::Launched, place);
        drop(table);
        if let Some(record) = job.record {
            return self.finish(id, record);
        }
        // That it started may have been told while nobody listened.
        if live.view().started_at.is_none()
            && let Some(started_at) = job.started_at
        {
            let view = live.update(|view| {
                // A stop may have come first.
                let _ = view.state.advance(State::Running);
                view.started_at = Some(started_at);
                view.receipt = job.receipt.map(Arc::from).or_else(|| view.receipt.take());
            });
            self.store.write_lazily(Change::Update(view));
        }
        match job.stop {
            // The record of it may have died with an earlier server. A second signal would be one too many.
            Some(order) => self.note_stopping(&live, &order),
            // The order has died with the process that recorded it: the job has had no signal, and no grace.
            None if was_stopping => {
                let order = live.view().order;
                self.order_stop(
                    id,
                    order.map_or_else(StopOrder::nameless, |order| (*order).clone()),
                );
            }
            None => {}
        }
    }

    /// A newer worker has launched it, which alone can take it up: this one only shows it.
    fn leave_alone(&self, mut view: JobView) {
        tracing::warn!(job = %view.id(), "left alone: it belongs to a newer version of this worker");
        if view.state.advance(State::Running) {
            self.store.write_lazily(Change::Update(view));
        }
    }

    /// It was never launched: it waits again, in its old order.
    fn requeue(self: &Arc<Self>, view: JobView, request_bytes: usize) {
        let id = view.id();
        let mut table = self.lock();
        let place = table.admission.readmit(&view.facts.tenant, request_bytes);
        table.insert(view, Phase::Preparing, place);
        drop(table);
        self.proceed(id, None);
    }

    fn lose(self: &Arc<Self>, view: JobView, output: Output) {
        let id = view.id();
        let mut table = self.lock();
        let place = table
            .admission
            .adopt(&view.facts.tenant, view.facts.memory_bytes());
        table.insert(view, Phase::Launched, place);
        drop(table);
        let why = "nothing is left of it after a restart".to_owned();
        let record = ExitRecord {
            output,
            ..ExitRecord::without_run(Cause::Lost { why })
        };
        self.finish(id, record);
    }

    /// The launcher has a job whose record this store lost: the record is made again.
    fn restore(self: &Arc<Self>, job: KnownJob) {
        tracing::warn!(job = %job.id, "restoring the record of a job that the launcher knows");
        let mut view = JobView::pending(JobFacts {
            id: job.id,
            tenant: job.tenant.clone(),
            policy: job.policy.clone(),
            policy_hash: String::new(),
            labels: Default::default(),
            limits: None,
            created_at: job.created_at,
        });
        view.state = State::Running;
        view.started_at = job.started_at;
        view.receipt = job.receipt.map(Arc::from);
        if let Some(record) = &job.record {
            view = view.finished(record.clone());
        }
        let id = job.id;
        let live = job.record.is_none().then(|| {
            let mut table = self.lock();
            let place = table
                .admission
                .adopt(&view.facts.tenant, view.facts.memory_bytes());
            table.insert(view.clone(), Phase::Launched, place)
        });
        let row = NewJob {
            view,
            key: job.idempotency_key.map(|key| IdempotencyKey {
                key,
                request_hash: None,
            }),
            request: None,
        };
        let then = move |result: Result<(), WriteError>| {
            if let Err(error) = result {
                tracing::error!(job = %id, error = &error as &dyn std::error::Error, "restoring a job");
            }
        };
        self.store.write(Change::Restore(Box::new(row)), Box::new(then));
        if let (Some(live), Some(order)) = (live, job.stop) {
            self.note_stopping(&live, &order);
        }
    }
}
