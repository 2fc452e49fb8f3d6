//! Removal of what is kept of finished jobs: the launcher removes files, the store the record of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::isolation::ipc::{Leftover, Order};
use crate::job::JobId;
use crate::policy::Tenant;

use super::core::lock;
use super::store::Change;
use super::{Refusal, Server};

/// The launcher answers at once, whatever the host says: one that does not is broken or overrun.
const ANSWER: Duration = Duration::from_secs(10);

/// Those who wait for the launcher to have removed something, and what it could not remove.
#[derive(Debug, Default)]
pub(super) struct Removals {
    folders: Mutex<Waiting<FolderRemoval>>,
    outputs: Mutex<Waiting<OutputRemoval>>,
    leftovers: Mutex<Vec<Leftover>>,
}

type Waiting<T> = HashMap<JobId, Vec<oneshot::Sender<T>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderRemoval {
    Done,
    /// It is on the launcher's clean-up list.
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputRemoval {
    Done,
    Stays,
}

impl Removals {
    pub(super) fn folder(&self, id: JobId, removal: FolderRemoval) {
        tell(&self.folders, id, removal);
    }

    pub(super) fn output(&self, id: JobId, removal: OutputRemoval) {
        tell(&self.outputs, id, removal);
    }

    pub(super) fn set_leftovers(&self, leftovers: Vec<Leftover>) {
        *lock(&self.leftovers) = leftovers;
    }

    /// What is still to be removed, as this tenant may see it.
    pub(super) fn leftovers(&self, tenant: &Tenant) -> Vec<String> {
        lock(&self.leftovers)
            .iter()
            .filter(|leftover| leftover.tenant.as_ref().is_none_or(|name| *name == tenant.name))
            .map(|leftover| leftover.what.clone())
            .collect()
    }
}

/// Removes output that no record tells of: nobody could ever read it or ask for its removal.
///
/// A record is durable before its job is launched, so such output is of a database that was lost or set back.
pub(super) async fn sweep_unknown(server: Arc<Server>) {
    // Records that are being made again at this start count.
    if server.store.sync().await.is_err() {
        return;
    }
    let sweeper = Arc::clone(&server);
    let unknown = tokio::task::spawn_blocking(move || {
        let jobs = sweeper.outputs.jobs();
        jobs.into_iter()
            .filter(|id| matches!(sweeper.store.is_known(*id), Ok(false)))
            .collect::<Vec<_>>()
    });
    for id in unknown.await.unwrap_or_default() {
        tracing::warn!(job = %id, "removing the output of a job that no record tells of");
        if let Err(error) = server.remove(id).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "removing unknown output"
            );
            return;
        }
    }
}

impl Server {
    /// Removes a job that is known to be over: first its files, then its record.
    ///
    /// Files that the host does not let go stay on the clean-up list; the job is gone all the same. A record that the disk
    /// does not let go is removed later.
    pub(super) async fn remove(self: &Arc<Self>, id: JobId) -> Result<(), Refusal> {
        let server = Arc::clone(self);
        to_its_end(async move { server.try_remove(id).await }).await
    }

    async fn try_remove(&self, id: JobId) -> Result<(), Refusal> {
        let removal = self
            .ask(&self.removals.folders, id, &Order::Delete { id })
            .await?;
        let change = match removal {
            FolderRemoval::Done => Change::Delete(id),
            FolderRemoval::Later => Change::Bury(id),
        };
        self.store
            .write_and_wait(change)
            .await
            .map_err(|error| Refusal::unavailable("the job's record could not be removed yet", &error))
    }

    /// Removes the output of a job that is known to be over.
    pub(super) async fn drop_output(self: &Arc<Self>, id: JobId) -> Result<OutputRemoval, Refusal> {
        let server = Arc::clone(self);
        to_its_end(async move { server.try_drop_output(id).await }).await
    }

    async fn try_drop_output(&self, id: JobId) -> Result<OutputRemoval, Refusal> {
        let removal = self
            .ask(&self.removals.outputs, id, &Order::DropOutput { id })
            .await?;
        if removal == OutputRemoval::Done {
            self.store
                .write_and_wait(Change::DropOutput(id))
                .await
                .map_err(|error| Refusal::unavailable("the job's record could not be changed yet", &error))?;
        }
        Ok(removal)
    }

    async fn ask<T>(&self, waiting: &Mutex<Waiting<T>>, id: JobId, order: &Order) -> Result<T, Refusal> {
        let (tell, told) = oneshot::channel();
        lock(waiting).entry(id).or_default().push(tell);
        self.launcher.send(order);
        match tokio::time::timeout(ANSWER, told).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Refusal::Unavailable("the job's files could not be removed yet")),
        }
    }
}

/// Goes on where a client hangs up: half of a removal is a record of output that is gone.
async fn to_its_end<T, F>(removal: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    tokio::spawn(removal)
        .await
        .unwrap_or_else(|error| Err(Refusal::unavailable("the removal was broken off", &error)))
}

fn tell<T: Copy>(waiting: &Mutex<Waiting<T>>, id: JobId, answer: T) {
    for waiting in lock(waiting).remove(&id).unwrap_or_default() {
        // The call may have ended.
        let _ = waiting.send(answer);
    }
}
