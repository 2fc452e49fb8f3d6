use std::time::Duration;

use crate::isolation::ipc::{HostAbility, Order};
use crate::job::{JobId, Signal, State, StopOrder};
use crate::policy::Tenant;

use super::jobs::Found;
use super::store::{Change, PageQuery};
use super::view::JobView;
use super::{Refusal, Server};

/// How long a deletion waits for the launcher.
const DELETION: Duration = Duration::from_secs(10);
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
}

impl Server {
    pub fn query(&self, tenant: &Tenant, id: JobId) -> Result<JobView, Refusal> {
        Ok(self.jobs.find(tenant, id)?.view())
    }

    /// Orders the end of a job, which is told at once; what has ended stays as it is.
    pub fn stop(&self, tenant: &Tenant, id: JobId, order: StopOrder) -> Result<JobView, Refusal> {
        let found = self.jobs.find(tenant, id)?;
        self.jobs.stop(id, order);
        Ok(found.view())
    }

    /// The job once it is over, or as it is after `timeout`.
    pub async fn wait(
        &self,
        tenant: &Tenant,
        id: JobId,
        timeout: Option<Duration>,
    ) -> Result<JobView, Refusal> {
        let live = match self.jobs.find(tenant, id)? {
            Found::Live(live) => live,
            Found::Finished(view) => return Ok(*view),
        };
        let time_is_up = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            job = live.reached(State::Finished) => Ok(job),
            () = time_is_up => Ok(live.view()),
            () = self.closing() => Err(Refusal::ShuttingDown),
        }
    }

    pub fn signal(&self, tenant: &Tenant, id: JobId, signal: Signal) -> Result<JobView, Refusal> {
        let found = self.jobs.find(tenant, id)?;
        self.jobs.signal(id, signal)?;
        Ok(found.view())
    }

    pub async fn list(&self, tenant: &Tenant, listing: Listing) -> Result<ListedPage, Refusal> {
        // A client that has seen a job run must find it among those that run.
        self.store
            .sync()
            .await
            .map_err(|error| Refusal::unavailable("the job store failed", &error))?;
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
    pub async fn delete(&self, tenant: &Tenant, id: JobId) -> Result<(), Refusal> {
        match self.jobs.find(tenant, id)? {
            Found::Live(live) => Err(Refusal::WrongState(live.state())),
            Found::Finished(view) if view.state != State::Finished => Err(Refusal::WrongState(view.state)),
            Found::Finished(_) => self.remove(id).await,
        }
    }

    /// Removes a job that is known to be over.
    pub(super) async fn remove(&self, id: JobId) -> Result<(), Refusal> {
        let deleted = self.await_deletion(id);
        self.launcher.send(&Order::Delete { id });
        match tokio::time::timeout(DELETION, deleted).await {
            Ok(Ok(())) => {}
            _ => return Err(Refusal::Unavailable("the job's files could not be removed yet")),
        }
        self.store
            .write_and_wait(Change::Delete(id))
            .await
            .map_err(|error| Refusal::unavailable("the job's record could not be removed", &error))
    }

    pub async fn status(&self) -> Result<WorkerStatus, Refusal> {
        let (running, pending) = self.jobs.counts();
        let unfinished = self.jobs.launched().iter().map(|live| live.view().id()).collect();
        let running_output = self.outputs.kept_bytes(unfinished).await;
        Ok(WorkerStatus {
            running,
            pending,
            max_running: self.max_running,
            policies: self.policies().names(),
            draining: self.jobs.is_draining(),
            host: self.host_abilities(),
            output_bytes_kept: self.store.kept_bytes().await?.saturating_add(running_output),
        })
    }

    /// Admits no more jobs; those that run and wait go on.
    pub fn drain(&self) {
        self.jobs.drain();
    }
}
