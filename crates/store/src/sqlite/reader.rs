//! The ledger read back from the file, beside a running gateway or after it.
//!
//! **Invariant**: reading never changes the file and never blocks its writer (test
//! `readers_work_beside_a_running_gateway`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::moment::Moment;
use policy::ports::read::{
    By, Calls, Filter, LedgerReader, Slice, Spending, SpendingAt, SpentBy, StoredCall, Totals,
};
use policy::ports::{CallId, CallOpened, Fault};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::journal;
use super::rows::{self, CALL_COLUMNS};
use super::sums::{self, Condition};
use super::{open_readable, refused, spending};
use crate::error::StoreError;

/// 256 calls: an export reads this many between two looks at the file, so that a long one holds no
/// snapshot, which would keep the log from being folded back.
const PAGE: u32 = 256;

/// 5 ms between two looks at how far the writer has come.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// 100 looks, half a second: five times the writer's pause. A gateway that was killed never comes
/// up to its journal; the next start does that.
const LOOKS_MAX: usize = 100;

/// A connection that only reads.
#[derive(Debug)]
pub struct SqliteReader {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteReader {
    /// Opens a ledger that is there, and waits for a running gateway to bring in what it has
    /// acknowledged by now: who saw an answer finds its call.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = open_readable(path)?;
        catch_up(&connection, path).map_err(|source| refused(path, "read the journal", source))?;
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(connection),
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

    /// The next calls after a row's id, each with its own id.
    fn page(&self, filter: &Filter, after: i64) -> Result<Vec<(i64, StoredCall)>, Fault> {
        let connection = self.connection();
        let condition = Condition::new(filter);
        let query = format!(
            "SELECT {CALL_COLUMNS} FROM calls c WHERE {} AND c.id > {after} ORDER BY c.id \
             LIMIT {PAGE}",
            condition.sql
        );
        let read = || {
            connection
                .prepare(&query)?
                .query_map(params_from_iter(&condition.values), |row| {
                    Ok((row.get(0)?, rows::call(&connection, row)?))
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.fault("read calls"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer may be another process, whose commit is no event here"
)]
fn catch_up(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    // A journal that cannot be looked at, or is deleted meanwhile, is nothing to wait for.
    let Some(end) = journal::end(path).ok().flatten() else {
        return Ok(());
    };
    for _ in 0..LOOKS_MAX {
        if journal::reached(connection)? >= end {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

impl LedgerReader for SqliteReader {
    fn call(&self, call: &CallId) -> Result<Option<StoredCall>, Fault> {
        let connection = self.connection();
        connection
            .query_row(
                &format!("SELECT {CALL_COLUMNS} FROM calls c WHERE c.call = ?1"),
                [&call.0],
                |row| rows::call(&connection, row),
            )
            .optional()
            .map_err(self.fault("read a call"))
    }

    fn latest(&self, count: u32) -> Result<Vec<StoredCall>, Fault> {
        let connection = self.connection();
        let read = || {
            connection
                .prepare_cached(&format!(
                    "SELECT {CALL_COLUMNS} FROM calls c ORDER BY c.id DESC LIMIT ?1"
                ))?
                .query_map([count], |row| rows::call(&connection, row))?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.fault("read the latest calls"))
    }

    fn totals(&self, filter: &Filter) -> Result<Totals, Fault> {
        let slices = sums::slices(&mut self.connection(), filter, None)
            .map_err(self.fault("add up calls"))?;
        Ok(slices
            .into_iter()
            .next()
            .map(|slice| slice.totals)
            .unwrap_or_default())
    }

    fn breakdown(&self, filter: &Filter, by: By) -> Result<Vec<Slice>, Fault> {
        sums::slices(&mut self.connection(), filter, Some(by)).map_err(self.fault("add up calls"))
    }

    fn calls(&self, filter: &Filter) -> Calls<'_> {
        let filter = filter.clone();
        let mut after = Some(0);
        let pages = std::iter::from_fn(move || {
            let page = self.page(&filter, after?);
            after = match &page {
                Ok(calls) => calls.last().map(|(id, _)| *id),
                Err(_) => None,
            };
            Some(page)
        });
        Box::new(pages.flat_map(|page| {
            match page {
                Ok(calls) => calls
                    .into_iter()
                    .map(|(_, call)| Ok(call))
                    .collect::<Vec<_>>(),
                Err(fault) => vec![Err(fault)],
            }
        }))
    }

    fn spending(&self, of: &SpentBy, take: &mut dyn FnMut(Spending)) -> Result<(), Fault> {
        spending::spending(&self.connection(), of, take)
            .map_err(self.fault("add up what was spent"))
    }

    fn spending_at(&self, of: &SpentBy, take: &mut dyn FnMut(SpendingAt)) -> Result<(), Fault> {
        spending::spending_at(&self.connection(), of, take)
            .map_err(self.fault("add up what was spent at each target"))
    }

    fn cut_off(&self, now: Moment) -> Result<Vec<CallOpened>, Fault> {
        spending::cut_off(&self.connection(), now).map_err(self.fault("read what a crash cut off"))
    }

    fn under_way(&self, now: Moment) -> Result<Vec<CallOpened>, Fault> {
        spending::under_way(&self.connection(), now).map_err(self.fault("read what is under way"))
    }
}
