//! Keys in the ledger's file, for the gateway that checks them and the command that makes them.
//!
//! **Invariant**: every change of a key raises the version, whichever process makes it (store
//! conformance, `key_changes_are_noticed`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::ports::{AuditEntry, Fault, KeyRecord, Keys, Payers, Stop};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};

use super::rows::{self, KEY_COLUMNS, list, whole};
use super::{Durability, open_writable, refused};
use crate::error::StoreError;

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
                .prepare_cached(&format!("SELECT {KEY_COLUMNS} FROM keys {rest}"))?
                .query_map(values, rows::key)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.fault("read keys"))
    }

    /// Changes the key whose id is the first of the values, and returns it.
    fn update(&self, set: &str, values: impl Params) -> rusqlite::Result<Option<KeyRecord>> {
        let update = format!("UPDATE keys SET {set} WHERE id = ?1 RETURNING {KEY_COLUMNS}");
        self.connection()
            .query_row(&update, values, rows::key)
            .optional()
    }

    fn change(&self, set: &str, values: impl Params) -> Result<Option<KeyRecord>, Fault> {
        self.update(set, values).map_err(self.fault("change a key"))
    }
}

/// Whether a row was refused because another one has what must be its own.
fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn audit_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        at: Moment(row.get(0)?),
        actor: row.get(1)?,
        action: row.get(2)?,
        subject: row.get(3)?,
        detail: row.get(4)?,
    })
}

impl Keys for SqliteKeys {
    fn create(&self, key: &KeyRecord) -> Result<(), Fault> {
        let added = self.connection().execute(
            &format!(
                "INSERT INTO keys ({KEY_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
                 ?10, ?11, ?12, ?13)"
            ),
            params![
                key.id,
                key.name,
                key.hash,
                whole(key.created_at.0),
                key.expires_at.map(|at| whole(at.0)),
                key.disabled_at.map(|at| whole(at.0)),
                key.payers.organisation,
                key.payers.team,
                key.payers.user,
                list(&key.payers.tags),
                list(&key.models),
                key.previous.map(|previous| previous.hash),
                key.previous.map(|previous| whole(previous.until.0)),
            ],
        );
        match added {
            Ok(_) => Ok(()),
            Err(source) if is_taken(&source) => {
                Err(StoreError::KeyExists { id: key.id.clone() }.into())
            }
            Err(source) => Err(self.fault("add a key")(source)),
        }
    }

    fn list(&self) -> Result<Vec<KeyRecord>, Fault> {
        self.select("ORDER BY created_at_ms, id", [])
    }

    fn find(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, Fault> {
        Ok(self
            .select("WHERE hash = ?1 OR previous_hash = ?1", [hash])?
            .pop())
    }

    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.change(
            "disabled_at_ms = coalesce(disabled_at_ms, ?2)",
            params![id, whole(at.0)],
        )
    }

    fn enable(&self, id: &str) -> Result<Option<KeyRecord>, Fault> {
        self.change("disabled_at_ms = NULL", params![id])
    }

    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        self.change("expires_at_ms = ?2", params![id, whole(at.0)])
    }

    fn rotate(&self, id: &str, hash: &[u8; 32], until: Moment) -> Result<Option<KeyRecord>, Fault> {
        let set = "previous_hash = hash, previous_until_ms = ?3, hash = ?2";
        match self.update(set, params![id, hash, whole(until.0)]) {
            Ok(rotated) => Ok(rotated),
            Err(source) if is_taken(&source) => {
                Err(StoreError::SecretTaken { id: id.to_owned() }.into())
            }
            Err(source) => Err(self.fault("change a key")(source)),
        }
    }

    fn assign(
        &self,
        id: &str,
        payers: &Payers,
        models: &[String],
    ) -> Result<Option<KeyRecord>, Fault> {
        self.change(
            "organisation = ?2, team = ?3, user = ?4, tags = ?5, models = ?6",
            params![
                id,
                payers.organisation,
                payers.team,
                payers.user,
                list(&payers.tags),
                list(models),
            ],
        )
    }

    fn audit(&self, entry: &AuditEntry) -> Result<(), Fault> {
        let added = self.connection().execute(
            "INSERT INTO audit (at_ms, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                whole(entry.at.0),
                entry.actor,
                entry.action,
                entry.subject,
                entry.detail,
            ],
        );
        added.map(drop).map_err(self.fault("write down a change"))
    }

    fn audits(&self, count: u32) -> Result<Vec<AuditEntry>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(
                    "SELECT at_ms, actor, action, subject, detail FROM audit ORDER BY id DESC \
                     LIMIT ?1",
                )?
                .query_map([count], audit_entry)?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.fault("read what was changed"))
    }

    fn stop(&self, what: &Stop, at: Moment) -> Result<bool, Fault> {
        let added = self.connection().execute(
            "INSERT INTO stops (kind, id, at_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![what.kind(), what.id(), whole(at.0)],
        );
        added.map(|rows| rows > 0).map_err(self.fault("stop"))
    }

    fn resume(&self, what: &Stop) -> Result<bool, Fault> {
        let deleted = self.connection().execute(
            "DELETE FROM stops WHERE kind = ?1 AND id = ?2",
            params![what.kind(), what.id()],
        );
        deleted.map(|rows| rows > 0).map_err(self.fault("resume"))
    }

    fn stops(&self) -> Result<Vec<(Stop, Moment)>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached("SELECT kind, id, at_ms FROM stops ORDER BY at_ms, kind, id")?
                .query_map([], |row| {
                    let (kind, id) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
                    Ok((Stop::read(&kind, &id), Moment(row.get(2)?)))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let stops = read().map_err(self.fault("read what is stopped"))?;
        // A kind that this build does not know was written by a newer one, and is that one's.
        Ok(stops
            .into_iter()
            .filter_map(|(stop, at)| Some((stop?, at)))
            .collect())
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
