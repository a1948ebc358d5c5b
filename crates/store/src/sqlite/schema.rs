//! The tables, and the steps that bring an older file up to date.
//!
//! **Invariant**: settled calls, their legs and their savings can be neither changed nor deleted,
//! whoever writes (test `settled_rows_refuse_every_change`).

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::refused;
use crate::error::StoreError;

/// Marks a file as ours: `tkws` in ASCII.
const APPLICATION_ID: i32 = 0x746b_7773;

/// Step `n` leads from schema `n` to `n + 1`. A step that was released is never edited.
const STEPS: [&str; 6] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// Refuses files that are not ours. A file without any table is new, and may become ours.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let fault = |source| refused(path, "read the owner", source);
    let owner: i32 = pragma(connection, "application_id").map_err(fault)?;
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(fault)?;
    if owner == APPLICATION_ID || (owner == 0 && tables == 0) {
        return Ok(());
    }
    Err(StoreError::Foreign {
        path: path.to_owned(),
    })
}

/// Refuses files with another schema than this build's.
pub(super) fn check_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection, path)?;
    if found == known() {
        return Ok(());
    }
    Err(StoreError::Schema {
        path: path.to_owned(),
        found,
        known: known(),
    })
}

/// Takes the steps that are missing, all in one transaction; waits for another process that does.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    if version(connection, path)? == known() {
        return Ok(());
    }
    let fault = |source| refused(path, "bring the schema up to date", source);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fault)?;
    let found = version(&transaction, path)?;
    if found > known() {
        return Err(StoreError::Schema {
            path: path.to_owned(),
            found,
            known: known(),
        });
    }
    for step in STEPS.iter().skip(found as usize) {
        transaction.execute_batch(step).map_err(fault)?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fault)?;
    transaction
        .pragma_update(None, "user_version", known())
        .map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// Takes every step.
#[cfg(test)]
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    STEPS
        .iter()
        .try_for_each(|step| connection.execute_batch(step))
}

fn version(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    pragma(connection, "user_version")
        .map_err(|source| refused(path, "read the schema version", source))
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}
