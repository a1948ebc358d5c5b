//! The embedded store: one SQLite file in WAL mode, one writer thread, any number of readers.
//!
//! **Invariant**: what was acknowledged survives `kill -9` of the process (test
//! `nothing_acknowledged_is_lost_to_a_kill`).
//!
//! With [`Durability::Process`] every row goes through a journal: handed to the operating system
//! when it comes, and brought into the tables within about a tenth of a second, or by the next
//! start. A kill loses nothing; calls that it cut off are closed as recovered.
//!
//! A *power cut* is another matter: the operating system is asked to put rows on the disk only at a
//! checkpoint (about every 16 MB), so that a machine that loses power may lose the calls of the last
//! moments, never more, and the file stays sound. [`Durability::Power`] has no journal: it asks at
//! every commit, which costs one `fsync` for each group, and acknowledges after it.
//!
//! Readers and `tokenwise keys` work on the file beside a running gateway, from any process of the
//! same machine. The file must be on a local disk: WAL needs shared memory.

pub mod keys;
pub mod ledger;
pub mod outcomes;
pub mod reader;

mod instance;
mod journal;
mod queue;
mod rows;
mod schema;
mod spending;
mod sums;
mod writer;
mod writing;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;

/// What an acknowledged call survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process.
    #[default]
    Process,
    /// Also the loss of power.
    Power,
}

/// 5 s: other writers are `tokenwise keys` and migrations, which take milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// 64 MiB: a log that once grew under a long read is cut back to this.
const LOG_BYTES_KEPT: u32 = 64 << 20;

/// 4 000 pages, 16 MB: a checkpoint costs an `fsync` and a copy; the log is read as fast as the file.
const CHECKPOINT_PAGES: u32 = 4_000;

/// 32: every statement of the writer and the reader stays compiled.
const STATEMENTS_KEPT: usize = 32;

/// Opens the file for writing; makes it and its schema if they are not there.
fn open_writable(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let fault = |source| refused(path, "open the database", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY_MAX).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    schema::check_owner(&connection, path)?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .map_err(fault)?;
    let synchronous = match durability {
        Durability::Process => "normal",
        Durability::Power => "full",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(fault)?;
    connection
        .pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)
        .map_err(fault)?;
    connection
        .pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
        .map_err(fault)?;
    // Without it, `INSERT OR REPLACE` would slip past the triggers that refuse deletion.
    connection
        .pragma_update(None, "recursive_triggers", true)
        .map_err(fault)?;
    schema::migrate(&mut connection, path)?;
    // What refers to a call is checked by triggers, which also see that the call is open.
    connection
        .pragma_update(None, "foreign_keys", false)
        .map_err(fault)?;
    Ok(connection)
}

/// Opens the file for reading; it must be there, with the schema of this build.
fn open_readable(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing {
            path: path.to_owned(),
        });
    }
    let fault = |source| refused(path, "open the database", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY_MAX).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    schema::check_owner(&connection, path)?;
    schema::check_current(&connection, path)?;
    Ok(connection)
}

/// Says what was refused, on which file.
fn refused(path: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path },
        _ => StoreError::Database {
            doing,
            path,
            source: Box::new(source),
        },
    }
}
