//! Removal of finished jobs that are too old or too many, and of output that is too much.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Retention;
use crate::job::{JobId, Timestamp};

use super::removal::OutputRemoval;
use super::store::{ByteBounds, JobBounds, StoreError};
use super::{Refusal, Server};

const REMOVED_AT_ONCE: usize = 64;
/// Jobs end in bursts: one sweep serves a whole one.
const BURST: Duration = Duration::from_secs(1);
/// After a sweep that could not remove what it should.
const PAUSE: Duration = Duration::from_secs(60);

/// Sweeps whenever a job ends or grows too old, and never otherwise.
pub(super) async fn keep_within(server: Arc<Server>, retention: Retention) {
    if retention == Retention::default() {
        return;
    }
    let only_age = Retention {
        max_age_s: retention.max_age_s,
        ..Retention::default()
    };
    let mut sweeper = Sweeper {
        server,
        retention,
        stuck: HashSet::new(),
    };
    let mut events = sweeper.server.store.subscribe();
    loop {
        let next = match sweeper.sweep().await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "removing old jobs");
                Some(PAUSE)
            }
        };
        let due = async {
            match next {
                Some(wait) => tokio::time::sleep(wait.max(BURST)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            // Numbers and sizes make a job's end a reason; a full channel is as good as an event.
            _ = events.recv(), if retention != only_age => {
                tokio::time::sleep(BURST).await;
                events = events.resubscribe();
            }
            () = sweeper.server.closing() => return,
        }
    }
}

struct Sweeper {
    server: Arc<Server>,
    retention: Retention,
    /// Output that the host does not let go: its job's own removal is what is left.
    stuck: HashSet<JobId>,
}

impl Sweeper {
    /// Removes what is due; answers when the next job will be.
    async fn sweep(&mut self) -> Result<Option<Duration>, Refusal> {
        loop {
            let due = self.jobs_due().await?;
            let last = due.is_empty();
            for id in due {
                self.server.remove(id).await?;
            }
            if last {
                break;
            }
        }
        self.drop_output().await?;
        Ok(self.next_expiry().await?)
    }

    async fn jobs_due(&self) -> Result<Vec<JobId>, StoreError> {
        let Retention {
            max_age_s,
            max_jobs,
            max_jobs_per_tenant,
            ..
        } = self.retention;
        let bounds = JobBounds {
            ended_before: bound(max_age_s)
                .map(|age| Timestamp::now().as_micros().saturating_sub(micros(age))),
            most: bound(max_jobs),
            most_per_tenant: bound(max_jobs_per_tenant),
        };
        self.server.store.jobs_beyond(bounds, REMOVED_AT_ONCE).await
    }

    async fn drop_output(&mut self) -> Result<(), Refusal> {
        let bounds = ByteBounds {
            most: bound(self.retention.max_bytes),
            most_per_tenant: bound(self.retention.max_bytes_per_tenant),
        };
        loop {
            let stuck = self.stuck.clone();
            let due = self
                .server
                .store
                .output_beyond(bounds, stuck, REMOVED_AT_ONCE)
                .await?;
            if due.is_empty() {
                return Ok(());
            }
            for id in due {
                if self.server.drop_output(id).await? == OutputRemoval::Stays {
                    self.stuck.insert(id);
                }
            }
        }
    }

    async fn next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        let Some(age) = bound(self.retention.max_age_s) else {
            return Ok(None);
        };
        let oldest = match self.server.store.oldest_finished().await? {
            Some(oldest) => oldest,
            // The first job that can expire has not ended yet.
            None => Timestamp::now().as_micros(),
        };
        let expiry = oldest.saturating_add(micros(age));
        Ok(Some(Timestamp::from_micros(expiry).since(Timestamp::now())))
    }
}

/// 0 in the configuration is no bound.
fn bound(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
}
