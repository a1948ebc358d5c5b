//! Hedging: when a second target is asked beside one that is slow to begin, and how often.
//!
//! A hedge buys time with money: the leg that comes second is paid for and thrown away. So it is off
//! unless an operator asks for it, and the share of calls that may have one is bounded.
//!
//! **Invariant**: over any run of calls, hedges are at most the allowed share of them and
//! [`BURST`] more (property `hedges_keep_to_their_share`).

/// One call in twenty: that pays for every call beyond the time that 95 % of them take.
pub const PERCENT: u32 = 5;

/// 10 hedges that were not used are kept: a target that slows down is noticed within as many calls,
/// and a quiet night does not pay for a busy minute.
pub const BURST: u32 = 10;

/// A hedge, as allowances count it: each call earns its percent of one.
const ONE: u32 = 100;

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedging {
    /// How long the first target may be silent, in milliseconds.
    pub after_ms: u64,
    /// How many calls in a hundred may have a second leg.
    pub percent: u32,
}

/// One of two legs that are under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was sent first.
    First,
    /// The hedge.
    Second,
}

/// Hedges that may be sent now; shared by all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance(u32);

impl Default for Allowance {
    /// The first slow call may have its hedge.
    fn default() -> Self {
        Self(ONE)
    }
}

impl Allowance {
    /// A call was sent that might need one.
    pub fn earn(&mut self, hedging: &Hedging) {
        self.0 = self.0.saturating_add(hedging.percent).min(BURST * ONE);
    }

    /// Takes one out, if there is one.
    pub fn take(&mut self) -> bool {
        let is_there = self.0 >= ONE;
        if is_there {
            self.0 -= ONE;
        }
        is_there
    }

    /// Puts one back that was not sent after all.
    pub fn put_back(&mut self) {
        self.0 = (self.0 + ONE).min(BURST * ONE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::{Allowance, BURST, Hedging, ONE};

    proptest! {
        #[test]
        fn hedges_keep_to_their_share(
            slow in proptest::collection::vec(any::<bool>(), 1..500),
            percent in 0..=100_u32,
        ) {
            let hedging = Hedging { after_ms: 1, percent };
            let mut allowance = Allowance::default();
            let mut hedges = 0;
            for (calls, is_slow) in (1_u32..).zip(slow) {
                allowance.earn(&hedging);
                if is_slow && allowance.take() {
                    hedges += 1;
                }
                prop_assert!(hedges * ONE <= calls * percent + BURST * ONE);
            }
        }
    }

    #[test]
    fn what_was_not_sent_is_not_counted() {
        let mut allowance = Allowance::default();
        assert!(allowance.take());
        assert!(!allowance.take());
        allowance.put_back();
        assert!(allowance.take());
    }
}
