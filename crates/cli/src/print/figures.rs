//! Sums of the ledger as JSON and as the arithmetic of a bill.
//!
//! **Invariant**: the lines of a bill add up to its last line, to the pico-dollar (test
//! `a_bill_adds_up`).

use policy::money::PicoUsd;
use policy::ports::Lever;
use policy::ports::read::Totals;
use serde_json::{Map, Value, json};
use wire::usage::{Ttl, Usage};

use super::amount::{count, pico, share};
use super::table::{Set, table};

/// Tokens by class as JSON.
pub(crate) fn usage(usage: &Usage) -> Value {
    let writes: Map<String, Value> = Ttl::ALL
        .iter()
        .map(|ttl| (ttl.name().to_owned(), usage.cache_write.of(*ttl).0.into()))
        .collect();
    json!({
        "input": usage.input().0,
        "uncached": usage.uncached.0,
        "cache_read": usage.cache_read.0,
        "cache_write": writes,
        "audio_input": usage.audio_input.0,
        "output": usage.output.0,
        "reasoning": usage.reasoning.0,
        "audio_output": usage.audio_output.0,
        "web_searches": usage.web_searches,
        "tier": usage.tier,
    })
}

/// Savings by lever as JSON: signed pico-dollars.
pub(crate) fn levers(savings: &std::collections::BTreeMap<Lever, PicoUsd>) -> Value {
    savings
        .iter()
        .map(|(lever, saved)| (lever.name().to_owned(), pico(*saved)))
        .collect()
}

/// A lever in a bill, and how its savings are known.
pub(crate) fn lever_label(lever: Lever) -> String {
    let how = if lever.is_estimated() {
        " (estimated from other calls)"
    } else {
        ""
    };
    format!("{} lever{how}", lever.name())
}

/// The levers whose savings are estimated from other calls.
pub(crate) fn estimated(savings: &std::collections::BTreeMap<Lever, PicoUsd>) -> Value {
    let levers = savings.keys().filter(|lever| lever.is_estimated());
    levers.map(|lever| lever.name()).collect()
}

/// Sums as JSON.
pub(crate) fn totals(totals: &Totals) -> Value {
    json!({
        "calls": totals.calls,
        "running": totals.running,
        "recovered": totals.recovered,
        "turned_away": totals.turned_away,
        "estimated": totals.estimated,
        "unpriced": totals.unpriced,
        "legs": totals.legs,
        "tokens": usage(&totals.usage),
        "cost_pico_usd": pico(totals.cost),
        "cost_compared_pico_usd": pico(totals.cost_compared),
        "untouched_pico_usd": pico(totals.untouched),
        "saved_pico_usd": pico(totals.saved()),
        "levers": levers(&totals.savings),
        "levers_estimated": estimated(&totals.savings),
    })
}

/// The lines of a bill: untouched, minus each lever, plus what could not be compared, is the cost.
pub(crate) fn bill_lines(totals: &Totals) -> Vec<(String, PicoUsd, String)> {
    let mut lines = vec![(
        "untouched (estimated)".to_owned(),
        totals.untouched,
        String::new(),
    )];
    for (lever, saved) in &totals.savings {
        let label = lever_label(*lever);
        lines.push((label, -*saved, share(-*saved, totals.untouched)));
    }
    let rest = totals.cost - totals.cost_compared;
    if rest != PicoUsd::ZERO {
        lines.push(("calls without comparison".to_owned(), rest, String::new()));
    }
    let of = share(totals.cost_compared, totals.untouched);
    let of = if rest == PicoUsd::ZERO {
        of
    } else {
        String::new()
    };
    lines.push(("cost".to_owned(), totals.cost, of));
    lines
}

/// A bill for people.
pub(crate) fn bill(totals: &Totals) -> String {
    let rows: Vec<Vec<String>> = bill_lines(totals)
        .into_iter()
        .map(|(label, amount, of)| vec![label, amount.to_string(), of])
        .collect();
    table(
        &[
            ("bill", Set::Left),
            ("USD", Set::Right),
            ("of untouched", Set::Right),
        ],
        &rows,
    )
}

/// What the reader must know about the figures, one sentence a line.
pub(crate) fn caveats(totals: &Totals) -> String {
    let mut text = String::new();
    let mut say = |number: u64, one: &str, many: &str| {
        if number > 0 {
            let what = if number == 1 { one } else { many };
            put!(text, "{} {what}\n", count(number));
        }
    };
    say(
        totals.unpriced,
        "call has an unknown cost and is missing from it; `tokenwise doctor` names its model.",
        "calls have an unknown cost and are missing from it; `tokenwise doctor` names their models.",
    );
    say(
        totals.estimated,
        "call is estimated: its provider reported no usage.",
        "calls are estimated: their providers reported no usage.",
    );
    say(
        totals.turned_away,
        "call was turned away and is not counted; `tokenwise explain` says why.",
        "calls were turned away and are not counted; `tokenwise explain` says why.",
    );
    say(
        totals.recovered,
        "call was open when the gateway was killed.",
        "calls were open when the gateway was killed.",
    );
    say(
        totals.running,
        "call is still running.",
        "calls are still running.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_adds_up() {
        let mut totals = Totals {
            cost: PicoUsd(70),
            cost_compared: PicoUsd(60),
            untouched: PicoUsd(100),
            ..Totals::default()
        };
        totals.savings.insert(Lever::Cache, PicoUsd(40));
        let lines = bill_lines(&totals);
        let sum: PicoUsd = lines
            .iter()
            .rev()
            .skip(1)
            .map(|(_, amount, _)| *amount)
            .sum();
        assert_eq!(Some(sum), lines.last().map(|(_, amount, _)| *amount));
        assert_eq!(totals.saved(), totals.untouched - totals.cost_compared);
        assert_eq!(lines.len(), 4);
    }
}
