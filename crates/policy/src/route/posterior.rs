//! What a route has learned of its targets from outcomes: for every kind of traffic a posterior of
//! the probability that a target is adequate, drawn to that of the more general kind above it.
//!
//! **Invariant**: a kind without outcomes believes what the kind above it believes, up to the prior
//! (test `a_kind_believes_its_parent_until_it_knows_better`); a target whose outcomes get worse is no
//! longer believed in (test `what_has_drifted_starts_anew`); a frozen posterior neither learns nor
//! explores, and no target below the floor is explored (properties `frozen_means_frozen` and
//! `nothing_below_the_floor_is_explored`).

use std::collections::BTreeMap;

use crate::money::PicoUsd;

/// Eight outcomes: so many of its own weigh as much as what a kind inherits.
const INHERITED: f64 = 8.0;

/// 2,000 outcomes: older ones have faded to a third by then, and models change within months.
const MEMORY: f64 = 2_000.0;

/// 20,000 kinds and targets: two megabytes. Kinds that come later believe their parents.
const KINDS_MAX: usize = 20_000;

/// 20 outcomes: with fewer, nobody knows what it would have drifted from.
const OUTCOMES_LEAST: f64 = 20.0;

/// 85 in 100: a loss of 15 % of the quality is looked for. A greater one is found sooner.
const DRIFTED_TO: f64 = 0.85;

/// ln 10⁵. If the quality before were known exactly, a false alarm would come once in no less than
/// 100,000 outcomes (Lorden's bound for CUSUM). It is estimated, from 20 outcomes on: of 3,000 simulated
/// runs of 2,000 outcomes each, at steady qualities from 0.6 to 0.99, at most 7 raised one.
const DRIFT_ALARM: f64 = 11.5;

/// 100 outcomes after a drift, what is known is known again.
const KNOWN_AGAIN: f64 = 100.0;

/// 2 in 100: what is thought to be certain is left so much room.
const CERTAIN: f64 = 0.02;

/// 3 in 4: draws lie so much nearer to what is believed than its spread says. Over a finite time that
/// loses less than the whole spread (Chapelle and Li, "An Empirical Evaluation of Thompson Sampling",
/// 2011); chosen on training streams (docs/measured.md).
const DRAWN: f64 = 0.75;

/// One half: nobody relies on a target that is wrong more often than right.
const RELIED_ON: f64 = 0.5;

/// Counted outcomes of one target on one kind of traffic, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// The sum of scores.
    pub adequate: f64,
    /// Of how many.
    pub outcomes: f64,
    /// What speaks for a loss of quality, in nats.
    loss: f64,
    /// Whether it was lost, and what is known now began after that.
    pub has_drifted: bool,
}

impl Tally {
    /// Counts a score as so much of an outcome. True if that shows that quality was lost: what was
    /// known then is no longer.
    fn count(&mut self, score: f64, weight: f64) -> bool {
        let was = self.adequate / self.outcomes.max(1.0);
        if self.outcomes >= OUTCOMES_LEAST && was >= RELIED_ON {
            let was = was.min(1.0 - CERTAIN);
            let lost = was * DRIFTED_TO;
            let (right, wrong) = ((lost / was).ln(), ((1.0 - lost) / (1.0 - was)).ln());
            let speaks = score * right + (1.0 - score) * wrong;
            self.loss = (self.loss + weight * speaks).max(0.0);
        }
        if self.loss >= DRIFT_ALARM {
            *self = Self {
                has_drifted: true,
                ..Self::default()
            };
            return true;
        }
        let kept = 1.0 - weight / MEMORY;
        self.adequate = self.adequate * kept + weight * score;
        self.outcomes = self.outcomes * kept + weight;
        self.has_drifted &= self.outcomes < KNOWN_AGAIN;
        false
    }

    /// The sum of scores, and of how many, of what a kind below has not seen. Here they have faded more,
    /// for more has come since.
    fn without(self, below: Self) -> (f64, f64) {
        let outcomes = (self.outcomes - below.outcomes).max(0.0);
        let adequate = (self.adequate - below.adequate).clamp(0.0, outcomes);
        (adequate, outcomes)
    }
}

/// A probability and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// The mean of the posterior.
    pub mean: f64,
    /// Its standard deviation.
    pub spread: f64,
    /// How many outcomes of the kind itself it rests on; older ones count less.
    pub outcomes: f64,
    /// Whether its quality was lost lately, on this kind or on one above it.
    pub has_drifted: bool,
}

/// Whether outcomes are learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are, and what is uncertain is explored.
    #[default]
    Learns,
    /// Traffic or targets have drifted: what is known stands until somebody has looked.
    Frozen,
}

/// A target that could serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// The target's number.
    pub target: u32,
    /// The probability that it is adequate before any outcome: from the global model, or from price
    /// and published strength.
    pub prior: f64,
    /// What it is expected to cost.
    pub cost: PicoUsd,
}

/// What is wanted of a choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// What an adequate answer is worth.
    pub worth: PicoUsd,
    /// Only a target that is believed to be adequate at least so often, compared with the best, is
    /// tried: 0.9 means nine tenths as often.
    pub floor: f64,
}

/// A target and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place among the offers.
    pub place: usize,
    /// Whether it is what is best as far as is known, or is tried to learn more.
    pub why: Why,
}

/// Why a target was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the best as far as is known.
    Best,
    /// It may be the best.
    Explored,
}

/// The posteriors of a route. A path names the kinds that a call belongs to, from the most general
/// to the most particular: route, route and prompt hash, and so on; each name is a hash that no
/// other kind has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posterior {
    tallies: BTreeMap<(u64, u32), Tally>,
    mode: Mode,
}

impl Posterior {
    /// Stops or resumes learning.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// What was counted of a target on a kind.
    pub fn tally(&self, kind: u64, target: u32) -> Tally {
        self.tallies
            .get(&(kind, target))
            .copied()
            .unwrap_or_default()
    }

    /// Learns one outcome, `score` in 0..=1, on every kind of the path. True if it shows that the
    /// target has become worse on one of them.
    pub fn observe(&mut self, path: &[u64], target: u32, score: f64) -> bool {
        self.observe_weighed(path, target, score, 1.0)
    }

    /// The same of a score that is only so much of an outcome, in 0..=1.
    pub fn observe_weighed(&mut self, path: &[u64], target: u32, score: f64, weight: f64) -> bool {
        if self.mode == Mode::Frozen || !score.is_finite() || !weight.is_finite() {
            return false;
        }
        let mut has_drifted = false;
        for kind in path {
            let key = (*kind, target);
            if self.tallies.len() >= KINDS_MAX && !self.tallies.contains_key(&key) {
                continue;
            }
            let tally = self.tallies.entry(key).or_default();
            has_drifted |= tally.count(score.clamp(0.0, 1.0), weight.clamp(0.0, 1.0));
        }
        has_drifted
    }

    /// What is believed of a target on the last kind of a path. Each outcome speaks once: what a kind
    /// has seen is counted in those above it, too, and left out there.
    pub fn belief(&self, path: &[u64], target: u32, prior: f64) -> Belief {
        let mut mean = prior.clamp(0.0, 1.0);
        let mut outcomes = 0.0;
        let mut has_drifted = false;
        for (at, kind) in path.iter().enumerate() {
            let tally = self.tally(*kind, target);
            let below = path.get(at + 1).map(|it| self.tally(*it, target));
            let (adequate, others) = tally.without(below.unwrap_or_default());
            outcomes = tally.outcomes;
            has_drifted |= tally.has_drifted;
            mean = (INHERITED * mean + adequate) / (INHERITED + others);
        }
        Belief {
            mean,
            spread: (mean * (1.0 - mean) / (INHERITED + outcomes + 1.0)).sqrt(),
            outcomes,
            has_drifted,
        }
    }

    /// Chooses among offers by Thompson's rule: each target is taken at a value drawn from what is
    /// believed of it. `draws` are standard normal, one an offer; a missing one is zero, and with
    /// none at all the choice is greedy. None without offers.
    pub fn choose(
        &self,
        path: &[u64],
        offers: &[Offer],
        aim: Aim,
        draws: &[f64],
    ) -> Option<Choice> {
        let beliefs: Vec<Belief> = offers
            .iter()
            .map(|offer| self.belief(path, offer.target, offer.prior))
            .collect();
        let most = beliefs.iter().map(|it| it.mean).fold(0.0, f64::max);
        let may_serve = |place: &usize| {
            let mean = beliefs.get(*place).map_or(0.0, |it| it.mean);
            mean >= aim.floor.min(1.0) * most
        };
        let best_by = |drawn: &dyn Fn(usize, &Belief) -> f64| {
            let value = |place: usize| {
                let (Some(offer), Some(belief)) = (offers.get(place), beliefs.get(place)) else {
                    return f64::NEG_INFINITY;
                };
                pico(aim.worth) * drawn(place, belief) - pico(offer.cost)
            };
            // Of equals, the first.
            (0..offers.len())
                .rev()
                .filter(may_serve)
                .max_by(|left, right| value(*left).total_cmp(&value(*right)))
        };
        let best = best_by(&|_, belief| belief.mean)?;
        if self.mode == Mode::Frozen {
            return Some(Choice {
                place: best,
                why: Why::Best,
            });
        }
        let place = best_by(&|place, belief| {
            let draw = draws.get(place).copied().unwrap_or_default();
            (belief.mean + DRAWN * draw * belief.spread).clamp(0.0, 1.0)
        })?;
        let why = if place == best {
            Why::Best
        } else {
            Why::Explored
        };
        Some(Choice { place, why })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a forecast, not a bill")]
fn pico(amount: PicoUsd) -> f64 {
    amount.0 as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::{Aim, Choice, Mode, Offer, Posterior, Why};
    use crate::money::PicoUsd;

    const ROUTE: u64 = 1;
    const PROMPT: u64 = 2;
    const OTHER: u64 = 3;

    fn learned(path: &[u64], target: u32, good: u32, bad: u32) -> Posterior {
        let mut posterior = Posterior::default();
        for _ in 0..good {
            posterior.observe(path, target, 1.0);
        }
        for _ in 0..bad {
            posterior.observe(path, target, 0.0);
        }
        posterior
    }

    #[test]
    fn a_kind_believes_its_parent_until_it_knows_better() {
        let posterior = learned(&[ROUTE, PROMPT], 0, 0, 40);
        let mean = |path: &[u64], target| posterior.belief(path, target, 0.8).mean;
        // Nothing known: the prior.
        assert!((mean(&[OTHER], 0) - 0.8).abs() < 1e-9);
        assert!((mean(&[ROUTE, PROMPT], 7) - 0.8).abs() < 1e-9);
        // A new prompt of the route believes the route.
        assert!((mean(&[ROUTE, OTHER], 0) - mean(&[ROUTE], 0)).abs() < 1e-9);
        // 8 × .8 of 48, whether they are seen as the route's or as its only prompt's.
        for path in [&[ROUTE][..], &[ROUTE, PROMPT]] {
            assert!((mean(path, 0) - 6.4 / 48.0).abs() < 0.01, "{path:?}");
        }
        let spread = |path: &[u64]| posterior.belief(path, 0, 0.8).spread;
        assert!(spread(&[ROUTE, PROMPT]) < spread(&[OTHER]) / 2.5);
    }

    #[test]
    fn what_has_drifted_starts_anew() {
        let path = [ROUTE, PROMPT];
        let mut posterior = learned(&path, 0, 950, 50);
        let mut drawn = 0_u32;
        let mut wrong = |of_hundred: u32| {
            drawn = (drawn + 37) % 100;
            drawn < of_hundred
        };
        // As good as before: no alarm.
        for _ in 0..10_000 {
            let score = if wrong(5) { 0.0 } else { 1.0 };
            assert!(!posterior.observe(&path, 0, score));
        }
        // A third of its answers are wrong from now on.
        let found = (0..1_000).find(|_| {
            let score = if wrong(33) { 0.0 } else { 1.0 };
            posterior.observe(&path, 0, score)
        });
        assert!(found.is_some_and(|calls| calls < 60), "{found:?}");
        let belief = posterior.belief(&path, 0, 0.9);
        assert!(belief.has_drifted && belief.outcomes < 1.0, "{belief:?}");
        assert!(posterior.belief(&[ROUTE, OTHER], 0, 0.9).has_drifted);
        assert!(!posterior.belief(&path, 1, 0.9).has_drifted);
        for _ in 0..110 {
            posterior.observe(&path, 0, 1.0);
        }
        assert!(!posterior.belief(&path, 0, 0.9).has_drifted);
    }

    #[test]
    fn four_quarters_of_a_word_are_one() {
        let path = [ROUTE, PROMPT];
        let (mut whole, mut quarters) = (Posterior::default(), Posterior::default());
        for number in 0..100 {
            let score = f64::from(u8::from(number % 10 != 0));
            whole.observe(&path, 0, score);
            (0..4).for_each(|_| _ = quarters.observe_weighed(&path, 0, score, 0.25));
        }
        let (one, four) = (whole.belief(&path, 0, 0.5), quarters.belief(&path, 0, 0.5));
        assert!((one.mean - four.mean).abs() < 1e-3, "{one:?} {four:?}");
        assert!((one.outcomes - four.outcomes).abs() < 0.1);
        // A loss of quality is found by as much evidence.
        let found = |posterior: &mut Posterior, weight: f64| {
            (1..100_u32).find(|_| posterior.observe_weighed(&path, 0, 0.0, weight))
        };
        let calls = [found(&mut whole, 1.0), found(&mut quarters, 0.25)].map(Option::unwrap);
        assert!(calls[1].abs_diff(4 * calls[0]) <= 4, "{calls:?}");
        assert!(!quarters.observe_weighed(&path, 0, 0.0, f64::NAN));
    }

    #[test]
    fn old_outcomes_fade() {
        let mut posterior = Posterior::default();
        for _ in 0..20_000 {
            posterior.observe(&[ROUTE], 0, 0.4);
        }
        for _ in 0..4_000 {
            assert!(!posterior.observe(&[ROUTE], 0, 0.0), "nobody relied on it");
        }
        let belief = posterior.belief(&[ROUTE], 0, 0.5);
        assert!(belief.mean > 0.04 && belief.mean < 0.08, "{belief:?}");
    }

    const WEAK: Offer = Offer {
        target: 0,
        prior: 0.5,
        cost: PicoUsd(1),
    };
    const STRONG: Offer = Offer {
        target: 1,
        prior: 0.8,
        cost: PicoUsd(10),
    };

    #[test]
    fn a_choice_weighs_worth_and_cost() {
        let check = |posterior: &Posterior, worth: i128, floor: f64, draws: &[f64], expect| {
            let aim = Aim {
                worth: PicoUsd(worth),
                floor,
            };
            let choice = posterior.choose(&[ROUTE], &[WEAK, STRONG], aim, draws);
            assert_eq!(choice, Some(expect), "{worth} {floor} {draws:?}");
        };
        let best = |place| Choice {
            place,
            why: Why::Best,
        };
        let new = Posterior::default();
        // 100 × .8 − 10 against 100 × .5 − 1; at 10 an answer is worth no dear one.
        check(&new, 100, 0.0, &[], best(1));
        check(&new, 10, 0.0, &[], best(0));
        check(&new, 10, 0.9, &[], best(1));
        // Where nothing is known a lucky draw is tried; the floor forbids it.
        check(
            &new,
            100,
            0.0,
            &[3.0, 0.0],
            Choice {
                place: 0,
                why: Why::Explored,
            },
        );
        check(&new, 100, 0.9, &[3.0, 0.0], best(1));
        let good = learned(&[ROUTE], 0, 200, 0);
        check(&good, 100, 0.9, &[-3.0, 3.0], best(0));
        assert_eq!(
            new.choose(
                &[ROUTE],
                &[],
                Aim {
                    worth: PicoUsd(1),
                    floor: 0.0
                },
                &[]
            ),
            None
        );
    }

    fn offers() -> impl Strategy<Value = Vec<Offer>> {
        let offer = (0..4_u32, 0.0..1.0_f64, 0..100_i128);
        let offer = offer.prop_map(|(target, prior, cost)| Offer {
            target,
            prior,
            cost: PicoUsd(cost),
        });
        proptest::collection::vec(offer, 1..5)
    }

    fn posterior() -> impl Strategy<Value = Posterior> {
        let outcome = (0..4_u32, proptest::bool::ANY);
        proptest::collection::vec(outcome, 0..60).prop_map(|outcomes| {
            let mut posterior = Posterior::default();
            for (target, is_good) in outcomes {
                posterior.observe(&[ROUTE, PROMPT], target, f64::from(u8::from(is_good)));
            }
            posterior
        })
    }

    proptest! {
        #[test]
        fn frozen_means_frozen(
            posterior in posterior(),
            offers in offers(),
            draws in proptest::collection::vec(-3.0..3.0_f64, 5),
            worth in 0..1_000_i128,
        ) {
            let aim = Aim { worth: PicoUsd(worth), floor: 0.0 };
            let mut frozen = posterior;
            frozen.set_mode(Mode::Frozen);
            let before = frozen.clone();
            frozen.observe(&[ROUTE], 0, 1.0);
            prop_assert_eq!(&frozen, &before);
            let path = [ROUTE, PROMPT];
            prop_assert_eq!(frozen.choose(&path, &offers, aim, &draws), frozen.choose(&path, &offers, aim, &[]));
        }

        #[test]
        fn nothing_below_the_floor_is_explored(
            posterior in posterior(),
            offers in offers(),
            draws in proptest::collection::vec(-3.0..3.0_f64, 5),
            worth in 0..1_000_i128,
            floor in 0.0..1.0_f64,
        ) {
            let path = [ROUTE, PROMPT];
            let aim = Aim { worth: PicoUsd(worth), floor };
            let place = posterior.choose(&path, &offers, aim, &draws).expect("a choice").place;
            let mean = |offer: &Offer| posterior.belief(&path, offer.target, offer.prior).mean;
            let most = offers.iter().map(mean).fold(0.0, f64::max);
            prop_assert!(mean(&offers[place]) >= floor * most);
        }
    }
}
