//! The worker's place at its scheduler.
//!
//! The scheduler has no heartbeat and gives a new id at every registration, so a worker registers once for
//! each life of the scheduler. It learns of the end of one by the connection that it holds open: when that is
//! gone, it registers again as soon as there is a new one.

mod backoff;
mod loss;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Scheduler};

use super::Server;
use super::tls::ClientTls;
use backoff::Backoff;
use session::Session;

/// The scheduler may be gone; the worker goes all the same.
const DEREGISTRATION: Duration = Duration::from_secs(2);

/// Keeps the worker registered until it is ended.
#[derive(Debug)]
pub(super) struct Registration {
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Registration {
    /// Starts to register, and goes on trying; `None` where no scheduler is configured.
    pub(super) fn start(
        server: &Arc<Server>,
        config: &Config,
        listening: &str,
        tls: Option<ClientTls>,
    ) -> Option<Self> {
        let scheduler = config.scheduler.clone()?;
        let advertise = scheduler
            .advertise
            .clone()
            .unwrap_or_else(|| listening.to_owned());
        let (ending, told) = watch::channel(false);
        let (registered, state) = watch::channel(false);
        let timeout = Duration::from_secs(scheduler.loss_timeout_s);
        tokio::spawn(loss::watch_over(
            Arc::clone(server),
            scheduler.on_loss,
            timeout,
            state,
        ));
        // A worker that takes no jobs has no place at a scheduler.
        let (drained, leave) = (Arc::clone(server), ending.clone());
        tokio::spawn(async move {
            drained.draining().await;
            leave.send_replace(true);
        });
        let task = tokio::spawn(keep_registered(scheduler, advertise, tls, told, registered));
        Some(Self { ending, task })
    }

    /// Deregisters, as far as that can be done in short time.
    pub(super) async fn end(self) {
        self.ending.send_replace(true);
        if tokio::time::timeout(DEREGISTRATION, self.task).await.is_err() {
            tracing::warn!("the scheduler did not answer the deregistration");
        }
    }
}

async fn keep_registered(
    scheduler: Scheduler,
    advertise: String,
    tls: Option<ClientTls>,
    mut ending: watch::Receiver<bool>,
    is_registered: watch::Sender<bool>,
) {
    let mut backoff = Backoff::default();
    while !*ending.borrow() {
        let connected = tokio::select! {
            connected = Session::connect(&scheduler, tls.as_ref()) => connected,
            _ = ending.changed() => return,
        };
        // Not given up half-way: the scheduler would keep a worker that has gone.
        let registered = match connected {
            Ok(session) => session.register(&advertise).await,
            Err(error) => Err(error),
        };
        match registered {
            Ok(mut session) => {
                tracing::info!(
                    scheduler = scheduler.addr,
                    worker = session.worker_id(),
                    "registered"
                );
                is_registered.send_replace(true);
                tokio::select! {
                    () = session.lost() => tracing::warn!("the connection to the scheduler is lost"),
                    _ = ending.changed() => return session.deregister().await,
                }
                is_registered.send_replace(false);
                backoff.lasted(session.age());
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "registering with the scheduler"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_pause()) => {}
            _ = ending.changed() => return,
        }
    }
}
