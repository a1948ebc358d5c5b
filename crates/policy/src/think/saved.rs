//! Saved: what a call is estimated to have saved by thinking less, from the thinking of its likes.
//!
//! Calls are alike that the lever would give the same effort: of one route, one kind of question and
//! one target. Where it observes, they think as they would without it; where it acts, they do not.
//! Nothing else is compared, so that hard questions are no measure of easy ones.
//!
//! **Invariant**: nothing is claimed before enough calls of both ways were seen, and what is claimed is
//! no more than the lower end of the usual thinking is above a call's own (test
//! `nothing_is_claimed_without_evidence`).

use std::collections::BTreeMap;

use wire::usage::Tokens;

use super::class::Class;
use super::effort::Effort;
use super::observed::Arm;
use crate::sketch::Sketch;

/// 100 calls of each way: the median of so many lies with 95 % confidence between their 40th and their
/// 61st (ranks of a binomial distribution).
pub const CALLS_MIN: u64 = 100;

/// 400 of a thousand: the lower end of that.
const LOWER_END: u64 = 400;

/// 4 000 calls: beyond that, all that was counted counts half, so that a model that has changed is
/// believed in time.
const MEMORY: u64 = 4_000;

/// 1 000 kinds of calls: some 200 kB. Kinds that come later claim nothing.
const KINDS_MAX: usize = 1_000;

/// Calls that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Likes {
    /// The route that has taken them; empty if none has.
    pub route: String,
    /// What kind of question they ask.
    pub class: Class,
    /// Who answers, as `provider/model`.
    pub target: String,
    /// The effort that they get, or would.
    pub effort: Effort,
}

/// Thinking tokens of both ways.
#[derive(Clone, Debug, Default)]
struct Ways {
    full: Sketch,
    lowered: Sketch,
}

/// The thinking that was seen.
#[derive(Clone, Debug, Default)]
pub struct Thought {
    seen: BTreeMap<Likes, Ways>,
}

impl Thought {
    /// A call of these has thought so much.
    pub fn came(&mut self, likes: Likes, arm: Arm, tokens: Tokens) {
        if self.seen.len() >= KINDS_MAX && !self.seen.contains_key(&likes) {
            return;
        }
        let ways = self.seen.entry(likes).or_default();
        let sketch = match arm {
            Arm::Full => &mut ways.full,
            Arm::Lowered => &mut ways.lowered,
        };
        sketch.add(tokens.0);
        if sketch.total() >= MEMORY {
            sketch.halve();
        }
    }

    /// What such calls usually think when nobody lowers it, at the lower end; none before enough of
    /// both ways were seen.
    pub fn usual(&self, likes: &Likes) -> Option<Tokens> {
        let ways = self.seen.get(likes)?;
        let is_known = ways.full.total() >= CALLS_MIN && ways.lowered.total() >= CALLS_MIN;
        let usual = ways.full.quantile(LOWER_END).filter(|_| is_known)?;
        Some(Tokens(usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likes(route: &str) -> Likes {
        Likes {
            route: route.to_owned(),
            class: Class::Extraction,
            target: "p/m".to_owned(),
            effort: Effort::Low,
        }
    }

    #[test]
    fn nothing_is_claimed_without_evidence() {
        for (full, lowered, is_claimed) in [
            (CALLS_MIN, CALLS_MIN, true),
            (CALLS_MIN - 1, CALLS_MIN, false),
            (CALLS_MIN, CALLS_MIN - 1, false),
            (10 * CALLS_MIN, 0, false),
        ] {
            let mut thought = Thought::default();
            for call in 0..full {
                // A long tail, as thinking has: its mean is far above what is claimed.
                let tokens = if call % 10 == 0 {
                    20_000
                } else {
                    800 + call % 100
                };
                thought.came(likes("a"), Arm::Full, Tokens(tokens));
            }
            for _ in 0..lowered {
                thought.came(likes("a"), Arm::Lowered, Tokens(90));
            }
            let usual = thought.usual(&likes("a"));
            assert_eq!(usual.is_some(), is_claimed, "{full} {lowered}");
            assert!(
                usual.is_none_or(|it| (750..=860).contains(&it.0)),
                "{usual:?}"
            );
            assert_eq!(thought.usual(&likes("b")), None, "another route");
        }
    }

    #[test]
    fn what_was_long_ago_counts_less() {
        let mut thought = Thought::default();
        for _ in 0..CALLS_MIN {
            thought.came(likes("a"), Arm::Lowered, Tokens(0));
        }
        for _ in 0..3 * MEMORY {
            thought.came(likes("a"), Arm::Full, Tokens(1_000));
        }
        for _ in 0..MEMORY {
            thought.came(likes("a"), Arm::Full, Tokens(100));
        }
        assert!(thought.usual(&likes("a")) <= Some(Tokens(100)));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut thought = Thought::default();
        for route in 0..2 * KINDS_MAX {
            thought.came(likes(&route.to_string()), Arm::Full, Tokens(1));
        }
        assert_eq!(thought.seen.len(), KINDS_MAX);
    }
}
