//! What thinking was seen to cost, and where it gained nothing: `tokenwise report --thinking`.
//!
//! **Invariant**: a call counts as lowered only if the lever acted on it; what it would have done is
//! no evidence (test `only_acts_count_as_lowered`).

use std::collections::HashMap;

use policy::ports::CallId;
use policy::ports::read::StoredCall;
use policy::sketch::Sketch;
use policy::think::class::Class;
use policy::think::decide::Why;
use policy::think::observed::{Arm, CALLS_MIN, Observed, Outcome, Outcomes, Seen};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::print::amount::count;
use crate::print::table::{Set, table};

/// A score from here on counts as a good answer.
const GOOD: f64 = 0.5;

/// Stands for calls that no route of the configuration has taken.
const NO_ROUTE: &str = "–";

/// The permilles that are shown.
const SHOWN: [u64; 3] = [500, 900, 990];

/// What the notes of a call say of its thinking.
#[derive(Debug, Deserialize)]
struct Notes {
    think: Option<Think>,
    route: Option<Route>,
}

#[derive(Debug, Deserialize)]
struct Think {
    lever: String,
    effort: Option<String>,
    class: String,
    why: String,
}

#[derive(Debug, Deserialize)]
struct Route {
    name: String,
}

/// Adds a call, if the think lever looked at it and it was answered. `scores` are those of outcomes.
pub(super) fn add(observed: &mut Observed, call: &StoredCall, scores: &HashMap<CallId, f64>) {
    let Some(settled) = &call.settled else {
        return;
    };
    let Ok(Notes { think, route }) = serde_json::from_str(&settled.notes) else {
        return;
    };
    let Some((think, leg)) = think.zip(settled.legs.last()) else {
        return;
    };
    let Some(class) = Class::named(&think.class) else {
        return;
    };
    // What a client asked for is neither the model's default nor the lever's doing.
    if think.why == Why::Client.to_string() {
        return;
    }
    let arm = if think.lever == "on" && think.effort.is_some() {
        Arm::Lowered
    } else {
        Arm::Full
    };
    let outcome = match scores.get(&call.opened.call) {
        Some(score) if *score >= GOOD => Outcome::Good,
        Some(_) => Outcome::Bad,
        None => Outcome::Unknown,
    };
    let route = route.map_or(NO_ROUTE.to_owned(), |route| route.name);
    observed.add(&route, class, arm, leg.usage.reasoning, outcome);
}

pub(super) fn json(observed: &Observed) -> Value {
    let arm = |sketch: &Sketch, outcomes: Outcomes| {
        let [p50, p90, p99] = SHOWN.map(|permille| sketch.quantile(permille));
        json!({
            "calls": sketch.total(), "reasoning_tokens": {"p50": p50, "p90": p90, "p99": p99},
            "outcomes": outcomes.known, "good": outcomes.good,
        })
    };
    let seen = observed.seen().map(|(route, class, seen)| {
        json!({
            "route": route, "class": class.name(),
            "full": arm(&seen.full, seen.full_outcomes),
            "lowered": arm(&seen.lowered, seen.lowered_outcomes),
            "gain": seen.gain(),
        })
    });
    let overthinking = observed.overthinking().into_iter().map(|it| {
        json!({
            "route": it.route, "class": it.class.name(), "median_reasoning_tokens": it.median,
            "gain": it.gain,
        })
    });
    json!({
        "thinking": seen.collect::<Vec<_>>(),
        "overthinking": overthinking.collect::<Vec<_>>(),
    })
}

pub(super) fn text(observed: &Observed) -> String {
    let heads = [
        ("route", Set::Left),
        ("questions", Set::Left),
        ("effort", Set::Left),
        ("calls", Set::Right),
        ("tokens p50", Set::Right),
        ("p90", Set::Right),
        ("p99", Set::Right),
        ("judged", Set::Right),
        ("good", Set::Right),
    ];
    let rows: Vec<Vec<String>> = observed.seen().flat_map(rows).collect();
    if rows.is_empty() {
        return "no call in the ledger that matches was looked at by the think lever; it looks at \
                models that are known to think, unless a route's `think` is \"off\"\n"
            .to_owned();
    }
    let mut text = table(&heads, &rows);
    text.push('\n');
    let overthinking = observed.overthinking();
    for it in &overthinking {
        put!(
            text,
            "overthinking: {} questions of route {} think with {} tokens at the median and gain {:.1} points of good answers over less thinking\n",
            it.class.name(),
            it.route,
            count(it.median),
            100.0 * it.gain
        );
    }
    if observed.seen().all(|(_, _, seen)| seen.gain().is_none()) {
        put!(
            text,
            "whether thinking gains anything is not known: that takes {CALLS_MIN} judged calls with and as many without full thinking (`POST /v1/feedback`)\n"
        );
    } else if overthinking.is_empty() {
        text.push_str("no kind of question was seen to think much for nothing\n");
    }
    text
}

fn rows((route, class, seen): (&str, Class, &Seen)) -> Vec<Vec<String>> {
    let arms = [
        ("default", &seen.full, seen.full_outcomes),
        ("lowered", &seen.lowered, seen.lowered_outcomes),
    ];
    let row = |(name, sketch, outcomes): (&str, &Sketch, Outcomes)| {
        let quantile = |permille| sketch.quantile(permille).map_or(String::new(), count);
        let good = match outcomes.known {
            0 => String::new(),
            _ => format!("{:.1} %", 100.0 * outcomes.share()),
        };
        let words = [route, class.name(), name].map(str::to_owned);
        let [p50, p90, p99] = SHOWN.map(quantile);
        let figures = [
            count(sketch.total()),
            p50,
            p90,
            p99,
            count(outcomes.known),
            good,
        ];
        words.into_iter().chain(figures).collect()
    };
    let arms = arms.into_iter().filter(|(_, sketch, _)| sketch.total() > 0);
    arms.map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use policy::ports::CallId;
    use policy::ports::read::StoredCall;
    use policy::think::observed::Observed;
    use wire::usage::{Tokens, Usage};

    use super::super::stored;
    use super::{add, json, text};

    fn call(number: u64, think: &str, reasoning: u64) -> StoredCall {
        let notes = format!(r#"{{"think":{think},"route":{{"name":"r"}}}}"#);
        let usage = Usage {
            reasoning: Tokens(reasoning),
            output: Tokens(reasoning),
            ..Usage::default()
        };
        stored::call(number, notes, usage)
    }

    #[test]
    fn only_acts_count_as_lowered() {
        let mut observed = Observed::default();
        let scores: HashMap<CallId, f64> =
            (0..400).map(|it| (CallId(it.to_string()), 1.0)).collect();
        let easy = |lever: &str, effort: &str| {
            format!(r#"{{"lever":"{lever}",{effort}"class":"lookup","why":"easy"}}"#)
        };
        for number in 0..100 {
            let low = r#""effort":"low","#;
            add(&mut observed, &call(number, &easy("on", low), 40), &scores);
            add(
                &mut observed,
                &call(100 + number, &easy("observe", low), 2_000),
                &scores,
            );
            add(
                &mut observed,
                &call(200 + number, &easy("on", ""), 2_000),
                &scores,
            );
        }
        let clients =
            r#"{"lever":"on","class":"lookup","why":"the client says how hard to think"}"#;
        add(&mut observed, &call(300, clients, 9), &scores);
        let document = json(&observed);
        assert_eq!(document["thinking"][0]["lowered"]["calls"], 100);
        assert_eq!(document["thinking"][0]["full"]["calls"], 200);
        assert_eq!(document["overthinking"][0]["class"], "lookup");
        let shown = text(&observed);
        assert!(
            shown.contains("overthinking: lookup questions of route r"),
            "{shown}"
        );
        assert!(text(&Observed::default()).contains("was looked at"));
    }
}
