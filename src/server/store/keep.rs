//! What retention asks of the store.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use crate::job::JobId;

use super::row::id;
use super::{Store, StoreError};

/// Whose turn retention takes. No tenant's name is empty.
const THE_WORKER: &str = "";

/// Bytes of output kept for finished jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct KeptBytes {
    pub all: u64,
    pub of_tenant: u64,
}

/// Which finished jobs are too many; `None` is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::server) struct JobBounds {
    /// Those that ended before, in microseconds.
    pub(in crate::server) ended_before: Option<i64>,
    /// The oldest beyond this number.
    pub(in crate::server) most: Option<u64>,
    /// The oldest of each tenant beyond this number.
    pub(in crate::server) most_per_tenant: Option<u64>,
}

/// How much output of finished jobs may be kept; `None` is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::server) struct ByteBounds {
    pub(in crate::server) most: Option<u64>,
    pub(in crate::server) most_per_tenant: Option<u64>,
}

/// The oldest rows of one tenant or of all, of which ?2 may stay.
const BEYOND_NUMBER: &str = "SELECT id FROM jobs WHERE state = 3 AND (?1 IS NULL OR tenant = ?1)
     ORDER BY finished_at DESC, seq DESC LIMIT ?3 OFFSET ?2";

/// The oldest rows that have output.
const OLDEST_WITH_OUTPUT: &str = "SELECT id, kept_bytes FROM jobs
     WHERE state = 3 AND kept_bytes > 0 AND (?1 IS NULL OR tenant = ?1) ORDER BY finished_at, seq LIMIT ?2";

impl Store {
    /// How much output is kept, asked for by `tenant`.
    pub(in crate::server) async fn kept_bytes(&self, tenant: &str) -> Result<KeptBytes, StoreError> {
        let of = tenant.to_owned();
        self.scan(tenant, move |connection| {
            Ok(KeptBytes {
                all: sum(connection, None)?,
                of_tenant: sum(connection, Some(&of))?,
            })
        })
        .await
    }

    /// Finished jobs that are to be removed, at most `limit`.
    pub(in crate::server) async fn jobs_beyond(
        &self,
        bounds: JobBounds,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        self.scan(THE_WORKER, move |connection| {
            let mut ids = Vec::new();
            if let Some(before) = bounds.ended_before {
                let mut query = connection.prepare_cached(
                    "SELECT id FROM jobs WHERE state = 3 AND finished_at < ?1 ORDER BY finished_at LIMIT ?2",
                )?;
                let found = query.query_map(params![before, limit], |row| id(row, 0))?;
                ids.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            if let Some(most) = bounds.most {
                ids.extend(beyond(connection, None, most, limit)?);
            }
            if let Some(most) = bounds.most_per_tenant {
                for tenant in tenants(connection)? {
                    ids.extend(beyond(connection, Some(&tenant), most, limit)?);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(limit);
            Ok(ids)
        })
        .await
    }

    /// Finished jobs whose output is to be removed, at most `limit` for each bound. Those of `stuck` stay all the same.
    pub(in crate::server) async fn output_beyond(
        &self,
        bounds: ByteBounds,
        stuck: HashSet<JobId>,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        self.scan(THE_WORKER, move |connection| {
            let mut ids = Vec::new();
            if let Some(most) = bounds.most {
                ids.extend(oldest_output(connection, None, most, &stuck, limit)?);
            }
            if let Some(most) = bounds.most_per_tenant {
                for tenant in tenants(connection)? {
                    ids.extend(oldest_output(connection, Some(&tenant), most, &stuck, limit)?);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .await
    }

    /// When the oldest finished job ended, in microseconds.
    pub(in crate::server) async fn oldest_finished(&self) -> Result<Option<i64>, StoreError> {
        self.scan(THE_WORKER, |connection| {
            connection.query_row("SELECT min(finished_at) FROM jobs WHERE state = 3", [], |row| {
                row.get(0)
            })
        })
        .await
    }
}

fn tenants(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT DISTINCT tenant FROM jobs WHERE state = 3")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn sum(connection: &Connection, tenant: Option<&str>) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT ifnull(sum(kept_bytes), 0) FROM jobs WHERE state = 3 AND (?1 IS NULL OR tenant = ?1)",
        )?
        .query_row([tenant], |row| row.get(0))
}

fn beyond(
    connection: &Connection,
    tenant: Option<&str>,
    most: u64,
    limit: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection
        .prepare_cached(BEYOND_NUMBER)?
        .query_map(params![tenant, most, limit], |row| id(row, 0))?
        .collect()
}

fn oldest_output(
    connection: &Connection,
    tenant: Option<&str>,
    most: u64,
    stuck: &HashSet<JobId>,
    limit: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let mut excess = sum(connection, tenant)?.saturating_sub(most);
    let mut query = connection.prepare_cached(OLDEST_WITH_OUTPUT)?;
    let mut rows = query.query(params![tenant, limit + stuck.len()])?;
    let mut ids = Vec::new();
    while excess > 0
        && let Some(row) = rows.next()?
    {
        let id = id(row, 0)?;
        if !stuck.contains(&id) {
            ids.push(id);
            excess = excess.saturating_sub(row.get(1)?);
        }
    }
    Ok(ids)
}
