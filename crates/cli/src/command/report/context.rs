//! Where the input of calls goes: `tokenwise report --context`.
//!
//! **Invariant**: the classes of a line add up to its input, as estimated when the calls came (test
//! `classes_add_up_and_full_windows_are_named`).

use std::collections::BTreeMap;

use policy::ports::read::{By, StoredCall};
use policy::prices::PriceBook;
use policy::shape::context::classes::Classes;
use policy::shape::context::warn::FILLING_PERCENT;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::print::amount::count;
use crate::print::table::{Set, table};

/// Stands for calls that have none of what is broken down by.
const NOTHING: &str = "–";

/// Warnings other than those of the window, which the usage shows better, and what they mean.
const WARNINGS: [(&str, &str); 2] = [
    (
        "price_cliff",
        "came within 5 % of a size beyond which every token costs more; leave something out",
    ),
    (
        "buried_instruction",
        "had an instruction in the middle of a long prompt; put it first or last",
    ),
];

#[derive(Debug, Deserialize)]
struct Notes {
    input: Option<Classes>,
    route: Option<Route>,
    #[serde(default)]
    context: Warned,
}

/// What a call was warned of.
#[derive(Debug, Default, Deserialize)]
struct Warned {
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Debug, Deserialize)]
struct Warning {
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Route {
    name: String,
}

/// The calls of one line.
#[derive(Clone, Debug, Default)]
struct Line {
    calls: u64,
    classes: Classes,
    /// Those that fill most of their model's window.
    full: u64,
    /// The fullest, in percent of the window.
    fullest: u64,
    /// Calls by what they were warned of.
    warned: BTreeMap<String, u64>,
}

/// What is broken down by: a field of the row, or the route of the notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The route that took the call.
    Route,
    /// A field.
    Field(By),
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Context(BTreeMap<String, Line>);

impl Context {
    /// Adds a call, if it was broken down when it came.
    pub(super) fn add(&mut self, call: &StoredCall, of: Of, prices: &PriceBook) {
        let Some(settled) = &call.settled else {
            return;
        };
        let Ok(Notes {
            input,
            route,
            context,
        }) = serde_json::from_str(&settled.notes)
        else {
            return;
        };
        let Some((input, leg)) = input.zip(settled.legs.last()) else {
            return;
        };
        let label = match of {
            Of::Route => route.map(|route| route.name),
            Of::Field(by) => by.label(&call.opened),
        };
        let line = self
            .0
            .entry(label.unwrap_or(NOTHING.to_owned()))
            .or_default();
        line.calls += 1;
        line.classes += input;
        for Warning { kind } in context.warnings {
            *line.warned.entry(kind).or_default() += 1;
        }
        let model = prices.find(&leg.provider, &leg.model);
        if let Some(window) = model.and_then(|model| model.context) {
            let percent = leg.usage.input().0.saturating_mul(100) / window.0.max(1);
            line.full += u64::from(percent >= FILLING_PERCENT);
            line.fullest = line.fullest.max(percent);
        }
    }

    pub(super) fn json(&self) -> Value {
        let lines = self.0.iter().map(|(label, line)| {
            json!({
                "label": label, "calls": line.calls, "input_tokens": line.classes.sum(),
                "classes": line.classes, "calls_over_60_percent_of_window": line.full,
                "fullest_percent_of_window": line.fullest, "warnings": line.warned,
            })
        });
        json!({"context": lines.collect::<Vec<_>>()})
    }

    pub(super) fn text(&self, name: &str) -> String {
        if self.0.is_empty() {
            return "no call in the ledger that matches was broken down; that is done for \
                    conversations while the cache lever is not off\n"
                .to_owned();
        }
        let heads = [
            (name, Set::Left),
            ("calls", Set::Right),
            ("tokens", Set::Right),
        ];
        let classes = Classes::SHORT_NAMES.map(|name| (name, Set::Right));
        let heads: Vec<(&str, Set)> = heads.into_iter().chain(classes).collect();
        let rows: Vec<Vec<String>> = self.0.iter().map(row).collect();
        let mut text = table(&heads, &rows);
        text.push_str("\nTokens are estimates, made when the calls came.\n");
        for (label, line) in self.0.iter().filter(|(_, line)| line.full > 0) {
            put!(
                text,
                "{label}: {} calls fill {FILLING_PERCENT} % of their model's window or more, the fullest {} %; answers get worse there, and there is soon no room\n",
                count(line.full),
                line.fullest
            );
        }
        for (label, line) in &self.0 {
            for (kind, words) in WARNINGS {
                if let Some(calls) = line.warned.get(kind) {
                    put!(text, "{label}: {} calls {words}\n", count(*calls));
                }
            }
        }
        text
    }
}

fn row((label, line): (&String, &Line)) -> Vec<String> {
    let sum = line.classes.sum().max(1);
    let share = |tokens: u64| match tokens {
        0 => String::new(),
        _ => format!("{} %", (tokens * 100 + sum / 2) / sum),
    };
    let head = [label.clone(), count(line.calls), count(line.classes.sum())];
    head.into_iter()
        .chain(line.classes.all().map(share))
        .collect()
}

#[cfg(test)]
mod tests {
    use policy::ports::read::By;
    use policy::prices::PriceBook;
    use wire::usage::{Tokens, Usage};

    use super::super::stored;
    use super::{Context, Of, StoredCall};

    fn call(number: u64, route: &str, input: u64) -> StoredCall {
        let notes = format!(
            r#"{{"route":{{"name":"{route}"}},"context":{{"warnings":[{{"kind":"price_cliff","why":"w"}}]}},"input":{{"system":10,"tools":20,"tool_results":70}}}}"#
        );
        let usage = Usage {
            uncached: Tokens(input),
            ..Usage::default()
        };
        stored::call(number, notes, usage)
    }

    #[test]
    fn classes_add_up_and_full_windows_are_named() {
        let mut context = Context::default();
        // A window of 200 000 tokens.
        for (number, route, input) in [(1, "a", 1_000), (2, "a", 130_000), (3, "b", 119_000)] {
            context.add(
                &call(number, route, input),
                Of::Route,
                PriceBook::built_in(),
            );
        }
        let document = context.json();
        let (a, b) = (&document["context"][0], &document["context"][1]);
        assert_eq!(
            (&a["label"], &a["input_tokens"]),
            (&"a".into(), &200.into())
        );
        assert_eq!(a["classes"]["tool_results"], 140);
        assert_eq!(a["calls_over_60_percent_of_window"], 1);
        assert_eq!(b["calls_over_60_percent_of_window"], 0);
        let text = context.text("route");
        assert!(
            text.contains("a: 1 calls fill 60 %") && text.contains("70 %"),
            "{text}"
        );
        assert_eq!(a["warnings"]["price_cliff"], 2);
        assert!(text.contains("b: 1 calls came within 5 %"), "{text}");
        let mut by_task = Context::default();
        by_task.add(&call(1, "a", 1), Of::Field(By::Task), PriceBook::built_in());
        assert!(by_task.text("task").contains('–'));
        assert!(Context::default().text("route").contains("no call"));
    }
}
