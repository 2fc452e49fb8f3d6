//! The one thread that writes.

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::broadcast;

use crate::job::{ExitRecord, JobId, State};
use crate::server::view::{JobEvent, JobView};
use crate::sys::fault_point;

use super::StoreError;
use super::batches::Batches;
use super::change::{Change, Write, WriteError};
use super::queue::Receiver;
use super::row::{NewJob, state_number};

/// The thread that owns the writing connection.
pub(super) struct Writer {
    connection: Connection,
    batches: Batches,
    events: broadcast::Sender<JobEvent>,
    position: u64,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        queue: Receiver<Write>,
        events: broadcast::Sender<JobEvent>,
    ) -> Result<Self, StoreError> {
        let position = last_position(&connection).map_err(StoreError::query("reading the last position"))?;
        Ok(Self {
            connection,
            batches: Batches::new(queue),
            events,
            position,
        })
    }

    pub(super) fn run(mut self) {
        while let Some(batch) = self.batches.next() {
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Vec<Write>) {
        let first = self.position;
        match self.transact(&batch) {
            Ok(results) => {
                let _ = fault_point!("store.committed");
                let mut position = first;
                for (write, result) in batch.into_iter().zip(results) {
                    self.announce(&write.change, &result, &mut position);
                    if let Some(then) = write.then {
                        then(result);
                    }
                }
            }
            Err(source) => {
                // Another process that was not quite dead yet may have written since: its positions are taken.
                self.position = last_position(&self.connection).unwrap_or(first);
                self.refuse(batch, &source);
            }
        }
    }

    /// Carries out all changes in one transaction; the outcome of each, or the failure of all.
    fn transact(&mut self, batch: &[Write]) -> rusqlite::Result<Vec<Result<(), WriteError>>> {
        if batch.iter().all(|write| matches!(write.change, Change::Nothing)) {
            return Ok(vec![Ok(()); batch.len()]);
        }
        let mut position = self.position;
        let results = in_transaction(&self.connection, |connection| {
            let mut rest = batch;
            let mut results = Vec::with_capacity(batch.len());
            while let [write, later @ ..] = rest {
                if later.iter().any(|later| later.supersedes(write)) {
                    position += 1;
                    results.push(Ok(()));
                } else {
                    results.push(apply(connection, &write.change, &mut position)?);
                }
                rest = later;
            }
            Ok(results)
        })?;
        self.position = position;
        Ok(results)
    }

    fn announce(&self, change: &Change, result: &Result<(), WriteError>, position: &mut u64) {
        let job = match (change, result) {
            (Change::Insert(job) | Change::Restore(job), Ok(())) => &job.view,
            (Change::Update(view), Ok(())) => view,
            _ => return,
        };
        *position += 1;
        // An error only says that nobody watches.
        let _ = self.events.send(JobEvent {
            position: *position,
            job: job.clone(),
        });
    }

    fn refuse(&mut self, batch: Vec<Write>, source: &rusqlite::Error) {
        tracing::error!(
            error = source as &dyn std::error::Error,
            "job store: commit failed"
        );
        let error = match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => WriteError::DiskFull,
            _ => WriteError::Failed(source.to_string()),
        };
        for mut write in batch {
            if !write.is_silent()
                && let Some(then) = write.then.take()
            {
                then(Err(error.clone()));
            }
            if write.must_happen() {
                self.batches.owe(write);
            }
        }
    }
}

fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    let last = connection.query_row(super::read::LAST_POSITION, [], |row| row.get::<_, i64>(0))?;
    Ok(last.cast_unsigned())
}

/// As [`Connection::transaction`] does it, but with statements that are prepared once.
fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let run = |statement: &str| connection.prepare_cached(statement)?.execute([]).map(drop);
    run("BEGIN IMMEDIATE")?;
    let outcome = work(connection).and_then(|value| {
        let passed = fault_point!("store.commit").map_err(std::io::Error::from);
        passed.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        run("COMMIT").map(|()| value)
    });
    // Some errors, such as a full disk, have ended the transaction already.
    if outcome.is_err() && !connection.is_autocommit() {
        run("ROLLBACK")?;
    }
    outcome
}

/// One change. A statement that breaks a constraint changes nothing and leaves the transaction usable.
fn apply(
    connection: &Connection,
    change: &Change,
    position: &mut u64,
) -> rusqlite::Result<Result<(), WriteError>> {
    let next = (*position + 1).cast_signed();
    match change {
        Change::Insert(job) | Change::Restore(job) => match insert(connection, job, next) {
            Ok(()) => *position += 1,
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::ConstraintViolation =>
            {
                return Ok(Err(WriteError::Duplicate));
            }
            Err(other) => return Err(other),
        },
        Change::Update(view) => {
            update(connection, view, next)?;
            *position += 1;
        }
        Change::Delete(id) => delete(connection, *id)?,
        Change::Bury(id) => {
            delete(connection, *id)?;
            buried(connection, "INSERT OR IGNORE INTO buried VALUES (?1)", *id)?;
        }
        Change::Unbury(id) => buried(connection, "DELETE FROM buried WHERE id = ?1", *id)?,
        Change::DropOutput(id) => drop_output(connection, *id)?,
        Change::Nothing => {}
    }
    Ok(Ok(()))
}

fn insert(connection: &Connection, job: &NewJob, position: i64) -> rusqlite::Result<()> {
    let view = &job.view;
    let facts = &view.facts;
    connection
        .prepare_cached(
            "INSERT INTO jobs (id, tenant, idempotency_key, request_hash, request, policy, policy_hash, labels, \
             limits, state, created_at, started_at, finished_at, exit, kept_bytes, position, receipt)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            facts.id.to_string(),
            facts.tenant,
            job.key.as_ref().map(|key| &key.key),
            job.key.as_ref().and_then(|key| key.request_hash.as_ref()),
            job.request,
            facts.policy,
            facts.policy_hash,
            json(&facts.labels)?,
            facts.limits.as_ref().map(json).transpose()?,
            state_number(view.state),
            facts.created_at.as_micros(),
            view.started_at.map(|at| at.as_micros()),
            view.exit.as_ref().map(|exit| exit.finished_at.as_micros()),
            view.exit.as_deref().map(json).transpose()?,
            kept_bytes(view),
            position,
            view.receipt.as_deref().map(json).transpose()?,
        ])
        .map(drop)
}

fn update(connection: &Connection, view: &JobView, position: i64) -> rusqlite::Result<()> {
    // The request is of no more use once the launcher has the job: it can only be launched again while PENDING.
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, started_at = ?3, finished_at = ?4, receipt = ?5, exit = ?6, \
             kept_bytes = ?7, position = ?8, stop = ?9, request = NULL WHERE id = ?1",
        )?
        .execute(params![
            view.id().to_string(),
            state_number(view.state),
            view.started_at.map(|at| at.as_micros()),
            view.exit.as_ref().map(|exit| exit.finished_at.as_micros()),
            view.receipt.as_deref().map(json).transpose()?,
            view.exit.as_deref().map(json).transpose()?,
            kept_bytes(view),
            position,
            view.order.as_deref().map(json).transpose()?,
        ])
        .map(drop)
}

fn delete(connection: &Connection, id: JobId) -> rusqlite::Result<()> {
    let id = id.to_string();
    connection
        .prepare_cached(
            "UPDATE meta SET value = max(value, (SELECT position FROM jobs WHERE id = ?1))
             WHERE name = 'deleted_position' AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1)",
        )?
        .execute([&id])?;
    connection
        .prepare_cached("DELETE FROM jobs WHERE id = ?1")?
        .execute([&id])
        .map(drop)
}

fn buried(connection: &Connection, statement: &str, id: JobId) -> rusqlite::Result<()> {
    connection
        .prepare_cached(statement)?
        .execute([id.to_string()])
        .map(drop)
}

/// From then on the record says that none of the output is kept.
fn drop_output(connection: &Connection, id: JobId) -> rusqlite::Result<()> {
    let id = id.to_string();
    let exit: Option<String> = connection
        .prepare_cached("SELECT exit FROM jobs WHERE id = ?1 AND state = 3")?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    let Some(exit) = exit else { return Ok(()) };
    // A newer worker may have written what this one cannot read: it stays, and holds up nothing.
    let exit = match serde_json::from_str::<ExitRecord>(&exit) {
        Ok(mut record) => {
            record.output.stdout.drop_all();
            record.output.stderr.drop_all();
            json(&record)?
        }
        Err(_) => exit,
    };
    connection
        .prepare_cached("UPDATE jobs SET exit = ?2, kept_bytes = 0 WHERE id = ?1")?
        .execute(params![id, exit])
        .map(drop)
}

fn kept_bytes(view: &JobView) -> i64 {
    let kept = |exit: &ExitRecord| {
        exit.output
            .stdout
            .kept_bytes()
            .saturating_add(exit.output.stderr.kept_bytes())
    };
    debug_assert_eq!(view.state == State::Finished, view.exit.is_some());
    i64::try_from(view.exit.as_deref().map_or(0, kept)).unwrap_or(i64::MAX)
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
