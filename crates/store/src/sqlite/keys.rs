//! Keys in the ledger's file, for the gateway that checks them and the command that makes them.
//!
//! **Invariant**: every change of a key raises the version, whichever process makes it (store
//! conformance, `key_changes_are_noticed`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::ports::{Fault, KeyRecord, Keys};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, params};

use super::rows::{self, whole};
use super::{Durability, open_writable, refused};
use crate::error::StoreError;

const COLUMNS: &str = "id, name, hash, created_at_ms, expires_at_ms, disabled_at_ms";

/// A connection for keys alone; needs no claim on the ledger, so it works beside a gateway.
#[derive(Debug)]
pub struct SqliteKeys {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteKeys {
    /// Opens the file, and makes it if it is not there. Keys change seldom, so each change is
    /// made safe from a power cut.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Mutex::new(open_writable(path, Durability::Power)?);
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Fault {
        let path = self.path.clone();
        move |source| refused(&path, doing, source).into()
    }

    fn select(&self, rest: &str, values: impl Params) -> Result<Vec<KeyRecord>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM keys {rest}"))?
                .query_map(values, rows::key)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.fault("read keys"))
    }

    fn update(&self, set: &str, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.connection()
            .query_row(
                &format!("UPDATE keys SET {set} WHERE id = ?1 RETURNING {COLUMNS}"),
                params![id, whole(at.0)],
                rows::key,
            )
            .optional()
            .map_err(self.fault("change a key"))
    }
}

impl Keys for SqliteKeys {
    fn create(&self, key: &KeyRecord) -> Result<(), Fault> {
        let added = self.connection().execute(
            &format!("INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
            params![
                key.id,
                key.name,
                key.hash,
                whole(key.created_at.0),
                key.expires_at.map(|at| whole(at.0)),
                key.disabled_at.map(|at| whole(at.0)),
            ],
        );
        match added {
            Ok(_) => Ok(()),
            Err(source) if source.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(StoreError::KeyExists { id: key.id.clone() }.into())
            }
            Err(source) => Err(self.fault("add a key")(source)),
        }
    }

    fn list(&self) -> Result<Vec<KeyRecord>, Fault> {
        self.select("ORDER BY created_at_ms, id", [])
    }

    fn find(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.select("WHERE hash = ?1", [hash])?.pop())
    }

    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.update("disabled_at_ms = coalesce(disabled_at_ms, ?2)", id, at)
    }

    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.update("expires_at_ms = ?2", id, at)
    }

    fn active(&self, now: Moment) -> Result<Vec<KeyRecord>, Fault> {
        let mut keys = self.list()?;
        keys.retain(|key| key.is_active(now));
        Ok(keys)
    }

    fn version(&self) -> Result<u64, Fault> {
        self.connection()
            .prepare_cached("SELECT changes FROM keys_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(self.fault("read the version of the keys"))
    }
}
