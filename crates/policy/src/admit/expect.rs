//! What a call is expected to use: the dearest but one in a hundred of those seen lately.
//!
//! **Invariant**: an expectation is an amount that was observed, at least 99 in 100 of the latest
//! observations do not exceed it, and there is none before [`SEEN_MIN`] of them (property
//! `ninety_nine_in_a_hundred_are_within`).

use std::collections::VecDeque;

use wire::usage::Tokens;

use crate::money::PicoUsd;

/// 100: of fewer calls nobody knows the hundredth, and the worst case is expected.
pub const SEEN_MIN: usize = 100;

/// 256: enough for the third dearest to be the bound, and few enough to follow a route that changes.
pub const SEEN_MAX: usize = 256;

/// What one call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Used {
    /// What it cost.
    pub usd: PicoUsd,
    /// Its tokens, input and output.
    pub tokens: Tokens,
}

/// The latest calls of one route. Some 6 kB when it is full.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    costs: Sorted<PicoUsd>,
    tokens: Sorted<Tokens>,
}

impl Recent {
    /// Takes in a call that is over. Costs two searches and two moves of at most 4 kB.
    pub fn saw(&mut self, used: Used) {
        self.costs.push(used.usd);
        self.tokens.push(used.tokens);
    }

    /// The 99th percentile of both; none while too few were seen.
    pub fn q99(&self) -> Option<Used> {
        Some(Used {
            usd: self.costs.q99()?,
            tokens: self.tokens.q99()?,
        })
    }
}

/// The latest observations, by age and by size.
#[derive(Clone, Debug)]
struct Sorted<T> {
    by_age: VecDeque<T>,
    by_size: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self {
            by_age: VecDeque::new(),
            by_size: Vec::new(),
        }
    }
}

impl<T: Copy + Ord> Sorted<T> {
    fn push(&mut self, value: T) {
        if self.by_age.len() == SEEN_MAX
            && let Some(oldest) = self.by_age.pop_front()
            && let Ok(place) = self.by_size.binary_search(&oldest)
        {
            self.by_size.remove(place);
        }
        self.by_age.push_back(value);
        let place = self.by_size.partition_point(|other| *other < value);
        self.by_size.insert(place, value);
    }

    /// The smallest observation that 99 in 100 do not exceed.
    fn q99(&self) -> Option<T> {
        let seen = self.by_size.len();
        if seen < SEEN_MIN {
            return None;
        }
        let rank = (seen * 99).div_ceil(100);
        self.by_size.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{PicoUsd, Recent, SEEN_MAX, SEEN_MIN, Tokens, Used};

    fn used(amount: u64) -> Used {
        Used {
            usd: PicoUsd(i128::from(amount)),
            tokens: Tokens(amount * 2),
        }
    }

    #[test]
    fn a_few_calls_say_nothing() {
        let mut recent = Recent::default();
        for amount in 1..SEEN_MIN as u64 {
            recent.saw(used(amount));
            assert_eq!(recent.q99(), None, "{amount}");
        }
        recent.saw(used(100));
        assert_eq!(recent.q99(), Some(used(99)));
        // One call in a hundred may be as dear as it likes.
        recent.saw(used(1_000_000));
        assert_eq!(recent.q99(), Some(used(100)));
    }

    proptest! {
        #[test]
        fn ninety_nine_in_a_hundred_are_within(
            amounts in proptest::collection::vec(0_u64..1_000, SEEN_MIN..600),
        ) {
            let mut recent = Recent::default();
            for amount in &amounts {
                recent.saw(used(*amount));
            }
            let latest = &amounts[amounts.len().saturating_sub(SEEN_MAX)..];
            let bound = recent.q99().unwrap();
            let within = |bound: Used| {
                latest.iter().filter(|it| used(**it).usd <= bound.usd).count()
            };
            prop_assert!(within(bound) * 100 >= latest.len() * 99);
            prop_assert!(latest.iter().any(|it| used(*it) == bound));
            // And it is the smallest such amount.
            let below = latest.iter().filter(|it| used(**it).usd < bound.usd).count();
            prop_assert!(below * 100 < latest.len() * 99);
            prop_assert_eq!(bound.tokens.0, u64::try_from(bound.usd.0).unwrap() * 2);
        }
    }
}
