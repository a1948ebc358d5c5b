//! Route or cascade, as one choice: which targets answer a call, in which order, until one of them
//! convinces.
//!
//! A plan is a sequence of targets. Each is paid; a judge accepts its answer or lets the next one
//! try; the last one is not judged. A plan of one target is routing, a longer one a cascade, and all
//! of them are priced alike: what an adequate answer is worth times its probability, minus expected
//! cost, in which the legs whose answers are thrown away are counted. The idea is that of cascade
//! routing (<https://arxiv.org/abs/2410.10347>, ICML 2025); the model of how targets fail together
//! is ours.
//!
//! **Invariant**: no plan is chosen that another one beats, and a plan that cannot be told from
//! random help is never assumed to rescue anything (properties `nothing_beats_the_choice` and
//! `a_judge_that_knows_nothing_never_pays`).

use crate::money::PicoUsd;

/// Three legs: each adds its whole latency to that of the answer.
pub const LEGS_MAX: usize = 3;

/// Eight targets: all sequences of up to three of them are 400.
pub const TARGETS_MAX: usize = 8;

/// How well a target's answers can be judged, and what judging one costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judge {
    /// Share of adequate answers that are accepted.
    pub accepts_adequate: f64,
    /// Share of inadequate answers that are accepted too.
    pub accepts_inadequate: f64,
    /// The cost of asking verifiers and other answers.
    pub cost: PicoUsd,
}

/// A target that could answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The calibrated probability that its answer is adequate.
    pub adequate: f64,
    /// What its answer costs; none if that is not known, which bars it.
    pub cost: Option<PicoUsd>,
    /// How its answers can be judged; none if nothing tells good from bad, so that it can only be
    /// the last.
    pub judge: Option<Judge>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// What an adequate answer is worth beyond the floor. Zero: the cheapest plan above the floor.
    pub worth: PicoUsd,
    /// The least probability of an adequate answer.
    pub floor: f64,
    /// How far targets fail on the same calls: 1, the pessimistic end, if a weaker target never
    /// succeeds where a stronger one fails; 0 if they fail independently. See [`overlap`].
    pub overlap: f64,
}

/// A sequence of targets and what it would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Places among the candidates, in order.
    pub legs: Vec<usize>,
    /// The probability that the answer that the client gets is adequate.
    pub adequate: f64,
    /// The expected cost of all legs and judgements.
    pub cost: PicoUsd,
    /// The part of it that is expected to go into answers that are thrown away.
    pub wasted: PicoUsd,
    /// The probability that more than the first leg is needed.
    pub escalates: f64,
}

/// The plan to follow and those that lost, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The plan to follow; none if no target has a price.
    pub chosen: Option<Plan>,
    /// The others.
    pub lost: Vec<Plan>,
}

/// Chooses among all sequences of the candidates, of which the first [`TARGETS_MAX`] are looked at.
/// If none clears the floor, the one that is most often adequate is taken.
///
/// ```
/// use policy::cascade::choice::{Aim, Candidate, Judge, choose};
/// use policy::money::PicoUsd;
///
/// let weak = Candidate {
///     adequate: 0.7,
///     cost: Some(PicoUsd(1)),
///     judge: Some(Judge { accepts_adequate: 0.9, accepts_inadequate: 0.1, cost: PicoUsd(0) }),
/// };
/// let strong = Candidate { adequate: 0.9, cost: Some(PicoUsd(100)), judge: None };
/// let aim = Aim { worth: PicoUsd(0), floor: 0.85, overlap: 1.0 };
/// assert_eq!(choose(&[weak, strong], &aim).chosen.unwrap().legs, [0, 1]);
/// ```
pub fn choose(candidates: &[Candidate], aim: &Aim) -> Decision {
    let candidates = candidates.get(..TARGETS_MAX).unwrap_or(candidates);
    let mut plans = Vec::new();
    let mut legs = Vec::new();
    extend(candidates, aim, &mut legs, &mut plans);
    plans.sort_by(|left, right| {
        let rank = |plan: &Plan| (plan.adequate >= aim.floor, value(plan, aim));
        let ((left_clears, left_value), (right_clears, right_value)) = (rank(left), rank(right));
        right_clears
            .cmp(&left_clears)
            .then_with(|| {
                if left_clears {
                    right_value.total_cmp(&left_value)
                } else {
                    right.adequate.total_cmp(&left.adequate)
                }
            })
            .then_with(|| left.cost.cmp(&right.cost))
            // What is as good with fewer legs is sooner there.
            .then_with(|| left.legs.len().cmp(&right.legs.len()))
            .then_with(|| left.legs.cmp(&right.legs))
    });
    let mut plans = plans.into_iter();
    Decision {
        chosen: plans.next(),
        lost: plans.collect(),
    }
}

/// Adds every plan that begins with `legs`.
fn extend(candidates: &[Candidate], aim: &Aim, legs: &mut Vec<usize>, plans: &mut Vec<Plan>) {
    let may_go_on = legs.last().is_none_or(|last| {
        let candidate = candidates.get(*last);
        candidate.is_some_and(|candidate| candidate.judge.is_some())
    });
    if legs.len() == LEGS_MAX || !may_go_on {
        return;
    }
    for (place, candidate) in candidates.iter().enumerate() {
        if legs.contains(&place) || candidate.cost.is_none() {
            continue;
        }
        legs.push(place);
        plans.push(foresee(candidates, legs, aim.overlap));
        extend(candidates, aim, legs, plans);
        legs.pop();
    }
}

/// What a plan is worth, in pico-dollars.
fn value(plan: &Plan, aim: &Aim) -> f64 {
    dollars(aim.worth) * plan.adequate - dollars(plan.cost)
}

/// What a sequence of legs comes to: between the world in which targets fail on the same calls and
/// the one in which they fail independently.
pub fn foresee(candidates: &[Candidate], legs: &[usize], overlap: f64) -> Plan {
    let steps: Vec<Candidate> = legs
        .iter()
        .filter_map(|place| candidates.get(*place).copied())
        .collect();
    let nested = nested(&steps);
    let apart = walk(&steps, |step| step.adequate.clamp(0.0, 1.0));
    let overlap = overlap.clamp(0.0, 1.0);
    let mixed = |left: f64, right: f64| overlap * left + (1.0 - overlap) * right;
    Plan {
        legs: legs.to_vec(),
        adequate: mixed(nested.adequate, apart.adequate),
        cost: amount(mixed(nested.cost, apart.cost)),
        wasted: amount(mixed(nested.wasted, apart.wasted)),
        escalates: mixed(nested.escalates, apart.escalates),
    }
}

/// Expectations over the legs of a plan.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    adequate: f64,
    cost: f64,
    wasted: f64,
    escalates: f64,
}

/// Calls ordered by difficulty: each target is adequate up to its own point and fails beyond it.
fn nested(steps: &[Candidate]) -> Outlook {
    let mut points: Vec<f64> = steps.iter().map(|it| it.adequate.clamp(0.0, 1.0)).collect();
    points.push(1.0);
    points.sort_by(f64::total_cmp);
    let mut sum = Outlook::default();
    let mut from = 0.0;
    for to in points {
        let (share, middle) = (to - from, f64::midpoint(from, to));
        from = to;
        if share <= 0.0 {
            continue;
        }
        let part = walk(steps, |step| f64::from(middle < step.adequate));
        sum.adequate += share * part.adequate;
        sum.cost += share * part.cost;
        sum.wasted += share * part.wasted;
        sum.escalates += share * part.escalates;
    }
    sum
}

/// Walks the legs where each is adequate with a probability of its own.
fn walk(steps: &[Candidate], adequate: impl Fn(&Candidate) -> f64) -> Outlook {
    let mut sum = Outlook::default();
    // The probability that this leg is needed.
    let mut reaches = 1.0;
    for (at, step) in steps.iter().enumerate() {
        let (good, cost) = (adequate(step), dollars(step.cost.unwrap_or_default()));
        let judge = step.judge.filter(|_| at + 1 < steps.len());
        let Some(judge) = judge else {
            sum.cost += reaches * cost;
            sum.adequate += reaches * good;
            break;
        };
        let right = good * judge.accepts_adequate.clamp(0.0, 1.0);
        let accepted = right + (1.0 - good) * judge.accepts_inadequate.clamp(0.0, 1.0);
        let paid = cost + dollars(judge.cost);
        sum.cost += reaches * paid;
        sum.adequate += reaches * right;
        sum.wasted += reaches * (1.0 - accepted) * paid;
        reaches *= 1.0 - accepted;
        if at == 0 {
            sum.escalates = reaches;
        }
    }
    sum
}

/// The probability from which an answer is better given than escalated: where what the next target
/// is expected to add is worth less than its cost. `weak` and `strong` are the probabilities that
/// the two are adequate.
///
/// Without a worth there is nothing to weigh, and the threshold is chosen for the floor instead.
pub fn accept_from(weak: f64, strong: f64, strong_cost: PicoUsd, aim: &Aim) -> Option<f64> {
    if aim.worth <= PicoUsd::ZERO {
        return None;
    }
    let rescued = rescued(weak, strong, aim.overlap);
    // Where the weak one is adequate, the strong one seldom is not.
    let kept = if weak > 0.0 {
        ((strong - (1.0 - weak) * rescued) / weak).clamp(0.0, 1.0)
    } else {
        1.0
    };
    let cost = dollars(strong_cost) / dollars(aim.worth);
    Some(((rescued - cost) / (1.0 - kept + rescued).max(f64::EPSILON)).clamp(0.0, 1.0))
}

/// The probability that the strong target is adequate where the weak one is not.
fn rescued(weak: f64, strong: f64, overlap: f64) -> f64 {
    if weak >= 1.0 {
        return strong;
    }
    let nested = ((strong - weak) / (1.0 - weak)).max(0.0);
    overlap * nested + (1.0 - overlap) * strong
}

/// How far two targets fail on the same calls, from counted outcomes: the share of the weak one's
/// failures that the strong one rescues, between that of the nested and that of the independent
/// world. Pessimistic where nothing was counted.
pub fn overlap(weak: f64, strong: f64, failures: u32, rescues: u32) -> f64 {
    let (worst, best) = (rescued(weak, strong, 1.0), rescued(weak, strong, 0.0));
    if failures == 0 || best - worst <= f64::EPSILON {
        return 1.0;
    }
    let found = f64::from(rescues) / f64::from(failures);
    ((best - found) / (best - worst)).clamp(0.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a forecast, not a bill")]
fn dollars(amount: PicoUsd) -> f64 {
    amount.0 as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a forecast, not a bill")]
fn amount(pico: f64) -> PicoUsd {
    PicoUsd(pico.round() as i128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn candidate(adequate: f64, cost: i128, judge: Option<(f64, f64)>) -> Candidate {
        Candidate {
            adequate,
            cost: Some(PicoUsd(cost)),
            judge: judge.map(|(accepts_adequate, accepts_inadequate)| Judge {
                accepts_adequate,
                accepts_inadequate,
                cost: PicoUsd(0),
            }),
        }
    }

    #[test]
    fn a_cascade_adds_up_by_hand() {
        let weak = candidate(0.6, 1_000, Some((0.9, 0.2)));
        let strong = candidate(0.8, 10_000, None);
        for (overlap, adequate) in [
            // Nested: .6 × (.9 + .1) + .2 × .8, for the strong one is good up to .8.
            (1.0, 0.76),
            // Independent: .6 × .9 + (.6 × .1 + .4 × .8) × .8.
            (0.0, 0.844),
            (0.5, 0.802),
        ] {
            let plan = foresee(&[weak, strong], &[0, 1], overlap);
            assert!((plan.adequate - adequate).abs() < 1e-9, "{plan:?}");
            // .6 × .1 + .4 × .8 of the calls go on.
            assert!((plan.escalates - 0.38).abs() < 1e-9);
            assert_eq!((plan.cost, plan.wasted), (PicoUsd(4_800), PicoUsd(380)));
        }
    }

    #[test]
    fn the_choice_follows_the_aim() {
        let judged = candidate(0.7, 1_000, Some((0.9, 0.1)));
        let blind = candidate(0.7, 1_000, None);
        let strong = candidate(0.9, 100_000, None);
        let check = |weak: Candidate, worth: i128, floor: f64, expect: &[usize]| {
            let aim = Aim {
                worth: PicoUsd(worth),
                floor,
                overlap: 1.0,
            };
            let decision = choose(&[weak, strong], &aim);
            assert_eq!(
                decision.chosen.expect("a plan").legs,
                expect,
                "{worth} {floor}"
            );
        };
        check(judged, 0, 0.6, &[0]);
        check(judged, 0, 0.85, &[0, 1]);
        check(judged, 0, 0.9, &[1]);
        check(blind, 0, 0.85, &[1]);
        // Nobody clears that; the best is taken.
        check(judged, 0, 0.99, &[1]);
        // Ten times the strong one's cost for an answer is not enough to pay it for every call.
        check(judged, 100_000, 0.0, &[0]);
        check(judged, 1_000_000, 0.0, &[0, 1]);
        check(judged, 100_000_000, 0.0, &[1]);
        let unpriced = Candidate {
            cost: None,
            ..strong
        };
        let aim = Aim {
            worth: PicoUsd(0),
            floor: 0.99,
            overlap: 1.0,
        };
        assert_eq!(
            choose(&[blind, unpriced], &aim)
                .chosen
                .expect("a plan")
                .legs,
            [0]
        );
        assert_eq!(choose(&[unpriced], &aim).chosen, None);
    }

    #[test]
    fn accepting_is_weighed_against_the_next_leg() {
        let aim = |worth| Aim {
            worth: PicoUsd(worth),
            floor: 0.0,
            overlap: 1.0,
        };
        let check = |worth, expect: Option<f64>| {
            let found = accept_from(0.6, 0.8, PicoUsd(1_000), &aim(worth));
            let is_close = match (found, expect) {
                (Some(found), Some(expect)) => (found - expect).abs() < 1e-9,
                (found, expect) => found == expect,
            };
            assert!(is_close, "{worth}: {found:?}");
        };
        check(0, None);
        // Half of the failures are rescued: dearer than an answer is worth.
        check(1_000, Some(0.0));
        // (.5 − .1) / .5.
        check(10_000, Some(0.8));
    }

    #[test]
    fn overlap_is_found_again() {
        for (rescues, expect) in [(50, 1.0), (65, 0.5), (80, 0.0), (20, 1.0)] {
            let found = overlap(0.6, 0.8, 100, rescues);
            assert!((found - expect).abs() < 1e-9, "{rescues}: {found}");
        }
        assert!((overlap(0.6, 0.8, 0, 0) - 1.0).abs() < 1e-9);
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let judge = proptest::option::of((0.0..1.0_f64, 0.0..1.0_f64));
        let one = (0.0..1.0_f64, 1..1_000_i128, judge);
        let one = one.prop_map(|(adequate, cost, judge)| candidate(adequate, cost, judge));
        proptest::collection::vec(one, 1..5)
    }

    proptest! {
        #[test]
        fn nothing_beats_the_choice(
            candidates in candidates(),
            worth in 0..5_000_i128,
            floor in 0.0..1.0_f64,
            overlap in 0.0..1.0_f64,
        ) {
            let aim = Aim { worth: PicoUsd(worth), floor, overlap };
            let Decision { chosen, lost } = choose(&candidates, &aim);
            let chosen = chosen.expect("a plan");
            for plan in &lost {
                if chosen.adequate >= floor {
                    prop_assert!(plan.adequate < floor || value(plan, &aim) <= value(&chosen, &aim) + 1e-9);
                } else {
                    prop_assert!(plan.adequate <= chosen.adequate);
                }
                prop_assert!(plan.wasted <= plan.cost);
                prop_assert!((0.0..=1.0 + 1e-9).contains(&plan.adequate));
            }
        }

        #[test]
        fn a_judge_that_knows_nothing_never_pays(
            weak in 0.0..1.0_f64,
            strong in 0.0..1.0_f64,
            accepts in 0.0..1.0_f64,
            costs in (1_000..1_000_000_i128, 1_000..1_000_000_i128),
            worth in 0..5_000_000_i128,
            overlap in 0.0..1.0_f64,
        ) {
            let blind = candidate(weak, costs.0, Some((accepts, accepts)));
            let strong = candidate(strong, costs.1, None);
            let aim = Aim { worth: PicoUsd(worth), floor: 0.0, overlap };
            let chosen = choose(&[blind, strong], &aim).chosen.expect("a plan");
            prop_assert_eq!(chosen.legs.len(), 1);
        }
    }
}
