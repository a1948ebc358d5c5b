//! Floor: the threshold whose quality holds on calls that are yet to come, with stated confidence.
//!
//! **Invariant**: over random splits, the promised floor is broken in no more than the stated share
//! (test `the_floor_holds_over_200_splits`), and calls whose ranking says nothing stay with the
//! stronger target (test `a_ranking_that_says_nothing_leaves_calls_where_they_are`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use std::collections::BTreeMap;

use crate::draw::folds;
use crate::measure::{Pair, point, weights};

/// 1.96 standard errors: one chance in forty under a normal law; two things are tried, all calls and a
/// threshold, and one in twenty is stated.
const ERRORS: f64 = 1.96;

/// 20 rows: as many are added to those of each segment that went down in the judgement of their noise,
/// with the noise of the weaker target over all segments, for a few rows without a loss say little of
/// the losses to come.
const BORROWED_ROWS: f64 = 20.0;

/// 0.67 standard errors: three chances in four that a ranking which says nothing is found out. The floor
/// is safe either way; being surer (1.645) kept calls from going down on suites of few hundred rows,
/// at up to twice the cost.
const ERRORS_ABOVE_RANDOM: f64 = 0.67;

/// The threshold to promise a share of the strong quality with: one that is safe, and that costs less
/// than drawing as many calls at random would. `-∞`, all-strong, where these rows show no such one:
/// the weaker target may still be good enough for some calls, but nobody knows for which.
pub fn promised_threshold(pairs: &[Pair], scores: &[f64], share: f64) -> f64 {
    let safe = safe_threshold(pairs, scores, share);
    if beats_random(pairs, scores, safe) {
        safe
    } else {
        f64::NEG_INFINITY
    }
}

/// Whether these rows show that a threshold costs less than a random mix of the same quality. Where
/// everything goes to the weaker target there is nothing to rank, and the mix is the same.
fn beats_random(pairs: &[Pair], scores: &[f64], threshold: f64) -> bool {
    let lowered = |row: usize| scores[row] < threshold;
    let count = (0..pairs.len()).filter(|row| lowered(*row)).count();
    if count == 0 || count == pairs.len() {
        return count > 0;
    }
    let weights = weights(pairs.iter().map(|it| it.segment));
    let each = pairs.iter().zip(&weights);
    let of = |(pair, weight): (&Pair, &f64)| {
        let saved = weight * (pair.strong_usd - pair.weak_usd);
        (saved, weight * (pair.strong - pair.weak))
    };
    let each: Vec<(f64, f64)> = each.map(of).collect();
    let (mut saved, mut lost, mut lost_here) = (0.0, 0.0, 0.0);
    for (row, (saves, loses)) in each.iter().enumerate() {
        saved += saves;
        lost += loses;
        lost_here += if lowered(row) { *loses } else { 0.0 };
    }
    // What a random mix saves for the quality that it loses; for none, it has everything for nothing.
    let (rate, part) = if lost > 0.0 {
        (saved / lost, lost_here / lost)
    } else {
        (0.0, 0.0)
    };
    // The rate is of these rows, too: each row counts once for what it saves more than the mix, and
    // once for moving the mix.
    let mut cells: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let mut more = 0.0;
    for (row, (saves, loses)) in each.iter().enumerate() {
        let value = saves - rate * loses;
        more += if lowered(row) { value } else { 0.0 };
        let here = if lowered(row) { 1.0 } else { 0.0 };
        let cell = (pairs[row].group, pairs[row].segment);
        *cells.entry(cell).or_default() += value * (here - part);
    }
    let variance: f64 = cells.values().map(|it| it * it).sum();
    more > ERRORS_ABOVE_RANDOM * variance.sqrt()
}

/// The lowest threshold that is safe to promise a share of the strong quality with, judged on these
/// rows: from all-strong downwards, the last before the bound first fails. Walking from the safe side
/// and stopping at the first failure needs no correction for the thresholds that were tried
/// (fixed-sequence testing; Angelopoulos et al., "Learn then Test", 2021). The bound counts the noise
/// of as many future calls as there are rows, and near-duplicates as one draw. Before that, all-weak is
/// tried by itself: the walk may stumble over a few losses among its first rows where the weaker target
/// is good enough for everything. `-∞` is all-strong, `∞` all-weak.
fn safe_threshold(pairs: &[Pair], scores: &[f64], share: f64) -> f64 {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|left, right| scores[*left].total_cmp(&scores[*right]));
    let mut margin = Margin::new(pairs, share);
    (0..pairs.len()).for_each(|row| margin.lower(row));
    if !pairs.is_empty() && margin.is_safe() {
        return f64::INFINITY;
    }
    let mut margin = Margin::new(pairs, share);
    let mut safe = f64::NEG_INFINITY;
    let mut at = 0;
    while at < order.len() {
        let score = scores[order[at]];
        while at < order.len() && scores[order[at]].total_cmp(&score).is_eq() {
            margin.lower(order[at]);
            at += 1;
        }
        if !margin.is_safe() {
            break;
        }
        safe = order.get(at).map_or(f64::INFINITY, |it| scores[*it]);
    }
    safe
}

/// How far the mean quality lies above the floor, and how sure that is, while one row after another
/// goes from the stronger target to the weaker.
struct Margin<'rows> {
    pairs: &'rows [Pair],
    share: f64,
    /// Of each row: its cell, the near-duplicates of one segment.
    cell_of: Vec<usize>,
    cells: Vec<Cell>,
    /// Those of no row stay empty.
    segments: Vec<Segment>,
    /// How many segments have rows.
    met: f64,
    /// The mean square of what a row at the weaker target is off its segment's mean, over all rows.
    noise: f64,
}

/// Near-duplicates of one segment, which are one draw.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    rows: f64,
    /// What they lie above the floor.
    sum: f64,
}

/// Over the cells of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    rows: f64,
    cells: f64,
    sum: f64,
    /// Of the cells' sums, of the sums by the rows, and of the rows.
    squares: f64,
    products: f64,
    own: f64,
    /// Rows at the weaker target.
    lowered: f64,
}

impl Segment {
    /// The squares of what the cells are off the segment's mean.
    fn spread(&self) -> f64 {
        let mean = self.sum / self.rows.max(1.0);
        (self.squares - 2.0 * mean * self.products + mean * mean * self.own).max(0.0)
    }
}

impl<'rows> Margin<'rows> {
    /// All rows at the stronger target.
    fn new(pairs: &'rows [Pair], share: f64) -> Self {
        let mut known = BTreeMap::new();
        let mut cells: Vec<Cell> = Vec::new();
        let mut segments: Vec<Segment> = Vec::new();
        let mut cell_of = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let cell = *known
                .entry((pair.group, pair.segment))
                .or_insert(cells.len());
            if cell == cells.len() {
                cells.push(Cell::default());
            }
            cells[cell].rows += 1.0;
            cells[cell].sum += pair.strong * (1.0 - share);
            cell_of.push(cell);
        }
        for ((_, segment), cell) in known {
            if segments.len() <= segment {
                segments.resize(segment + 1, Segment::default());
            }
            let (segment, cell) = (&mut segments[segment], cells[cell]);
            segment.rows += cell.rows;
            segment.cells += 1.0;
            segment.sum += cell.sum;
            segment.squares += cell.sum * cell.sum;
            segment.products += cell.sum * cell.rows;
            segment.own += cell.rows * cell.rows;
        }
        Self {
            pairs,
            share,
            cell_of,
            cells,
            met: segments.iter().filter(|it| it.rows > 0.0).count() as f64,
            noise: noise(pairs, share, &segments),
            segments,
        }
    }

    /// A row goes to the weaker target.
    fn lower(&mut self, row: usize) {
        let pair = &self.pairs[row];
        let change = pair.weak - pair.strong;
        let (cell, segment) = (
            &mut self.cells[self.cell_of[row]],
            &mut self.segments[pair.segment],
        );
        segment.lowered += 1.0;
        segment.sum += change;
        segment.squares += change * (2.0 * cell.sum + change);
        segment.products += change * cell.rows;
        cell.sum += change;
    }

    /// Whether the mean over segments lies above the floor by more than the noise of these rows and
    /// of as many to come, and by what one more draw, the worst that could come, would take: the
    /// finite-sample term of conformal risk control (Angelopoulos et al., 2022).
    fn is_safe(&self) -> bool {
        let met = || self.segments.iter().filter(|it| it.rows > 0.0);
        let (mut mean, mut variance, mut worst) = (0.0, 0.0, 0.0);
        for segment in met() {
            let weight = 1.0 / (self.met * segment.rows);
            let few = segment.cells / (segment.cells - 1.0).max(1.0);
            // One more is held to have gone down than has: of the calls to come, some may where none of
            // these did, the less likely the more there are (Laplace's rule of succession).
            let lowered = segment.lowered + 1.0;
            let (own, usual) = (segment.spread() + self.noise, self.noise * lowered);
            let held = (lowered * own + BORROWED_ROWS * usual) / (lowered + BORROWED_ROWS);
            let spread = (few * segment.spread()).max(held);
            mean += weight * segment.sum;
            variance += weight * weight * spread;
            worst += weight * weight * segment.own;
        }
        mean - ERRORS * (2.0 * variance).sqrt() >= self.share * worst
    }
}

/// See [`Margin::noise`].
fn noise(pairs: &[Pair], share: f64, segments: &[Segment]) -> f64 {
    let off = |pair: &Pair| pair.weak - share * pair.strong;
    let mut means = vec![0.0; segments.len()];
    for pair in pairs {
        means[pair.segment] += off(pair) / segments[pair.segment].rows;
    }
    let square = |pair: &Pair| (off(pair) - means[pair.segment]).powi(2);
    pairs.iter().map(square).sum::<f64>() / pairs.len().max(1) as f64
}

/// How a promise fared over many splits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Splits in which the other half fell below the floor, as a share.
    pub broken: f64,
    /// Mean cost on the other half, as a share of always-strong.
    pub cost: f64,
    /// Mean quality on the other half, as a share of always-strong.
    pub quality: f64,
    /// Mean cost there of a random mix of both targets that has the same quality, as a share.
    pub random_cost: f64,
    /// Splits in which something was promised at all, as a share; in the others every call stayed
    /// with the stronger target.
    pub routed: f64,
}

/// Sets the threshold on one half and measures it on the other, `splits` times, by group.
pub fn kept(pairs: &[Pair], scores: &[f64], share: f64, splits: usize, seed: u64) -> Kept {
    let groups: Vec<usize> = pairs.iter().map(|it| it.group).collect();
    let mut kept = Kept::default();
    for split in 0..splits {
        let half = folds(&groups, 2, seed.wrapping_add(split as u64));
        let part = |wanted: usize| {
            let rows = (0..pairs.len()).filter(|row| half[*row] == wanted);
            rows.map(|row| (pairs[row], scores[row]))
                .unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let ((seen, seen_scores), (held, held_scores)) = (part(0), part(1));
        let threshold = promised_threshold(&seen, &seen_scores, share);
        let point = point(&held, &held_scores, threshold);
        kept.random_cost += point.random_cost;
        kept.routed += if threshold > f64::NEG_INFINITY {
            1.0
        } else {
            0.0
        };
        kept.broken += if point.quality < share { 1.0 } else { 0.0 };
        kept.cost += point.cost;
        kept.quality += point.quality;
    }
    let splits = splits.max(1) as f64;
    Kept {
        broken: kept.broken / splits,
        cost: kept.cost / splits,
        quality: kept.quality / splits,
        random_cost: kept.random_cost / splits,
        routed: kept.routed / splits,
    }
}

#[cfg(test)]
mod tests {
    use super::{kept, promised_threshold, safe_threshold};
    use crate::draw::Draws;
    use crate::measure::Pair;

    /// What a suite is like.
    #[derive(Clone, Copy, Debug)]
    struct Suite {
        /// Of a hundred, how often the stronger target is right.
        strong: usize,
        /// The same for the weaker, on the easiest query.
        weak: usize,
        /// What the hardest query takes off that.
        fall: usize,
        /// How many near-duplicates a group has.
        twins: usize,
        /// Of ten rows, how many are of the second segment.
        second: usize,
    }

    const PLAIN: Suite = Suite {
        strong: 90,
        weak: 95,
        fall: 60,
        twins: 1,
        second: 5,
    };

    const BETTER: Suite = Suite {
        weak: 99,
        fall: 0,
        ..PLAIN
    };

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn rows(suite: Suite, count: usize, seed: u64) -> (Vec<Pair>, Vec<f64>) {
        let mut draws = Draws::new(seed);
        let group = |group: usize| {
            let hard = draws.below(100);
            let segment = usize::from(draws.below(10) < suite.second);
            let mut score = |of_hundred: usize| {
                if draws.below(100) < of_hundred {
                    1.0
                } else {
                    0.0
                }
            };
            let pair = Pair {
                strong: score(suite.strong),
                weak: score(suite.weak - hard * suite.fall / 100),
                strong_usd: 1.0,
                weak_usd: 0.1,
                segment,
                group,
            };
            vec![(pair, hard as f64); suite.twins]
        };
        (0..count / suite.twins).flat_map(group).unzip()
    }

    #[test]
    fn the_floor_holds_over_200_splits() {
        for (what, suite) in [
            ("plain", PLAIN),
            (
                "rare losses",
                Suite {
                    strong: 98,
                    weak: 99,
                    fall: 20,
                    ..PLAIN
                },
            ),
            ("near-duplicates", Suite { twins: 4, ..PLAIN }),
            ("a small segment", Suite { second: 1, ..PLAIN }),
            (
                "nothing separates",
                Suite {
                    weak: 82,
                    fall: 0,
                    ..PLAIN
                },
            ),
        ] {
            for seed in 0..3 {
                let (pairs, scores) = rows(suite, 1000, seed);
                let kept = kept(&pairs, &scores, 0.95, 200, seed);
                assert!(kept.broken <= 0.05, "{what}, {seed}: {kept:?}");
            }
        }
    }

    /// Two answers of a segment of 16 rows are far worse; it weighs as much as each of the others.
    #[test]
    fn a_segment_of_few_rows_is_not_trusted() {
        for seed in 0..3 {
            let (mut pairs, mut scores) = rows(PLAIN, 600, seed);
            for pair in &mut pairs {
                pair.segment = pair.group % 3;
            }
            for index in 0..16 {
                pairs.push(Pair {
                    strong: 1.0,
                    weak: if index < 2 { 0.2 } else { 0.97 },
                    segment: 3,
                    group: 600 + index,
                    ..pairs[0]
                });
                scores.push(-1.0);
            }
            let kept = kept(&pairs, &scores, 0.97, 200, seed);
            assert!(kept.broken <= 0.05, "{seed}: {kept:?}");
        }
    }

    /// In three segments the weaker target is better; a fourth, where it is useless, weighs as much, and
    /// all of its few rows stay with the stronger. Of the next ones some may not.
    #[test]
    fn a_segment_of_which_none_went_down_is_not_safe_for_that() {
        for (few, is_promised) in [(8, false), (600, true)] {
            let (mut pairs, mut scores) = rows(BETTER, 6000, 4);
            for pair in &mut pairs {
                pair.segment = pair.group % 3;
            }
            for index in 0..few {
                let strong = pairs[index].strong;
                pairs.push(Pair {
                    strong,
                    weak: 0.0,
                    segment: 3,
                    group: 6000 + index,
                    ..pairs[0]
                });
                scores.push(100.0);
            }
            let threshold = safe_threshold(&pairs, &scores, 0.98);
            assert_eq!(threshold > f64::NEG_INFINITY, is_promised, "{few} rows");
        }
    }

    #[test]
    fn a_router_that_separates_is_let_to_save() {
        let (pairs, scores) = rows(PLAIN, 2000, 1);
        let kept = kept(&pairs, &scores, 0.95, 20, 1);
        assert!(kept.cost < 0.9, "{kept:?}");
    }

    #[test]
    fn a_ranking_that_says_nothing_leaves_calls_where_they_are() {
        let suite = Suite {
            weak: 86,
            fall: 0,
            ..PLAIN
        };
        let mut promised = 0;
        for seed in 0..40 {
            let (pairs, scores) = rows(suite, 4000, seed);
            assert!(safe_threshold(&pairs, &scores, 0.97) > f64::NEG_INFINITY);
            let threshold = promised_threshold(&pairs, &scores, 0.97);
            promised += usize::from(threshold > f64::NEG_INFINITY);
        }
        // Ten are expected; 18 are three standard errors more.
        assert!(promised <= 18, "of 40: {promised}");
    }

    #[test]
    fn a_weaker_target_that_is_as_good_takes_all() {
        let suite = Suite {
            strong: 80,
            weak: 90,
            fall: 0,
            ..PLAIN
        };
        let (pairs, scores) = rows(suite, 1000, 3);
        let kept = kept(&pairs, &scores, 0.97, 20, 3);
        assert!(kept.routed > 0.99 && kept.cost < 0.11, "{kept:?}");
    }

    #[test]
    fn too_few_rows_promise_nothing() {
        let (pairs, scores) = rows(PLAIN, 20, 9);
        let threshold = safe_threshold(&pairs, &scores, 0.99);
        assert!(threshold.is_infinite() && threshold < 0.0);
    }
}
