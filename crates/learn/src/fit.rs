//! Fit: from rows to a model: words, then trees that read them, then lines that say how far the trees
//! are believed, with and without the segment.
//!
//! **Invariant**: trees and lines only see outputs for rows that the part below was not trained on
//! (test `the_same_rows_give_the_same_model`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "labels are scores, counts of rows are small"
)]

use policy::route::features::STRUCTURE;
use policy::route::predictor::{Head, Linear, OUTPUTS, Predictor, Target, damped};

use crate::corpus::Corpus;
use crate::draw::folds;
use crate::linear::{self, Labels};
use crate::lines::{Beside, Lines};
use crate::outcome::{Row, is_adequate};
use crate::trees::{self, GROWTH, Grid};

/// 5: each part of the rows is predicted from the other four.
const FOLDS: usize = 5;

/// 995 of 1 000 training rows are less novel than what is called new.
const FAMILIAR_SHARE: f64 = 0.995;

/// What to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The targets, as the rows name them; the strongest is what *adequate* is measured by.
    pub targets: Vec<String>,
    /// Where all draws begin.
    pub seed: u64,
    /// What the model's card says.
    pub card: String,
}

/// Labels by row, target and output; `NAN` where unknown.
struct Truth {
    values: Vec<f32>,
    costs: Vec<f64>,
    ease: Vec<f32>,
    weights: Vec<f32>,
    width: usize,
}

/// A step of training that has ended, for those who wait.
pub type Progress<'wait> = &'wait mut dyn FnMut(&str, usize, usize);

/// A model, and what it says of the rows that it was trained on had they been left out.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The model; it promises nothing yet.
    pub model: Predictor,
    /// For each row, one raw output for each output of each target, by a model of the other folds.
    pub held_out: Vec<f32>,
}

/// Trains a model on these rows of a corpus; `rows` is what the corpus was read from.
pub fn fit(
    corpus: &Corpus,
    rows: &[Row],
    on: &[usize],
    recipe: &Recipe,
    progress: Progress<'_>,
) -> Fitted {
    let truth = Truth::new(corpus, rows, on, &recipe.targets);
    let all = folds(&corpus.groups, FOLDS, recipe.seed);
    let fold: Vec<usize> = on.iter().map(|row| all[*row]).collect();
    let words = Words::new(corpus, on, &fold, &truth.labels(), progress);
    let wood = Wood::new(&words, on, &fold, &truth, recipe.seed, progress);
    let beside = Beside {
        on,
        width: truth.width,
        labels: &truth.values,
        weights: &truth.weights,
        raw: &wood.raw,
    };
    let lines = Lines::new(corpus, &beside);
    let mut heads = wood.heads.into_iter();
    let targets = recipe
        .targets
        .iter()
        .enumerate()
        .map(|(index, name)| Target {
            name: name.clone(),
            cost_usd: truth.costs[index],
            heads: heads.by_ref().take(OUTPUTS.len()).collect(),
            lines: lines.all[index * OUTPUTS.len()..][..OUTPUTS.len()].to_vec(),
        });
    let targets = targets.collect();
    let segments = lines
        .segments
        .iter()
        .map(|(segment, lines)| (corpus.segment_names[*segment].clone(), lines.clone()));
    Fitted {
        model: Predictor {
            card: recipe.card.clone(),
            targets,
            linear: words.linear,
            segments: segments.collect(),
            novelty_max: novelty(corpus, on),
            floors: Vec::new(),
        },
        held_out: wood.raw,
    }
}

/// The text model, and what trees read of each row: its structure, and what a text model that was
/// trained without its fold says.
struct Words {
    linear: Linear,
    inputs: Vec<f32>,
    width: usize,
}

impl Words {
    fn new(
        corpus: &Corpus,
        on: &[usize],
        fold: &[usize],
        labels: &Labels,
        progress: Progress<'_>,
    ) -> Self {
        let rarity = linear::rarity(corpus, on);
        let width = STRUCTURE + labels.outputs;
        let mut inputs = vec![0.0f32; on.len() * width];
        for part in 0..FOLDS {
            let (held, seen) = split(fold, part);
            let seen: Vec<usize> = seen.iter().map(|local| on[*local]).collect();
            let model = linear::train(corpus, &seen, labels, &rarity);
            for local in held {
                let inputs = &mut inputs[local * width..][..width];
                inputs[..STRUCTURE].copy_from_slice(corpus.structure(on[local]));
                inputs[STRUCTURE..].copy_from_slice(&model.values(corpus.grams(on[local])));
            }
            progress("words", part + 1, FOLDS + 1);
        }
        let linear = linear::train(corpus, on, labels, &rarity);
        progress("words", FOLDS + 1, FOLDS + 1);
        Self {
            linear,
            inputs,
            width,
        }
    }
}

/// The trees, and the outputs for each row of trees that were grown without its fold.
struct Wood {
    heads: Vec<Head>,
    raw: Vec<f32>,
}

impl Wood {
    fn new(
        words: &Words,
        on: &[usize],
        fold: &[usize],
        truth: &Truth,
        seed: u64,
        progress: Progress<'_>,
    ) -> Self {
        let (inputs, width) = (&words.inputs, words.width);
        let grid = Grid::new(inputs, width);
        let weights: Vec<f32> = on.iter().map(|row| truth.weights[*row]).collect();
        let local: Vec<usize> = (0..on.len()).collect();
        let mut wood = Self {
            heads: Vec::new(),
            raw: vec![0.0f32; on.len() * truth.width],
        };
        for output in 0..truth.width {
            let label = |row: &usize| truth.values[row * truth.width + output];
            let labels: Vec<f32> = on.iter().map(label).collect();
            let seed = seed.wrapping_mul(1009).wrapping_add(output as u64);
            for part in 0..FOLDS {
                let (held, seen) = split(fold, part);
                let head = trees::grow(&grid, &seen, &labels, &weights, GROWTH, seed);
                for local in held {
                    wood.raw[local * truth.width + output] =
                        head.value(&inputs[local * width..][..width]);
                }
            }
            wood.heads
                .push(trees::grow(&grid, &local, &labels, &weights, GROWTH, seed));
            progress("trees", output + 1, truth.width);
        }
        wood
    }
}

/// The rows of a fold, and all others.
fn split(fold: &[usize], part: usize) -> (Vec<usize>, Vec<usize>) {
    (0..fold.len()).partition(|local| fold[*local] == part)
}

/// The novelty that few training rows would exceed, had each been left out of training.
fn novelty(corpus: &Corpus, on: &[usize]) -> f64 {
    let met = corpus.met(on);
    let of = |row: &usize| {
        let (mut new, mut all) = (0.0, 0.0);
        for (bucket, count) in corpus.grams(*row) {
            let weight = f64::from(damped(*count));
            all += weight;
            new += if met[usize::from(*bucket)] <= 1 {
                weight
            } else {
                0.0
            };
        }
        if all > 0.0 { new / all } else { 1.0 }
    };
    let mut novelties: Vec<f64> = on.iter().map(of).collect();
    novelties.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_sign_loss, reason = "a share of a count")]
    let at = (novelties.len() as f64 * FAMILIAR_SHARE) as usize;
    novelties
        .get(at)
        .or(novelties.last())
        .copied()
        .unwrap_or(1.0)
}

impl Truth {
    fn new(corpus: &Corpus, rows: &[Row], on: &[usize], targets: &[String]) -> Self {
        let width = targets.len() * OUTPUTS.len();
        let mut truth = Self {
            values: vec![f32::NAN; rows.len() * width],
            costs: Vec::new(),
            ease: rows.iter().map(|it| it.ease() as f32).collect(),
            weights: weights(corpus, on),
            width,
        };
        let strongest = strongest(rows, on, targets);
        for (index, target) in targets.iter().enumerate() {
            let cost = |row: &usize| rows[*row].outcomes.get(target).and_then(|it| it.cost_usd);
            let costs: Vec<f64> = on.iter().filter_map(cost).collect();
            let mean = (costs.iter().sum::<f64>() / costs.len().max(1) as f64).max(1e-12);
            truth.costs.push(mean);
            for row in on {
                let Some(outcome) = rows[*row].outcomes.get(target) else {
                    continue;
                };
                let values =
                    &mut truth.values[row * width + index * OUTPUTS.len()..][..OUTPUTS.len()];
                values[0] = outcome.score as f32;
                let strong = rows[*row]
                    .outcomes
                    .get(&targets[strongest])
                    .map_or(1.0, |it| it.score);
                values[1] = if is_adequate(outcome.score, strong) {
                    1.0
                } else {
                    0.0
                };
                values[2] = outcome.cost_usd.map_or(f32::NAN, |it| (it / mean) as f32);
            }
        }
        truth
    }

    /// What words are trained on: each target's score and size, and how easy the query is for all.
    fn labels(&self) -> Labels {
        let targets = self.width / OUTPUTS.len();
        let outputs = 2 * targets + 1;
        let mut values = Vec::with_capacity(self.ease.len() * outputs);
        for (row, ease) in self.ease.iter().enumerate() {
            let own = self.values[row * self.width..][..self.width].chunks(OUTPUTS.len());
            values.push(*ease);
            values.extend(own.clone().map(|it| it[0]));
            values.extend(own.map(|it| it[2].max(1e-3).ln() + 0.0 * it[2]));
        }
        Labels {
            outputs,
            values,
            weights: self.weights.clone(),
        }
    }
}

/// The target of the highest mean score.
pub fn strongest(rows: &[Row], on: &[usize], targets: &[String]) -> usize {
    let mean = |target: &String| {
        let scores = on
            .iter()
            .filter_map(|row| rows[*row].outcomes.get(target))
            .map(|it| it.score);
        scores.clone().sum::<f64>() / scores.count().max(1) as f64
    };
    let best = (0..targets.len())
        .max_by(|left, right| mean(&targets[*left]).total_cmp(&mean(&targets[*right])));
    best.unwrap_or(0)
}

/// Small segments count more than their rows, large ones less: the root of equal weights.
fn weights(corpus: &Corpus, on: &[usize]) -> Vec<f32> {
    let mut counts = vec![0usize; corpus.segment_names.len()];
    for row in on {
        counts[corpus.segments[*row]] += 1;
    }
    let met = counts.iter().filter(|it| **it > 0).count().max(1);
    let weight = |segment: &usize| {
        let even = on.len() as f64 / met as f64 / counts[*segment].max(1) as f64;
        even.sqrt().clamp(0.1, 10.0) as f32
    };
    corpus.segments.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use policy::route::predictor::format;

    use super::{Recipe, fit};
    use crate::corpus::Corpus;
    use crate::draw::Draws;
    use crate::outcome::{Outcome, Row};

    /// Hard questions need the large target; the small one is enough for `chat` whatever is asked.
    fn rows(count: usize) -> Vec<Row> {
        let mut draws = Draws::new(11);
        let row = |index: usize| {
            let (is_hard, is_chat) = (draws.below(2) == 0, draws.below(3) == 0);
            let text = if is_hard {
                "prove the theorem"
            } else {
                "say the word"
            };
            let small = if is_chat || !is_hard { 9 } else { 2 };
            let mut score = |of_ten: usize| if draws.below(10) < of_ten { 1.0 } else { 0.0 };
            let outcome = |score, cost| Outcome {
                score,
                cost_usd: Some(cost),
            };
            Row {
                id: index.to_string(),
                group: index.to_string(),
                segment: if is_chat { "chat" } else { "work" }.to_owned(),
                text: format!("{text} {}", ["today", "again", "in verse"][index % 3]),
                outcomes: [
                    ("large".to_owned(), outcome(score(9), 1.0)),
                    ("small".to_owned(), outcome(score(small), 0.1)),
                ]
                .into(),
            }
        };
        (0..count).map(row).collect()
    }

    fn recipe() -> Recipe {
        Recipe {
            targets: vec!["large".to_owned(), "small".to_owned()],
            seed: 3,
            card: String::new(),
        }
    }

    #[test]
    fn the_same_rows_give_the_same_model() {
        let rows = rows(100);
        let corpus = Corpus::new(&rows);
        let on: Vec<usize> = (0..100).collect();
        let bytes = || format::write(&fit(&corpus, &rows, &on, &recipe(), &mut |_, _, _| {}).model);
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn planted_structure_is_found() {
        let rows = rows(500);
        let corpus = Corpus::new(&rows);
        let on: Vec<usize> = (0..400).collect();
        let model = fit(&corpus, &rows, &on, &recipe(), &mut |_, _, _| {}).model;
        for (row, known) in rows.iter().enumerate().skip(400) {
            let features = corpus.features(row);
            let of = |segment| model.estimates(&features, Some(segment))[1].adequate;
            let is_hard = known.text.starts_with("prove");
            assert!(of("chat") > of("work"), "{row}");
            assert_eq!(of("work") < 0.55, is_hard, "{row}: {}", of("work"));
        }
    }
}
