//! Outcomes in the ledger's file.
//!
//! **Invariant**: a call is judged once (store conformance, `a_call_is_judged_once`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::ports::outcomes::{Judged, Noted, Outcome, Outcomes};
use policy::ports::{CallId, Fault};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::whole;
use super::{Durability, open_writable, refused};
use crate::error::StoreError;

/// A connection for outcomes alone; needs no claim on the ledger.
#[derive(Debug)]
pub struct SqliteOutcomes {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteOutcomes {
    /// Opens the file, and makes it if it is not there. An outcome that a power cut loses is one
    /// outcome less to learn from.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Mutex::new(open_writable(path, Durability::Process)?);
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
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<Outcome> {
    let kinds: String = row.get(4)?;
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(4, Type::Text, source)
    };
    let kinds: Vec<String> =
        serde_json::from_str(&kinds).map_err(|source| unreadable(source.into()))?;
    let kinds = kinds.iter().map(|kind| u64::from_str_radix(kind, 16));
    Ok(Outcome {
        call: CallId(row.get(0)?),
        at: Moment(row.get(1)?),
        score: row.get(2)?,
        target: row.get(3)?,
        kinds: kinds
            .collect::<Result<_, _>>()
            .map_err(|source| unreadable(source.into()))?,
    })
}

/// The kinds as they are written.
fn written(kinds: &[u64]) -> String {
    let kinds: Vec<String> = kinds
        .iter()
        .map(|kind| format!("\"{kind:016x}\""))
        .collect();
    format!("[{}]", kinds.join(","))
}

impl Outcomes for SqliteOutcomes {
    fn settled(&self, call: &CallId) -> Result<Option<Judged>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(
                    "SELECT c.key, l.provider, l.model, c.notes FROM calls c JOIN legs l ON \
                     l.call_id = c.id WHERE c.call = ?1 AND c.settled_at_ms IS NOT NULL ORDER BY \
                     l.position DESC LIMIT 1",
                )?
                .query_row([&call.0], |row| {
                    Ok(Judged {
                        key: row.get(0)?,
                        provider: row.get(1)?,
                        model: row.get(2)?,
                        notes: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                    })
                })
                .optional()
        };
        read().map_err(self.fault("read a call"))
    }

    fn judge(&self, outcome: &Outcome) -> Result<bool, Fault> {
        let connection = self.connection();
        let write = || {
            connection
                .prepare_cached(
                    "INSERT INTO outcomes (call, at_ms, score, target, kinds) VALUES (?1, ?2, ?3, \
                     ?4, ?5) ON CONFLICT (call) DO NOTHING",
                )?
                .execute(params![
                    outcome.call.0,
                    whole(outcome.at.0),
                    outcome.score,
                    outcome.target,
                    written(&outcome.kinds)
                ])
        };
        let added = write().map_err(self.fault("keep an outcome"))?;
        Ok(added == 1)
    }

    fn latest(&self, count: u32) -> Result<Vec<Outcome>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(
                    "SELECT call, at_ms, score, target, kinds FROM outcomes ORDER BY id DESC LIMIT \
                     ?1",
                )?
                .query_map([count], outcome)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut outcomes = read().map_err(self.fault("read outcomes"))?;
        outcomes.reverse();
        Ok(outcomes)
    }

    fn noted(&self, text: &str, among: u32) -> Result<Vec<Noted>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(
                    "SELECT call, settled_at_ms, notes FROM (SELECT id, call, settled_at_ms, notes \
                     FROM calls WHERE settled_at_ms IS NOT NULL ORDER BY id DESC LIMIT ?1) WHERE \
                     instr(notes, ?2) > 0 ORDER BY id",
                )?
                .query_map(params![among, text], |row| {
                    Ok(Noted {
                        call: CallId(row.get(0)?),
                        at: Moment(row.get(1)?),
                        notes: row.get(2)?,
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.fault("read what was noted"))
    }
}
