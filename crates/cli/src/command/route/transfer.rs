//! `tokenwise route transfer`: what a router is worth for targets that it has never seen.
//!
//! **Invariant**: the suite that is measured is in no part of the training (test
//! `a_promise_moves_to_another_suite` in `tests/it/learn.rs`).

use learn::corpus::Corpus;
use learn::fit::Recipe;
use learn::measure::point;
use learn::teach::teach;
use learn::trial::{pairs, targets};
use policy::route::predictor::{Rank, worth};

use super::{At, data};
use crate::print;
use crate::print::table::{Set, table};

/// The promises that are tried.
const PROMISED: [f64; 2] = [0.95, 0.97];

pub(super) fn run(at: &At) -> anyhow::Result<()> {
    let folder = data::folder(&at.data)?;
    let mut lines = Vec::new();
    let suites = data::suites(&folder)?;
    let pairs_only = |it: &&data::Suite| matches!(it.compared, data::Compared::Pair(_));
    for left_out in suites.iter().filter(pairs_only) {
        let rows = left_out.rows(&folder, &at.split)?;
        let mut others = Vec::new();
        for suite in suites.iter().filter(pairs_only) {
            if suite.name != left_out.name {
                others.extend(suite.rows(&folder, "train")?);
            }
        }
        if rows.is_empty() || others.is_empty() {
            continue;
        }
        for row in &mut others {
            row.segment.clear();
        }
        let recipe = Recipe {
            targets: targets().to_vec(),
            seed: at.seed,
            card: String::new(),
        };
        let model = teach(&others, &recipe, &mut data::bar(&left_out.name)).model;
        let corpus = Corpus::new(&rows);
        let measured = pairs(&corpus, &rows);
        let score = |row: usize| {
            let features = corpus.features(row);
            let estimates = model.estimates(&features, None);
            if model.is_new(&features) {
                f64::MAX
            } else {
                worth(&estimates[0], &estimates[1], Rank::Dollar)
            }
        };
        let scores: Vec<f64> = (0..rows.len()).map(score).collect();
        for promised in PROMISED {
            let Some(floor) = model.floor("", (0, 1), promised) else {
                continue;
            };
            let point = point(&measured, &scores, floor.threshold);
            lines.push(vec![
                left_out.name.clone(),
                format!("{promised:.2}"),
                format!("{:.3}", floor.lowered),
                format!("{:.3}", 1.0 - point.share),
                format!("{:.3}", point.quality),
                format!("{:.3}", point.cost),
                format!("{:.3}", point.random_cost),
            ]);
        }
    }
    let heads = [
        ("suite left out", Set::Left),
        ("promised", Set::Right),
        ("would go", Set::Right),
        ("go", Set::Right),
        ("quality", Set::Right),
        ("cost", Set::Right),
        ("random mix", Set::Right),
    ];
    print::out(&table(&heads, &lines))
}
