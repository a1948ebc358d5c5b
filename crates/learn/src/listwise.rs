//! Listwise: weights that lift the wanted entries of each list above the others.
//!
//! Each list's weighted sums become probabilities (softmax), and the weights are moved until the wanted
//! entries have most of them: the loss of Cao and others, "Learning to Rank: From Pairwise Approach to
//! Listwise Approach" (2007), with all wanted entries equally good.
//!
//! **Invariant**: the same lists give the same weights, and a signal that tells nothing has next to none
//! (test `a_telling_signal_is_found`).

/// 300 steps: a weight moves less than 0.01 in the last hundred of them.
const STEPS: i32 = 300;

/// How far a weight moves in a step at most, in units of the logarithm of odds.
const STRIDE: f64 = 0.05;

/// How strongly weights are drawn to zero, beside a loss of some 3 for each list.
const PULL: f64 = 1e-3;

/// How much of the last steps' direction and size is kept.
const MOMENTUM: f64 = 0.9;
const SCALE_MEMORY: f64 = 0.99;

/// No division by zero; far below any gradient that matters.
const TINY: f64 = 1e-8;

/// Entries of one list: signals, and whether the entry is wanted.
pub type List<const N: usize> = Vec<([f64; N], bool)>;

/// Trains on lists; those without a wanted entry say nothing.
pub fn train<const N: usize>(lists: &[&List<N>]) -> [f64; N] {
    let (mut weights, mut direction, mut scale) = ([0.0; N], [0.0; N], [0.0; N]);
    for step in 1..=STEPS {
        let gradient = gradient(lists, &weights);
        let ahead = 1.0 - MOMENTUM.powi(step);
        let seen = 1.0 - SCALE_MEMORY.powi(step);
        for (((weight, slope), direction), scale) in weights
            .iter_mut()
            .zip(gradient)
            .zip(&mut direction)
            .zip(&mut scale)
        {
            let slope = slope + PULL * *weight;
            *direction = MOMENTUM * *direction + (1.0 - MOMENTUM) * slope;
            *scale = SCALE_MEMORY * *scale + (1.0 - SCALE_MEMORY) * slope * slope;
            *weight -= STRIDE * (*direction / ahead) / ((*scale / seen).sqrt() + TINY);
        }
    }
    weights
}

/// How the mean loss changes with each weight.
fn gradient<const N: usize>(lists: &[&List<N>], weights: &[f64; N]) -> [f64; N] {
    let (mut sum, mut count) = ([0.0; N], 0.0_f64);
    for list in lists {
        let wanted: f64 = list
            .iter()
            .map(|(_, is_wanted)| f64::from(u8::from(*is_wanted)))
            .sum();
        if wanted == 0.0 {
            continue;
        }
        count += 1.0;
        let of = |signals: &[f64; N]| -> f64 {
            signals
                .iter()
                .zip(weights)
                .map(|(signal, weight)| signal * weight)
                .sum()
        };
        let worth: Vec<f64> = list.iter().map(|(signals, _)| of(signals)).collect();
        let best = worth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let odds: Vec<f64> = worth.iter().map(|worth| (worth - best).exp()).collect();
        let all: f64 = odds.iter().sum();
        for ((signals, is_wanted), odds) in list.iter().zip(odds) {
            let share = odds / all - f64::from(u8::from(*is_wanted)) / wanted;
            for (sum, signal) in sum.iter_mut().zip(signals) {
                *sum += share * signal;
            }
        }
    }
    sum.map(|sum| sum / count.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::{List, train};

    #[test]
    fn a_telling_signal_is_found() {
        let lists: Vec<List<2>> = (0..20_u32)
            .map(|list| {
                let entry = |at: u32| {
                    let is_wanted = at == list % 5;
                    let noise = f64::from((at * 7 + list * 3) % 11) / 11.0;
                    ([f64::from(u8::from(is_wanted)), noise], is_wanted)
                };
                (0..10).map(entry).collect()
            })
            .collect();
        let lists: Vec<&List<2>> = lists.iter().collect();
        let weights = train(&lists);
        assert!(
            weights[0] > 3.0 && weights[1].abs() < weights[0] / 5.0,
            "{weights:?}"
        );
        assert!(
            train(&lists)
                .iter()
                .zip(weights)
                .all(|(one, other)| one.total_cmp(&other).is_eq())
        );
        let nothing: List<2> = vec![([1.0, 1.0], false)];
        assert!(train(&[&nothing]).iter().all(|weight| weight.abs() < 1e-9));
    }
}
