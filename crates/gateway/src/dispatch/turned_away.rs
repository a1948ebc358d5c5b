//! Turned away: a call that a limit, a loop or its own size keeps from being sent leaves a row, so that
//! whoever asks why finds an answer under the id that the client was given.
//!
//! **Invariant**: such a row costs nothing and counts against no limit and in no sum, and a client that
//! goes on all the same does not fill the disk (tests `what_is_turned_away_can_be_explained` in
//! `tests/it/turned_away.rs` and `rows_are_few`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use policy::moment::{MINUTE_MS, Moment};
use policy::money::PicoUsd;
use policy::ports::{CallOpened, CallSettled, End};
use policy::refusal::Refusal;
use serde::Serialize;

use crate::dispatch::start::Closed;
use crate::life::Service;
use crate::relay::refuse;
use crate::settle::beside::beside;

/// 120 rows a minute, of about 1 kB each: enough to see who is turned away and why; a client that
/// does nothing else writes 170 MB a day. The metrics count them all.
const ROWS_PER_MINUTE: u32 = 120;

/// How many rows were written lately.
#[derive(Debug, Default)]
pub struct Rows(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    minute: u64,
    rows: u32,
}

impl Rows {
    /// Takes the place of a row, while there is one in this minute.
    fn take(&self, now: Moment) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.0 / MINUTE_MS;
        if written.minute != minute {
            *written = Written { minute, rows: 0 };
        }
        written.rows += 1;
        written.rows <= ROWS_PER_MINUTE
    }
}

/// Why a call was turned away, as the client was told.
#[derive(Serialize)]
struct Why<'r> {
    reason: &'static str,
    message: &'r str,
}

/// Words why a call was not started, and writes it down if it was not let in.
pub fn closed(service: &Service<'_>, closed: Closed, row: Option<CallOpened>) -> Refusal {
    let is_barred = matches!(closed, Closed::Spent(_));
    let refusal = closed.refuse(service);
    if is_barred {
        write_down(service, row, &refusal);
    }
    refusal
}

/// Writes down a call that is not let in.
pub fn write_down(service: &Service<'_>, row: Option<CallOpened>, refusal: &Refusal) {
    let Service { gateway, setup, .. } = *service;
    let now = gateway.clock.now();
    let Some(row) = row.filter(|_| gateway.turned_away.take(now)) else {
        return;
    };
    let (status, problem) = refuse::told(refusal);
    let why = Why {
        reason: problem.code,
        message: &refusal.message,
    };
    let settled = CallSettled {
        call: row.call.clone(),
        at: now,
        end: End::TurnedAway,
        status: status.as_u16(),
        legs: Vec::new(),
        cost: Some(PicoUsd::ZERO),
        untouched: Some(PicoUsd::ZERO),
        savings: BTreeMap::new(),
        prices: setup.prices.version().to_owned(),
        notes: beside("turned_away", &why, "{}"),
    };
    gateway.ledger.open(row);
    gateway.ledger.settle(settled, Box::new(|| {}));
}

#[cfg(test)]
mod tests {
    use policy::moment::{MINUTE_MS, Moment};

    use super::{ROWS_PER_MINUTE, Rows};

    #[test]
    fn rows_are_few() {
        let rows = Rows::default();
        let taken = |now| (0..1_000).filter(|_| rows.take(Moment(now))).count();
        assert_eq!(taken(5), ROWS_PER_MINUTE as usize);
        assert_eq!(taken(MINUTE_MS - 1), 0);
        assert_eq!(taken(MINUTE_MS), ROWS_PER_MINUTE as usize);
    }
}
