//! Isotonic calibration: the rising probability that fits best what came true.
//!
//! **Invariant**: more of the signal never lowers the probability (property
//! `probabilities_rise_with_the_signal`).

use policy::cascade::verdict::Curve;

/// A stretch of the signal with one probability.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    values: f64,
    trues: f64,
    rows: f64,
}

impl Block {
    fn with(self, (value, truth): &(f64, bool)) -> Self {
        Self {
            values: self.values + value,
            trues: self.trues + f64::from(u8::from(*truth)),
            rows: self.rows + 1.0,
        }
    }
}

/// Ten rows: of fewer, the probability says little, and a stretch takes in its neighbour.
const ROWS_MIN: f64 = 10.0;

/// Fits a curve by pooling neighbours that stand in the wrong order; none without rows. Each stretch
/// is drawn towards one half by one row of each kind.
pub fn isotonic(signal: &[f64], came_true: &[bool]) -> Option<Curve> {
    let mut rows: Vec<(f64, bool)> = signal
        .iter()
        .copied()
        .zip(came_true.iter().copied())
        .collect();
    rows.retain(|(value, _)| value.is_finite());
    rows.sort_by(|left, right| left.0.total_cmp(&right.0));
    // Rows with the same signal are one block from the beginning.
    let same = rows.chunk_by(|left, right| left.0.total_cmp(&right.0).is_eq());
    let mut blocks: Vec<Block> = Vec::new();
    for rows in same {
        blocks.push(rows.iter().fold(Block::default(), Block::with));
        while let [.., before, last] = blocks.as_slice()
            && (before.rows < ROWS_MIN || before.trues * last.rows >= last.trues * before.rows)
        {
            let merged = Block {
                values: before.values + last.values,
                trues: before.trues + last.trues,
                rows: before.rows + last.rows,
            };
            blocks.truncate(blocks.len() - 2);
            blocks.push(merged);
        }
    }
    let point = |block: &Block| {
        let probability = (block.trues + 1.0) / (block.rows + 2.0);
        (block.values / block.rows, probability)
    };
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (value, probability) in blocks.iter().map(point) {
        match points.last() {
            // Being drawn to one half may turn the order of small stretches.
            Some(last) if last.1 >= probability || last.0 >= value => {}
            _ => points.push((value, probability)),
        }
    }
    Curve::new(points)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::isotonic;
    use crate::draw::Draws;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn a_planted_curve_is_found() {
        let mut draws = Draws::new(3);
        let mut unit = || draws.below(1_000) as f64 / 1_000.0;
        let (mut signal, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..4_000 {
            let value = unit();
            signal.push(value);
            truth.push(unit() < value * value);
        }
        let curve = isotonic(&signal, &truth).expect("a curve");
        for value in [0.1, 0.3, 0.5, 0.7, 0.9] {
            let found = curve.at(value).expect("a probability");
            assert!((found - value * value).abs() < 0.07, "{value}: {found}");
        }
        assert_eq!(isotonic(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn probabilities_rise_with_the_signal(
            rows in proptest::collection::vec((-3.0..0.0_f64, proptest::bool::ANY), 1..80),
        ) {
            let (signal, truth): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
            let curve = isotonic(&signal, &truth).expect("a curve");
            let found: Vec<f64> = (0..40).filter_map(|at| curve.at(-3.0 + 0.1 * f64::from(at))).collect();
            prop_assert!(found.is_sorted());
        }
    }
}
