//! What thinking was seen to cost and to gain, by route and class of question.
//!
//! **Invariant**: a class is said to overthink only with enough outcomes of both ways (test
//! `overthinking_is_named_only_with_evidence`).

use std::collections::BTreeMap;

use wire::usage::Tokens;

use super::class::Class;
use crate::sketch::Sketch;

/// Calls of each kind, with and without full thinking, below which nothing is said about a gain.
pub const CALLS_MIN: u64 = 100;

/// Median thinking tokens from which a class counts as thinking much.
const MANY_TOKENS: u64 = 512;

/// A gain in the share of good answers below which there is none.
const GAIN_MIN: f64 = 0.01;

/// How much a call was allowed to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// As the model does by default, or more.
    Full,
    /// Less.
    Lowered,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its answer was good.
    Good,
    /// It was not.
    Bad,
    /// Nobody knows.
    Unknown,
}

/// Outcomes of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Calls whose outcome is known.
    pub known: u64,
    /// Those that were good.
    pub good: u64,
}

impl Outcomes {
    /// The share of good ones among those that are known.
    pub fn share(self) -> f64 {
        crate::shape::cache::float(self.good) / crate::shape::cache::float(self.known.max(1))
    }
}

/// What was seen of one class on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Reasoning tokens of calls that thought fully.
    pub full: Sketch,
    /// Reasoning tokens of calls that thought less.
    pub lowered: Sketch,
    /// Outcomes of the former.
    pub full_outcomes: Outcomes,
    /// Outcomes of the latter.
    pub lowered_outcomes: Outcomes,
}

impl Seen {
    /// How much better full thinking was, as a share of good answers; none before there are enough
    /// outcomes of both. A point estimate.
    pub fn gain(&self) -> Option<f64> {
        let (full, lowered) = (self.full_outcomes, self.lowered_outcomes);
        (full.known >= CALLS_MIN && lowered.known >= CALLS_MIN)
            .then(|| full.share() - lowered.share())
    }
}

/// What was seen on all routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    seen: BTreeMap<(String, Class), Seen>,
}

/// A class that thinks much for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Overthinking {
    /// The route.
    pub route: String,
    /// The class.
    pub class: Class,
    /// Median reasoning tokens with full thinking.
    pub median: u64,
    /// The gain that was seen: below one point.
    pub gain: f64,
}

impl Observed {
    /// Adds a call and its reasoning tokens.
    pub fn add(&mut self, route: &str, class: Class, arm: Arm, tokens: Tokens, outcome: Outcome) {
        let seen = self.seen.entry((route.to_owned(), class)).or_default();
        let (sketch, outcomes) = match arm {
            Arm::Full => (&mut seen.full, &mut seen.full_outcomes),
            Arm::Lowered => (&mut seen.lowered, &mut seen.lowered_outcomes),
        };
        sketch.add(tokens.0);
        outcomes.known += u64::from(outcome != Outcome::Unknown);
        outcomes.good += u64::from(outcome == Outcome::Good);
    }

    /// Every route and class, sorted.
    pub fn seen(&self) -> impl Iterator<Item = (&str, Class, &Seen)> {
        let all = self.seen.iter();
        all.map(|((route, class), seen)| (route.as_str(), *class, seen))
    }

    /// The classes with many thinking tokens and no gain.
    pub fn overthinking(&self) -> Vec<Overthinking> {
        let named = self.seen().filter_map(|(route, class, seen)| {
            let median = seen.full.quantile(500)?;
            let gain = seen.gain()?;
            (median >= MANY_TOKENS && gain < GAIN_MIN).then(|| Overthinking {
                route: route.to_owned(),
                class,
                median,
                gain,
            })
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use wire::usage::Tokens;

    use super::{Arm, Observed, Outcome};
    use crate::think::class::Class;

    #[test]
    fn overthinking_is_named_only_with_evidence() {
        let check = |calls: u64, tokens: u64, full_good: u64, expect: usize| {
            let mut observed = Observed::default();
            for call in 0..calls {
                let class = Class::Extraction;
                let of = |good: u64| {
                    if call % 10 < good {
                        Outcome::Good
                    } else {
                        Outcome::Bad
                    }
                };
                observed.add("r", class, Arm::Full, Tokens(tokens), of(full_good));
                observed.add("r", class, Arm::Lowered, Tokens(40), of(8));
            }
            assert_eq!(observed.overthinking().len(), expect);
        };
        check(200, 2_000, 8, 1);
        check(200, 2_000, 9, 0);
        check(200, 100, 8, 0);
        check(50, 2_000, 8, 0);
    }
}
