//! Calls, legs, savings and keys as they are read, and how texts and numbers are written.
//!
//! **Invariant**: what is read back equals what was written (store conformance,
//! `calls_come_back_as_they_were`).

use std::collections::BTreeMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::{StoredCall, is_estimated};
use policy::ports::{
    CallId, CallOpened, CallSettled, End, Held, KeyRecord, Leg, Lever, Payers, Previous,
};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde_json::Value;
use wire::usage::{CacheWrites, Tokens, Usage};

/// What [`call`] reads, in its order.
pub(super) const CALL_COLUMNS: &str = "c.id, c.call, c.opened_at_ms, c.key, c.session, c.task, \
     c.endpoint, c.model, c.provider, c.input_estimate, c.organisation, c.team, c.user, c.tags, \
     c.held_pico_usd, c.held_tokens, c.held_until_ms, c.settled_at_ms, c.ending, c.status, \
     c.cost_pico_usd, c.untouched_pico_usd, c.prices, c.notes, c.target, c.parents";

/// What [`key`] reads, in its order.
pub(super) const KEY_COLUMNS: &str = "id, name, hash, created_at_ms, expires_at_ms, \
     disabled_at_ms, organisation, team, user, tags, models, previous_hash, previous_until_ms";

/// Settles every open call with the same words and returns how many there were.
pub(super) fn close_open_calls(
    connection: &Connection,
    settled: &CallSettled,
) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE calls SET settled_at_ms = ?1, ending = ?2, estimated = ?3, prices = ?4, \
         notes = ?5 WHERE settled_at_ms IS NULL",
        params![
            whole(settled.at.0),
            settled.end.name(),
            is_estimated(settled),
            settled.prices,
            settled.notes,
        ],
    )
}

/// Reads [`CALL_COLUMNS`] and what belongs to the call.
pub(super) fn call(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<StoredCall> {
    let id: i64 = row.get(0)?;
    let opened = opened(row)?;
    let settled = match row.get::<_, Option<u64>>(17)? {
        None => None,
        Some(at) => Some(CallSettled {
            call: opened.call.clone(),
            at: Moment(at),
            end: end(row, 18)?,
            status: row.get::<_, Option<u16>>(19)?.unwrap_or(0),
            legs: legs(connection, id)?,
            cost: amount(row, 20)?,
            untouched: amount(row, 21)?,
            savings: savings(connection, id)?,
            prices: row.get(22)?,
            notes: row.get(23)?,
        }),
    };
    Ok(StoredCall { opened, settled })
}

/// Reads how a call began from [`CALL_COLUMNS`].
pub(super) fn opened(row: &Row<'_>) -> rusqlite::Result<CallOpened> {
    let held = match row.get::<_, Option<u64>>(16)? {
        None => None,
        Some(until) => Some(Held {
            usd: amount(row, 14)?,
            tokens: tokens(row, 15)?,
            until: Moment(until),
        }),
    };
    Ok(CallOpened {
        call: CallId(row.get(1)?),
        at: moment(row, 2)?,
        key: row.get(3)?,
        session: row.get(4)?,
        task: row.get(5)?,
        endpoint: row.get(6)?,
        model: row.get(7)?,
        provider: row.get(8)?,
        target: row.get(24)?,
        input_estimate: tokens(row, 9)?,
        payers: Payers {
            parents: texts(row, 25)?,
            ..payers(row, 10)?
        },
        held,
    })
}

/// Reads four columns from this one on: `organisation, team, user, tags`.
pub(super) fn payers(row: &Row<'_>, column: usize) -> rusqlite::Result<Payers> {
    Ok(Payers {
        organisation: row.get(column)?,
        team: row.get(column + 1)?,
        user: row.get(column + 2)?,
        tags: texts(row, column + 3)?,
        parents: Vec::new(),
    })
}

fn legs(connection: &Connection, call_id: i64) -> rusqlite::Result<Vec<Leg>> {
    connection
        .prepare_cached(
            "SELECT provider, model, sent_at_ms, first_byte_at_ms, ended_at_ms, status, ending, \
             estimated, uncached, cache_read, cache_write_5m, cache_write_30m, cache_write_1h, \
             cache_write_12h, audio_input, output, reasoning, audio_output, web_searches, tier, \
             cost_pico_usd FROM legs WHERE call_id = ?1 ORDER BY position",
        )?
        .query_map([call_id], leg)?
        .collect()
}

fn leg(row: &Row<'_>) -> rusqlite::Result<Leg> {
    Ok(Leg {
        provider: row.get(0)?,
        model: row.get(1)?,
        sent_at: moment(row, 2)?,
        first_byte_at: row.get::<_, Option<u64>>(3)?.map(Moment),
        ended_at: moment(row, 4)?,
        status: row.get(5)?,
        end: end(row, 6)?,
        estimated: row.get(7)?,
        usage: Usage {
            uncached: tokens(row, 8)?,
            cache_read: tokens(row, 9)?,
            cache_write: CacheWrites {
                minutes_5: tokens(row, 10)?,
                minutes_30: tokens(row, 11)?,
                hour_1: tokens(row, 12)?,
                hours_12: tokens(row, 13)?,
            },
            audio_input: tokens(row, 14)?,
            output: tokens(row, 15)?,
            reasoning: tokens(row, 16)?,
            audio_output: tokens(row, 17)?,
            web_searches: row.get(18)?,
            tier: row.get(19)?,
        },
        cost: amount(row, 20)?,
    })
}

fn savings(connection: &Connection, call_id: i64) -> rusqlite::Result<BTreeMap<Lever, PicoUsd>> {
    connection
        .prepare_cached("SELECT lever, pico_usd FROM savings WHERE call_id = ?1")?
        .query_map([call_id], |row| {
            Ok((lever(row, 0)?, PicoUsd(row.get::<_, i64>(1)?.into())))
        })?
        .collect()
}

/// Reads [`KEY_COLUMNS`].
pub(super) fn key(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        created_at: moment(row, 3)?,
        expires_at: row.get::<_, Option<u64>>(4)?.map(Moment),
        disabled_at: row.get::<_, Option<u64>>(5)?.map(Moment),
        payers: payers(row, 6)?,
        models: texts(row, 10)?,
        previous: match row.get(11)? {
            None => None,
            Some(hash) => Some(Previous {
                hash,
                until: moment(row, 12)?,
            }),
        },
    })
}

/// The lever with the name in this column.
pub(super) fn lever(row: &Row<'_>, column: usize) -> rusqlite::Result<Lever> {
    named(row, column, &Lever::ALL, Lever::name)
}

fn end(row: &Row<'_>, column: usize) -> rusqlite::Result<End> {
    named(row, column, &End::ALL, End::name)
}

fn named<T: Copy>(
    row: &Row<'_>,
    column: usize,
    all: &[T],
    name: fn(T) -> &'static str,
) -> rusqlite::Result<T> {
    let given: String = row.get(column)?;
    all.iter()
        .copied()
        .find(|known| name(*known) == given)
        .ok_or_else(|| {
            let unknown = format!("`{given}` is not a name that this build knows");
            rusqlite::Error::FromSqlConversionFailure(column, Type::Text, unknown.into())
        })
}

fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Moment> {
    row.get(column).map(Moment)
}

fn tokens(row: &Row<'_>, column: usize) -> rusqlite::Result<Tokens> {
    row.get(column).map(Tokens)
}

fn amount(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PicoUsd>> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .map(|pico| PicoUsd(pico.into())))
}

/// Texts as a JSON array, so that none of them is split or joined; NULL where there are none.
pub(super) fn list(texts: &[String]) -> Option<String> {
    (!texts.is_empty()).then(|| Value::from(texts).to_string())
}

/// Reads what [`list`] has written.
pub(super) fn texts(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let Some(array) = row.get::<_, Option<String>>(column)? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&array).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

/// [`crate::range::fit`] has seen the amounts before, so that none is lost here.
pub(super) fn money(amount: Option<PicoUsd>) -> Option<i64> {
    amount.and_then(|amount| i64::try_from(amount.0).ok())
}

/// Counts and moments beyond `i64::MAX` mean nothing; they saturate as [`Tokens`] do.
pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
