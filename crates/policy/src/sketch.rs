//! Sketch: counts of values in steps that grow with the value, for quantiles in little memory.
//!
//! **Invariant**: a quantile is never more than a sixteenth off, whatever the order of the values
//! (test `quantiles_are_close`).

use std::collections::BTreeMap;

/// Steps within each doubling: a sixteenth is the greatest error.
const STEPS: u64 = 16;

/// Counts in steps that grow with the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    counts: BTreeMap<u64, u64>,
    total: u64,
}

impl Sketch {
    /// Adds one value.
    pub fn add(&mut self, value: u64) {
        *self.counts.entry(step(value)).or_default() += 1;
        self.total += 1;
    }

    /// Lets every value count half.
    pub fn halve(&mut self) {
        self.counts.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
        self.total = self.counts.values().sum();
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value below which so many of a thousand lie; none if nothing was added.
    pub fn quantile(&self, permille: u64) -> Option<u64> {
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (step, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return Some(floor(*step));
            }
        }
        None
    }
}

/// The step of a value: exact up to 16, then sixteen steps a doubling.
fn step(value: u64) -> u64 {
    let doublings = value.checked_ilog2().unwrap_or(0).saturating_sub(4);
    u64::from(doublings) * STEPS + (value >> doublings)
}

/// The least value of a step.
fn floor(step: u64) -> u64 {
    if step < 2 * STEPS {
        return step;
    }
    let doublings = step / STEPS - 1;
    (step - doublings * STEPS) << doublings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::Sketch;

    proptest! {
        #[test]
        fn quantiles_are_close(
            mut values in prop::collection::vec(0..200_000_u64, 1..200),
            permille in 1..1_000_u64,
        ) {
            let mut sketch = Sketch::default();
            for value in &values {
                sketch.add(*value);
            }
            values.sort_unstable();
            let rank = (values.len() as u64 * permille).div_ceil(1_000).max(1);
            let exact = values[usize::try_from(rank - 1).unwrap_or(0)];
            let found = sketch.quantile(permille).unwrap_or(u64::MAX);
            prop_assert!(found <= exact && exact - found <= exact / 16, "{found} for {exact}");
        }
    }
}
