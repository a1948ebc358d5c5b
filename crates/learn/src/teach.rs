//! Teach: a router for production from one's own outcomes: trained on all of them, calibrated and
//! bounded on what models that had not seen each row say of it.
//!
//! **Invariant**: a promise is judged on the rows of its own segment alone (test
//! `a_promise_is_made_where_it_can_be_kept`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use std::collections::BTreeMap;

use policy::route::predictor::{Estimate, Floor, OUTPUTS, Predictor, Rank, worth};

use crate::calibrate::{Bin, error, reliability};
use crate::corpus::Corpus;
use crate::fit::{Fitted, Progress, Recipe, fit, strongest};
use crate::floor::promised_threshold;
use crate::measure::{Pair, point};
use crate::outcome::{Row, is_adequate};
use crate::trial::BINS;

/// The shares of the stronger target's quality that promises are judged for.
pub const QUALITIES: [f64; 6] = [0.90, 0.93, 0.95, 0.97, 0.98, 0.99];

/// 12 targets: 66 pairs to be judged in each segment; beyond that, a file of outcomes mixes things
/// that no route has side by side.
pub const TARGETS_MAX: usize = 12;

/// What is known of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// As the rows name it.
    pub name: String,
    /// The rows that it answered.
    pub rows: usize,
    /// Its mean score.
    pub quality: f64,
    /// Its mean cost, in USD.
    pub cost_usd: f64,
    /// The expected calibration error of *adequate* on rows that were held out.
    pub error: f64,
    /// What was said and what came true.
    pub table: Vec<Bin>,
}

/// A promise and how it looked on the held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// The promise.
    pub floor: Floor,
    /// The rows that it was judged on.
    pub rows: usize,
    /// Mean score, as a share of always-strong.
    pub quality: f64,
    /// Cost, as a share of always-strong.
    pub cost: f64,
    /// The cost of a random mix of both targets that has the same quality, as a share.
    pub random_cost: f64,
}

/// A trained router and what is known of it.
#[derive(Clone, Debug)]
pub struct Taught {
    /// The router, its promises included.
    pub model: Predictor,
    /// Each target.
    pub targets: Vec<Judged>,
    /// Each promise, also those to send nothing down.
    pub promises: Vec<Promise>,
    /// The segments of the rows, and how many rows each has.
    pub segments: BTreeMap<String, usize>,
}

/// Trains a router.
pub fn teach(rows: &[Row], recipe: &Recipe, progress: Progress<'_>) -> Taught {
    let corpus = Corpus::new(rows);
    let on: Vec<usize> = (0..rows.len()).collect();
    let Fitted {
        mut model,
        held_out,
    } = fit(&corpus, rows, &on, recipe, progress);
    let width = model.targets.len() * OUTPUTS.len();
    let estimates: Vec<Vec<Estimate>> = held_out
        .chunks(width.max(1))
        .zip(rows)
        .map(|(raw, row)| model.lined(raw, Some(&row.segment)))
        .collect();
    let best = strongest(rows, &on, &recipe.targets);
    let held = Held {
        rows,
        corpus: &corpus,
        model: &model,
        estimates: &estimates,
    };
    let targets = (0..model.targets.len())
        .map(|target| held.judged(target, best))
        .collect();
    let promises = held.promises();
    model.floors = promises.iter().map(|it| it.floor.clone()).collect();
    let mut segments = BTreeMap::new();
    for row in rows {
        *segments.entry(row.segment.clone()).or_default() += 1;
    }
    Taught {
        model,
        targets,
        promises,
        segments,
    }
}

/// Rows with what models that had not seen them say.
struct Held<'a> {
    rows: &'a [Row],
    corpus: &'a Corpus,
    model: &'a Predictor,
    estimates: &'a [Vec<Estimate>],
}

impl Held<'_> {
    fn judged(&self, target: usize, best: usize) -> Judged {
        let name = &self.model.targets[target].name;
        let strong = &self.model.targets[best].name;
        let (mut said, mut truth, mut quality) = (Vec::new(), Vec::new(), 0.0);
        for (row, estimates) in self.rows.iter().zip(self.estimates) {
            if let Some(outcome) = row.outcomes.get(name) {
                let beside = row.outcomes.get(strong).map_or(1.0, |it| it.score);
                said.push(estimates[target].adequate);
                truth.push(is_adequate(outcome.score, beside));
                quality += outcome.score;
            }
        }
        let table = reliability(&said, &truth, BINS);
        Judged {
            name: name.clone(),
            rows: said.len(),
            quality: quality / said.len().max(1) as f64,
            cost_usd: self.model.targets[target].cost_usd,
            error: error(&table),
            table,
        }
    }

    /// For each segment, each pair of a dearer and a cheaper target, and each quality.
    fn promises(&self) -> Vec<Promise> {
        let targets = &self.model.targets;
        let mut promises = Vec::new();
        for (segment, name) in self.corpus.segment_names.iter().enumerate() {
            for strong in 0..targets.len() {
                for weak in 0..targets.len() {
                    if targets[strong].cost_usd > targets[weak].cost_usd {
                        promises.extend(self.promise((segment, name), (strong, weak)));
                    }
                }
            }
        }
        promises
    }

    fn promise(
        &self,
        (segment, name): (usize, &str),
        (strong, weak): (usize, usize),
    ) -> impl Iterator<Item = Promise> {
        let (pairs, scores) = self.pairs(segment, (strong, weak));
        let place = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
        let name = name.to_owned();
        let is_known = !pairs.is_empty();
        QUALITIES
            .into_iter()
            .filter(move |_| is_known)
            .map(move |quality| {
                let threshold = promised_threshold(&pairs, &scores, quality);
                let point = point(&pairs, &scores, threshold);
                Promise {
                    floor: Floor {
                        segment: name.clone(),
                        strong: place(strong),
                        weak: place(weak),
                        quality,
                        threshold,
                        lowered: (1.0 - point.share).clamp(0.0, 1.0),
                    },
                    rows: pairs.len(),
                    quality: point.quality,
                    cost: point.cost,
                    random_cost: point.random_cost,
                }
            })
    }

    /// The rows of a segment that both targets have answered, and what they are worth at the stronger.
    fn pairs(&self, segment: usize, (strong, weak): (usize, usize)) -> (Vec<Pair>, Vec<f64>) {
        let targets = &self.model.targets;
        let of = |row: &Row, target: usize| {
            let outcome = row.outcomes.get(&targets[target].name)?;
            Some((
                outcome.score,
                outcome.cost_usd.unwrap_or(targets[target].cost_usd),
            ))
        };
        let pair = |(at, row): (usize, &Row)| {
            let (strong_score, strong_usd) = of(row, strong)?;
            let (weak_score, weak_usd) = of(row, weak)?;
            let estimates = &self.estimates[at];
            let pair = Pair {
                strong: strong_score,
                weak: weak_score,
                strong_usd,
                weak_usd,
                segment: 0,
                group: self.corpus.groups[at],
            };
            Some((
                pair,
                worth(&estimates[strong], &estimates[weak], Rank::Dollar),
            ))
        };
        let rows = self.rows.iter().enumerate();
        let rows = rows.filter(|(at, _)| self.corpus.segments[*at] == segment);
        rows.filter_map(pair).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::teach;
    use crate::draw::Draws;
    use crate::fit::Recipe;
    use crate::outcome::{Outcome, Row};

    /// In `easy` the small target is as good as the large one; in `hard` it fails half of the time,
    /// whatever is asked.
    fn rows(count: usize) -> Vec<Row> {
        let mut draws = Draws::new(5);
        let row = |index: usize| {
            let is_easy = index.is_multiple_of(2);
            let mut score = |of_hundred: usize| {
                if draws.below(100) < of_hundred {
                    1.0
                } else {
                    0.0
                }
            };
            let outcome = |score, cost| Outcome {
                score,
                cost_usd: Some(cost),
            };
            Row {
                id: index.to_string(),
                group: index.to_string(),
                segment: if is_easy { "easy" } else { "hard" }.to_owned(),
                text: ["what is it", "where is it", "who is it"][index % 3].to_owned(),
                outcomes: [
                    ("large".to_owned(), outcome(score(95), 1.0)),
                    (
                        "small".to_owned(),
                        outcome(score(if is_easy { 97 } else { 50 }), 0.1),
                    ),
                ]
                .into(),
            }
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_promise_is_made_where_it_can_be_kept() {
        let recipe = Recipe {
            targets: vec!["large".to_owned(), "small".to_owned()],
            seed: 2,
            card: String::new(),
        };
        let model = teach(&rows(800), &recipe, &mut |_, _, _| {}).model;
        let lowered = |segment, pair, quality| {
            model
                .floor(segment, pair, quality)
                .map(|floor| floor.lowered)
        };
        assert!(lowered("easy", (0, 1), 0.95) > Some(0.9));
        assert!(lowered("hard", (0, 1), 0.95) < Some(0.1));
        assert_eq!(lowered("other", (0, 1), 0.95), None);
        assert_eq!(
            lowered("easy", (1, 0), 0.95),
            None,
            "the dearer is no saving"
        );
        assert_eq!(
            lowered("easy", (0, 1), 0.995),
            None,
            "stricter than was judged"
        );
    }
}
