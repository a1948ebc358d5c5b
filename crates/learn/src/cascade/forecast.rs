//! What the choice between routing and a cascade would have foreseen of a cascade, from the outcomes
//! that were counted before.
//!
//! **Invariant**: the forecast is made by the very code that chooses on live traffic (test
//! `a_forecast_is_close_on_its_own_rows`).

use policy::cascade::choice::{Candidate, Judge, foresee, overlap};
use policy::money::PicoUsd;

/// One row: scores, costs, and whether the weak answer was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) weak: f64,
    pub(super) strong: f64,
    pub(super) weak_cost: f64,
    pub(super) strong_cost: f64,
    pub(super) is_accepted: bool,
}

/// The cost and quality that a cascade is foreseen to have. Graded scores count as the share of an
/// adequate answer that they are.
pub(super) fn foreseen(rows: &[Counted]) -> (f64, f64) {
    let sum = |of: &dyn Fn(&Counted) -> f64| rows.iter().map(of).sum::<f64>();
    let accepted = |it: &Counted| f64::from(u8::from(it.is_accepted));
    let count = sum(&|_| 1.0).max(1.0);
    let (good, bad) = (sum(&|it| it.weak), sum(&|it| 1.0 - it.weak));
    let (weak, strong) = (good / count, sum(&|it| it.strong) / count);
    let judge = Judge {
        accepts_adequate: sum(&|it| it.weak * accepted(it)) / good.max(f64::EPSILON),
        accepts_inadequate: sum(&|it| (1.0 - it.weak) * accepted(it)) / bad.max(f64::EPSILON),
        cost: PicoUsd::ZERO,
    };
    let candidate = |adequate: f64, cost: f64, judge: Option<Judge>| Candidate {
        adequate,
        cost: Some(pico(cost / count)),
        judge,
    };
    let candidates = [
        candidate(weak, sum(&|it| it.weak_cost), Some(judge)),
        candidate(strong, sum(&|it| it.strong_cost), None),
    ];
    let rescues = whole(sum(&|it| (1.0 - it.weak) * it.strong));
    let plan = foresee(
        &candidates,
        &[0, 1],
        overlap(weak, strong, whole(bad), rescues),
    );
    (micro(plan.cost), plan.adequate)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of rows"
)]
fn whole(count: f64) -> u32 {
    count.round().max(0.0) as u32
}

/// Costs are in micro-dollars here, as prices per million tokens are.
#[expect(clippy::cast_possible_truncation, reason = "a forecast, not a bill")]
fn pico(micro: f64) -> PicoUsd {
    PicoUsd((micro * 1e6).round() as i128)
}

#[expect(clippy::cast_precision_loss, reason = "a forecast, not a bill")]
fn micro(amount: PicoUsd) -> f64 {
    amount.0 as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::{Counted, foreseen};
    use crate::draw::Draws;

    #[test]
    fn a_forecast_is_close_on_its_own_rows() {
        let mut draws = Draws::new(6);
        let mut chance = |of_ten: usize| draws.below(10) < of_ten;
        let score = |is_right: bool| f64::from(u8::from(is_right));
        let mut row = || {
            let is_weak = chance(6);
            Counted {
                weak: score(is_weak),
                strong: score(chance(if is_weak { 9 } else { 6 })),
                weak_cost: 1.0,
                strong_cost: 10.0,
                is_accepted: chance(if is_weak { 8 } else { 3 }),
            }
        };
        let rows: Vec<Counted> = (0..4_000).map(|_| row()).collect();
        let (cost, quality) = foreseen(&rows);
        let mean = |of: &dyn Fn(&Counted) -> f64| rows.iter().map(of).sum::<f64>() / 4_000.0;
        let paid = mean(&|it| it.weak_cost + if it.is_accepted { 0.0 } else { it.strong_cost });
        let had = mean(&|it| if it.is_accepted { it.weak } else { it.strong });
        assert!((cost - paid).abs() < 0.02, "{cost} {paid}");
        assert!((quality - had).abs() < 0.02, "{quality} {had}");
    }
}
