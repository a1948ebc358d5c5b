//! `tokenwise explain`: one call, from what came in to what it cost, and why.
//!
//! **Invariant**: lines that are shown beside a cost add up to it, or are not shown (test
//! `a_bill_that_does_not_fit_is_not_shown`).

use std::process::ExitCode;

use policy::money::PicoUsd;
use policy::ports::read::{LedgerReader, StoredCall};
use policy::ports::{CallId, CallSettled, Leg};
use policy::prices::PriceBook;
use policy::prices::bill::{Bill, Class};
use serde_json::{Map, Value, json};
use wire::usage::Usage;

use super::price::bill_text;
use crate::config::Source;
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::amount::{known, pico, pico_known, share};
use crate::print::failure::UsageError;
use crate::print::table::{Set, table};
use crate::print::{self, Format, figures, time};

/// Stands for the newest call.
const LAST: &str = "last";

/// Show what happened to a call, what it cost, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The call's id, from the header `x-tokenwise-call` or the log; `last` for the newest.
    call: String,
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

/// Explains.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let reader = arguments.ledger.reader(environment)?;
    let found = match arguments.call.as_str() {
        LAST => reader.latest(1)?.pop(),
        id => reader.call(&CallId(id.to_owned()))?,
    };
    let call = found.ok_or_else(|| {
        let id = &arguments.call;
        UsageError(format!(
            "no call `{id}` in this ledger; ids are in the header `x-tokenwise-call`, and `last` \
             is the newest"
        ))
    })?;
    let prices = Prices::new(&arguments.ledger.source, environment);
    if arguments.format.json {
        print::json(&json(&call, &prices))?;
    } else {
        print::out(&text(&call, &prices))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The price book, and which part of it holds for which provider of the configuration.
#[derive(Debug)]
struct Prices {
    book: PriceBook,
    sellers: Vec<(String, String)>,
}

impl Prices {
    /// Those of the configuration; the built-in ones where it cannot be read, for a call can be
    /// explained without it.
    fn new(source: &Source, environment: &Environment) -> Self {
        match source.load(environment) {
            Ok(config) => {
                let setup = config.settings();
                let sellers = setup.upstreams.iter();
                let sellers = sellers
                    .map(|row| (row.id.clone(), row.prices.clone()))
                    .collect();
                Self {
                    book: setup.prices.clone(),
                    sellers,
                }
            }
            Err(_) => Self {
                book: PriceBook::built_in().clone(),
                sellers: Vec::new(),
            },
        }
    }

    /// The lines of a leg's cost, if this book leads to exactly that cost.
    fn bill(&self, leg: &Leg) -> Option<Bill> {
        let seller = self.sellers.iter().find(|(id, _)| *id == leg.provider);
        let seller = seller.map_or(&leg.provider, |(_, prices)| prices);
        let bill = self
            .book
            .cost(seller, &leg.model, &leg.usage, leg.sent_at)
            .ok()?;
        (Some(bill.total()) == leg.cost).then_some(bill)
    }
}

fn json(call: &StoredCall, prices: &Prices) -> Value {
    let opened = &call.opened;
    json!({
        "call": opened.call.0,
        "at_ms": opened.at.0,
        "key": opened.key,
        "session": opened.session,
        "task": opened.task,
        "parent_tasks": opened.payers.parents,
        "endpoint": opened.endpoint,
        "model": opened.model,
        "provider": opened.provider,
        "estimated": call.is_estimated(),
        "settled": call.settled.as_ref().map(|settled| settled_json(settled, prices)),
    })
}

fn settled_json(settled: &CallSettled, prices: &Prices) -> Value {
    let legs: Vec<Value> = settled
        .legs
        .iter()
        .map(|leg| leg_json(leg, prices))
        .collect();
    json!({
        "at_ms": settled.at.0,
        "end": settled.end.name(),
        "status": settled.status,
        "cost_pico_usd": pico_known(settled.cost),
        "untouched_pico_usd": pico_known(settled.untouched),
        "levers": figures::levers(&settled.savings),
        "levers_estimated": figures::estimated(&settled.savings),
        "prices": settled.prices,
        "legs": legs,
        "notes": notes(settled),
    })
}

fn leg_json(leg: &Leg, prices: &Prices) -> Value {
    let lines = prices.bill(leg).map(|bill| {
        let lines = Class::ALL.iter();
        lines
            .map(|class| (class.name().to_owned(), pico(bill.line(*class))))
            .collect::<Map<String, Value>>()
    });
    json!({
        "provider": leg.provider,
        "model": leg.model,
        "sent_at_ms": leg.sent_at.0,
        "first_byte_at_ms": leg.first_byte_at.map(|at| at.0),
        "ended_at_ms": leg.ended_at.0,
        "status": leg.status,
        "end": leg.end.name(),
        "usage": figures::usage(&leg.usage),
        "estimated": leg.estimated,
        "cost_pico_usd": pico_known(leg.cost),
        "lines_pico_usd": lines,
    })
}

/// What the levers wrote down; text that is no JSON stays text.
fn notes(settled: &CallSettled) -> Value {
    serde_json::from_str(&settled.notes).unwrap_or_else(|_| Value::String(settled.notes.clone()))
}

fn text(call: &StoredCall, prices: &Prices) -> String {
    let opened = &call.opened;
    let mut text = format!(
        "{} at {} UTC\n{} for {} with key {}\n",
        opened.call.0,
        time::shown(opened.at),
        opened.endpoint,
        if opened.model.is_empty() {
            "no model"
        } else {
            &opened.model
        },
        opened.key
    );
    for (label, name) in [("session", &opened.session), ("task", &opened.task)] {
        if let Some(name) = name {
            put!(text, "{label} {name}\n");
        }
    }
    for parent in &opened.payers.parents {
        put!(text, "part of task {parent}\n");
    }
    let Some(settled) = &call.settled else {
        text.push_str("still running\n");
        return text;
    };
    for (index, leg) in settled.legs.iter().enumerate() {
        text.push_str(&leg_text(index + 1, leg, prices));
    }
    if settled.legs.is_empty() {
        let (end, status) = (settled.end.name(), settled.status);
        put!(text, "\nnothing was sent: {end}, status {status}\n");
    }
    put!(text, "\n{}", arithmetic(settled));
    let notes = notes(settled);
    if notes.as_object().is_none_or(|notes| !notes.is_empty()) {
        text.push_str("\nwhy\n");
        lines(&mut text, &notes, 1);
    }
    text
}

fn leg_text(number: usize, leg: &Leg, prices: &Prices) -> String {
    let status = leg
        .status
        .map_or("no answer".to_owned(), |status| format!("status {status}"));
    let first = leg.first_byte_at.map_or("never".to_owned(), |at| {
        format!("after {}", time::stretch(at.since(leg.sent_at)))
    });
    let took = time::stretch(leg.ended_at.since(leg.sent_at));
    let target = format!("{}/{}", leg.provider, leg.model);
    let mut text = format!(
        "\nleg {number}: {}, {}, {status}, first byte {first}, over after {took}\n",
        target.trim_end_matches('/'),
        leg.end.name()
    );
    if leg.estimated {
        text.push_str("usage is estimated: the provider reported none\n");
    }
    match (prices.bill(leg), leg.cost) {
        (Some(bill), _) => text.push_str(&bill_text(&leg.usage, &bill)),
        (None, Some(PicoUsd::ZERO)) if leg.usage == Usage::default() => {
            text.push_str("cost $0.00: nothing was used that is billed\n");
        }
        (None, None) => text.push_str("cost unknown: the price book had no price for it\n"),
        (None, Some(cost)) => put!(
            text,
            "cost {cost}; its price book is not the one in force now, so its lines are not shown\n"
        ),
    }
    text
}

/// Untouched, minus what each lever saved, is the cost.
fn arithmetic(settled: &CallSettled) -> String {
    let (Some(untouched), Some(cost)) = (settled.untouched, settled.cost) else {
        return format!("cost {}; nothing to compare it with\n", known(settled.cost));
    };
    let line =
        |label: String, amount: PicoUsd| vec![label, amount.to_string(), share(amount, untouched)];
    let mut rows = vec![line("untouched (estimated)".to_owned(), untouched)];
    for (lever, saved) in &settled.savings {
        rows.push(line(figures::lever_label(*lever), -*saved));
    }
    rows.push(line("cost".to_owned(), cost));
    table(
        &[
            ("bill", Set::Left),
            ("USD", Set::Right),
            ("of untouched", Set::Right),
        ],
        &rows,
    )
}

/// A JSON value as indented lines; what has no parts of its own stays on one.
pub(super) fn lines(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if value.is_object() || value.is_array() {
                    put!(text, "{indent}{name}\n");
                    lines(text, value, depth + 1);
                } else if !value.is_null() {
                    put!(text, "{indent}{name}: {}\n", word(value));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match flat(item) {
                    Some(line) => put!(text, "{indent}{line}\n"),
                    None => lines(text, item, depth),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            put!(text, "{indent}{}\n", word(value));
        }
    }
}

/// An object of plain members as one line.
fn flat(value: &Value) -> Option<String> {
    let members = value
        .as_object()?
        .iter()
        .filter(|(_, value)| !value.is_null());
    let words = members.map(|(name, value)| {
        (!value.is_object() && !value.is_array()).then(|| format!("{name} {}", word(value)))
    });
    Some(words.collect::<Option<Vec<_>>>()?.join(", "))
}

/// A plain value, text without quotes.
fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::ports::read::{opening_of, recovery_of};
    use policy::ports::{CallId, End};
    use wire::usage::Tokens;

    use super::*;

    fn leg(cost: PicoUsd) -> Leg {
        Leg {
            provider: "anthropic".into(),
            model: "claude-sonnet-4-6".into(),
            sent_at: Moment(1_800_000_000_000),
            first_byte_at: None,
            ended_at: Moment(1_800_000_000_900),
            status: Some(200),
            end: End::Answered,
            usage: Usage {
                uncached: Tokens(1_000),
                output: Tokens(10),
                ..Usage::default()
            },
            estimated: false,
            cost: Some(cost),
        }
    }

    #[test]
    fn a_call_without_a_model_says_so() {
        let free = Leg {
            model: String::new(),
            usage: Usage::default(),
            ..leg(PicoUsd::ZERO)
        };
        let prices = Prices {
            book: PriceBook::built_in().clone(),
            sellers: Vec::new(),
        };
        let shown = leg_text(1, &free, &prices);
        assert!(
            shown.starts_with("\nleg 1: anthropic, answered,"),
            "{shown}"
        );
        assert!(
            shown.ends_with("cost $0.00: nothing was used that is billed\n"),
            "{shown}"
        );
        let settled = recovery_of(CallId("call_1".to_owned()), Moment(0));
        let mut opened = opening_of(&settled);
        opened.model = String::new();
        opened.endpoint = "/v1/files".to_owned();
        let call = StoredCall {
            opened,
            settled: None,
        };
        let shown = text(&call, &prices);
        assert!(shown.contains("/v1/files for no model with key"), "{shown}");
    }

    #[test]
    fn a_bill_that_does_not_fit_is_not_shown() {
        let prices = Prices {
            book: PriceBook::built_in().clone(),
            sellers: Vec::new(),
        };
        let bill = prices.bill(&leg(PicoUsd(1)));
        assert!(bill.is_none());
        assert!(leg_text(1, &leg(PicoUsd(1)), &prices).contains("lines are not shown"));
        let exact = prices.book.cost(
            "anthropic",
            "claude-sonnet-4-6",
            &leg(PicoUsd(1)).usage,
            Moment(1_800_000_000_000),
        );
        let exact = exact.unwrap().total();
        assert!(leg_text(1, &leg(exact), &prices).contains("input"));
    }

    #[test]
    fn a_call_that_was_turned_away_says_why() {
        let mut settled = recovery_of(CallId("call_1".to_owned()), Moment(0));
        settled.end = End::TurnedAway;
        settled.status = 429;
        settled.cost = Some(PicoUsd::ZERO);
        settled.notes = r#"{"turned_away":{"reason":"budget_exceeded","message":"m"}}"#.to_owned();
        let call = StoredCall {
            opened: opening_of(&settled),
            settled: Some(settled),
        };
        let prices = Prices {
            book: PriceBook::built_in().clone(),
            sellers: Vec::new(),
        };
        let text = text(&call, &prices);
        assert!(
            text.contains("nothing was sent: turned_away, status 429\n"),
            "{text}"
        );
        assert!(text.contains("reason: budget_exceeded\n"), "{text}");
    }

    #[test]
    fn notes_become_lines() {
        let mut text = String::new();
        lines(
            &mut text,
            &json!({"a": {"b": 1, "c": ["x", "y"], "d": null}, "e": "f"}),
            0,
        );
        assert_eq!(text, "a\n  b: 1\n  c\n    x\n    y\ne: f\n");
    }
}
