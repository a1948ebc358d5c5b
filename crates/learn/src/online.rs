//! Learning online: outcomes of two targets replayed as a stream, in which only the outcome of the
//! target that was chosen is seen.
//!
//! **Invariant**: the chooser never sees the outcome of a target that it did not choose, and starts
//! without any (test `a_planted_stream_is_learned`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use policy::money::PicoUsd;
use policy::route::posterior::{Aim, Offer, Posterior};

use crate::draw::Draws;
use crate::measure::Pair;

/// 5,000 outcomes, as the target says.
pub const OUTCOMES: usize = 5_000;

/// What an adequate answer is worth, in strong answers' costs. At 1 no strong answer pays, and at
/// 1,000 nearly every one does; what lies between is where something can be learned.
pub const WORTHS: [f64; 4] = [3.0, 10.0, 30.0, 100.0];

/// What is believed before any outcome, the weaker target first: dearer targets are better, and
/// none is perfect.
const PRIORS: [f64; 2] = [0.5, 0.7];

/// Every kind is below this one.
const ALL_KINDS: u64 = u64::MAX;

/// A stream under one worth; values are a call's, in mean strong costs, and means over streams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// What an adequate answer was worth.
    pub worth: f64,
    /// Rows, which are repeated until there are [`OUTCOMES`].
    pub rows: usize,
    /// Of the learner.
    pub value: f64,
    /// Of the target that is best for all.
    pub single: f64,
    /// Of the targets that are best for each kind.
    pub by_kind: f64,
    /// Of choosing at random.
    pub random: f64,
}

impl Figures {
    /// What was lost against the best target, as a share of its value; below 0 if nothing was.
    pub fn regret_single(&self) -> f64 {
        (self.single - self.value) / self.single
    }

    /// The same against the best targets by kind.
    pub fn regret_by_kind(&self) -> f64 {
        (self.by_kind - self.value) / self.by_kind
    }

    /// What was lost against the best target, as a share of what it is ahead of random.
    pub fn regret_of_lead(&self) -> f64 {
        (self.single - self.value) / (self.single - self.random)
    }

    /// The same against the best targets by kind.
    pub fn regret_of_lead_by_kind(&self) -> f64 {
        (self.by_kind - self.value) / (self.by_kind - self.random)
    }
}

/// Replays a suite under every worth; means over `streams` orders. Costs are foreseen per kind, as
/// prices and lengths are known to a gateway; scores are not.
pub fn evaluate(pairs: &[Pair], streams: usize, seed: u64) -> Vec<Figures> {
    let strong = pairs.iter().map(|it| it.strong_usd).sum::<f64>() / pairs.len().max(1) as f64;
    let replay = |worth: f64| {
        let mut sum = Figures {
            worth,
            rows: pairs.len(),
            ..Figures::default()
        };
        for stream in 0..streams {
            let one = replay(pairs, worth * strong, seed.wrapping_add(stream as u64));
            let part = 1.0 / (streams as f64 * OUTCOMES as f64 * strong);
            sum.value += one.value * part;
            sum.single += one.single * part;
            sum.by_kind += one.by_kind * part;
            sum.random += one.random * part;
        }
        sum
    };
    WORTHS.map(replay).to_vec()
}

/// One stream; values are sums in USD.
fn replay(pairs: &[Pair], worth_usd: f64, seed: u64) -> Figures {
    let mut draws = Draws::new(seed);
    let costs = costs(pairs);
    let mut posterior = Posterior::default();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    // By kind, what each target alone would have come to.
    let mut alone = vec![[0.0; 2]; costs.len()];
    let mut value = 0.0;
    for at in 0..OUTCOMES {
        if at % order.len() == 0 {
            draws.shuffle(&mut order);
        }
        let pair = &pairs[order[at % order.len()]];
        let of = [
            worth_usd * pair.weak - pair.weak_usd,
            worth_usd * pair.strong - pair.strong_usd,
        ];
        for (sum, value) in alone[pair.segment].iter_mut().zip(of) {
            *sum += value;
        }
        let path = [ALL_KINDS, pair.segment as u64];
        let offer = |target: u32, prior: f64| Offer {
            target,
            prior,
            cost: pico(costs[pair.segment][target as usize]),
        };
        let offers = [offer(0, PRIORS[0]), offer(1, PRIORS[1])];
        let aim = Aim {
            worth: pico(worth_usd),
            floor: 0.0,
        };
        let normal = [draws.normal(), draws.normal()];
        let choice = posterior.choose(&path, &offers, aim, &normal);
        let place = choice.map_or(1, |it| it.place);
        value += of[place];
        posterior.observe(&path, offers[place].target, [pair.weak, pair.strong][place]);
    }
    let sums = |target: usize| alone.iter().map(|it| it[target]).sum::<f64>();
    Figures {
        value,
        single: sums(0).max(sums(1)),
        by_kind: alone.iter().map(|it| it[0].max(it[1])).sum(),
        random: f64::midpoint(sums(0), sums(1)),
        ..Figures::default()
    }
}

/// By kind, the mean cost of the weaker and the stronger target.
fn costs(pairs: &[Pair]) -> Vec<[f64; 2]> {
    let kinds = pairs.iter().map(|it| it.segment + 1).max().unwrap_or(0);
    let mut sums = vec![([0.0; 2], 0.0); kinds];
    for pair in pairs {
        let (costs, rows) = &mut sums[pair.segment];
        costs[0] += pair.weak_usd;
        costs[1] += pair.strong_usd;
        *rows += 1.0;
    }
    let mean = |(costs, rows): ([f64; 2], f64)| costs.map(|cost| cost / f64::max(rows, 1.0));
    sums.into_iter().map(mean).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a forecast, not a bill")]
fn pico(usd: f64) -> PicoUsd {
    PicoUsd((usd * 1e12).round() as i128)
}

impl Draws {
    /// A standard normal number: twelve uniform ones less six, which is close enough to explore by.
    fn normal(&mut self) -> f64 {
        let uniform = |number: u64| (number >> 11) as f64 / (1_u64 << 53) as f64;
        (0..12).map(|_| uniform(self.number())).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::{WORTHS, evaluate};
    use crate::draw::Draws;
    use crate::measure::Pair;

    #[test]
    fn a_planted_stream_is_learned() {
        let mut draws = Draws::new(8);
        let mut score = |of_ten: usize| f64::from(u8::from(draws.below(10) < of_ten));
        // On even kinds both are as good, on odd ones only the stronger is.
        let pair = |at: usize| Pair {
            strong: score(9),
            weak: score(if at.is_multiple_of(2) { 9 } else { 2 }),
            strong_usd: 1e-3,
            weak_usd: 1e-4,
            segment: at % 6,
            group: at,
        };
        let pairs: Vec<Pair> = (0..1_500).map(pair).collect();
        let found = evaluate(&pairs, 3, 1);
        assert_eq!(found.len(), WORTHS.len());
        for it in &found {
            let regrets = [it.regret_by_kind(), it.regret_of_lead_by_kind()];
            assert!(regrets.iter().all(|it| *it > 0.0 && *it < 0.1), "{it:?}");
            // Where costs matter it is better than either target alone.
            assert!(it.value > it.single || it.worth > 10.0, "{it:?}");
        }
    }
}
