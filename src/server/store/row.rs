use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{Type, ValueRef};
use serde::de::DeserializeOwned;

use crate::job::{ExitRecord, JobId, State, StopOrder, Timestamp};
use crate::server::view::{JobFacts, JobView};

/// A job to be inserted.
#[derive(Debug)]
pub(in crate::server) struct NewJob {
    pub view: JobView,
    pub key: Option<IdempotencyKey>,
    /// The request in postcard, kept until the launcher has it.
    pub request: Option<Vec<u8>>,
}

/// A client's key and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of the request. `None` for a job that was found at the launcher alone.
    pub request_hash: Option<[u8; 32]>,
}

impl IdempotencyKey {
    /// Whether two requests with this key are the same. Without a hash the key is all that is left to go by.
    pub(in crate::server) fn stands_for_same(&self, other: &Self) -> bool {
        match (self.request_hash, other.request_hash) {
            (Some(ours), Some(theirs)) => self.key == other.key && ours == theirs,
            _ => self.key == other.key,
        }
    }
}

/// The columns that [`view`] reads, in its order.
macro_rules! columns {
    () => {
        "id, tenant, policy, policy_hash, labels, limits, state, created_at, started_at, receipt, exit, stop"
    };
}
pub(super) use columns;
pub(super) const COLUMNS: usize = 12;

pub(super) const fn state_number(state: State) -> i64 {
    match state {
        State::Pending => 0,
        State::Running => 1,
        State::Stopping => 2,
        State::Finished => 3,
    }
}

pub(super) fn view(row: &Row<'_>) -> rusqlite::Result<JobView> {
    let exit: Option<ExitRecord> = optional_json(row, 10)?;
    let state = match row.get(6)? {
        0 => State::Pending,
        1 => State::Running,
        2 => State::Stopping,
        3 if exit.is_some() => State::Finished,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(6, other)),
    };
    let facts = JobFacts {
        id: id(row, 0)?,
        tenant: row.get(1)?,
        policy: row.get(2)?,
        policy_hash: row.get(3)?,
        labels: json(4, row.get_ref(4)?.as_str()?)?,
        limits: optional_json(row, 5)?,
        created_at: Timestamp::from_micros(row.get(7)?),
    };
    let mut view = JobView {
        facts: Arc::new(facts),
        state,
        started_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_micros),
        receipt: optional_json(row, 9)?.map(Arc::new),
        stop: None,
        order: None,
        exit: exit.map(Arc::new),
    };
    if let Some(order) = optional_json::<StopOrder>(row, 11)? {
        view.set_order(&order);
    }
    Ok(view)
}

/// Bytes of a row's texts: about what its job takes on the wire.
pub(super) fn size(row: &Row<'_>) -> rusqlite::Result<usize> {
    let mut bytes = 0;
    for column in 0..COLUMNS {
        if let ValueRef::Text(text) = row.get_ref(column)? {
            bytes += text.len();
        }
    }
    Ok(bytes)
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<JobId> {
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|error| malformed(column, error))
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    row.get_ref(column)?
        .as_str_or_null()?
        .map(|text| json(column, text))
        .transpose()
}

fn json<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| malformed(column, error))
}

fn malformed(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
