//! Keys and their changes as tables and lines.
//!
//! **Invariant**: no secret and no hash of one is ever shown (test `no_hash_is_shown` in
//! `tests/it`).

use policy::key::terms::quoted;
use policy::key::{Shut, check, state};
use policy::moment::Moment;
use policy::ports::{AuditEntry, KeyRecord};

use crate::print::table::{Set, table};
use crate::print::time;

/// What stands where there is nothing.
const NOTHING: &str = "–";

/// A column of the list: its head, and what stands in it.
type Column = (&'static str, fn(&KeyRecord, Moment) -> Option<String>);

/// Columns that are left out where no key has anything to say in them.
const COLUMNS: [Column; 11] = [
    ("id", |record, _| Some(record.id.clone())),
    ("name", |record, _| Some(record.name.clone())),
    ("state", |record, now| Some(state(record, now).to_owned())),
    ("organisation", |record, _| {
        record.payers.organisation.clone()
    }),
    ("team", |record, _| record.payers.team.clone()),
    ("user", |record, _| record.payers.user.clone()),
    ("tags", |record, _| some(&record.payers.tags)),
    ("models", |record, _| some(&record.models)),
    ("made (UTC)", |record, _| {
        Some(time::shown(record.created_at))
    }),
    ("expires (UTC)", |record, _| {
        record.expires_at.map(time::shown)
    }),
    ("secret before works until (UTC)", |record, now| {
        let previous = record.previous.filter(|previous| now < previous.until);
        previous.map(|previous| time::shown(previous.until))
    }),
];

fn some(texts: &[String]) -> Option<String> {
    (!texts.is_empty()).then(|| quoted(texts))
}

/// A table of keys.
pub(super) fn list(records: &[KeyRecord], now: Moment) -> String {
    let column = |(head, cell): Column| {
        let cells: Vec<_> = records.iter().map(|record| cell(record, now)).collect();
        cells.iter().any(Option::is_some).then_some((head, cells))
    };
    let columns: Vec<_> = COLUMNS.into_iter().filter_map(column).collect();
    let heads: Vec<_> = columns.iter().map(|(head, _)| (*head, Set::Left)).collect();
    let cell = |cell: Option<&Option<String>>| {
        let cell = cell.and_then(Option::as_deref);
        cell.unwrap_or(NOTHING).to_owned()
    };
    let row = |place| {
        columns
            .iter()
            .map(|(_, cells)| cell(cells.get(place)))
            .collect()
    };
    let rows: Vec<Vec<String>> = (0..records.len()).map(row).collect();
    table(&heads, &rows)
}

/// All of one key, a line for each thing.
pub(super) fn one(record: &KeyRecord, now: Moment) -> String {
    let mut text = String::new();
    for (head, cell) in COLUMNS {
        let nothing = if head == "models" { "all" } else { NOTHING };
        let cell = cell(record, now).unwrap_or_else(|| nothing.to_owned());
        put!(text, "{head:<32} {cell}\n");
    }
    if let Some(at) = record.disabled_at {
        put!(text, "{:<32} {}\n", "disabled (UTC)", time::shown(at));
    }
    text
}

/// What keeps a key from working and what helps, as another line; empty if nothing does.
pub(super) fn hindrance(record: &KeyRecord, now: Moment) -> String {
    let (what, change) = match check(record, &record.hash, now) {
        Ok(()) | Err(Shut::Replaced) => return String::new(),
        Err(Shut::Expired) => ("has expired", format!("expire {} --in 30d", record.id)),
        Err(Shut::Disabled) => ("is disabled", format!("enable {}", record.id)),
    };
    format!("\nThe key {what}; `tokenwise keys {change}` lets it work again.")
}

/// A table of changes.
pub(super) fn entries(entries: &[AuditEntry]) -> String {
    let heads = ["at (UTC)", "actor", "action", "subject", "detail"].map(|head| (head, Set::Left));
    let row = |entry: &AuditEntry| {
        vec![
            time::shown(entry.at),
            entry.actor.clone(),
            entry.action.clone(),
            entry.subject.clone(),
            entry.detail.clone(),
        ]
    };
    table(&heads, &entries.iter().map(row).collect::<Vec<_>>())
}
