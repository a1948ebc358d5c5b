//! Sums in SQL that stay exact beyond 64 bits.
//!
//! **Invariant**: a sum here equals the same sum in Rust, call by call (store conformance,
//! `sums_are_exact`).
//!
//! SQLite adds integers in 64 bits. So each value is split, `x = high · 2³² + low` with `low` ≥ 0,
//! both halves are added apart, and put together in 128 bits: no sum of fewer than 2³¹ rows can
//! overflow, and SQLite would report it rather than wrap.

use std::collections::BTreeMap;

use policy::money::PicoUsd;
use policy::ports::read::{By, Filter, Slice, Totals};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use wire::usage::{CacheWrites, Tokens, Usage};

use super::rows::{self, whole};

/// A filter as SQL over `calls c`.
pub(super) struct Condition {
    /// An expression with a `?` for each value.
    pub(super) sql: String,
    /// The values, in order.
    pub(super) values: Vec<Value>,
}

impl Condition {
    pub(super) fn new(filter: &Filter) -> Self {
        let mut condition = Self {
            sql: "TRUE".to_owned(),
            values: Vec::new(),
        };
        condition.and("c.opened_at_ms >= ?", filter.since.map(|at| whole(at.0)));
        condition.and("c.opened_at_ms < ?", filter.until.map(|at| whole(at.0)));
        condition.and("c.key = ?", filter.key.clone());
        condition.and("c.session = ?", filter.session.clone());
        condition.and("c.task = ?", filter.task.clone());
        condition.and("c.model = ?", filter.model.clone());
        condition
    }

    fn and(&mut self, sql: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.sql.push_str(" AND ");
            self.sql.push_str(sql);
            self.values.push(value.into());
        }
    }
}

/// The totals of each part, ordered by label; without `by`, of everything as one part.
pub(super) fn slices(
    connection: &mut Connection,
    filter: &Filter,
    by: Option<By>,
) -> rusqlite::Result<Vec<Slice>> {
    let label = match by {
        None => "NULL",
        Some(By::Day) => "date(c.opened_at_ms / 1000, 'unixepoch')",
        Some(By::Model) => "c.model",
        Some(By::Provider) => "c.provider",
        Some(By::Organisation) => "c.organisation",
        Some(By::Team) => "c.team",
        Some(By::User) => "c.user",
        Some(By::Key) => "c.key",
        Some(By::Session) => "c.session",
        Some(By::Task) => "c.task",
    };
    let condition = Condition::new(filter);
    let mut parts: BTreeMap<Option<String>, Totals> = BTreeMap::new();
    // One snapshot for the three queries, so that a call which is settled between them counts in
    // all of them or in none.
    let snapshot = connection.transaction()?;
    let queries: [(Query, Fold); 3] = [
        (Query::Calls, fold_calls),
        (Query::Legs, fold_legs),
        (Query::Savings, fold_savings),
    ];
    for (query, fold) in queries {
        let mut statement = snapshot.prepare_cached(&query.sql(label, &condition.sql))?;
        let mut found = statement.query(params_from_iter(&condition.values))?;
        while let Some(row) = found.next()? {
            fold(parts.entry(row.get(0)?).or_default(), row)?;
        }
    }
    Ok(parts
        .into_iter()
        .map(|(label, totals)| Slice { label, totals })
        .collect())
}

/// Adds a row of a query to its part.
type Fold = fn(&mut Totals, &Row<'_>) -> rusqlite::Result<()>;

/// What is added up.
#[derive(Clone, Copy)]
enum Query {
    Calls,
    Legs,
    Savings,
}

impl Query {
    fn sql(self, label: &str, condition: &str) -> String {
        let columns = match self {
            Self::Calls => format!(
                "count(c.settled_at_ms), count(*) - count(c.settled_at_ms), \
                 sum(c.ending IS 'recovered'), sum(c.ending IS 'turned_away'), \
                 sum(c.estimated IS TRUE), \
                 sum(c.settled_at_ms IS NOT NULL AND c.cost_pico_usd IS NULL), {}, {}, {}",
                exact("c.cost_pico_usd"),
                exact("CASE WHEN c.untouched_pico_usd IS NOT NULL THEN c.cost_pico_usd END"),
                exact("CASE WHEN c.cost_pico_usd IS NOT NULL THEN c.untouched_pico_usd END"),
            ),
            Self::Legs => format!("count(*), {}", USAGE_COLUMNS.map(exact).join(", ")),
            Self::Savings => format!("s.lever, {}", exact("s.pico_usd")),
        };
        let (from, group) = match self {
            Self::Calls => ("calls c", "1"),
            Self::Legs => ("calls c JOIN legs l ON l.call_id = c.id", "1"),
            Self::Savings => ("calls c JOIN savings s ON s.call_id = c.id", "1, 2"),
        };
        format!("SELECT {label}, {columns} FROM {from} WHERE {condition} GROUP BY {group}")
    }
}

/// The order in which [`fold_legs`] reads them.
const USAGE_COLUMNS: [&str; 11] = [
    "l.uncached",
    "l.cache_read",
    "l.cache_write_5m",
    "l.cache_write_30m",
    "l.cache_write_1h",
    "l.cache_write_12h",
    "l.audio_input",
    "l.output",
    "l.reasoning",
    "l.audio_output",
    "l.web_searches",
];

/// Two columns: the sum of the high halves and that of the low halves.
pub(super) fn exact(value: &str) -> String {
    format!("coalesce(sum(({value}) >> 32), 0), coalesce(sum(({value}) & 4294967295), 0)")
}

/// Puts the two columns of [`exact`] together.
pub(super) fn sum(row: &Row<'_>, column: usize) -> rusqlite::Result<i128> {
    let high: i64 = row.get(column)?;
    let low: i64 = row.get(column + 1)?;
    Ok((i128::from(high) << 32) + i128::from(low))
}

fn fold_calls(totals: &mut Totals, row: &Row<'_>) -> rusqlite::Result<()> {
    totals.turned_away = row.get(4)?;
    totals.calls = row.get::<_, u64>(1)?.saturating_sub(totals.turned_away);
    totals.running = row.get(2)?;
    totals.recovered = row.get(3)?;
    totals.estimated = row.get(5)?;
    totals.unpriced = row.get(6)?;
    totals.cost = PicoUsd(sum(row, 7)?);
    totals.cost_compared = PicoUsd(sum(row, 9)?);
    totals.untouched = PicoUsd(sum(row, 11)?);
    Ok(())
}

fn fold_legs(totals: &mut Totals, row: &Row<'_>) -> rusqlite::Result<()> {
    let count = |place: usize| {
        Ok::<_, rusqlite::Error>(u64::try_from(sum(row, 2 + 2 * place)?).unwrap_or(u64::MAX))
    };
    let tokens = |place| count(place).map(Tokens);
    totals.legs = row.get(1)?;
    totals.usage = Usage {
        uncached: tokens(0)?,
        cache_read: tokens(1)?,
        cache_write: CacheWrites {
            minutes_5: tokens(2)?,
            minutes_30: tokens(3)?,
            hour_1: tokens(4)?,
            hours_12: tokens(5)?,
        },
        audio_input: tokens(6)?,
        output: tokens(7)?,
        reasoning: tokens(8)?,
        audio_output: tokens(9)?,
        web_searches: count(10)?,
        tier: None,
    };
    Ok(())
}

fn fold_savings(totals: &mut Totals, row: &Row<'_>) -> rusqlite::Result<()> {
    totals
        .savings
        .insert(rows::lever(row, 1)?, PicoUsd(sum(row, 2)?));
    Ok(())
}
