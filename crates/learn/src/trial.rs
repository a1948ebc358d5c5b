//! Trial: a router trained on one part of the outcomes and measured on another, beside what it must
//! beat.
//!
//! **Invariant**: nothing is trained on the rows that are measured; thresholds and calibration come
//! from the other half of them (test `a_planted_suite_is_routed_below_random`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use policy::route::predictor::{Estimate, Predictor, Rank, worth};

use crate::calibrate::{Bin, Platt, error, reliability};
use crate::corpus::Corpus;
use crate::draw::{Draws, folds};
use crate::fit::{Progress, Recipe, fit};
use crate::floor::{Kept, kept};
use crate::linear;
use crate::measure::{Figures, Pair, Point, QUALITIES, figures, oracle, point, threshold, weights};
use crate::neighbours;
use crate::outcome::{Row, is_adequate};

/// What the stronger target of a suite is called in its rows.
pub const STRONG: &str = "strong";

/// What the weaker target of a suite is called in its rows.
pub const WEAK: &str = "weak";

/// 15 bins, as the published calibration errors have.
pub const BINS: usize = 15;

/// 200 splits, as the promise is stated.
const SPLITS: usize = 200;

/// The share of the strong quality that is promised in [`Contender::promises`].
pub const PROMISES: [f64; 3] = [0.95, 0.97, 0.99];

/// What a router may know besides the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    /// Nothing.
    Text,
    /// The kind of traffic.
    Segment,
}

/// A model, and what it says of the rows to measure.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model.
    pub model: Predictor,
    /// Of each row: the raw outputs.
    raw: Vec<Vec<f32>>,
    /// Of each row: whether it is unlike the training rows.
    pub is_new: Vec<bool>,
    segments: Vec<String>,
}

impl Trained {
    /// Trains on `train` and reads `measured`.
    pub fn new(
        train: &[Row],
        measured: &[Row],
        seed: u64,
        targets: &[String],
        progress: Progress<'_>,
    ) -> Self {
        let corpus = Corpus::new(train);
        let on: Vec<usize> = (0..train.len()).collect();
        let recipe = Recipe {
            targets: targets.to_vec(),
            seed,
            card: String::new(),
        };
        let model = fit(&corpus, train, &on, &recipe, progress).model;
        let (mut raw, mut is_new) = (Vec::new(), Vec::new());
        let seen = Corpus::new(measured);
        for row in 0..measured.len() {
            let features = seen.features(row);
            raw.push(model.raw(&features));
            is_new.push(model.is_new(&features));
        }
        let segments = measured.iter().map(|it| it.segment.clone()).collect();
        Self {
            model,
            raw,
            is_new,
            segments,
        }
    }

    /// What the model expects of each target on a row.
    pub fn estimates(&self, row: usize, knows: Knows) -> Vec<Estimate> {
        let segment = match knows {
            Knows::Text => None,
            Knows::Segment => Some(self.segments[row].as_str()),
        };
        self.model.lined(&self.raw[row], segment)
    }

    /// For a suite of two targets: how much each row needs the stronger; what is new needs it most.
    pub fn scores(&self, knows: Knows, rank: Rank) -> Vec<f64> {
        let score = |row: usize| {
            let estimates = self.estimates(row, knows);
            if self.is_new[row] {
                f64::MAX
            } else {
                worth(&estimates[0], &estimates[1], rank)
            }
        };
        (0..self.raw.len()).map(score).collect()
    }

    /// For a suite of two targets: the probability that the weaker is adequate.
    pub fn adequate(&self, knows: Knows) -> Vec<f64> {
        (0..self.raw.len())
            .map(|row| self.estimates(row, knows)[1].adequate)
            .collect()
    }
}

/// The targets of a suite, the stronger first.
pub fn targets() -> [String; 2] {
    [STRONG.to_owned(), WEAK.to_owned()]
}

/// The outcomes of a suite's rows.
pub fn pairs(corpus: &Corpus, rows: &[Row]) -> Vec<Pair> {
    let pair = |(index, row): (usize, &Row)| {
        let of = |name: &str| row.outcomes.get(name).copied().unwrap_or_default();
        let (strong, weak) = (of(STRONG), of(WEAK));
        Pair {
            strong: strong.score,
            weak: weak.score,
            strong_usd: strong.cost_usd.unwrap_or(0.0),
            weak_usd: weak.cost_usd.unwrap_or(0.0),
            segment: corpus.segments[index],
            group: corpus.groups[index],
        }
    };
    rows.iter().enumerate().map(pair).collect()
}

/// Which half of the measured rows each is in, by group.
pub fn halves(corpus: &Corpus, seed: u64) -> Vec<usize> {
    folds(&corpus.groups, 2, seed)
}

/// An interval that holds 95 of 100 resamples.
pub type Interval = [f64; 2];

/// One router's figures on one suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// What it is.
    pub name: String,
    /// With thresholds set on the measured rows.
    pub figures: Figures,
    /// Of the area over calls, and of the cost at 95 %.
    pub intervals: [Interval; 2],
    /// With thresholds from the other half, for each of [`QUALITIES`]; the mean of both halves.
    pub transferred: [Point; 3],
    /// Of the transferred cost at 95 %.
    pub transferred_interval: Interval,
    /// For each of [`PROMISES`].
    pub promises: [Kept; 3],
}

/// How probabilities fared.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// What the router knew.
    pub name: String,
    /// The expected calibration error over [`BINS`].
    pub error: f64,
    /// Of the error.
    pub interval: Interval,
    /// The mean squared error.
    pub brier: f64,
    /// The reliability table.
    pub table: Vec<Bin>,
}

/// All figures of one suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Rows that were trained on.
    pub trained: usize,
    /// Rows that were measured.
    pub measured: usize,
    /// The quality of always-weak and of always-strong.
    pub quality: [f64; 2],
    /// The cost of always-weak as a share of always-strong.
    pub weak_cost: f64,
    /// The routers.
    pub contenders: Vec<Contender>,
    /// With and without the segment.
    pub calibrations: Vec<Calibration>,
    /// The share of measured rows that are unlike the training rows.
    pub new_share: f64,
}

/// Runs a suite; `draws` resamples for intervals.
pub fn run(
    train: &[Row],
    measured: &[Row],
    seed: u64,
    draws: usize,
    progress: Progress<'_>,
) -> Report {
    let trained = Trained::new(train, measured, seed, &targets(), progress);
    let corpus = Corpus::new(measured);
    let pairs = pairs(&corpus, measured);
    let half = halves(&corpus, seed);
    let mut rankings = vec![
        ("text".to_owned(), trained.scores(Knows::Text, Rank::Dollar)),
        (
            "text, by call".to_owned(),
            trained.scores(Knows::Text, Rank::Call),
        ),
        (
            "segment + text".to_owned(),
            trained.scores(Knows::Segment, Rank::Dollar),
        ),
        (
            "segment + text, by call".to_owned(),
            trained.scores(Knows::Segment, Rank::Call),
        ),
    ];
    rankings.push(("nearest neighbours".to_owned(), nearest(train, measured)));
    rankings.push(("random".to_owned(), vec![0.0; pairs.len()]));
    rankings.push(("oracle".to_owned(), oracle(&pairs)));
    let count = rankings.len();
    let mut contenders = Vec::new();
    for (index, (name, scores)) in rankings.into_iter().enumerate() {
        contenders.push(contender(name, &pairs, &scores, &half, seed, draws));
        progress("measures", index + 1, count);
    }
    let weights = weights(pairs.iter().map(|it| it.segment));
    let mean = |of: &dyn Fn(&Pair) -> f64| {
        pairs
            .iter()
            .zip(&weights)
            .map(|(pair, weight)| weight * of(pair))
            .sum::<f64>()
    };
    Report {
        trained: train.len(),
        measured: measured.len(),
        quality: [mean(&|it| it.weak), mean(&|it| it.strong)],
        weak_cost: mean(&|it| it.weak_usd) / mean(&|it| it.strong_usd),
        contenders,
        calibrations: [("text", Knows::Text), ("segment + text", Knows::Segment)]
            .map(|(name, knows)| {
                calibration(name, &trained.adequate(knows), &pairs, &half, seed, draws)
            })
            .into(),
        new_share: trained.is_new.iter().filter(|it| **it).count() as f64
            / pairs.len().max(1) as f64,
    }
}

/// The ranking by what happened to similar queries, gain for each extra dollar.
fn nearest(train: &[Row], measured: &[Row]) -> Vec<f64> {
    let both: Vec<Row> = train.iter().chain(measured).cloned().collect();
    let corpus = Corpus::new(&both);
    let among: Vec<usize> = (0..train.len()).collect();
    let of: Vec<usize> = (train.len()..both.len()).collect();
    let known = pairs(&corpus, &both);
    let values: Vec<[f64; 2]> = known[..train.len()]
        .iter()
        .map(|it| [it.strong - it.weak, it.strong_usd - it.weak_usd])
        .collect();
    let rarity = linear::rarity(&corpus, &among);
    let means = neighbours::means(&corpus, &among, &of, &rarity, &values);
    means
        .into_iter()
        .map(|[gain, extra]| gain / extra.max(1e-9))
        .collect()
}

fn contender(
    name: String,
    pairs: &[Pair],
    scores: &[f64],
    half: &[usize],
    seed: u64,
    draws: usize,
) -> Contender {
    let all: Vec<usize> = (0..pairs.len()).collect();
    let mut drawn: [Vec<f64>; 3] = Default::default();
    for rows in resamples(pairs, draws, seed) {
        let (some, their) = pick(pairs, scores, &rows);
        let figures = figures(&some, &their);
        drawn[0].push(figures.area_by_calls);
        drawn[1].push(figures.cost_at[0]);
        drawn[2].push(transferred(pairs, scores, half, &rows)[0].cost);
    }
    let [area, cost, moved] = drawn.map(interval);
    Contender {
        name,
        figures: figures(pairs, scores),
        intervals: [area, cost],
        transferred: transferred(pairs, scores, half, &all),
        transferred_interval: moved,
        promises: PROMISES.map(|share| kept(pairs, scores, share, SPLITS, seed)),
    }
}

fn pick(pairs: &[Pair], scores: &[f64], rows: &[usize]) -> (Vec<Pair>, Vec<f64>) {
    rows.iter().map(|row| (pairs[*row], scores[*row])).unzip()
}

/// Thresholds from one half, measured on the other; the mean of both ways.
fn transferred(pairs: &[Pair], scores: &[f64], half: &[usize], rows: &[usize]) -> [Point; 3] {
    let part = |wanted: usize| {
        let rows: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|it| half[*it] == wanted)
            .collect();
        pick(pairs, scores, &rows)
    };
    let parts = [part(0), part(1)];
    QUALITIES.map(|share| {
        let one = |from: usize| {
            let (seen, held) = (&parts[from], &parts[1 - from]);
            point(&held.0, &held.1, threshold(&seen.0, &seen.1, share))
        };
        let (first, second) = (one(0), one(1));
        Point {
            quality: f64::midpoint(first.quality, second.quality),
            cost: f64::midpoint(first.cost, second.cost),
            share: f64::midpoint(first.share, second.share),
            random_cost: f64::midpoint(first.random_cost, second.random_cost),
        }
    })
}

/// Groups drawn with replacement, as lists of rows.
pub fn resamples(pairs: &[Pair], draws: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    let mut groups: Vec<Vec<usize>> =
        vec![Vec::new(); pairs.iter().map(|it| it.group + 1).max().unwrap_or(0)];
    for (row, pair) in pairs.iter().enumerate() {
        groups[pair.group].push(row);
    }
    let mut random = Draws::new(seed ^ 0xB007);
    (0..draws).map(move |_| {
        (0..groups.len())
            .flat_map(|_| groups[random.below(groups.len())].clone())
            .collect()
    })
}

/// The middle 95 of 100.
pub fn interval(mut drawn: Vec<f64>) -> Interval {
    drawn.retain(|it| !it.is_nan());
    drawn.sort_unstable_by(f64::total_cmp);
    let last = drawn.len().saturating_sub(1);
    let at = |of_thousand: usize| {
        drawn
            .get((last * of_thousand + 500) / 1000)
            .copied()
            .unwrap_or(f64::NAN)
    };
    [at(25), at(975)]
}

/// Calibrated on the other half.
pub fn calibrated(said: &[f64], pairs: &[Pair], half: &[usize]) -> Vec<f64> {
    let truth: Vec<bool> = pairs
        .iter()
        .map(|it| is_adequate(it.weak, it.strong))
        .collect();
    let fit = |from: usize| {
        let rows = (0..said.len()).filter(|row| half[*row] == from);
        let (said, truth): (Vec<f64>, Vec<bool>) = rows.map(|row| (said[row], truth[row])).unzip();
        Platt::fit(&said, &truth)
    };
    let fits = [fit(0), fit(1)];
    said.iter()
        .zip(half)
        .map(|(said, half)| fits[1 - half].at(*said))
        .collect()
}

fn calibration(
    name: &str,
    said: &[f64],
    pairs: &[Pair],
    half: &[usize],
    seed: u64,
    draws: usize,
) -> Calibration {
    let after = calibrated(said, pairs, half);
    let truth: Vec<bool> = pairs
        .iter()
        .map(|it| is_adequate(it.weak, it.strong))
        .collect();
    let table = reliability(&after, &truth, BINS);
    let drawn = resamples(pairs, draws, seed).map(|rows| {
        let (said, truth): (Vec<f64>, Vec<bool>) =
            rows.iter().map(|row| (after[*row], truth[*row])).unzip();
        error(&reliability(&said, &truth, BINS))
    });
    let squares = after
        .iter()
        .zip(&truth)
        .map(|(said, truth)| (said - f64::from(u8::from(*truth))).powi(2));
    Calibration {
        name: name.to_owned(),
        error: error(&table),
        interval: interval(drawn.collect()),
        brier: squares.sum::<f64>() / after.len().max(1) as f64,
        table,
    }
}

#[cfg(test)]
mod tests {
    use super::{STRONG, WEAK, run};
    use crate::draw::Draws;
    use crate::outcome::{Outcome, Row};

    fn rows(count: usize, seed: u64) -> Vec<Row> {
        let mut draws = Draws::new(seed);
        let row = |index: usize| {
            let is_hard = draws.below(3) == 0;
            let mut score = |of_ten: usize| if draws.below(10) < of_ten { 1.0 } else { 0.0 };
            let outcome = |score, cost| Outcome {
                score,
                cost_usd: Some(cost),
            };
            Row {
                id: index.to_string(),
                group: format!("{seed}-{index}"),
                segment: ["one", "two"][index % 2].to_owned(),
                text: format!(
                    "{} {}",
                    if is_hard {
                        "derive the integral"
                    } else {
                        "name the capital"
                    },
                    ["today", "again", "in verse"][index % 3]
                ),
                outcomes: [
                    (STRONG.to_owned(), outcome(score(9), 1.0)),
                    (
                        WEAK.to_owned(),
                        outcome(score(if is_hard { 3 } else { 9 }), 0.1),
                    ),
                ]
                .into(),
            }
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_planted_suite_is_routed_below_random() {
        let report = run(&rows(400, 1), &rows(400, 2), 1, 10, &mut |_, _, _| {});
        let of = |name: &str| {
            report
                .contenders
                .iter()
                .find(|it| it.name == name)
                .expect("a contender")
        };
        let (text, random) = (of("text"), of("random"));
        assert!(text.figures.area_by_calls > 0.7, "{text:?}");
        assert!(
            text.transferred[0].cost < 0.6 * random.transferred[0].cost,
            "{text:?}"
        );
        assert!(text.promises[0].broken <= 0.05, "{:?}", text.promises);
        assert!(
            report.calibrations[0].error < 0.06,
            "{:?}",
            report.calibrations[0]
        );
        assert!(of("nearest neighbours").figures.area_by_calls > 0.6);
        assert!(of("oracle").figures.area_by_calls >= text.figures.area_by_calls);
    }
}
