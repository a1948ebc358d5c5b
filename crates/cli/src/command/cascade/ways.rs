//! The way of each call by what is known beforehand, on recorded outcomes of pairs of targets.
//!
//! **Invariant**: routers are trained on the training split; what calibrates them and what they promise
//! comes from the other half of the measured rows (test `figures_are_shown_beside_each_other`).

use std::path::Path;

use learn::cascade::ways::{Arm, Figures, Foreseen, Judge, evaluate};
use learn::corpus::Corpus;
use learn::floor::promised_threshold;
use learn::measure::Pair;
use learn::trial::{Knows, Trained, calibrated, halves, pairs, targets};
use policy::route::predictor::Rank;
use serde_json::{Value, json};

use super::super::route::data;
use super::shown::{between, share, verdict};
use super::{Eval, STREAMS};
use crate::print;
use crate::print::table::{Set, table};

/// Judges that are drawn: one that is always right, the middling one of facts, and one that accepts
/// nearly whatever comes, as a mere look at the form does.
const JUDGES: [(&str, Judge); 3] = [
    ("right", [1.0, 0.0]),
    ("0.8/0.2", [0.8, 0.2]),
    ("0.98/0.9", [0.98, 0.9]),
];

/// The share of the stronger target's quality that is to be kept.
const QUALITY: f64 = 0.95;

/// One suite under one judge.
pub(super) struct ByWay {
    suite: String,
    judge: &'static str,
    rows: usize,
    figures: Figures,
}

/// Measures every suite of two targets.
pub(super) fn by_way(folder: &Path, arguments: &Eval) -> anyhow::Result<Vec<ByWay>> {
    let mut found = Vec::new();
    if !folder.join("suites.json").is_file() {
        return Ok(found);
    }
    let suites = data::suites(folder)?;
    for suite in suites
        .iter()
        .filter(|it| STREAMS.contains(&it.name.as_str()))
    {
        let (train, measured) = (
            suite.rows(folder, "train")?,
            suite.rows(folder, &arguments.split)?,
        );
        if train.is_empty() || measured.is_empty() {
            print::note(&format!("{}: no rows here; left out", suite.name));
            continue;
        }
        let mut bar = data::bar(&suite.name);
        let trained = Trained::new(&train, &measured, arguments.seed, &targets(), &mut bar);
        let corpus = Corpus::new(&measured);
        let pairs = pairs(&corpus, &measured);
        let half = halves(&corpus, arguments.seed);
        let adequate = calibrated(&trained.adequate(Knows::Segment), &pairs, &half);
        let kept = kept(&pairs, &trained.scores(Knows::Segment, Rank::Dollar), &half);
        let foreseen = Foreseen {
            adequate: &adequate,
            kept: &kept,
            quality: QUALITY,
        };
        for (judge, shares) in JUDGES {
            found.push(ByWay {
                suite: suite.name.clone(),
                judge,
                rows: pairs.len(),
                figures: evaluate(&pairs, foreseen, shares, arguments.seed, arguments.draws),
            });
        }
    }
    Ok(found)
}

/// Of each row, whether the promise that the other half gives vouches for the weaker target.
fn kept(pairs: &[Pair], scores: &[f64], half: &[usize]) -> Vec<bool> {
    let threshold = |from: usize| {
        let rows = (0..pairs.len()).filter(|row| half[*row] == from);
        let (pairs, scores): (Vec<Pair>, Vec<f64>) =
            rows.map(|row| (pairs[row], scores[row])).unzip();
        promised_threshold(&pairs, &scores, QUALITY)
    };
    let thresholds = [threshold(0), threshold(1)];
    let rows = scores.iter().zip(half);
    rows.map(|(score, half)| *score < thresholds[1 - half])
        .collect()
}

/// What to think of the saving: one over a cascade that breaks the promise is none.
fn outcome(figures: &Figures) -> &'static str {
    if figures.always.quality < QUALITY {
        "the cascade breaks the promise"
    } else {
        verdict(figures.saved)
    }
}

/// The ways of deciding by name.
fn arms(figures: &Figures) -> [(&'static str, &Arm); 3] {
    [
        ("cascade", &figures.always),
        ("router", &figures.routed),
        ("chosen", &figures.chosen),
    ]
}

pub(super) fn text(found: &[ByWay]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let heads = [
        ("suite", Set::Left),
        ("judge", Set::Left),
        ("decides", Set::Left),
        ("quality", Set::Right),
        ("95 %", Set::Right),
        ("cost", Set::Right),
        ("95 %", Set::Right),
        ("wasted", Set::Right),
        ("straight", Set::Right),
        ("judged", Set::Right),
        ("unjudged", Set::Right),
        ("saved over the cascade", Set::Right),
        ("", Set::Left),
    ];
    let mut rows = Vec::new();
    for it in found {
        for (decides, arm) in arms(&it.figures) {
            let mut row = vec![
                it.suite.clone(),
                it.judge.to_owned(),
                decides.to_owned(),
                share(arm.quality),
                between(arm.quality_interval),
                share(arm.cost),
                between(arm.cost_interval),
                share(arm.wasted),
            ];
            row.extend(arm.ways.map(share));
            if decides == "chosen" {
                row.push(between(it.figures.saved));
                row.push(outcome(&it.figures).to_owned());
            }
            rows.push(row);
        }
    }
    format!(
        "The way of each call at {QUALITY} of the stronger target's quality; judges are drawn, by the \
         shares of adequate and of other answers that they accept; shares of always asking the \
         stronger target\n{}\n",
        table(&heads, &rows)
    )
}

pub(super) fn json(found: &[ByWay]) -> Value {
    let arm = |arm: &Arm| {
        json!({
            "quality": arm.quality, "quality_interval": arm.quality_interval,
            "cost": arm.cost, "cost_interval": arm.cost_interval, "wasted": arm.wasted,
            "straight_judged_unjudged": arm.ways,
        })
    };
    let one = |it: &ByWay| {
        let [cascade, router, chosen] = arms(&it.figures).map(|(_, it)| arm(it));
        json!({
            "suite": it.suite, "judge": it.judge, "rows": it.rows, "quality": QUALITY,
            "cascade": cascade, "router": router, "chosen": chosen,
            "saved_interval": it.figures.saved, "verdict": outcome(&it.figures),
        })
    };
    found.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use learn::cascade::ways::{Arm, Figures};

    use super::{ByWay, json, text};

    #[test]
    fn figures_are_shown_beside_each_other() {
        let arm = |cost: f64| Arm {
            quality: 0.97,
            cost,
            ..Arm::default()
        };
        let found = [ByWay {
            suite: "s".to_owned(),
            judge: "right",
            rows: 9,
            figures: Figures {
                always: arm(0.5),
                routed: arm(0.6),
                chosen: arm(0.4),
                saved: [0.05, 0.15],
            },
        }];
        let shown = text(&found);
        assert!(shown.contains("0.050…0.150  pays"), "{shown}");
        assert_eq!(json(&found)[0]["chosen"]["cost"], 0.4);
        let [mut broken] = found;
        broken.figures.always.quality = 0.94;
        assert!(text(&[broken]).contains("breaks the promise"));
        assert!(text(&[]).is_empty());
    }
}
