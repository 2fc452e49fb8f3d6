//! What the store can be asked to change.

use crate::job::JobId;
use crate::server::view::JobView;

use super::row::NewJob;

#[derive(Debug)]
pub(in crate::server) enum Change {
    Insert(Box<NewJob>),
    /// As Insert, of a job that is there already, whose record was lost.
    Restore(Box<NewJob>),
    Update(JobView),
    Delete(JobId),
    /// As Delete, but the folder is still to be removed.
    Bury(JobId),
    /// The folder of a buried job is gone.
    Unbury(JobId),
    /// The output of a finished job is gone. No event: the job has not changed its state.
    DropOutput(JobId),
    /// Only for its place in the queue.
    Nothing,
}

/// Called on the writer's thread once the change is durable, or will not be made.
pub(in crate::server) type Then = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::server) enum WriteError {
    #[error("the idempotency key is taken")]
    Duplicate,
    #[error("the disk is full")]
    DiskFull,
    #[error("{0}")]
    Failed(String),
}

pub(super) struct Write {
    pub(super) change: Change,
    pub(super) urgent: bool,
    pub(super) then: Option<Then>,
}

impl Write {
    pub(super) fn urgent(change: Change, then: Then) -> Self {
        Self {
            change,
            urgent: true,
            then: Some(then),
        }
    }

    pub(super) fn lazy(change: Change) -> Self {
        Self {
            change,
            urgent: false,
            then: None,
        }
    }

    /// How a job goes on must reach the disk some time, and so must what is gone from it; a new job is better refused.
    pub(super) fn must_happen(&self) -> bool {
        self.is_silent() || self.removes().is_some() || matches!(self.change, Change::Restore(_))
    }

    /// Nobody is told of it before it is made.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.change, Change::Update(_))
    }

    /// It records a second time what is gone.
    pub(super) fn repeats(&self, earlier: &Self) -> bool {
        let same = std::mem::discriminant(&self.change) == std::mem::discriminant(&earlier.change);
        same && self.removes().is_some() && self.removes() == earlier.removes()
    }

    /// The job of which files are gone already.
    const fn removes(&self) -> Option<JobId> {
        match self.change {
            Change::Delete(id) | Change::Bury(id) | Change::DropOutput(id) => Some(id),
            _ => None,
        }
    }

    /// Of two changes of one job the later leaves nothing of the earlier.
    pub(super) fn supersedes(&self, earlier: &Self) -> bool {
        match (&self.change, &earlier.change) {
            (Change::Update(later), Change::Update(earlier)) => later.id() == earlier.id(),
            _ => false,
        }
    }
}
