//! What a lower effort, constant within each session, could save on recorded agent traffic.
//!
//! Hidden reasoning is what a recorded answer cost beyond its visible text; the price of input is
//! that of an ideal cache within the session. All of it is an estimate.
//!
//! **Invariant**: with all hidden reasoning kept nothing is saved, with none of it all that it cost
//! (test `savings_follow_what_is_kept`).

use std::collections::BTreeMap;
use std::path::Path;

use policy::money::PicoUsd;
use policy::prices::PriceBook;
use policy::prices::model::Rates;
use serde_json::{Value, json};
use wire::usage::Tokens;

use super::super::now;
use super::read_lines;
use crate::print::amount::{count, pico, share};
use crate::print::table::{Set, table};
use crate::tokens::O200k;

/// One model's sums.
#[derive(Default)]
struct Sums {
    sessions: u64,
    calls: u64,
    output: u64,
    hidden: u64,
    bill: PicoUsd,
    hidden_cost: PicoUsd,
}

/// Savings by model, for people and as JSON.
pub(crate) fn evaluate(file: &Path, kept_percent: u64) -> anyhow::Result<(String, Value)> {
    let mut models: BTreeMap<String, Sums> = BTreeMap::new();
    read_lines(file, |value| {
        let name = value["model"].as_str().unwrap_or_default();
        let name = name.trim_start_matches("azure-").trim_start_matches("aws-");
        let rates = PriceBook::built_in()
            .find_any(name)
            .and_then(|model| model.rates(now(), Tokens(0), None).ok());
        if let Some(rates) = rates {
            add(models.entry(name.to_owned()).or_default(), &value, &rates);
        }
        Ok(())
    })?;
    models.retain(|_, sums| sums.calls > 0);
    let saved = |sums: &Sums| saved(sums.hidden_cost, kept_percent);
    let cells = models.iter().map(|(name, sums)| {
        let hidden = PicoUsd(i128::from(sums.hidden));
        vec![
            name.clone(),
            count(sums.sessions),
            count(sums.calls),
            share(hidden, PicoUsd(i128::from(sums.output))),
            sums.bill.to_string(),
            share(sums.hidden_cost, sums.bill),
            share(saved(sums), sums.bill),
            share(PicoUsd::ZERO, sums.bill),
        ]
    });
    let heads = [
        ("model", Set::Left),
        ("sessions", Set::Right),
        ("calls", Set::Right),
        ("hidden of output", Set::Right),
        ("cached bill USD", Set::Right),
        ("ceiling", Set::Right),
        ("if opted in", Set::Right),
        ("by default", Set::Right),
    ];
    let text = table(&heads, &cells.collect::<Vec<_>>());
    let text = format!(
        "{}: estimated; opted in, a session keeps {kept_percent} % of its hidden reasoning (assumed); \
         by default calls with tools are not lowered\n{text}\n",
        file.display()
    );
    let value = models.iter().map(|(name, sums)| {
        let figures = json!({
            "estimated": true, "sessions": sums.sessions, "calls": sums.calls,
            "output_tokens": sums.output, "hidden_tokens": sums.hidden,
            "bill_pico_usd": pico(sums.bill), "ceiling_pico_usd": pico(sums.hidden_cost),
            "opted_in_pico_usd": pico(saved(sums)), "by_default_pico_usd": 0,
            "kept_percent": kept_percent,
        });
        (name.clone(), figures)
    });
    Ok((text, Value::Object(value.collect())))
}

/// What is saved of a cost if so much of it is kept.
fn saved(hidden_cost: PicoUsd, kept_percent: u64) -> PicoUsd {
    PicoUsd(hidden_cost.0 * i128::from(100_u64.saturating_sub(kept_percent)) / 100)
}

fn add(sums: &mut Sums, trajectory: &Value, rates: &Rates) {
    let steps = trajectory["steps"].as_array().map(Vec::as_slice);
    let mut before = 0;
    let mut called = false;
    for step in steps.unwrap_or_default() {
        let field = |name: &str| step["usage"][name].as_u64();
        let (Some(prompt), Some(output)) = (field("prompt"), field("completion")) else {
            continue;
        };
        let reply = step["reply"]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok());
        let reply = reply.map(|at| &trajectory["messages"][at]);
        let hidden = output.saturating_sub(reply.map_or(output, visible));
        let cost = |price: Option<policy::money::Price>, tokens: u64| {
            price.map_or(PicoUsd::ZERO, |price| price.cost(Tokens(tokens)))
        };
        let read = before.min(prompt);
        let write = rates.write_5m.or(rates.write_30m).or(rates.input);
        sums.bill = sums.bill
            + cost(rates.read.or(rates.input), read)
            + cost(write, prompt - read)
            + cost(rates.output, output);
        sums.hidden_cost += cost(rates.output, hidden);
        sums.output += output;
        sums.hidden += hidden;
        sums.calls += 1;
        called = true;
        before = prompt;
    }
    sums.sessions += u64::from(called);
}

/// Tokens of an answer that can be seen: its text and its calls.
fn visible(reply: &Value) -> u64 {
    let text = reply["content"].as_str().map_or(0, O200k::count);
    let calls = reply["tool_calls"].as_array().map(Vec::as_slice);
    let called = calls.unwrap_or_default().iter().map(|call| {
        let part = |name: &str| call["function"][name].as_str().map_or(0, O200k::count);
        part("name") + part("arguments")
    });
    text + called.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use policy::money::PicoUsd;

    use super::saved;

    #[test]
    fn savings_follow_what_is_kept() {
        for (kept, expect) in [(100, 0), (50, 400), (0, 800), (101, 0)] {
            assert_eq!(saved(PicoUsd(800), kept), PicoUsd(expect), "{kept} % kept");
        }
    }
}
