//! Removal of finished jobs that are too old or too many.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Retention;
use crate::job::Timestamp;

use super::store::StoreError;
use super::{Refusal, Server};

const REMOVED_AT_ONCE: usize = 64;
/// Jobs end in bursts: one sweep serves a whole one.
const BURST: Duration = Duration::from_secs(1);
/// After a sweep that could not remove what it should.
const PAUSE: Duration = Duration::from_secs(60);

/// Sweeps whenever a job ends or grows too old, and never otherwise.
pub(super) async fn keep_within(server: Arc<Server>, retention: Retention) {
    if retention.max_age_s == 0 && retention.max_jobs == 0 {
        return;
    }
    let mut events = server.store.subscribe();
    loop {
        let next = match sweep(&server, retention).await {
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
            // Only the number of jobs makes a job's end a reason; a full channel is as good as an event.
            _ = events.recv(), if retention.max_jobs > 0 => {
                tokio::time::sleep(BURST).await;
                events = events.resubscribe();
            }
            () = server.closing() => return,
        }
    }
}

/// Removes what is due; answers when the next job will be.
async fn sweep(server: &Arc<Server>, retention: Retention) -> Result<Option<Duration>, Refusal> {
    loop {
        let due = due(server, retention).await?;
        let last = due.len() < REMOVED_AT_ONCE;
        for id in due {
            server.remove(id).await?;
        }
        if last {
            break;
        }
    }
    Ok(next_expiry(server, retention).await?)
}

async fn due(server: &Arc<Server>, retention: Retention) -> Result<Vec<crate::job::JobId>, StoreError> {
    let cutoff = match retention.max_age_s {
        0 => i64::MIN,
        _ => Timestamp::now()
            .as_micros()
            .saturating_sub(micros(retention.max_age_s)),
    };
    let keep = (retention.max_jobs > 0).then_some(retention.max_jobs);
    server.store.expired(cutoff, keep, REMOVED_AT_ONCE).await
}

async fn next_expiry(server: &Arc<Server>, retention: Retention) -> Result<Option<Duration>, StoreError> {
    if retention.max_age_s == 0 {
        return Ok(None);
    }
    let oldest = match server.store.oldest_finished().await? {
        Some(oldest) => oldest,
        // The first job that can expire has not ended yet.
        None => Timestamp::now().as_micros(),
    };
    let expiry = oldest.saturating_add(micros(retention.max_age_s));
    Ok(Some(Timestamp::from_micros(expiry).since(Timestamp::now())))
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
}
