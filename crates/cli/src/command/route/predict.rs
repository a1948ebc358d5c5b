//! `tokenwise route predict`: one row a query, to be scored by any evaluator.
//!
//! **Invariant**: a row's prediction does not use its own outcome (test
//! `predictions_do_not_see_their_outcomes` in `tests/it`).

use anyhow::bail;
use learn::corpus::Corpus;
use learn::outcome::is_adequate;
use learn::trial::{Knows, Trained, calibrated, halves, pairs, targets};
use learn::{calibrate::Platt, pool};
use serde_json::json;

use super::{PredictArguments, data};
use crate::print;

/// The split that probabilities are calibrated on; its own rows, on their other half.
const CALIBRATED_ON: &str = "dev";

pub(super) fn run(arguments: &PredictArguments) -> anyhow::Result<()> {
    let folder = data::folder(&arguments.at.data)?;
    let suite = data::suite(&folder, &arguments.suite)?;
    let train = suite.rows(&folder, "train")?;
    let rows = suite.rows(&folder, &arguments.at.split)?;
    if train.is_empty() || rows.is_empty() {
        bail!(
            "`{}` has {} rows to train on and {} in `{}`; both are needed",
            suite.name,
            train.len(),
            rows.len(),
            arguments.at.split
        );
    }
    let knows = if arguments.text_only {
        Knows::Text
    } else {
        Knows::Segment
    };
    let seed = arguments.at.seed;
    let mut bar = data::bar(&suite.name);
    let mut text = String::new();
    if matches!(suite.compared, data::Compared::Pool(_)) {
        let (train, names) = pool::complete(train, &suite.targets());
        let (rows, _) = pool::complete(rows, &names);
        let trained = Trained::new(&train, &rows, seed, &names, &mut bar);
        let knobs = pool::choices(&trained, rows.len(), names.len(), knows);
        for (knob, chosen) in knobs.iter().enumerate() {
            for (row, chosen) in rows.iter().zip(chosen) {
                let line = json!({"id": row.id, "knob": knob, "model_choice": names[*chosen]});
                put!(text, "{line}\n");
            }
        }
        return print::out(&text);
    }
    let trained = Trained::new(&train, &rows, seed, &targets(), &mut bar);
    let corpus = Corpus::new(&rows);
    let said = trained.adequate(knows);
    let probabilities = if arguments.at.split == CALIBRATED_ON {
        calibrated(&said, &pairs(&corpus, &rows), &halves(&corpus, seed))
    } else {
        let others = suite.rows(&folder, CALIBRATED_ON)?;
        let known = trained.model.clone();
        let (mut before, mut truth) = (Vec::new(), Vec::new());
        let seen = Corpus::new(&others);
        for (row, pair) in pairs(&seen, &others).iter().enumerate() {
            let segment = match knows {
                Knows::Text => None,
                Knows::Segment => Some(seen.segment(row)),
            };
            before.push(known.estimates(&seen.features(row), segment)[1].adequate);
            truth.push(is_adequate(pair.weak, pair.strong));
        }
        let fit = Platt::fit(&before, &truth);
        said.iter().map(|it| fit.at(*it)).collect()
    };
    let scores = trained.scores(knows, arguments.rank.rank());
    for ((row, score), probability) in rows.iter().zip(scores).zip(probabilities) {
        let line = json!({"id": row.id, "score_strong_needed": score, "p_weak_ok": probability});
        put!(text, "{line}\n");
    }
    print::out(&text)
}
