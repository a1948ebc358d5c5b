//! Linear: ridge regression of several outputs over hashed text, by conjugate gradients.
//!
//! **Invariant**: a missing label has no influence; what is trained is what the router computes,
//! rounding to a byte apart (test `planted_words_are_found`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "weights are rounded to bytes by design; counts of rows are small"
)]

use policy::route::features::{BUCKETS, LETTERS};
use policy::route::predictor::{self, Linear, RARITY_STEP, damped, norms};

use crate::corpus::Corpus;

/// 1.0: how strongly weights are drawn to zero, in rows of weight 1.
const PULL: f32 = 1.0;

/// 12 steps: the weights are an input of the trees, not the answer, and need not be exact.
const STEPS: usize = 12;

/// Labels of several outputs; `NAN` where unknown.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// How many outputs.
    pub outputs: usize,
    /// Row by row.
    pub values: Vec<f32>,
    /// One for each row of the corpus.
    pub weights: Vec<f32>,
}

/// The rarity of each bucket among these rows, as stored in a model.
pub fn rarity(corpus: &Corpus, rows: &[usize]) -> Vec<u8> {
    let all = rows.len() as f32 + 1.0;
    let of = |met: u32| match met {
        0 => 0,
        met => {
            let rarity = (all / (met as f32 + 1.0)).ln() + 1.0;
            (rarity / RARITY_STEP).round().clamp(1.0, 255.0) as u8
        }
    };
    corpus.met(rows).into_iter().map(of).collect()
}

/// Trains on some rows.
pub fn train(corpus: &Corpus, rows: &[usize], labels: &Labels, rarity: &[u8]) -> Linear {
    let outputs = labels.outputs;
    let bias = means(rows, labels);
    let slots = Slots::new(corpus, rows);
    let system = System {
        corpus,
        rows,
        labels,
        rarity,
        slots: &slots,
    };
    let mut rest = system.right_side(&bias);
    let mut weights = vec![0.0f32; slots.buckets.len() * outputs];
    let mut direction = rest.clone();
    let mut square = dot(&rest, &rest, outputs);
    for _ in 0..STEPS {
        let image = system.apply(&direction);
        let along = dot(&direction, &image, outputs);
        let length: Vec<f32> = ratio(&square, &along);
        add(&mut weights, &direction, &length);
        let back: Vec<f32> = length.iter().map(|it| -it).collect();
        add(&mut rest, &image, &back);
        let next = dot(&rest, &rest, outputs);
        let turn = ratio(&next, &square);
        for (index, value) in direction.iter_mut().enumerate() {
            *value = rest[index] + turn[index % outputs] * *value;
        }
        square = next;
    }
    rounded(&weights, bias, rarity, &slots)
}

/// The buckets that were met, numbered: all others have no weight, and need no memory while training.
struct Slots {
    of_bucket: Vec<usize>,
    buckets: Vec<usize>,
}

impl Slots {
    fn new(corpus: &Corpus, rows: &[usize]) -> Self {
        let mut slots = Self {
            of_bucket: vec![0; BUCKETS],
            buckets: Vec::new(),
        };
        for (bucket, met) in corpus.met(rows).into_iter().enumerate() {
            slots.of_bucket[bucket] = slots.buckets.len();
            if met > 0 {
                slots.buckets.push(bucket);
            }
        }
        slots
    }
}

/// The weighted mean of each output.
fn means(rows: &[usize], labels: &Labels) -> Vec<f32> {
    let mut sums = vec![(0.0f64, 0.0f64); labels.outputs];
    for row in rows {
        let weight = f64::from(labels.weights[*row]);
        let values = &labels.values[row * labels.outputs..][..labels.outputs];
        for (sum, value) in sums.iter_mut().zip(values).filter(|(_, it)| !it.is_nan()) {
            sum.0 += weight * f64::from(*value);
            sum.1 += weight;
        }
    }
    let mean = |(sum, weight): (f64, f64)| if weight > 0.0 { sum / weight } else { 0.0 };
    sums.into_iter().map(|it| mean(it) as f32).collect()
}

/// The normal equations, never written out.
struct System<'rows> {
    corpus: &'rows Corpus,
    rows: &'rows [usize],
    labels: &'rows Labels,
    rarity: &'rows [u8],
    slots: &'rows Slots,
}

impl System<'_> {
    /// Visits each row with its values by slot.
    fn each(&self, mut visit: impl FnMut(usize, &[(usize, f32)])) {
        let damping: Vec<f32> = (0..=u16::MAX).map(|it| damped(it.max(1))).collect();
        let mut values = Vec::new();
        for row in self.rows {
            let grams = self.corpus.grams(*row);
            let norms = norms(grams, self.rarity);
            values.clear();
            values.extend(grams.iter().map(|(bucket, count)| {
                let bucket = usize::from(*bucket);
                let rarity = predictor::rarity(self.rarity[bucket]);
                let norm = norms[usize::from(bucket >= LETTERS)];
                let slot = self.slots.of_bucket[bucket];
                (slot, damping[usize::from(*count)] * rarity * norm)
            }));
            visit(*row, &values);
        }
    }

    fn right_side(&self, bias: &[f32]) -> Vec<f32> {
        let outputs = self.labels.outputs;
        let mut sums = vec![0.0f32; self.slots.buckets.len() * outputs];
        let mut error = vec![0.0f32; outputs];
        self.each(|row, values| {
            for (output, error) in error.iter_mut().enumerate() {
                let label = self.labels.values[row * outputs + output];
                let off = if label.is_nan() {
                    0.0
                } else {
                    label - bias[output]
                };
                *error = self.labels.weights[row] * off;
            }
            scatter(&mut sums, values, &error);
        });
        sums
    }

    fn apply(&self, weights: &[f32]) -> Vec<f32> {
        let outputs = self.labels.outputs;
        let mut sums: Vec<f32> = weights.iter().map(|it| it * PULL).collect();
        let mut answer = vec![0.0f32; outputs];
        self.each(|row, values| {
            answer.fill(0.0);
            for (slot, value) in values {
                let weights = &weights[slot * outputs..][..outputs];
                for (answer, weight) in answer.iter_mut().zip(weights) {
                    *answer += value * weight;
                }
            }
            for (output, answer) in answer.iter_mut().enumerate() {
                let is_known = !self.labels.values[row * outputs + output].is_nan();
                *answer *= if is_known {
                    self.labels.weights[row]
                } else {
                    0.0
                };
            }
            scatter(&mut sums, values, &answer);
        });
        sums
    }
}

/// Adds each value times each amount.
fn scatter(sums: &mut [f32], values: &[(usize, f32)], amounts: &[f32]) {
    for (slot, value) in values {
        let sums = &mut sums[slot * amounts.len()..][..amounts.len()];
        for (sum, amount) in sums.iter_mut().zip(amounts) {
            *sum += value * amount;
        }
    }
}

/// Inner products, output by output.
fn dot(left: &[f32], right: &[f32], outputs: usize) -> Vec<f64> {
    let mut sums = vec![0.0f64; outputs];
    for (left, right) in left.chunks(outputs).zip(right.chunks(outputs)) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += f64::from(left * right);
        }
    }
    sums
}

fn ratio(above: &[f64], below: &[f64]) -> Vec<f32> {
    let each = above.iter().zip(below);
    each.map(|(above, below)| {
        if *below > 1e-20 {
            (above / below) as f32
        } else {
            0.0
        }
    })
    .collect()
}

fn add(to: &mut [f32], what: &[f32], lengths: &[f32]) {
    for (to, what) in to.chunks_mut(lengths.len()).zip(what.chunks(lengths.len())) {
        for (index, to) in to.iter_mut().enumerate() {
            *to += lengths[index] * what[index];
        }
    }
}

/// Weights as bytes, a scale for each output.
fn rounded(weights: &[f32], bias: Vec<f32>, rarity: &[u8], slots: &Slots) -> Linear {
    let outputs = bias.len();
    let mut scale = vec![1e-9f32; outputs];
    for weights in weights.chunks(outputs) {
        for (scale, weight) in scale.iter_mut().zip(weights) {
            *scale = scale.max(weight.abs() / 127.0);
        }
    }
    let mut bytes = vec![0i8; BUCKETS * outputs];
    for (bucket, weights) in slots.buckets.iter().zip(weights.chunks(outputs)) {
        for (output, weight) in weights.iter().enumerate() {
            bytes[bucket * outputs + output] = (weight / scale[output]).round() as i8;
        }
    }
    Linear {
        rarity: rarity.to_vec(),
        weights: bytes,
        bias,
        scale,
    }
}

#[cfg(test)]
mod tests {
    use super::{Labels, rarity, train};
    use crate::corpus::Corpus;
    use crate::outcome::Row;

    #[test]
    fn planted_words_are_found() {
        let text = |index: usize| match index % 2 {
            0 => format!("prove theorem {index}"),
            _ => format!("greet customer {index}"),
        };
        let row = |index| Row {
            text: text(index),
            ..Row::default()
        };
        let corpus = Corpus::new(&(0..400).map(row).collect::<Vec<_>>());
        let rows: Vec<usize> = (0..300).collect();
        let label = |index: usize| [if index.is_multiple_of(2) { 1.0 } else { 0.0 }, f32::NAN];
        let labels = Labels {
            outputs: 2,
            values: (0..400).flat_map(label).collect(),
            weights: vec![1.0; 400],
        };
        let linear = train(&corpus, &rows, &labels, &rarity(&corpus, &rows));
        for row in 300..400 {
            let values = linear.values(corpus.grams(row));
            assert!((values[0] - label(row)[0]).abs() < 0.2, "{row}: {values:?}");
            assert!(values[1].abs() < 1e-6, "{row}: {values:?}");
        }
    }
}
