//! Calls as lines for other programs: CSV with a row a call, JSON Lines with the legs inside.
//!
//! **Invariant**: figures are integers as the ledger holds them (pico-USD, tokens, milliseconds),
//! and what is unknown is empty or `null`, never zero (test `lines_say_what_the_ledger_says`).

use std::io::{self, Write};

use policy::money::PicoUsd;
use policy::ports::read::{StoredCall, Totals};
use policy::ports::{CallSettled, Held, Leg, Lever};
use serde_json::{Map, Value, json};
use wire::usage::{Ttl, Usage};

/// Columns before those of the levers and of the tokens.
const CALL_COLUMNS: &str = "call,opened_at_ms,settled_at_ms,key,session,task,organisation,team,user,\
     tags,parents,endpoint,model,provider,ending,status,estimated,input_estimate,held_pico_usd,\
     held_tokens,held_until_ms,legs,cost_pico_usd,untouched_pico_usd,prices";

/// Writes the line that names the columns of [`csv_line`].
pub fn csv_header(out: &mut impl Write) -> io::Result<()> {
    write!(out, "{CALL_COLUMNS}")?;
    for lever in Lever::ALL {
        write!(out, ",saved_{}_pico_usd", saved_by(lever))?;
    }
    for (class, _) in classes(&Usage::default()) {
        write!(out, ",{class}")?;
    }
    writeln!(out)
}

/// What a lever's savings are called, and that they are estimated from other calls if they are.
fn saved_by(lever: Lever) -> String {
    let how = if lever.is_estimated() {
        "_estimated"
    } else {
        ""
    };
    format!("{}{how}", lever.name())
}

/// Writes a call as one line; tokens are summed over its legs.
pub fn csv_line(call: &StoredCall, out: &mut impl Write) -> io::Result<()> {
    let (opened, settled) = (&call.opened, call.settled.as_ref());
    let (payers, held) = (&opened.payers, opened.held);
    let optional = |text: &Option<String>| quoted(text.as_deref().unwrap_or_default());
    let mut fields = vec![
        quoted(&opened.call.0),
        opened.at.0.to_string(),
        shown(settled.map(|settled| settled.at.0)),
        quoted(&opened.key),
        optional(&opened.session),
        optional(&opened.task),
        optional(&payers.organisation),
        optional(&payers.team),
        optional(&payers.user),
        quoted(&texts(&payers.tags)),
        quoted(&texts(&payers.parents)),
        quoted(&opened.endpoint),
        quoted(&opened.model),
        quoted(&opened.provider),
        shown(settled.map(|settled| settled.end.name())),
        shown(settled.and_then(status)),
        shown(settled.map(|_| u8::from(call.is_estimated()))),
        opened.input_estimate.to_string(),
        shown(held.and_then(|held| held.usd).map(|usd| usd.0)),
        shown(held.map(|held| held.tokens)),
        shown(held.map(|held| held.until.0)),
        shown(settled.map(|settled| settled.legs.len())),
        shown(settled.and_then(|settled| settled.cost).map(|cost| cost.0)),
        shown(
            settled
                .and_then(|settled| settled.untouched)
                .map(|cost| cost.0),
        ),
        quoted(
            settled
                .map(|settled| settled.prices.as_str())
                .unwrap_or_default(),
        ),
    ];
    for lever in Lever::ALL {
        fields.push(shown(
            settled
                .and_then(|settled| settled.savings.get(&lever))
                .map(|it| it.0),
        ));
    }
    let mut totals = Totals::default();
    totals.count(call);
    for (_, count) in classes(&totals.usage) {
        fields.push(shown(settled.map(|_| count)));
    }
    writeln!(out, "{}", fields.join(","))
}

/// Writes a call as one JSON object on one line.
pub fn json_line(call: &StoredCall, out: &mut impl Write) -> io::Result<()> {
    let opened = &call.opened;
    let mut line = json!({
        "call": opened.call.0,
        "opened_at_ms": opened.at.0,
        "key": opened.key,
        "session": opened.session,
        "task": opened.task,
        "organisation": opened.payers.organisation,
        "team": opened.payers.team,
        "user": opened.payers.user,
        "tags": opened.payers.tags,
        "parents": opened.payers.parents,
        "endpoint": opened.endpoint,
        "model": opened.model,
        "provider": opened.provider,
        "input_estimate": opened.input_estimate.0,
        "held": opened.held.map(held_json),
        "settled": call.settled.as_ref().map(settled_json),
    });
    if let (Some(object), Some(settled)) = (line.as_object_mut(), &call.settled) {
        object.insert("estimated".to_owned(), call.is_estimated().into());
        object.insert("notes".to_owned(), notes_json(&settled.notes));
    }
    writeln!(out, "{line}")
}

fn held_json(held: Held) -> Value {
    json!({
        "pico_usd": money_json(held.usd),
        "tokens": held.tokens.0,
        "until_ms": held.until.0,
    })
}

fn settled_json(settled: &CallSettled) -> Value {
    let savings: Map<String, Value> = settled
        .savings
        .iter()
        .map(|(lever, saved)| (saved_by(*lever), money_json(Some(*saved))))
        .collect();
    json!({
        "at_ms": settled.at.0,
        "ending": settled.end.name(),
        "status": status(settled),
        "cost_pico_usd": money_json(settled.cost),
        "untouched_pico_usd": money_json(settled.untouched),
        "savings_pico_usd": savings,
        "prices": settled.prices,
        "legs": settled.legs.iter().map(leg_json).collect::<Vec<_>>(),
    })
}

fn leg_json(leg: &Leg) -> Value {
    let usage: Map<String, Value> = classes(&leg.usage)
        .into_iter()
        .map(|(class, count)| (class.to_owned(), count.into()))
        .collect();
    json!({
        "provider": leg.provider,
        "model": leg.model,
        "sent_at_ms": leg.sent_at.0,
        "first_byte_at_ms": leg.first_byte_at.map(|at| at.0),
        "ended_at_ms": leg.ended_at.0,
        "status": leg.status,
        "ending": leg.end.name(),
        "estimated": leg.estimated,
        "tier": leg.usage.tier,
        "usage": usage,
        "cost_pico_usd": money_json(leg.cost),
    })
}

/// Notes are JSON already; if a writer broke that promise, they are passed on as text.
fn notes_json(notes: &str) -> Value {
    serde_json::from_str(notes).unwrap_or_else(|_| Value::String(notes.to_owned()))
}

/// A row holds an `i64`; nothing read from a store is beyond it.
fn money_json(amount: Option<PicoUsd>) -> Value {
    amount
        .and_then(|amount| i64::try_from(amount.0).ok())
        .into()
}

/// Recovered calls have no status.
fn status(settled: &CallSettled) -> Option<u16> {
    (settled.status != 0).then_some(settled.status)
}

/// The names and counts of all usage classes, as in the ledger's columns.
fn classes(usage: &Usage) -> Vec<(&'static str, u64)> {
    let writes = |ttl| usage.cache_write.of(ttl).0;
    vec![
        ("uncached", usage.uncached.0),
        ("cache_read", usage.cache_read.0),
        ("cache_write_5m", writes(Ttl::Minutes5)),
        ("cache_write_30m", writes(Ttl::Minutes30)),
        ("cache_write_1h", writes(Ttl::Hour1)),
        ("cache_write_12h", writes(Ttl::Hours12)),
        ("audio_input", usage.audio_input.0),
        ("output", usage.output.0),
        ("reasoning", usage.reasoning.0),
        ("audio_output", usage.audio_output.0),
        ("web_searches", usage.web_searches),
    ]
}

/// A JSON array, so that no name is split or joined; empty where there are none.
fn texts(texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    Value::from(texts).to_string()
}

fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A CSV field (RFC 4180); text that a spreadsheet would run as a formula gets an apostrophe, since
/// model and session names come from clients.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    if guard.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
