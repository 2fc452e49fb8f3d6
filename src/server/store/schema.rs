use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::config::Durability;

use super::StoreError;

/// Only an operator's own sqlite3 can be in the way.
const BUSY: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });

/// One step a version; a step that was released is never changed.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// The connection that writes.
pub(super) fn open(file: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let connection = connect(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    // In WAL mode FULL flushes the log at every commit; OFF leaves it to the kernel, which a process's death does not touch.
    let synchronous = match durability {
        Durability::Power => "FULL",
        Durability::Process => "OFF",
    };
    let set = |name: &str, value: &dyn rusqlite::ToSql| {
        connection
            .pragma_update(None, name, value)
            .map_err(StoreError::query("setting a pragma"))
    };
    set("journal_mode", &"WAL")?;
    set("synchronous", &synchronous)?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn open_reader(file: &Path) -> Result<Connection, StoreError> {
    connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(file: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open {
        path: file.to_owned(),
        source,
    };
    let connection =
        Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    // KiB of pages. The kernel caches the file anyway.
    connection
        .pragma_update(None, "cache_size", -512)
        .map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    Ok(connection)
}

/// Applies what is missing, each step in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).expect("a handful of migrations");
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::query("reading the schema version"))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for version in found..known {
        apply(connection, version + 1, MIGRATIONS[version as usize]).map_err(|source| {
            StoreError::Migrate {
                version: version + 1,
                source,
            }
        })?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: u32, step: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
