//! Draws: numbers that look random and follow from a seed.
//!
//! **Invariant**: the same seed gives the same numbers on every machine (test
//! `draws_follow_from_the_seed`).

/// A generator of 64-bit numbers: a counter and a mix (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`, which is at least 1.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// Reorders.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Spreads the bits of a number.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Puts each group into one of `folds`, evenly: the fold of every row.
pub fn folds(groups: &[usize], folds: usize, seed: u64) -> Vec<usize> {
    let count = groups.iter().max().map_or(0, |it| it + 1);
    let mut order: Vec<usize> = (0..count).map(|it| it % folds.max(1)).collect();
    Draws::new(seed).shuffle(&mut order);
    groups.iter().map(|it| order[*it]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Draws, folds};

    #[test]
    fn draws_follow_from_the_seed() {
        let draw = |seed| Draws::new(seed).number();
        assert_eq!(draw(0), 0xE220_A839_7B1D_CDAF);
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_group_stays_in_one_fold() {
        let groups: Vec<usize> = (0..90).map(|it| it % 30).collect();
        let of = folds(&groups, 3, 7);
        for (row, group) in groups.iter().enumerate() {
            assert_eq!(of[row], of[*group]);
        }
        for fold in 0..3 {
            assert_eq!(of.iter().filter(|it| **it == fold).count(), 30);
        }
    }
}
