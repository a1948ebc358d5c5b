//! The figures of cascades as tables and as JSON.
//!
//! **Invariant**: a cascade is said to pay only where the whole interval of what it saves is above
//! nothing (test `a_cascade_pays_only_where_it_is_shown_to`).

use learn::cascade::{agreement, signals};
use learn::online::{self, OUTCOMES};
use learn::trial::Interval;
use serde_json::{Value, json};

use super::{ByAgreement, BySignals, SIGNAL_TARGETS, VERIFICATIONS};
use crate::print::table::{Set, table};

/// Whether a cascade pays, by the interval of what it saves.
pub(super) fn verdict([low, high]: Interval) -> &'static str {
    if low > 0.0 {
        "pays"
    } else if high < 0.0 {
        "does not pay"
    } else {
        "not shown"
    }
}

pub(super) fn share(share: f64) -> String {
    if share.is_nan() {
        return "–".to_owned();
    }
    format!("{share:.3}")
}

pub(super) fn between([low, high]: Interval) -> String {
    format!("{}…{}", share(low), share(high))
}

pub(super) fn signals(found: &BySignals) -> String {
    let prices = found.prices;
    let [(_, weak), (_, strong)] = SIGNAL_TARGETS;
    let mut text = format!(
        "{weak} ({} in, {} out, USD per million tokens), then {strong} ({} in, {} out; hidden \
         reasoning was not recorded).\nCosts and qualities are shares of always asking {strong}; \
         self-verification is charged as {VERIFICATIONS} more calls of {weak}.\n\n",
        prices.weak_input, prices.weak_output, prices.strong_input, prices.strong_output,
    );
    let heads = [
        ("set", Set::Left),
        ("reads", Set::Left),
        ("area", Set::Right),
        ("95 %", Set::Right),
        ("cost@95", Set::Right),
        ("mix@95", Set::Right),
        ("saved, 95 %", Set::Right),
        ("", Set::Left),
        ("chosen", Set::Right),
        ("quality", Set::Right),
        ("cost", Set::Right),
        ("mix", Set::Right),
        ("foreseen off by", Set::Right),
    ];
    for (prompt_tokens, figures) in &found.figures {
        put!(text, "questions of {prompt_tokens} tokens\n");
        let row = |it: &signals::Figures| {
            vec![
                it.set.clone(),
                it.reads.name().to_owned(),
                share(it.area),
                between(it.area_interval),
                share(it.cost[0]),
                share(it.single[0]),
                between(it.saved),
                verdict(it.saved).to_owned(),
                format!("{} of 2", it.transferred.cascades),
                share(it.transferred.quality),
                share(it.transferred.cost),
                share(it.transferred.single),
                it.transferred.off.map(share).join(" / "),
            ]
        };
        let rows: Vec<Vec<String>> = figures.iter().map(row).collect();
        put!(text, "{}\n", table(&heads, &rows));
    }
    let row = |it: &signals::Calibrated| vec![it.set.clone(), share(it.error)];
    let rows: Vec<Vec<String>> = found.calibration.iter().map(row).collect();
    let heads = [
        ("log-probability, calibrated on the other half", Set::Left),
        ("error", Set::Right),
    ];
    put!(text, "{}\n", table(&heads, &rows));
    text
}

pub(super) fn signals_json(found: &BySignals) -> Value {
    let prices = found.prices;
    let one = |prompt_tokens: u32, it: &signals::Figures| {
        json!({
            "set": it.set,
            "reads": it.reads.name(),
            "prompt_tokens": prompt_tokens,
            "rows": it.rows,
            "quality_strong": it.quality[0],
            "quality_weak": it.quality[1],
            "cost_weak": it.weak_cost,
            "area": it.area,
            "area_interval": it.area_interval,
            "cost_at_95_97_99": it.cost,
            "mix_at_95_97_99": it.single,
            "saved_at_95_interval": it.saved,
            "verdict": verdict(it.saved),
            "transferred": {
                "cascades_of_2": it.transferred.cascades,
                "quality": it.transferred.quality,
                "cost": it.transferred.cost,
                "mix": it.transferred.single,
                "cost_and_quality_foreseen_off_by": it.transferred.off,
            },
        })
    };
    let figures = found.figures.iter();
    let figures =
        figures.flat_map(|(prompt_tokens, all)| all.iter().map(|it| one(*prompt_tokens, it)));
    json!({
        "usd_per_million_tokens": {
            "weak_input": prices.weak_input,
            "weak_output": prices.weak_output,
            "strong_input": prices.strong_input,
            "strong_output": prices.strong_output,
        },
        "verifications": VERIFICATIONS,
        "figures": figures.collect::<Vec<_>>(),
        "calibration_error": found.calibration.iter()
            .map(|it| json!({"set": it.set, "error": it.error})).collect::<Vec<_>>(),
    })
}

/// `a + b → c`: who votes, and who decides.
fn named(cascade: &agreement::Cascade, targets: &[String]) -> String {
    let names: Vec<&str> = cascade
        .targets()
        .iter()
        .filter_map(|target| targets.get(*target).map(String::as_str))
        .collect();
    match names.split_last() {
        Some((last, voters)) => format!("{} → {last}", voters.join(" + ")),
        None => String::new(),
    }
}

pub(super) fn agreement(found: &ByAgreement) -> String {
    let heads = [
        ("asked", Set::Right),
        ("cascade", Set::Left),
        ("quality", Set::Right),
        ("cost", Set::Right),
        ("wasted", Set::Right),
        ("mix", Set::Right),
        ("router", Set::Right),
        ("saved", Set::Right),
        ("95 %", Set::Right),
        ("", Set::Left),
    ];
    let row = |it: &agreement::Figures| {
        let Some(cascade) = &it.cascade else {
            let none = "none is cheaper than a single call".to_owned();
            return vec![share(it.asked), none];
        };
        let beyond = if it.is_beyond {
            ", beyond any single call"
        } else {
            ""
        };
        vec![
            share(it.asked),
            named(cascade, &found.targets),
            share(it.quality),
            share(it.cost),
            share(it.wasted),
            share(it.mix),
            it.router.map_or_else(|| "–".to_owned(), share),
            share(it.saved),
            between(it.interval),
            format!("{}{beyond}", verdict(it.interval)),
        ]
    };
    let rows: Vec<Vec<String>> = found.figures.iter().map(row).collect();
    format!(
        "{}: agreement, chosen on {} questions and measured on {}; shares of the best single target\n{}\n",
        found.set,
        found.trained,
        found.measured,
        table(&heads, &rows)
    )
}

pub(super) fn agreement_json(found: &ByAgreement) -> Value {
    let one = |it: &agreement::Figures| {
        json!({
            "asked": it.asked,
            "cascade": it.cascade.as_ref().map(|cascade| named(cascade, &found.targets)),
            "quality": it.quality,
            "cost": it.cost,
            "wasted": it.wasted,
            "mix": it.mix,
            "router": it.router,
            "beyond_any_single_call": it.is_beyond,
            "saved": it.saved,
            "interval": it.interval,
            "verdict": it.cascade.as_ref().map(|_| verdict(it.interval)),
        })
    };
    json!({
        "set": found.set,
        "trained": found.trained,
        "measured": found.measured,
        "figures": found.figures.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Suites by name, with the figures of every worth.
type Streams = [(String, Vec<online::Figures>)];

/// The middle of one regret over all suites and worths: where targets hardly differ, a share of
/// their difference says nothing, and would rule a mean.
fn median(found: &Streams, of: Regret) -> f64 {
    let all = found.iter().flat_map(|(_, figures)| figures);
    let mut all: Vec<f64> = all.map(of).collect();
    all.sort_by(f64::total_cmp);
    let (low, high) = (all.len().saturating_sub(1) / 2, all.len() / 2);
    match (all.get(low), all.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// The mean of one regret over all suites and worths.
fn mean(found: &Streams, of: Regret) -> f64 {
    let all = found.iter().flat_map(|(_, figures)| figures);
    let (sum, count) = all.fold((0.0, 0.0), |(sum, count), it| (sum + of(it), count + 1.0));
    sum / count
}

/// A way to put many regrets into one.
type Summary = fn(&Streams, Regret) -> f64;

/// One way to count what was lost.
type Regret = fn(&online::Figures) -> f64;

/// The regrets and how they are called.
const REGRETS: [(&str, Regret); 4] = [
    ("of value", online::Figures::regret_single),
    ("of lead", online::Figures::regret_of_lead),
    ("of value, by kind", online::Figures::regret_by_kind),
    ("of lead, by kind", online::Figures::regret_of_lead_by_kind),
];

pub(super) fn online(found: &Streams) -> String {
    let [value, lead, value_by_kind, lead_by_kind] = REGRETS.map(|(name, _)| (name, Set::Right));
    let heads = [
        ("suite", Set::Left),
        ("rows", Set::Right),
        ("worth", Set::Right),
        ("learner", Set::Right),
        ("best target", Set::Right),
        ("best by kind", Set::Right),
        ("random", Set::Right),
        value,
        lead,
        value_by_kind,
        lead_by_kind,
    ];
    let row = |name: &str, it: &online::Figures| {
        let mut cells = vec![
            name.to_owned(),
            it.rows.to_string(),
            format!("{:.0}", it.worth),
        ];
        cells.extend(
            [it.value, it.single, it.by_kind, it.random].map(|value| format!("{value:.3}")),
        );
        cells.extend(REGRETS.map(|(_, of)| share(of(it))));
        cells
    };
    let mut rows: Vec<Vec<String>> = found
        .iter()
        .flat_map(|(name, figures)| figures.iter().map(|it| row(name, it)))
        .collect();
    let mut summary = |name: &str, over: Summary| {
        let mut last = vec![name.to_owned()];
        last.resize(7, String::new());
        last.extend(REGRETS.map(|(_, of)| share(over(found, of))));
        rows.push(last);
    };
    summary("mean", mean);
    summary("median", median);
    format!(
        "Regret over the first {OUTCOMES} outcomes; values are a call's, in mean costs of the stronger \
         target; `worth` is that of an adequate answer.\n{}",
        table(&heads, &rows)
    )
}

pub(super) fn online_json(found: &Streams) -> Value {
    let one = |it: &online::Figures| {
        json!({
            "worth": it.worth,
            "rows": it.rows,
            "value": it.value,
            "best_target": it.single,
            "best_by_kind": it.by_kind,
            "random": it.random,
            "regret": REGRETS.map(|(name, of)| json!({"share": name, "regret": of(it)})),
        })
    };
    let suites = found.iter().map(|(name, figures)| {
        json!({"suite": name, "figures": figures.iter().map(one).collect::<Vec<_>>()})
    });
    json!({
        "outcomes": OUTCOMES,
        "suites": suites.collect::<Vec<_>>(),
        "mean": REGRETS.map(|(name, of)| json!({"share": name, "regret": mean(found, of)})),
        "median": REGRETS.map(|(name, of)| json!({"share": name, "regret": median(found, of)})),
    })
}

#[cfg(test)]
mod tests {
    use super::{named, verdict};
    use learn::cascade::agreement::Cascade;

    #[test]
    fn a_cascade_pays_only_where_it_is_shown_to() {
        for (interval, expect) in [
            ([0.01, 0.2], "pays"),
            ([-0.01, 0.2], "not shown"),
            ([-0.2, -0.01], "does not pay"),
            ([f64::NAN, f64::NAN], "not shown"),
        ] {
            assert_eq!(verdict(interval), expect, "{interval:?}");
        }
        let targets = ["a", "b", "c"].map(str::to_owned);
        let cascade = Cascade::Two {
            voters: [0, 1],
            last: 2,
        };
        assert_eq!(named(&cascade, &targets), "a + b → c");
    }
}
