//! What budgets are restored from: what was spent, summed in the database, and the holds of calls
//! that are under way or that a crash cut off.
//!
//! **Invariant**: a sum here equals the same sum in Rust, call by call (store conformance,
//! `spending_is_exact`), and no start reads more of the file than it must (test
//! `indexes_are_used`).

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::{Spending, SpendingAt, SpentBy};
use policy::ports::{CallOpened, Payers};
use rusqlite::{Connection, Row, params};
use wire::usage::Tokens;

use super::rows::{self, CALL_COLUMNS, whole};
use super::sums::{exact, sum};
use crate::MINUTE_MS;

/// What `wire::usage::Usage::input` adds up, and the output.
const TOKEN_COLUMNS: [&str; 8] = [
    "l.uncached",
    "l.cache_read",
    "l.cache_write_5m",
    "l.cache_write_30m",
    "l.cache_write_1h",
    "l.cache_write_12h",
    "l.audio_input",
    "l.output",
];

/// What settled calls used, by payers and minute.
pub(super) fn spending(
    connection: &Connection,
    of: &SpentBy,
    take: &mut dyn FnMut(Spending),
) -> rusqlite::Result<()> {
    sums_of(connection, &spending_query(), of, read, take)
}

/// What the legs of settled calls used, by target, model asked for and minute.
pub(super) fn spending_at(
    connection: &Connection,
    of: &SpentBy,
    take: &mut dyn FnMut(SpendingAt),
) -> rusqlite::Result<()> {
    sums_of(connection, &spending_at_query(), of, read_at, take)
}

fn sums_of<T>(
    connection: &Connection,
    query: &str,
    of: &SpentBy,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    take: &mut dyn FnMut(T),
) -> rusqlite::Result<()> {
    let except: Vec<String> = of.except.iter().map(|call| call.0.clone()).collect();
    let settled_by = of.settled_by.map_or(i64::MAX, |by| whole(by.0));
    let except = rows::list(&except).unwrap_or_else(|| "[]".to_owned());
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query(params![whole(of.since.0), settled_by, except])?;
    while let Some(row) = rows.next()? {
        take(read(row)?);
    }
    Ok(())
}

/// The calls that are asked for.
const WANTED: &str = "c.opened_at_ms >= ?1 AND c.settled_at_ms <= ?2 \
                      AND c.ending NOT IN ('recovered', 'turned_away') \
                      AND c.call NOT IN (SELECT value FROM json_each(?3))";

/// One pass over calls and legs: what belongs to the call itself counts on its first row only,
/// which is its first leg, or no leg.
fn spending_query() -> String {
    let of_call = |value: &str| format!("CASE WHEN coalesce(l.position, 0) = 0 THEN {value} END");
    let cost = exact(&of_call("coalesce(c.cost_pico_usd, c.held_pico_usd, 0)"));
    let calls = of_call("1");
    let tokens = TOKEN_COLUMNS.map(exact).join(", ");
    format!(
        "SELECT c.key, c.session, c.task, c.model, c.organisation, c.team, c.user, c.tags, \
         c.parents, min(c.opened_at_ms), count({calls}), {cost}, {tokens} \
         FROM calls c LEFT JOIN legs l ON l.call_id = c.id \
         WHERE {WANTED} \
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, c.opened_at_ms / {MINUTE_MS}"
    )
}

fn spending_at_query() -> String {
    let cost = exact("coalesce(l.cost_pico_usd, c.held_pico_usd, 0)");
    let tokens = TOKEN_COLUMNS.map(exact).join(", ");
    format!(
        "SELECT c.model, l.provider, l.model, min(c.opened_at_ms), count(*), {cost}, {tokens} \
         FROM calls c JOIN legs l ON l.call_id = c.id \
         WHERE {WANTED} \
         GROUP BY 1, 2, 3, c.opened_at_ms / {MINUTE_MS}"
    )
}

fn read_at(row: &Row<'_>) -> rusqlite::Result<SpendingAt> {
    Ok(SpendingAt {
        asked: row.get(0)?,
        provider: row.get(1)?,
        model: row.get(2)?,
        at: Moment(row.get(3)?),
        cost: PicoUsd(sum(row, 5)?),
        tokens: tokens(row, 7)?,
        legs: row.get(4)?,
    })
}

/// The sum of [`TOKEN_COLUMNS`], each of which takes two columns from this one on.
fn tokens(row: &Row<'_>, first: usize) -> rusqlite::Result<Tokens> {
    let mut tokens: i128 = 0;
    for place in 0..TOKEN_COLUMNS.len() {
        tokens += sum(row, first + 2 * place)?;
    }
    Ok(Tokens(u64::try_from(tokens).unwrap_or(u64::MAX)))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Spending> {
    Ok(Spending {
        key: row.get(0)?,
        session: row.get(1)?,
        task: row.get(2)?,
        model: row.get(3)?,
        payers: Payers {
            parents: rows::texts(row, 8)?,
            ..rows::payers(row, 4)?
        },
        at: Moment(row.get(9)?),
        cost: PicoUsd(sum(row, 11)?),
        tokens: tokens(row, 13)?,
        calls: row.get(10)?,
    })
}

/// The recovered calls whose hold lasts beyond `now`, in the order in which they were opened.
pub(super) fn cut_off(connection: &Connection, now: Moment) -> rusqlite::Result<Vec<CallOpened>> {
    opened(connection, &cut_off_query(), now)
}

/// The calls that are not settled and whose hold lasts beyond `now`, in the order in which they were
/// opened.
pub(super) fn under_way(connection: &Connection, now: Moment) -> rusqlite::Result<Vec<CallOpened>> {
    opened(connection, &under_way_query(), now)
}

fn opened(connection: &Connection, query: &str, now: Moment) -> rusqlite::Result<Vec<CallOpened>> {
    connection
        .prepare_cached(query)?
        .query_map([whole(now.0)], rows::opened)?
        .collect()
}

/// The index is named, because sorting by id is taken for a reason to read the whole table.
fn cut_off_query() -> String {
    format!(
        "SELECT {CALL_COLUMNS} FROM calls c INDEXED BY calls_cut_off \
         WHERE c.ending = 'recovered' AND c.held_until_ms > ?1 ORDER BY c.id"
    )
}

/// What is open has an index of its own, which is short however long the table is.
fn under_way_query() -> String {
    format!(
        "SELECT {CALL_COLUMNS} FROM calls c INDEXED BY calls_open \
         WHERE c.settled_at_ms IS NULL AND c.held_until_ms > ?1 ORDER BY c.id"
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::params_from_iter;

    use super::super::schema;
    use super::*;

    /// The steps of a query that touch a table, as SQLite plans them for an empty file.
    fn plan(query: &str) -> Vec<String> {
        let connection = Connection::open_in_memory().expect("opened");
        schema::make(&connection).expect("made");
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
            .expect("planned");
        let values = vec![0; statement.parameter_count()];
        let steps = statement
            .query_map(params_from_iter(values), |row| row.get::<_, String>(3))
            .expect("read");
        let steps = steps.map(|step| step.expect("text"));
        steps
            .filter(|step| step.contains(" c ") || step.contains(" l "))
            .collect()
    }

    #[test]
    fn indexes_are_used() {
        assert_eq!(
            plan(&cut_off_query()),
            ["SEARCH c USING INDEX calls_cut_off (held_until_ms>?)"]
        );
        assert_eq!(plan(&under_way_query()), ["SCAN c USING INDEX calls_open"]);
        assert_eq!(
            plan(&spending_at_query()),
            [
                "SEARCH c USING INDEX calls_by_time (opened_at_ms>?)",
                "SEARCH l USING PRIMARY KEY (call_id=?)",
            ]
        );
        assert_eq!(
            plan(&spending_query()),
            [
                "SEARCH c USING INDEX calls_by_time (opened_at_ms>?)",
                "SEARCH l USING PRIMARY KEY (call_id=?) LEFT-JOIN",
            ]
        );
    }
}
