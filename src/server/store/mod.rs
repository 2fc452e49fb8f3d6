//! The record of all jobs: one SQLite file, one thread that writes, connections that only read.
//!
//! Changes go through one queue to the writer, which commits all that wait in one transaction: a hundred jobs
//! that arrive together cost one flush of the disk. That a job runs waits a few milliseconds for its end: of a short job
//! one record is written, not two. What depends on a change being durable is handed in as a
//! callback and runs after the commit.

mod batches;
mod change;
mod error;
mod keep;
mod queue;
mod read;
mod row;
mod schema;
mod turns;
mod write;

use std::path::Path;
use std::sync::Mutex;

use rusqlite::Connection;
use tokio::sync::broadcast;

pub(super) use change::{Change, Then, WriteError};
pub use error::StoreError;
pub(super) use keep::{ByteBounds, JobBounds};
pub(super) use read::{CHANGES_BYTES, PAGE_BYTES, PageQuery, carries};
pub(super) use row::{IdempotencyKey, NewJob};

use crate::config::Durability;

use super::view::JobEvent;
use change::Write;
use queue::Sender;
use turns::Turns;
use write::Writer;

/// Events that a watcher may lag behind before it has to read them from the file.
const EVENTS_KEPT: usize = 1024;

/// Handle to the job store; used by all tasks at once.
#[derive(Debug)]
pub(super) struct Store {
    changes: Sender<Write>,
    events: broadcast::Sender<JobEvent>,
    /// For reads of one row. They take microseconds and are done in place.
    points: Mutex<Connection>,
    /// For lists and sweeps, on one thread of the pool.
    scans: Turns<Connection>,
}

impl Store {
    /// Opens or makes `dir`/stockade.db, brings its schema up to date, and starts the writer.
    pub(super) fn open(dir: &Path, durability: Durability) -> Result<Self, StoreError> {
        let file = dir.join("stockade.db");
        let mut connection = schema::open(&file, durability)?;
        schema::migrate(&mut connection)?;
        let points = Mutex::new(schema::open_reader(&file)?);
        let scans = Turns::new(schema::open_reader(&file)?);
        let (changes, queue) = queue::queue();
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let writer = Writer::new(connection, queue, events.clone())?;
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::Thread)?;
        Ok(Self {
            changes,
            events,
            points,
            scans,
        })
    }

    /// Changes from now on, after their commit.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.events.subscribe()
    }

    /// Queues a change that somebody waits for: it is committed at once, then `then` is called.
    pub(super) fn write(&self, change: Change, then: Then) {
        self.queue([Write::urgent(change, then)]);
    }

    /// As [`Store::write`], after a change that nobody waits for.
    pub(super) fn write_after(&self, earlier: Option<Change>, change: Change, then: Then) {
        match earlier {
            Some(earlier) => self.queue([Write::lazy(earlier), Write::urgent(change, then)]),
            None => self.write(change, then),
        }
    }

    /// Queues a change that may wait a few milliseconds for company.
    pub(super) fn write_lazily(&self, change: Change) {
        self.queue([Write::lazy(change)]);
    }

    fn queue<const COUNT: usize>(&self, writes: [Write; COUNT]) {
        if self.changes.send(writes).is_err() {
            // It has panicked. A server that goes on tells nobody how a job ends; the launcher starts another one.
            tracing::error!("the store's writer is gone");
            std::process::abort();
        }
    }

    /// Waits for a change to be durable.
    pub(super) async fn write_and_wait(&self, change: Change) -> Result<(), WriteError> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.write(
            change,
            Box::new(move |result| {
                // The caller may have gone; the change stands.
                let _ = done.send(result);
            }),
        );
        result
            .await
            .unwrap_or_else(|_| Err(WriteError::Failed("the writer is gone".to_owned())))
    }

    /// Waits until everything queued before can be read.
    pub(super) async fn sync(&self) -> Result<(), WriteError> {
        self.write_and_wait(Change::Nothing).await
    }
}

#[cfg(test)]
mod tests;
