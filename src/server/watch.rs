//! The stream of job events, which a client can take up again where it left off.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::policy::Tenant;

use super::store::{Store, carries};
use super::view::JobEvent;
use super::{Refusal, Server};

const EVENTS_READ_AT_ONCE: usize = 256;

/// Events of one tenant's jobs, in the order of their positions, each position at most once.
///
/// Reads from the store what happened before, and again what came faster than the client took it: such a client
/// may miss that a job was RUNNING, but never how it ended.
#[derive(Debug)]
pub struct EventStream {
    server: Arc<Server>,
    live: broadcast::Receiver<JobEvent>,
    tenant: Tenant,
    labels: Vec<(String, String)>,
    /// Everything up to here was told or is not wanted.
    position: u64,
    /// Read from the store, not told yet.
    read: VecDeque<JobEvent>,
    /// There may be more in the store.
    behind: bool,
}

impl Server {
    /// Events after the position `since`; 0 means from now on.
    pub fn watch(
        self: &Arc<Self>,
        tenant: Tenant,
        labels: Vec<(String, String)>,
        since: u64,
    ) -> Result<EventStream, Refusal> {
        // First, so that nothing falls between the store and the live events.
        let live = self.store.subscribe();
        let last = self.store.last_position()?;
        if since > last {
            return Err(Refusal::invalid(
                "since",
                "later than the last event of this worker",
            ));
        }
        Ok(EventStream {
            server: Arc::clone(self),
            live,
            tenant,
            labels,
            position: if since == 0 { last } else { since },
            read: VecDeque::new(),
            behind: since != 0,
        })
    }
}

impl EventStream {
    /// The next event; `None` never comes: the stream ends by the client or by an error.
    pub async fn next(&mut self) -> Result<JobEvent, Refusal> {
        loop {
            let event = self.next_of_any_job().await?;
            // The store and the live events overlap.
            if event.position <= self.position {
                continue;
            }
            self.position = event.position;
            if event.job.facts.tenant == self.tenant.name && carries(&event.job, &self.labels) {
                return Ok(event);
            }
        }
    }

    async fn next_of_any_job(&mut self) -> Result<JobEvent, Refusal> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            let received = tokio::select! {
                received = self.live.recv() => received,
                () = self.server.closing() => return Err(Refusal::ShuttingDown),
            };
            match received {
                Ok(event) => return Ok(event),
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Err(Refusal::ShuttingDown),
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Refusal> {
        let store: &Arc<Store> = &self.server.store;
        let changes = store
            .changed_since(&self.tenant.name, self.position, EVENTS_READ_AT_ONCE)
            .await?;
        self.behind = changes.more;
        self.read = changes.events.into();
        Ok(())
    }
}
