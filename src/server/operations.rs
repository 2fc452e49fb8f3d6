use std::sync::Arc;
use std::time::Duration;

use crate::isolation::ipc::HostAbility;
use crate::job::{JobId, Signal, State, StopOrder};
use crate::policy::Tenant;

use super::jobs::{Found, Live};
use super::store::PageQuery;
use super::view::JobView;
use super::{Refusal, Server};

const LARGEST_PAGE: usize = 1000;
const USUAL_PAGE: usize = 100;

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Empty: all.
    pub states: Vec<State>,
    /// Jobs that carry all of these.
    pub labels: Vec<(String, String)>,
    /// 0: a usual page.
    pub size: usize,
    /// What the page before this one named as next.
    pub after: Option<u64>,
}

#[derive(Debug)]
pub struct ListedPage {
    /// Newest first.
    pub jobs: Vec<JobView>,
    pub next: Option<u64>,
}

/// The worker as a whole.
#[derive(Debug)]
pub struct WorkerStatus {
    pub running: usize,
    pub pending: usize,
    /// Jobs that may run at one time.
    pub max_running: u32,
    pub policies: Vec<String>,
    pub draining: bool,
    pub host: Vec<HostAbility>,
    pub output_bytes_kept: u64,
    /// What could not be removed yet.
    pub clean_up: Vec<String>,
    /// Of these, the asking tenant's part.
    pub tenant: TenantStatus,
}

#[derive(Debug)]
pub struct TenantStatus {
    pub name: String,
    pub running: usize,
    pub pending: usize,
    pub output_bytes_kept: u64,
}

impl Server {
    pub fn query(&self, tenant: &Tenant, id: JobId) -> Result<JobView, Refusal> {
        Ok(self.jobs.find(tenant, id)?.view())
    }

    /// Orders the end of a job, which is told once the order is durable; what has ended stays as it is.
    pub async fn stop(&self, tenant: &Tenant, id: JobId, order: StopOrder) -> Result<JobView, Refusal> {
        let found = self.own(tenant, id)?;
        self.jobs.stop(id, order);
        // A full disk is no reason not to end a job, and the order has been given.
        let _ = self.store.sync().await;
        Ok(found.view())
    }

    /// The job once it is over, or as it is after `timeout`.
    pub async fn wait(
        &self,
        tenant: &Tenant,
        id: JobId,
        timeout: Option<Duration>,
    ) -> Result<JobView, Refusal> {
        let found = self.jobs.find(tenant, id)?;
        let time_is_up = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A shutdown that waited for this job is no reason not to tell its end.
            biased;
            job = found.reached(State::Finished) => Ok(job),
            () = time_is_up => Ok(found.view()),
            () = self.closing() => Err(Refusal::ShuttingDown),
        }
    }

    pub fn signal(&self, tenant: &Tenant, id: JobId, signal: Signal) -> Result<JobView, Refusal> {
        let found = self.own(tenant, id)?;
        self.jobs.signal(id, signal)?;
        Ok(found.view())
    }

    /// A job that this worker has a hand on.
    fn own(&self, tenant: &Tenant, id: JobId) -> Result<Found, Refusal> {
        match self.jobs.find(tenant, id)? {
            Found::Stored(view) if view.state != State::Finished => Err(Refusal::Unavailable(
                "the job belongs to a newer version of this worker",
            )),
            found => Ok(found),
        }
    }

    pub async fn list(&self, tenant: &Tenant, listing: Listing) -> Result<ListedPage, Refusal> {
        // A client that has seen a job run must find it among those that run. A disk that is full keeps nobody from asking.
        let _ = self.store.sync().await;
        let size = match listing.size {
            0 => USUAL_PAGE,
            size => size.min(LARGEST_PAGE),
        };
        let page = self
            .store
            .page(PageQuery {
                tenant: tenant.name.clone(),
                states: listing.states,
                labels: listing.labels,
                before: listing.after,
                size,
            })
            .await?;
        Ok(ListedPage {
            jobs: page.jobs,
            next: page.next,
        })
    }

    /// Removes what is kept of a finished job: first its files, then its record.
    pub async fn delete(self: &Arc<Self>, tenant: &Tenant, id: JobId) -> Result<(), Refusal> {
        match self.jobs.find(tenant, id)? {
            Found::Live(live) => Err(Refusal::WrongState(live.state())),
            Found::Stored(view) if view.state != State::Finished => Err(Refusal::WrongState(view.state)),
            Found::Stored(_) => self.remove(id).await,
        }
    }

    /// The worker as `tenant` may see it.
    pub async fn status(&self, tenant: &Tenant) -> Result<WorkerStatus, Refusal> {
        let counts = self.jobs.counts(tenant);
        let (own, others): (Vec<_>, Vec<_>) = self
            .jobs
            .launched()
            .into_iter()
            .partition(|live| live.belongs_to(tenant));
        let output = |jobs: Vec<Arc<Live>>| {
            let ids = jobs.iter().map(|live| live.view().id()).collect();
            self.outputs.kept_bytes(ids)
        };
        let own = output(own).await;
        let running_output = output(others).await.saturating_add(own);
        let kept = self.store.kept_bytes(&tenant.name).await?;
        Ok(WorkerStatus {
            running: counts.running,
            pending: counts.pending,
            max_running: self.max_running,
            policies: self.policies().names(),
            draining: self.jobs.is_draining(),
            host: self.host_abilities(),
            output_bytes_kept: kept.all.saturating_add(running_output),
            clean_up: self.removals.leftovers(tenant),
            tenant: TenantStatus {
                name: tenant.name.clone(),
                running: counts.tenant_running,
                pending: counts.tenant_pending,
                output_bytes_kept: kept.of_tenant.saturating_add(own),
            },
        })
    }

    /// Admits no more jobs and leaves the scheduler; jobs that run and wait go on.
    pub fn drain(&self, tenant: &Tenant) -> Result<(), Refusal> {
        if !self.operators.include(tenant) {
            return Err(Refusal::OperatorsOnly);
        }
        tracing::info!(by = tenant.name, "draining");
        self.jobs.drain();
        self.drained.send_replace(true);
        Ok(())
    }
}
