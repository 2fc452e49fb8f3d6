//! What retention asks of the store.

use std::collections::HashSet;

use rusqlite::{Connection, Params, Row, params};

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

pub(super) const COUNT: &str = "SELECT count(*) FROM jobs WHERE state = 3";
pub(super) const COUNT_OF_TENANTS: &str =
    "SELECT tenant, count(*) FROM jobs WHERE state = 3 GROUP BY tenant HAVING count(*) > ?1";
pub(super) const SUM: &str = "SELECT ifnull(sum(kept_bytes), 0) FROM jobs WHERE state = 3";
pub(super) const SUM_OF_TENANT: &str =
    "SELECT ifnull(sum(kept_bytes), 0) FROM jobs WHERE state = 3 AND tenant = ?1";
pub(super) const SUM_OF_TENANTS: &str = "SELECT tenant, sum(kept_bytes) FROM jobs WHERE state = 3
     GROUP BY tenant HAVING sum(kept_bytes) > ?1";
/// Positions grow with every change: the last of a finished job is its end. A clock may be set back.
pub(super) const OLDEST: &str = "SELECT id FROM jobs WHERE state = 3 ORDER BY position LIMIT ?1";
pub(super) const OLDEST_OF_TENANT: &str =
    "SELECT id FROM jobs WHERE state = 3 AND tenant = ?2 ORDER BY position LIMIT ?1";
pub(super) const OUTPUT: &str =
    "SELECT id, kept_bytes FROM jobs WHERE state = 3 AND kept_bytes > 0 ORDER BY position LIMIT ?1";
pub(super) const OUTPUT_OF_TENANT: &str =
    "SELECT id, kept_bytes FROM jobs WHERE state = 3 AND kept_bytes > 0 AND tenant = ?2
     ORDER BY position LIMIT ?1";

impl Store {
    /// How much output is kept, asked for by `tenant`.
    pub(in crate::server) async fn kept_bytes(&self, tenant: &str) -> Result<KeptBytes, StoreError> {
        let of = tenant.to_owned();
        self.scan(tenant, move |connection| {
            Ok(KeptBytes {
                all: number(connection, SUM, [])?,
                of_tenant: number(connection, SUM_OF_TENANT, [of])?,
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
                let excess = number(connection, COUNT, [])?.saturating_sub(most);
                ids.extend(oldest(connection, None, excess, limit)?);
            }
            if let Some(most) = bounds.most_per_tenant {
                for (tenant, count) in tenants_beyond(connection, COUNT_OF_TENANTS, most)? {
                    ids.extend(oldest(connection, Some(&tenant), count - most, limit)?);
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
                let excess = number(connection, SUM, [])?.saturating_sub(most);
                ids.extend(oldest_output(connection, None, excess, &stuck, limit)?);
            }
            if let Some(most) = bounds.most_per_tenant {
                for (tenant, sum) in tenants_beyond(connection, SUM_OF_TENANTS, most)? {
                    ids.extend(oldest_output(
                        connection,
                        Some(&tenant),
                        sum - most,
                        &stuck,
                        limit,
                    )?);
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

fn number(connection: &Connection, statement: &str, parameters: impl Params) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(statement)?
        .query_row(parameters, |row| row.get(0))
}

/// The tenants that have more than `most`, and how much that is.
fn tenants_beyond(
    connection: &Connection,
    statement: &str,
    most: u64,
) -> rusqlite::Result<Vec<(String, u64)>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection
        .prepare_cached(statement)?
        .query_map([most], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The oldest jobs, as many as there are too many, but at most `limit`.
fn oldest(
    connection: &Connection,
    tenant: Option<&str>,
    excess: u64,
    limit: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let limit = usize::try_from(excess).map_or(limit, |excess| excess.min(limit));
    let read = |row: &Row<'_>| id(row, 0);
    match tenant {
        _ if limit == 0 => Ok(Vec::new()),
        None => connection
            .prepare_cached(OLDEST)?
            .query_map([limit], read)?
            .collect(),
        Some(tenant) => connection
            .prepare_cached(OLDEST_OF_TENANT)?
            .query_map(params![limit, tenant], read)?
            .collect(),
    }
}

/// The oldest jobs that have output, as many as hold what is too much of it, but at most `limit`.
fn oldest_output(
    connection: &Connection,
    tenant: Option<&str>,
    mut excess: u64,
    stuck: &HashSet<JobId>,
    limit: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let mut ids = Vec::new();
    if excess == 0 {
        return Ok(ids);
    }
    let limit = limit + stuck.len();
    let mut query = connection.prepare_cached(if tenant.is_some() {
        OUTPUT_OF_TENANT
    } else {
        OUTPUT
    })?;
    let mut rows = match tenant {
        None => query.query([limit])?,
        Some(tenant) => query.query(params![limit, tenant])?,
    };
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
