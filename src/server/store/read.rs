use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use crate::job::{JobId, JobRequest, State};
use crate::server::view::{JobEvent, JobView};

use super::row::{COLUMNS, IdempotencyKey, columns, id, size, state_number, view};
use super::{Store, StoreError};

pub(super) const LAST_POSITION: &str = "SELECT max((SELECT value FROM meta WHERE name = 'deleted_position'), \
                                        ifnull((SELECT max(position) FROM jobs), 0))";

/// A tenant's jobs before one, the newest first, and whether each is in one of some states.
pub(super) const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    ", seq, ((1 << state) & ?3) <> 0 FROM jobs INDEXED BY jobs_by_tenant WHERE tenant = ?1 AND seq < ?2
     ORDER BY seq DESC LIMIT ?4"
);

/// Rows that one page may look at: filters that fit few jobs give short pages instead of long reads.
const ROWS_LOOKED_AT: usize = 4096;
/// What a page holds at most, unless its only job is larger. Clients usually take messages of 4 MiB.
pub(in crate::server) const PAGE_BYTES: usize = 1 << 20;
/// After so many bytes of changes the next ones are read later: a watcher that takes none holds them.
pub(in crate::server) const CHANGES_BYTES: usize = 64 << 10;

/// What [`Store::page`] lists, newest first.
#[derive(Debug, Clone)]
pub(in crate::server) struct PageQuery {
    pub tenant: String,
    /// Empty: all.
    pub states: Vec<State>,
    /// All of these.
    pub labels: Vec<(String, String)>,
    /// Only jobs older than this one's place.
    pub before: Option<u64>,
    pub size: usize,
}

#[derive(Debug)]
pub(in crate::server) struct Page {
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<u64>,
}

/// Changes of jobs, in their order.
#[derive(Debug)]
pub(in crate::server) struct Changes {
    pub events: Vec<JobEvent>,
    /// There may be later ones.
    pub more: bool,
}

impl Store {
    /// One job, whoever owns it.
    pub(in crate::server) fn find(&self, job: JobId) -> Result<Option<JobView>, StoreError> {
        lock(&self.points)
            .prepare_cached(concat!("SELECT ", columns!(), " FROM jobs WHERE id = ?1"))
            .and_then(|mut query| query.query_row([job.to_string()], view).optional())
            .map_err(StoreError::query("reading a job"))
    }

    /// The job that a tenant's key stands for, and the key as it was given then.
    pub(in crate::server) fn find_key(
        &self,
        tenant: &str,
        key: &str,
    ) -> Result<Option<(JobId, IdempotencyKey)>, StoreError> {
        lock(&self.points)
            .prepare_cached("SELECT id, request_hash FROM jobs WHERE tenant = ?1 AND idempotency_key = ?2")
            .and_then(|mut query| {
                query
                    .query_row([tenant, key], |row| {
                        let found = IdempotencyKey {
                            key: key.to_owned(),
                            request_hash: row.get(1)?,
                        };
                        Ok((id(row, 0)?, found))
                    })
                    .optional()
            })
            .map_err(StoreError::query("looking up an idempotency key"))
    }

    /// The request of a job that has not been launched, with its key.
    pub(in crate::server) fn request(
        &self,
        job: JobId,
    ) -> Result<Option<(JobRequest, Option<String>)>, StoreError> {
        let found: Option<(Option<Vec<u8>>, Option<String>)> = lock(&self.points)
            .prepare_cached("SELECT request, idempotency_key FROM jobs WHERE id = ?1")
            .and_then(|mut query| {
                query
                    .query_row([job.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(StoreError::query("reading a request"))?;
        let Some((Some(bytes), key)) = found else {
            return Ok(None);
        };
        let request = postcard::from_bytes(&bytes).map_err(|error| StoreError::Malformed {
            what: "request",
            reason: error.to_string(),
        })?;
        Ok(Some((request, key)))
    }

    /// Whether nothing is to be learned of a job any more: it is over, or deleted.
    pub(in crate::server) fn is_settled(&self, job: JobId) -> Result<bool, StoreError> {
        lock(&self.points)
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND state = 3)
                     OR EXISTS (SELECT 1 FROM buried WHERE id = ?1)",
            )
            .and_then(|mut query| query.query_row([job.to_string()], |row| row.get(0)))
            .map_err(StoreError::query("looking for a job"))
    }

    /// Whether there is a record of a job, or was one of which its folder is left.
    pub(in crate::server) fn is_known(&self, job: JobId) -> Result<bool, StoreError> {
        lock(&self.points)
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?1) OR EXISTS (SELECT 1 FROM buried WHERE id = ?1)",
            )
            .and_then(|mut query| query.query_row([job.to_string()], |row| row.get(0)))
            .map_err(StoreError::query("looking for a job"))
    }

    /// Deleted jobs whose folder is still to be removed.
    pub(in crate::server) fn buried(&self) -> Result<Vec<JobId>, StoreError> {
        lock(&self.points)
            .prepare("SELECT id FROM buried")
            .and_then(|mut query| query.query_map([], |row| id(row, 0))?.collect())
            .map_err(StoreError::query("listing deleted jobs"))
    }

    /// All jobs that are not FINISHED, oldest first, and the size of their requests. For the start, when nothing else reads.
    pub(in crate::server) fn unfinished(&self) -> Result<Vec<(JobView, usize)>, StoreError> {
        let connection = lock(&self.points);
        let mut query = connection
            .prepare(concat!(
                "SELECT ",
                columns!(),
                ", ifnull(length(request), 0) FROM jobs WHERE state < 3 ORDER BY seq"
            ))
            .map_err(StoreError::query("preparing the list of unfinished jobs"))?;
        query
            .query_map([], |row| Ok((view(row)?, row.get(COLUMNS)?)))
            .and_then(Iterator::collect)
            .map_err(StoreError::query("reading unfinished jobs"))
    }

    /// Position of the last change.
    pub(in crate::server) fn last_position(&self) -> Result<u64, StoreError> {
        lock(&self.points)
            .query_row(LAST_POSITION, [], |row| row.get(0))
            .map_err(StoreError::query("reading the last position"))
    }

    pub(in crate::server) async fn page(&self, query: PageQuery) -> Result<Page, StoreError> {
        let tenant = query.tenant.clone();
        self.scan(&tenant, move |connection| page(connection, &query))
            .await
    }

    /// Jobs whose last change lies after `position`, in the order of these changes: jobs of all tenants, read for one.
    pub(in crate::server) async fn changed_since(
        &self,
        tenant: &str,
        position: u64,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.scan(tenant, move |connection| changes(connection, position, limit))
            .await
    }

    /// Runs a longer read where it holds up no other task, when it is the turn of `tenant`.
    ///
    /// It has its thread only then: those who wait for one connection must not hold all threads of the pool.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        tenant: &str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.scans.next(tenant).await;
        // The turn lasts as long as the read, also where nobody waits for that any more.
        tokio::task::spawn_blocking(move || read(&turn))
            .await
            .map_err(|_| StoreError::Interrupted)?
            .map_err(StoreError::query("listing jobs"))
    }
}

fn page(connection: &Connection, wanted: &PageQuery) -> rusqlite::Result<Page> {
    let before = wanted.before.map_or(i64::MAX, u64::cast_signed);
    let states = wanted
        .states
        .iter()
        .fold(0_i64, |set, state| set | 1 << state_number(*state));
    let all = if wanted.states.is_empty() { !0 } else { states };
    let mut query = connection.prepare_cached(PAGE)?;
    let mut rows = query.query(params![wanted.tenant, before, all, ROWS_LOOKED_AT])?;
    let mut jobs = Vec::new();
    let mut bytes = 0;
    let mut looked_at = 0;
    let mut next = None;
    while let Some(row) = rows.next()? {
        if jobs.len() == wanted.size {
            return Ok(Page { jobs, next });
        }
        let is_in_state = row.get(COLUMNS + 1)?;
        let job = if is_in_state { Some(view(row)?) } else { None };
        if let Some(job) = job.filter(|job| carries(job, &wanted.labels)) {
            bytes += size(row)?;
            if bytes > PAGE_BYTES && !jobs.is_empty() {
                return Ok(Page { jobs, next });
            }
            jobs.push(job);
        }
        looked_at += 1;
        next = Some(row.get(COLUMNS)?);
    }
    let end = looked_at < ROWS_LOOKED_AT;
    Ok(Page {
        jobs,
        next: next.filter(|_| !end),
    })
}

fn changes(connection: &Connection, position: u64, limit: usize) -> rusqlite::Result<Changes> {
    let mut query = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", position FROM jobs WHERE position > ?1 ORDER BY position LIMIT ?2"
    ))?;
    let mut rows = query.query(params![position.cast_signed(), limit])?;
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < CHANGES_BYTES
        && let Some(row) = rows.next()?
    {
        bytes += size(row)?;
        events.push(JobEvent {
            position: row.get(COLUMNS)?,
            job: view(row)?,
        });
    }
    let more = events.len() == limit || bytes >= CHANGES_BYTES;
    Ok(Changes { events, more })
}

/// Whether a job has all of these labels.
pub(in crate::server) fn carries(job: &JobView, labels: &[(String, String)]) -> bool {
    labels
        .iter()
        .all(|(key, value)| job.facts.labels.get(key) == Some(value))
}

/// A panic of another reader leaves a connection that is still good: reads change nothing.
fn lock(connection: &std::sync::Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}
