//! Predictor: a trained model of how well each target would answer a call, and what that costs.
//!
//! **Invariant**: an estimate is finite, qualities and probabilities lie in 0..=1, and a model reads
//! back from its bytes as it was (test `a_model_reads_back_as_written` in `format`).

pub mod format;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::route::features::{BUCKETS, Features, LETTERS, STRUCTURE};

/// What the model expects of one target on one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The expected score of its answer, 0..=1.
    pub quality: f64,
    /// The calibrated probability that its answer is adequate, 0..=1.
    pub adequate: f64,
    /// The expected cost, in USD at the prices of the training rows: for ranking, not for bills.
    pub cost_usd: f64,
}

/// What each trained output stands for; a target has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// Its score.
    Quality,
    /// Whether its answer was adequate.
    Adequate,
    /// Its cost as a multiple of its mean cost.
    Cost,
}

/// All outputs in the order in which a target's are stored.
pub const OUTPUTS: [Output; 3] = [Output::Quality, Output::Adequate, Output::Cost];

/// One question of a tree, and where each answer leads: a node, or a leaf if negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Node {
    /// The input that is asked about.
    pub input: u16,
    /// Values at or below go left.
    pub threshold: f32,
    /// The next node, or `-1 - leaf`.
    pub left: i16,
    /// The next node, or `-1 - leaf`.
    pub right: i16,
}

/// A regression tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The first is the root; none for a tree of one leaf.
    pub nodes: Vec<Node>,
    /// The values to add.
    pub leaves: Vec<f32>,
}

impl Tree {
    /// The value for these inputs.
    pub fn value(&self, inputs: &[f32]) -> f32 {
        let mut at = if self.nodes.is_empty() { -1 } else { 0i16 };
        while let Ok(index) = usize::try_from(at) {
            let Some(node) = self.nodes.get(index) else {
                return 0.0;
            };
            let input = inputs.get(usize::from(node.input)).copied();
            let goes_left = input.unwrap_or(0.0) <= node.threshold;
            at = if goes_left { node.left } else { node.right };
        }
        let leaf = usize::from((-1 - at).unsigned_abs());
        self.leaves.get(leaf).copied().unwrap_or(0.0)
    }
}

/// A sum of trees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// What is expected before any tree is asked.
    pub base: f32,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl Head {
    /// The value for these inputs.
    pub fn value(&self, inputs: &[f32]) -> f32 {
        self.base + self.trees.iter().map(|it| it.value(inputs)).sum::<f32>()
    }
}

/// Linear outputs over the hashed text; trees read them as inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// How rare each bucket is, in steps of 1/24; 0 for one that training never met.
    pub rarity: Vec<u8>,
    /// What each output is at rest.
    pub bias: Vec<f32>,
    /// What one step of each output's weights is worth.
    pub scale: Vec<f32>,
    /// For each bucket, one weight an output.
    pub weights: Vec<i8>,
}

/// A step of [`Linear::rarity`].
pub const RARITY_STEP: f32 = 1.0 / 24.0;

/// The rarity of a bucket that training never met: it has no weight, and still lengthens its text.
const NEVER_MET: f32 = 9.0;

/// The rarity that a model's byte stands for.
pub fn rarity(byte: u8) -> f32 {
    if byte == 0 {
        NEVER_MET
    } else {
        f32::from(byte) * RARITY_STEP
    }
}

/// Runs of letters count less than words, of which they are parts.
const LETTERS_SHARE: f32 = 0.7;

/// The weight of a bucket that was met `count` times: twice is not twice as telling.
pub fn damped(count: u16) -> f32 {
    1.0 + f32::from(count).ln()
}

/// What the two sections of a text are multiplied by, so that long texts do not outweigh short ones.
pub fn norms(grams: &[(u16, u16)], bytes: &[u8]) -> [f32; 2] {
    let mut squares = [0.0f32; 2];
    for (bucket, count) in grams {
        let bucket = usize::from(*bucket);
        let value = damped(*count) * rarity(bytes[bucket]);
        squares[usize::from(bucket >= LETTERS)] += value * value;
    }
    let norm = |square: f32| {
        if square > 0.0 {
            1.0 / square.sqrt()
        } else {
            0.0
        }
    };
    [norm(squares[0]), norm(squares[1]) * LETTERS_SHARE]
}

impl Linear {
    /// The outputs for a text.
    pub fn values(&self, grams: &[(u16, u16)]) -> Vec<f32> {
        let outputs = self.bias.len();
        let mut sums = vec![0.0f32; outputs];
        if self.rarity.len() == BUCKETS && self.weights.len() == BUCKETS * outputs {
            let norms = norms(grams, &self.rarity);
            for (bucket, count) in grams {
                let bucket = usize::from(*bucket);
                let rarity = rarity(self.rarity[bucket]);
                let value = damped(*count) * rarity * norms[usize::from(bucket >= LETTERS)];
                let weights = &self.weights[bucket * outputs..][..outputs];
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += value * f32::from(*weight);
                }
            }
        }
        let each = sums.iter().zip(&self.scale).zip(&self.bias);
        each.map(|((sum, scale), bias)| sum * scale + bias)
            .collect()
    }

    /// The share of the buckets, weighted by how often they were met, that training never met: 0..=1.
    pub fn novelty(&self, grams: &[(u16, u16)]) -> f64 {
        let (mut new, mut all) = (0.0, 0.0);
        for (bucket, count) in grams {
            let weight = f64::from(damped(*count));
            all += weight;
            if self
                .rarity
                .get(usize::from(*bucket))
                .is_none_or(|it| *it == 0)
            {
                new += weight;
            }
        }
        if all > 0.0 { new / all } else { 1.0 }
    }
}

/// How a raw output becomes an estimate: `slope × raw + shared × mean + offset`, where the mean is over
/// the raw outputs of all targets. What a text says of a call, whoever answers it, may be believed
/// more than what it says of the differences between targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// How far the raw output is believed.
    pub slope: f32,
    /// How much further what all targets have in common.
    pub shared: f32,
    /// What is added.
    pub offset: f32,
}

impl Line {
    /// On the line.
    pub fn at(self, raw: f32, mean: f64) -> f64 {
        f64::from(self.slope) * f64::from(raw)
            + f64::from(self.shared) * mean
            + f64::from(self.offset)
    }
}

/// One target that the model knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// As it is named in the training rows.
    pub name: String,
    /// The mean cost of a call, in USD.
    pub cost_usd: f64,
    /// One head for each of [`OUTPUTS`].
    pub heads: Vec<Head>,
    /// One line for each of [`OUTPUTS`], where the segment is unknown.
    pub lines: Vec<Line>,
}

/// A trained model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictor {
    /// Provenance and figures, one `key: value` a line.
    pub card: String,
    /// The targets, in the order of [`Self::estimates`].
    pub targets: Vec<Target>,
    /// The text model.
    pub linear: Linear,
    /// For each segment, a line for each output of each target.
    pub segments: BTreeMap<String, Vec<Line>>,
    /// Novelty above which a call is unlike anything that the model was trained on.
    pub novelty_max: f64,
    /// What may be promised of pairs of targets, judged on rows that were held out.
    pub floors: Vec<Floor>,
}

/// A promise: of a segment's calls, those whose [`worth`] by [`Rank::Dollar`] lies below the threshold
/// may go to the weaker target, and the mean score stays above a share of the stronger one's.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// The segment whose rows were judged; empty for rows that named none.
    pub segment: String,
    /// The stronger target, by its place in the model.
    pub strong: u16,
    /// The weaker one.
    pub weak: u16,
    /// The share of the stronger one's mean score, 0..=1.
    pub quality: f64,
    /// `-∞` promises nothing: every call stays; `∞` lets every call go.
    pub threshold: f64,
    /// The share of the held-out calls that may go, 0..=1: for people.
    pub lowered: f64,
}

/// The router that is built in, made by `tokenwise learn --suites`: `strong` and `weak` targets of
/// public outcomes (see docs/routing-model.md).
const PUBLIC: &[u8] = include_bytes!("../../route/public.model");

static BUILT_IN: LazyLock<Predictor> = LazyLock::new(|| {
    // A test reads it, so that no build has one that cannot be read.
    format::read(PUBLIC).unwrap_or_default()
});

/// How far the calibrated probability may go: a model is never certain.
const CERTAIN: f64 = 0.995;

impl Predictor {
    /// The router that is built in: what weaker targets do with a text as a rule, where nothing is
    /// known of the ones in question.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// What trees read: the structure, then the linear outputs.
    pub fn inputs(features: &Features, linear: &[f32]) -> Vec<f32> {
        let mut inputs = Vec::with_capacity(STRUCTURE + linear.len());
        inputs.extend_from_slice(&features.structure);
        inputs.extend_from_slice(linear);
        inputs
    }

    /// The raw outputs of all targets, before any line.
    pub fn raw(&self, features: &Features) -> Vec<f32> {
        let inputs = Self::inputs(features, &self.linear.values(&features.grams));
        let heads = self.targets.iter().flat_map(|it| &it.heads);
        heads.map(|head| head.value(&inputs)).collect()
    }

    /// What to expect of each target; a known segment moves the lines, an unknown one does not.
    pub fn estimates(&self, features: &Features, segment: Option<&str>) -> Vec<Estimate> {
        self.lined(&self.raw(features), segment)
    }

    /// Estimates from raw outputs.
    pub fn lined(&self, raw: &[f32], segment: Option<&str>) -> Vec<Estimate> {
        let lines = segment.and_then(|it| self.segments.get(it));
        let means = means(raw);
        let each = self
            .targets
            .iter()
            .zip(raw.chunks(OUTPUTS.len()))
            .enumerate();
        each.map(|(index, (target, raw))| {
            let own = lines.and_then(|it| it.get(index * OUTPUTS.len()..));
            let lines = own.unwrap_or(&target.lines);
            let at = |output: usize| match (lines.get(output), raw.get(output)) {
                (Some(line), Some(raw)) => line.at(*raw, means[output]),
                _ => 0.0,
            };
            Estimate {
                quality: at(0).clamp(0.0, 1.0),
                adequate: at(1).clamp(1.0 - CERTAIN, CERTAIN),
                cost_usd: target.cost_usd * at(2).max(COST_SHARE_MIN),
            }
        })
        .collect()
    }

    /// The place of a target, by one of its names: the first that the model knows.
    pub fn place(&self, names: &[&str]) -> Option<usize> {
        let at = |name: &&str| self.targets.iter().position(|it| it.name == **name);
        names.iter().find_map(at)
    }

    /// The promise for a pair at this quality, or the next stricter one that was judged: on the
    /// segment's own rows, else on rows that named none. Rows of other segments promise nothing.
    pub fn floor(
        &self,
        segment: &str,
        (strong, weak): (usize, usize),
        quality: f64,
    ) -> Option<&Floor> {
        let of = |segment: &str| {
            let is_it = |it: &&Floor| {
                it.segment == segment
                    && (usize::from(it.strong), usize::from(it.weak)) == (strong, weak)
                    && it.quality >= quality
            };
            let floors = self.floors.iter().filter(is_it);
            floors.min_by(|left, right| left.quality.total_cmp(&right.quality))
        };
        of(segment).or_else(|| of(""))
    }

    /// Whether a call is unlike anything that the model was trained on.
    pub fn is_new(&self, features: &Features) -> bool {
        self.linear.novelty(&features.grams) > self.novelty_max
    }
}

/// Of each output, the mean over all targets.
fn means(raw: &[f32]) -> [f64; OUTPUTS.len()] {
    let mut means = [0.0; OUTPUTS.len()];
    let targets = raw.chunks_exact(OUTPUTS.len());
    let part = 1.0 / f64::from(u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1));
    for raw in targets {
        for (mean, raw) in means.iter_mut().zip(raw) {
            *mean += part * f64::from(*raw);
        }
    }
    means
}

/// 2 % of the mean: no call is expected to be cheaper, or a quotient by cost would run away.
const COST_SHARE_MIN: f64 = 0.02;

/// How a gain of quality is weighed against its price when calls compete for the stronger target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    /// Gain for each extra dollar: the least cost for a given quality.
    #[default]
    Dollar,
    /// Gain for each call: the fewest strong calls for a given quality.
    Call,
}

/// How much a call is worth sending to `strong` rather than `weak`; higher is more.
pub fn worth(strong: &Estimate, weak: &Estimate, rank: Rank) -> f64 {
    let gain = strong.quality - weak.quality;
    match rank {
        Rank::Call => gain,
        Rank::Dollar => {
            gain / (strong.cost_usd - weak.cost_usd).max(strong.cost_usd * COST_SHARE_MIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Node, Predictor, Rank, Tree, worth};
    use crate::route::features::{Sight, read};

    #[test]
    fn the_router_that_is_built_in_can_be_read() {
        let public = Predictor::built_in();
        let names: Vec<&str> = public.targets.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["strong", "weak"]);
        let features = read(Sight {
            text: "What is the capital of France?",
            ..Sight::default()
        });
        for estimate in public.estimates(&features, None) {
            assert!((0.1..0.9).contains(&estimate.adequate), "{estimate:?}");
        }
    }

    #[test]
    fn trees_answer_by_threshold() {
        let tree = Tree {
            nodes: vec![
                Node {
                    input: 0,
                    threshold: 1.0,
                    left: -1,
                    right: 1,
                },
                Node {
                    input: 1,
                    threshold: 0.0,
                    left: -2,
                    right: -3,
                },
            ],
            leaves: vec![10.0, 20.0, 30.0],
        };
        for (inputs, expect) in [([1.0, 9.0], 10.0), ([2.0, 0.0], 20.0), ([2.0, 0.1], 30.0)] {
            assert!(
                (tree.value(&inputs) - expect).abs() < f32::EPSILON,
                "{inputs:?}"
            );
        }
        let leaf = Tree {
            nodes: Vec::new(),
            leaves: vec![7.0],
        };
        assert!((leaf.value(&[]) - 7.0).abs() < f32::EPSILON);
    }

    #[test]
    fn an_equal_gain_is_worth_more_where_it_is_cheaper() {
        let estimate = |quality, cost_usd| Estimate {
            quality,
            adequate: quality,
            cost_usd,
        };
        let (weak, small, large) = (estimate(0.5, 0.1), estimate(0.7, 1.0), estimate(0.7, 2.0));
        let by = |strong, rank| worth(strong, &weak, rank);
        assert!(by(&small, Rank::Dollar) > by(&large, Rank::Dollar));
        assert!((by(&small, Rank::Call) - by(&large, Rank::Call)).abs() < 1e-12);
    }
}
