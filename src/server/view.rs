use std::collections::BTreeMap;
use std::sync::Arc;

use crate::job::{ExitRecord, JobId, Limits, Receipt, State, Stop, StopOrder, Timestamp};

/// What does not change in a job's life.
#[derive(Debug, PartialEq)]
pub struct JobFacts {
    pub id: JobId,
    pub tenant: String,
    pub policy: String,
    /// SHA-256 of the policy as it was resolved for this job, lower-case hexadecimal.
    pub policy_hash: String,
    pub labels: BTreeMap<String, String>,
    /// `None` for a job that was found at the launcher alone.
    pub limits: Option<Limits>,
    pub created_at: Timestamp,
}

impl JobFacts {
    /// Its memory limit, as far as it is known.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.limits.map_or(0, |limits| limits.memory_bytes)
    }
}

/// A job as it is at one moment. Cheap to clone: what is large is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    pub facts: Arc<JobFacts>,
    pub state: State,
    pub started_at: Option<Timestamp>,
    pub receipt: Option<Arc<Receipt>>,
    /// Who stops it and why, while it is STOPPING.
    pub stop: Option<Arc<Stop>>,
    /// The order for that.
    pub order: Option<Arc<StopOrder>>,
    /// Set exactly when it is FINISHED.
    pub exit: Option<Arc<ExitRecord>>,
}

impl JobView {
    #[must_use]
    pub fn pending(facts: JobFacts) -> Self {
        Self {
            facts: Arc::new(facts),
            state: State::Pending,
            started_at: None,
            receipt: None,
            stop: None,
            order: None,
            exit: None,
        }
    }

    #[must_use]
    pub fn id(&self) -> JobId {
        self.facts.id
    }

    pub(in crate::server) fn set_order(&mut self, order: &StopOrder) {
        self.order = Some(Arc::new(order.clone()));
        self.stop = Some(Arc::new(Stop {
            by: order.by.clone(),
            reason: order.reason.clone(),
            escalated: false,
            killed: 0,
        }));
    }

    /// The same job, over.
    #[must_use]
    pub fn finished(&self, exit: ExitRecord) -> Self {
        Self {
            facts: Arc::clone(&self.facts),
            state: State::Finished,
            started_at: exit.started_at.or(self.started_at),
            receipt: None,
            stop: None,
            order: None,
            exit: Some(Arc::new(exit)),
        }
    }

    /// The receipt of the isolation, from the exit record once there is one.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        match &self.exit {
            Some(exit) => Some(&exit.receipt),
            None => self.receipt.as_deref(),
        }
    }
}

/// A change of a job, as watchers see it.
#[derive(Debug, Clone)]
pub struct JobEvent {
    /// Grows with every event of this worker, over restarts too.
    pub position: u64,
    pub job: JobView,
}
