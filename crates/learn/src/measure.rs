//! Measures: quality and cost of a ranking of calls, macro-averaged over segments.
//!
//! **Invariant**: a constant ranking is the line of a random router, whose area is exactly one half
//! (test `a_constant_ranking_is_random`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

/// One query with what the stronger and the weaker target scored and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Score of the stronger target.
    pub strong: f64,
    /// Score of the weaker target.
    pub weak: f64,
    /// Cost of the stronger target, in USD.
    pub strong_usd: f64,
    /// Cost of the weaker target, in USD.
    pub weak_usd: f64,
    /// The kind of traffic, by number.
    pub segment: usize,
    /// Near-duplicates, by number.
    pub group: usize,
}

/// A point on a router's curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Knot {
    /// Share of calls that go to the stronger target.
    pub share: f64,
    /// Mean score.
    pub quality: f64,
    /// Mean cost, in USD.
    pub cost_usd: f64,
    /// Calls whose score is at least this go to the stronger target.
    pub threshold: f64,
}

/// Every segment has the same weight; the weights sum to 1.
pub fn weights(segments: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
    let mut counts = vec![0.0; segments.clone().max().map_or(0, |it| it + 1)];
    segments.clone().for_each(|it| counts[it] += 1.0);
    let met = counts.iter().filter(|it| **it > 0.0).count().max(1) as f64;
    segments.map(|it| 1.0 / (met * counts[it])).collect()
}

/// The curve of sending the highest scores to the stronger target first; equal scores mix.
pub fn curve(pairs: &[Pair], scores: &[f64]) -> Vec<Knot> {
    let weights = weights(pairs.iter().map(|it| it.segment));
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]));
    let mut knot = Knot {
        threshold: f64::INFINITY,
        ..Knot::default()
    };
    for (pair, weight) in pairs.iter().zip(&weights) {
        knot.quality += weight * pair.weak;
        knot.cost_usd += weight * pair.weak_usd;
    }
    let mut knots = vec![knot];
    for (at, row) in order.iter().enumerate() {
        let (pair, weight) = (&pairs[*row], weights[*row]);
        knot.share += weight;
        knot.quality += weight * (pair.strong - pair.weak);
        knot.cost_usd += weight * (pair.strong_usd - pair.weak_usd);
        knot.threshold = scores[*row];
        let next = order.get(at + 1).map(|it| scores[*it]);
        if next.is_none_or(|it| it.total_cmp(&scores[*row]).is_ne()) {
            knots.push(knot);
        }
    }
    knots
}

/// The figures of one curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Area under the performance gap recovered, over the share of strong calls.
    pub area_by_calls: f64,
    /// The same over the share of the extra cost.
    pub area_by_cost: f64,
    /// The least share of strong calls that recovers half of the gap.
    pub calls_for_50: f64,
    /// The least share of strong calls that recovers four fifths of the gap.
    pub calls_for_80: f64,
    /// The least cost, as a share of always-strong, at 95, 97 and 99 % of its quality.
    pub cost_at: [f64; 3],
}

/// The shares of the strong quality that are reported.
pub const QUALITIES: [f64; 3] = [0.95, 0.97, 0.99];

/// Measures a ranking; in-sample thresholds.
pub fn figures(pairs: &[Pair], scores: &[f64]) -> Figures {
    let knots = curve(pairs, scores);
    let (Some(first), Some(last)) = (knots.first(), knots.last()) else {
        return Figures::default();
    };
    let gap = last.quality - first.quality;
    let recovered = |knot: &Knot| (knot.quality - first.quality) / gap;
    let spent = |knot: &Knot| (knot.cost_usd - first.cost_usd) / (last.cost_usd - first.cost_usd);
    let area = |along: &dyn Fn(&Knot) -> f64| {
        let steps = knots.windows(2);
        let step = |pair: &[Knot]| {
            (along(&pair[1]) - along(&pair[0]))
                * f64::midpoint(recovered(&pair[0]), recovered(&pair[1]))
        };
        steps.map(step).sum::<f64>()
    };
    Figures {
        area_by_calls: area(&|knot| knot.share),
        area_by_cost: area(&spent),
        calls_for_50: reach(&knots, |knot| knot.share, recovered, 0.5),
        calls_for_80: reach(&knots, |knot| knot.share, recovered, 0.8),
        cost_at: QUALITIES.map(|share| {
            reach(
                &knots,
                |knot| knot.cost_usd,
                |knot| knot.quality,
                share * last.quality,
            ) / last.cost_usd
        }),
    }
}

/// The smallest `along` at which `rising` reaches `target`; between knots in a straight line.
pub fn reach(
    knots: &[Knot],
    along: impl Fn(&Knot) -> f64,
    rising: impl Fn(&Knot) -> f64,
    target: f64,
) -> f64 {
    let Some(first) = knots.first() else {
        return f64::NAN;
    };
    if rising(first) >= target {
        return along(first);
    }
    for pair in knots.windows(2) {
        let (low, high) = (rising(&pair[0]), rising(&pair[1]));
        if high >= target - 1e-12 {
            let part = if high > low {
                (target - low) / (high - low)
            } else {
                1.0
            };
            return along(&pair[0]) + (along(&pair[1]) - along(&pair[0])) * part;
        }
    }
    f64::NAN
}

/// The ranking of one who knows every outcome.
pub fn oracle(pairs: &[Pair]) -> Vec<f64> {
    let score = |pair: &Pair| {
        let (gain, extra) = (pair.strong - pair.weak, pair.strong_usd - pair.weak_usd);
        if gain > 0.0 {
            gain / extra.max(1e-12)
        } else if gain < 0.0 {
            gain
        } else {
            -1e-9 * extra
        }
    };
    pairs.iter().map(score).collect()
}

/// The outcome of sending scores at or above a threshold to the stronger target, beside always-strong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Quality as a share of always-strong.
    pub quality: f64,
    /// Cost as a share of always-strong.
    pub cost: f64,
    /// Share of strong calls.
    pub share: f64,
    /// The cost of a random mix of both targets that has the same quality, as a share.
    pub random_cost: f64,
}

/// Measures a threshold.
pub fn point(pairs: &[Pair], scores: &[f64], threshold: f64) -> Point {
    let weights = weights(pairs.iter().map(|it| it.segment));
    let (mut own, mut strong, mut weak, mut share) = ([0.0; 2], [0.0; 2], [0.0; 2], 0.0);
    for ((pair, weight), score) in pairs.iter().zip(&weights).zip(scores) {
        let (up, down) = ([pair.strong, pair.strong_usd], [pair.weak, pair.weak_usd]);
        let taken = if *score >= threshold { up } else { down };
        share += if *score >= threshold { *weight } else { 0.0 };
        for at in 0..2 {
            own[at] += weight * taken[at];
            strong[at] += weight * up[at];
            weak[at] += weight * down[at];
        }
    }
    let gap = strong[0] - weak[0];
    let mix = if gap > 0.0 {
        ((own[0] - weak[0]) / gap).clamp(0.0, 1.0)
    } else {
        0.0
    };
    Point {
        quality: own[0] / strong[0],
        cost: own[1] / strong[1],
        share,
        random_cost: (weak[1] + mix * (strong[1] - weak[1])) / strong[1],
    }
}

/// The threshold that just reaches a share of the strong quality on these rows.
pub fn threshold(pairs: &[Pair], scores: &[f64], share: f64) -> f64 {
    let knots = curve(pairs, scores);
    let Some(last) = knots.last() else {
        return f64::NEG_INFINITY;
    };
    let found = knots.iter().find(|it| it.quality >= share * last.quality);
    found.map_or(f64::NEG_INFINITY, |it| it.threshold)
}

#[cfg(test)]
mod tests {
    use super::{Pair, figures, oracle, point, threshold};
    use crate::draw::Draws;

    fn pairs() -> Vec<Pair> {
        let mut draws = Draws::new(2);
        let mut score = |of_ten: usize| if draws.below(10) < of_ten { 1.0 } else { 0.0 };
        let pair = |group: usize| Pair {
            strong: score(8),
            weak: score(5),
            strong_usd: 1.0,
            weak_usd: 0.1,
            segment: group % 3,
            group,
        };
        (0..300).map(pair).collect()
    }

    #[test]
    fn a_constant_ranking_is_random() {
        let figures = figures(&pairs(), &vec![0.0; 300]);
        assert!((figures.area_by_calls - 0.5).abs() < 1e-12);
        assert!((figures.area_by_cost - 0.5).abs() < 1e-12);
        assert!((figures.calls_for_80 - 0.8).abs() < 1e-12);
    }

    #[test]
    fn the_oracle_beats_random_and_a_threshold_reaches_its_quality() {
        let pairs = pairs();
        let scores = oracle(&pairs);
        assert!(figures(&pairs, &scores).area_by_calls > 0.8);
        let met = point(&pairs, &scores, threshold(&pairs, &scores, 0.97));
        assert!(met.quality >= 0.97 && met.cost < met.random_cost, "{met:?}");
    }
}
