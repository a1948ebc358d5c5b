//! Way: whether a call passes a cascade's cheap target by, has its answer judged, or takes it as it
//! comes, by what is known of the target on such calls before it is asked.
//!
//! Three plans are priced alike: the call's own target alone; the cheap one first, its answer judged,
//! the leg that is thrown away paid for; and the cheap one alone. How far a judgement can be trusted
//! is learned from judgements: where answers are accepted however seldom they were expected to be
//! adequate, accepting says nothing, and the plan is held to be no better than the cheap target.
//!
//! **Invariant**: the way that is taken keeps the quality that is wanted and is the cheapest that does
//! (property `no_way_that_keeps_the_quality_is_cheaper`); no check is left out on a mere estimate
//! (test `a_check_is_left_out_only_on_grounds`).

use super::choice::{Candidate, Judge, Plan, foresee};
use super::record::Fared;
use crate::money::PicoUsd;

/// 2 000 judgements, as long as outcomes are remembered: expectations lie close together, so that a
/// line through a few hundred judgements has any slope.
const MEMORY: f64 = 2_000.0;

/// Ten judgements at each end, each of them right: as much as some two hundred others, whose
/// expectations lie 0.15 apart. Whoever sets up a cascade trusts its checks, until they are seen to
/// accept what was not expected to do.
const TRUSTED: f64 = 10.0;

/// Amounts and shares are compared up to rounding.
const ROUNDING: f64 = 1e-9;

/// Whether it was shown that the cheap target's answers to such calls keep the quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Outcomes or a router's promise say so.
    Kept,
    /// Nothing does.
    Open,
}

/// What is known of a call before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chances {
    /// The probability that the cheap target's answer is adequate.
    pub adequate: f64,
    /// The same of the call's own target.
    pub own: f64,
    /// The share of the own target's quality that must be kept.
    pub quality: f64,
    /// Whether it is known to be.
    pub known: Known,
    /// What the cheap target's answer costs.
    pub cheap: PicoUsd,
    /// What the own target's answer costs.
    pub dear: PicoUsd,
    /// The same where it is only asked after the cheap one: its cache is colder then.
    pub escalated: PicoUsd,
    /// What judging the cheap answer costs.
    pub check: PicoUsd,
}

/// How a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By its own target alone.
    Straight,
    /// By the cheap one if its answer convinces.
    Checked,
    /// By the cheap one, whose answer is not judged.
    Unchecked,
}

impl Way {
    /// The name in notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Straight => "straight",
            Self::Checked => "checked",
            Self::Unchecked => "unchecked",
        }
    }
}

/// The way that is taken, and what it is expected to come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The way.
    pub way: Way,
    /// Its expected cost, quality and waste.
    pub plan: Plan,
    /// The probability that the cheap answer would convince.
    pub convinces: f64,
}

/// Decides. See [`Known`] for what it takes to leave the check out.
///
/// ```
/// use policy::cascade::way::{Chances, Known, Verdicts, Way, decide};
/// use policy::money::PicoUsd;
///
/// let chances = Chances {
///     adequate: 0.8,
///     own: 1.0,
///     quality: 0.97,
///     known: Known::Open,
///     cheap: PicoUsd(10),
///     dear: PicoUsd(100),
///     escalated: PicoUsd(100),
///     check: PicoUsd(0),
/// };
/// let judge = Verdicts::default().judge(chances.check);
/// assert_eq!(decide(&chances, judge).way, Way::Checked);
/// // Nine in ten answers would be thrown away, at a tenth of the price.
/// let poor = Chances { adequate: 0.09, ..chances };
/// assert_eq!(decide(&poor, judge).way, Way::Straight);
/// ```
pub fn decide(chances: &Chances, judge: Judge) -> Taken {
    let candidate = |adequate: f64, cost, judge| Candidate {
        adequate,
        cost: Some(cost),
        judge,
    };
    let candidates = [
        candidate(chances.adequate, chances.cheap, Some(judge)),
        candidate(chances.own, chances.escalated, None),
        candidate(chances.own, chances.dear, None),
    ];
    // The pessimistic end: nobody has counted which calls both targets fail on.
    let plan = |legs: &[usize]| foresee(&candidates, legs, 1.0);
    let checked = plan(&[0, 1]);
    let convinces = 1.0 - checked.escalates;
    let floor = chances.quality * chances.own - ROUNDING;
    let is_kept = chances.known == Known::Kept;
    let mut ways = Vec::new();
    if is_kept || checked.adequate >= floor {
        ways.push((Way::Checked, checked));
    }
    if is_kept {
        ways.push((Way::Unchecked, plan(&[0])));
    }
    // Of ways that cost the same, the one that asks fewer wins.
    let mut best = (Way::Straight, plan(&[2]));
    for (way, plan) in ways {
        if plan.cost < best.1.cost {
            best = (way, plan);
        }
    }
    let (way, plan) = best;
    Taken {
        way,
        plan,
        convinces,
    }
}

/// What judgements have shown of how far they can be trusted, fading: a line through them, from what
/// was expected of an answer to whether it was accepted. Its ends are the shares of adequate and of
/// inadequate answers that are accepted, as far as a judgement depends on nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdicts {
    count: f64,
    expected: f64,
    expected_squared: f64,
    accepted: f64,
    accepted_expected: f64,
}

impl Default for Verdicts {
    fn default() -> Self {
        // At the lower end nothing is accepted, at the upper one everything.
        Self {
            count: 2.0 * TRUSTED,
            expected: TRUSTED,
            expected_squared: TRUSTED,
            accepted: TRUSTED,
            accepted_expected: TRUSTED,
        }
    }
}

impl Verdicts {
    /// An answer was judged that was adequate with this probability.
    pub fn came(&mut self, adequate: f64, fared: Fared) {
        let kept = 1.0 - 1.0 / MEMORY;
        let adequate = adequate.clamp(0.0, 1.0);
        let accepted = f64::from(u8::from(fared == Fared::Accepted));
        for (sum, more) in [
            (&mut self.count, 1.0),
            (&mut self.expected, adequate),
            (&mut self.expected_squared, adequate * adequate),
            (&mut self.accepted, accepted),
            (&mut self.accepted_expected, accepted * adequate),
        ] {
            *sum = *sum * kept + more;
        }
    }

    /// How well the answers can be judged, at this price.
    pub fn judge(&self, cost: PicoUsd) -> Judge {
        // Weights of both ends in the least squares.
        let low = self.count - 2.0 * self.expected + self.expected_squared;
        let mixed = self.expected - self.expected_squared;
        let high = self.expected_squared;
        let (at_high, at_low) = (
            self.accepted_expected,
            self.accepted - self.accepted_expected,
        );
        let spread = (low * high - mixed * mixed).max(f64::EPSILON);
        let free = (
            (at_low * high - at_high * mixed) / spread,
            (at_high * low - at_low * mixed) / spread,
        );
        // An end beyond what a share can be is fixed there, and the other one found anew.
        let upper = free.1.clamp(0.0, 1.0);
        let lower = if (free.1 - upper).abs() > ROUNDING {
            (at_low - mixed * upper) / low.max(f64::EPSILON)
        } else {
            free.0
        };
        let lower_fixed = lower.clamp(0.0, 1.0);
        let upper = if (lower - lower_fixed).abs() > ROUNDING {
            ((at_high - mixed * lower_fixed) / high.max(f64::EPSILON)).clamp(0.0, 1.0)
        } else {
            upper
        };
        Judge {
            accepts_adequate: upper,
            // Nothing is accepted the sooner for being wrong.
            accepts_inadequate: lower_fixed.min(upper),
            cost,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    fn chances(adequate: f64) -> Chances {
        Chances {
            adequate,
            own: 1.0,
            quality: 0.97,
            known: Known::Open,
            cheap: PicoUsd(1_000),
            dear: PicoUsd(10_000),
            escalated: PicoUsd(10_000),
            check: PicoUsd::ZERO,
        }
    }

    const TRUE: Judge = Judge {
        accepts_adequate: 1.0,
        accepts_inadequate: 0.0,
        cost: PicoUsd::ZERO,
    };

    #[test]
    fn a_check_is_left_out_only_on_grounds() {
        let check = |chances: Chances, judge: Judge, expect: Way| {
            assert_eq!(decide(&chances, judge).way, expect, "{chances:?} {judge:?}");
        };
        let kept = |adequate: f64| Chances {
            known: Known::Kept,
            ..chances(adequate)
        };
        check(chances(1.0), TRUE, Way::Checked);
        check(chances(0.5), TRUE, Way::Checked);
        check(kept(0.99), TRUE, Way::Unchecked);
        check(chances(0.1), TRUE, Way::Straight);
        // A judge that accepts whatever comes keeps nothing that the target alone does not keep.
        let blind = Judge {
            accepts_inadequate: 1.0,
            ..TRUE
        };
        check(chances(0.9), blind, Way::Straight);
        check(chances(0.98), blind, Way::Checked);
        // A dear check eats what the cheap answer saves.
        let dear = Judge {
            cost: PicoUsd(9_500),
            ..TRUE
        };
        check(chances(0.9), dear, Way::Straight);
        check(kept(0.99), dear, Way::Unchecked);
        // The own target is no better.
        let modest = Chances {
            own: 0.6,
            ..chances(0.6)
        };
        check(modest, blind, Way::Checked);
        // What is warm at the own target, and cold at the cheap one, is not cheaper there.
        let warm = Chances {
            dear: PicoUsd(1_000),
            ..kept(1.0)
        };
        check(warm, TRUE, Way::Straight);
        // What is left alone gets cold: half of the calls escalated, at five times the price.
        let cold = Chances {
            escalated: PicoUsd(50_000),
            ..chances(0.5)
        };
        check(cold, TRUE, Way::Straight);
    }

    #[test]
    fn trust_in_judgements_follows_them() {
        let check = |judged: &[(f64, u32, u32)], expect: [f64; 2]| {
            let mut verdicts = Verdicts::default();
            // By turns, so that none of them fades more than another.
            for round in 0..1_000 {
                for (adequate, accepted, of) in judged {
                    let is_in = round % of < *accepted;
                    let fared = if is_in {
                        Fared::Accepted
                    } else {
                        Fared::Rejected
                    };
                    verdicts.came(*adequate, fared);
                }
            }
            let judge = verdicts.judge(PicoUsd::ZERO);
            let found = [judge.accepts_adequate, judge.accepts_inadequate];
            let is_close = |pair: (&f64, &f64)| (pair.0 - pair.1).abs() < 0.05;
            assert!(
                found.iter().zip(&expect).all(is_close),
                "{judged:?}: {found:?}"
            );
        };
        check(&[], [1.0, 0.0]);
        // As often as expected.
        check(&[(0.5, 1, 2)], [1.0, 0.0]);
        check(&[(0.9, 9, 10), (0.2, 1, 5)], [1.0, 0.0]);
        // All the same, whatever was expected.
        check(&[(0.9, 10, 10), (0.2, 10, 10)], [1.0, 0.97]);
        check(&[(0.5, 10, 10)], [1.0, 0.97]);
        check(&[(0.9, 1, 2), (0.1, 1, 2)], [0.51, 0.49]);
        // Never.
        check(&[(0.9, 0, 10)], [0.03, 0.0]);
    }

    proptest! {
        #[test]
        fn no_way_that_keeps_the_quality_is_cheaper(
            adequate in 0.0..=1.0_f64,
            own in 0.0..=1.0_f64,
            quality in 0.5..=1.0_f64,
            ends in (0.0..=1.0_f64, 0.0..=1.0_f64),
            costs in (1..10_000_i32, 1..10_000_i32, 0..1_000_i32, 0..10_000_i32),
            is_kept: bool,
        ) {
            let known = if is_kept { Known::Kept } else { Known::Open };
            let [cheap, dear, check] = [costs.0, costs.1, costs.2].map(|it| PicoUsd(it.into()));
            let escalated = PicoUsd((costs.1 + costs.3).into());
            let chances = Chances { adequate, own, quality, known, cheap, dear, escalated, check };
            let judge = Judge { accepts_adequate: ends.0, accepts_inadequate: ends.1, cost: check };
            let taken = decide(&chances, judge);
            let expected = |accepted: f64| f64::from(costs.0 + costs.2)
                + (1.0 - accepted) * f64::from(costs.1 + costs.3);
            let accepted = adequate * ends.0 + (1.0 - adequate) * ends.1;
            prop_assert!((taken.convinces - accepted).abs() < 1e-6);
            prop_assert!(taken.plan.cost <= dear);
            match taken.way {
                Way::Straight => prop_assert!(!is_kept || cheap >= dear),
                Way::Unchecked => prop_assert!(is_kept && cheap < dear),
                Way::Checked => {
                    prop_assert!(taken.plan.adequate >= quality * own - 1e-6);
                    prop_assert!(expected(accepted) < f64::from(costs.1) + 1.0);
                }
            }
        }

        #[test]
        fn trust_stays_within_what_shares_can_be(judged in proptest::collection::vec((0.0..=1.0_f64, proptest::bool::ANY), 0..300)) {
            let mut verdicts = Verdicts::default();
            for (adequate, is_in) in judged {
                verdicts.came(adequate, if is_in { Fared::Accepted } else { Fared::Rejected });
            }
            let judge = verdicts.judge(PicoUsd::ZERO);
            prop_assert!((0.0..=1.0).contains(&judge.accepts_adequate));
            prop_assert!((0.0..=judge.accepts_adequate).contains(&judge.accepts_inadequate));
        }
    }
}
