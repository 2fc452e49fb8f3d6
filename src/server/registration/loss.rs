//! What becomes of jobs whose scheduler has gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::OnLoss;
use crate::job::StopOrder;
use crate::server::Server;

/// Does what `on_loss` says each time the scheduler has been gone for `timeout`. Ends when the worker leaves it.
pub(super) async fn watch_over(
    server: Arc<Server>,
    on_loss: OnLoss,
    timeout: Duration,
    mut registered: watch::Receiver<bool>,
) {
    if on_loss == OnLoss::Keep {
        return;
    }
    loop {
        match tokio::time::timeout(timeout, until(&mut registered, true)).await {
            Ok(Ok(())) => {}
            Ok(Err(Left)) => return,
            Err(_) => {
                let seconds = timeout.as_secs();
                tracing::warn!(seconds, ?on_loss, "the scheduler has been gone for too long");
                act(&server, on_loss, seconds);
                if until(&mut registered, true).await.is_err() {
                    return;
                }
                server.jobs.set_scheduler_lost(false);
            }
        }
        if until(&mut registered, false).await.is_err() {
            return;
        }
    }
}

/// The worker has left the scheduler for good.
struct Left;

async fn until(registered: &mut watch::Receiver<bool>, here: bool) -> Result<(), Left> {
    registered
        .wait_for(|now| *now == here)
        .await
        .map(drop)
        .map_err(|_| Left)
}

fn act(server: &Server, on_loss: OnLoss, seconds: u64) {
    match on_loss {
        OnLoss::Keep => {}
        OnLoss::Drain => server.jobs.set_scheduler_lost(true),
        OnLoss::Stop => server.jobs.stop_unfinished(&StopOrder {
            signal: None,
            grace_ms: None,
            by: "scheduler".to_owned(),
            reason: format!("the scheduler has been gone for {seconds} s"),
        }),
    }
}
