//! Pool: a router between many targets, measured by the area under its best trade of quality for
//! cost.
//!
//! **Invariant**: a router that always takes the same target lies on the hull of single targets (test
//! `the_hull_keeps_what_pays`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use std::collections::BTreeMap;

use policy::route::predictor::Estimate;

use crate::corpus::Corpus;
use crate::fit::Progress;
use crate::measure::{Pair, weights};
use crate::outcome::Row;
use crate::trial::{Interval, Knows, Trained, interval, resamples};

/// 81 prices of quality, from none to where only cost counts.
const KNOBS: usize = 81;

/// The figures of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Rows that were trained on.
    pub trained: usize,
    /// Rows that were measured.
    pub measured: usize,
    /// The area under the hull of single targets.
    pub single: f64,
    /// The area with text only, and with segment and text.
    pub areas: [f64; 2],
    /// Of the areas.
    pub intervals: [Interval; 2],
    /// The area of one who knows how many of all recorded targets answer each row, and the segment:
    /// what the best reading of a text could come to, if it told how hard the text is and no more.
    pub hardness_known: f64,
    /// The quality of one who knows every outcome.
    pub oracle: f64,
}

/// The targets that most rows have, and the rows that have them all.
pub fn complete(rows: Vec<Row>, targets: &[String]) -> (Vec<Row>, Vec<String>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let has = |row: &Row, name: &str| {
        row.outcomes
            .get(name)
            .is_some_and(|it| it.cost_usd.is_some())
    };
    for name in targets {
        counts.insert(name, rows.iter().filter(|row| has(row, name)).count());
    }
    let most = 0.6 * rows.len() as f64;
    let kept: Vec<String> = targets
        .iter()
        .filter(|it| counts[it.as_str()] as f64 > most)
        .cloned()
        .collect();
    let whole = rows
        .into_iter()
        .filter(|row| kept.iter().all(|name| has(row, name)));
    (whole.collect(), kept)
}

/// For each knob, the target of each row.
pub fn choices(trained: &Trained, rows: usize, targets: usize, knows: Knows) -> Vec<Vec<usize>> {
    let estimates: Vec<_> = (0..rows).map(|row| trained.estimates(row, knows)).collect();
    chosen(&estimates, targets)
}

fn chosen(estimates: &[Vec<Estimate>], targets: usize) -> Vec<Vec<usize>> {
    let knob = |knob: usize| {
        let price = if knob == 0 {
            0.0
        } else {
            10f64.powf(-2.0 + 8.0 * (knob as f64 - 1.0) / (KNOBS as f64 - 2.0))
        };
        let choose = |row: &Vec<Estimate>| {
            let value = |target: usize| row[target].quality - price * row[target].cost_usd;
            (0..targets)
                .max_by(|left, right| value(*left).total_cmp(&value(*right)))
                .unwrap_or(0)
        };
        estimates.iter().map(choose).collect()
    };
    (0..KNOBS).map(knob).collect()
}

/// Runs a pool; `draws` resamples for intervals.
pub fn run(
    train: &[Row],
    measured: &[Row],
    targets: &[String],
    seed: u64,
    draws: usize,
    progress: Progress<'_>,
) -> Report {
    let trained = Trained::new(train, measured, seed, targets, progress);
    let corpus = Corpus::new(measured);
    let outcomes: Vec<Vec<(f64, f64)>> = measured
        .iter()
        .map(|row| {
            let of = |name: &String| {
                row.outcomes
                    .get(name)
                    .map_or((0.0, 0.0), |it| (it.cost_usd.unwrap_or(0.0), it.score))
            };
            targets.iter().map(of).collect()
        })
        .collect();
    let all: Vec<usize> = (0..measured.len()).collect();
    let ways = [Knows::Text, Knows::Segment]
        .map(|it| choices(&trained, measured.len(), targets.len(), it));
    let mut known: Vec<_> = all
        .iter()
        .map(|row| trained.estimates(*row, Knows::Segment))
        .collect();
    for (row, estimates) in measured.iter().zip(&mut known) {
        like(train, row, targets, estimates);
    }
    let view = View {
        outcomes: &outcomes,
        segments: &corpus.segments,
    };
    let group = |row: usize| Pair {
        group: corpus.groups[row],
        ..Pair::default()
    };
    let groups: Vec<Pair> = all.iter().map(|row| group(*row)).collect();
    let mut drawn: [Vec<f64>; 2] = Default::default();
    for rows in resamples(&groups, draws, seed) {
        for (drawn, way) in drawn.iter_mut().zip(&ways) {
            drawn.push(view.area(way, &rows));
        }
    }
    let weights = weights(corpus.segments.iter().copied());
    let best = |row: &Vec<(f64, f64)>| row.iter().map(|it| it.1).fold(0.0, f64::max);
    Report {
        trained: train.len(),
        measured: measured.len(),
        single: view.single(&all),
        areas: [view.area(&ways[0], &all), view.area(&ways[1], &all)],
        intervals: drawn.map(interval),
        hardness_known: view.area(&chosen(&known, targets.len()), &all),
        oracle: outcomes
            .iter()
            .zip(&weights)
            .map(|(row, weight)| weight * best(row))
            .sum(),
    }
}

/// Sets the qualities to the mean scores of those training rows of the segment, an eighth of them, that
/// are most nearly as hard.
fn like(train: &[Row], row: &Row, targets: &[String], estimates: &mut [Estimate]) {
    let ease = row.ease();
    let off = |other: &Row| (other.ease() - ease).abs();
    let mut alike: Vec<(f64, &Row)> = train
        .iter()
        .filter(|it| it.segment == row.segment)
        .map(|it| (off(it), it))
        .collect();
    alike.sort_by(|left, right| left.0.total_cmp(&right.0));
    alike.truncate(alike.len().div_ceil(8));
    for (name, estimate) in targets.iter().zip(estimates) {
        let scores = alike.iter().filter_map(|it| it.1.outcomes.get(name));
        let (sum, count) =
            scores.fold((0.0, 0.0), |(sum, count), it| (sum + it.score, count + 1.0));
        if count > 0.0 {
            estimate.quality = sum / count;
        }
    }
}

/// Cost and score of each row at each target.
struct View<'data> {
    outcomes: &'data [Vec<(f64, f64)>],
    segments: &'data [usize],
}

impl View<'_> {
    fn mean(&self, rows: &[usize], weights: &[f64], target: impl Fn(usize) -> usize) -> (f64, f64) {
        let mut mean = (0.0, 0.0);
        for (row, weight) in rows.iter().zip(weights) {
            let (cost, score) = self.outcomes[*row][target(*row)];
            mean.0 += weight * cost;
            mean.1 += weight * score;
        }
        mean
    }

    fn singles(&self, rows: &[usize], weights: &[f64]) -> Vec<(f64, f64)> {
        let targets = self.outcomes.first().map_or(0, Vec::len);
        (0..targets)
            .map(|target| self.mean(rows, weights, |_| target))
            .collect()
    }

    fn weights(&self, rows: &[usize]) -> Vec<f64> {
        weights(rows.iter().map(|row| self.segments[*row]))
    }

    fn single(&self, rows: &[usize]) -> f64 {
        let singles = self.singles(rows, &self.weights(rows));
        area(&hull(singles.clone()), &singles)
    }

    fn area(&self, knobs: &[Vec<usize>], rows: &[usize]) -> f64 {
        let weights = self.weights(rows);
        let points = knobs
            .iter()
            .map(|chosen| self.mean(rows, &weights, |row| chosen[row]));
        area(&hull(points.collect()), &self.singles(rows, &weights))
    }
}

/// The rising, bending-down line over points of cost and quality.
pub(crate) fn hull(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
    let mut line: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if line.last().is_some_and(|it| point.1 <= it.1) {
            continue;
        }
        while let [.., before, last] = line.as_slice()
            && (last.1 - before.1) * (point.0 - before.0)
                <= (point.1 - before.1) * (last.0 - before.0)
        {
            line.pop();
        }
        line.push(point);
    }
    line
}

/// The mean quality of a line between the cheapest and the dearest target; nothing where it is dearer
/// than what may be spent.
fn area(line: &[(f64, f64)], singles: &[(f64, f64)]) -> f64 {
    const STEPS: usize = 2000;
    let least = singles.iter().map(|it| it.0).fold(f64::INFINITY, f64::min);
    let most = singles.iter().map(|it| it.0).fold(0.0, f64::max);
    let quality = |step: usize| {
        let cost = least + (most - least) * step as f64 / STEPS as f64;
        let after = line.partition_point(|it| it.0 < cost);
        match (
            after.checked_sub(1).and_then(|it| line.get(it)),
            line.get(after),
        ) {
            (Some(low), Some(high)) => low.1 + (high.1 - low.1) * (cost - low.0) / (high.0 - low.0),
            (Some(low), None) => low.1,
            (None, Some(high)) if high.0 <= cost => high.1,
            (None, _) => 0.0,
        }
    };
    let inner: f64 = (1..STEPS).map(quality).sum();
    (inner + f64::midpoint(quality(0), quality(STEPS))) / STEPS as f64
}

#[cfg(test)]
mod tests {
    use super::{area, hull};

    #[test]
    fn the_hull_keeps_what_pays() {
        let points = vec![(1.0, 0.5), (2.0, 0.4), (2.0, 0.6), (3.0, 0.9), (4.0, 0.9)];
        let line = hull(points.clone());
        assert_eq!(line, [(1.0, 0.5), (3.0, 0.9)]);
        let expect = (0.7 * 2.0 + 0.9) / 3.0;
        assert!((area(&line, &points) - expect).abs() < 1e-6);
    }
}
