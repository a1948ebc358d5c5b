//! Stop-loss: how likely a task is to fail, from what a gateway has seen of it so far, and what
//! stopping there would have saved and lost.
//!
//! It observes: nothing here stops anything.
//!
//! **Invariant**: a task is judged by a model that has seen no run of it (test
//! `a_planted_sign_is_found`); what stopping saves on failures and on successes adds up (test
//! `stopping_adds_up`).
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of steps and amounts of money, as scores"
)]

use std::collections::HashSet;

use policy::agents::steps::{Act, Step};
use policy::money::PicoUsd;

use crate::calibrate::Platt;
use crate::cascade::ridge::solve;
use crate::draw::folds;

/// How many signs a model reads.
pub const SIGNS: usize = 12;

/// 5 steps: what happened lately, beside what happened at all.
const RECENT_STEPS: usize = 5;

/// 5 parts: each model is trained on four fifths of the tasks.
const FOLDS: usize = 5;

/// 1.0: how strongly weights of scaled inputs are drawn to zero, in rows.
const PULL: f64 = 1.0;

/// 12 steps of Newton's method, which doubles its right digits with each near the optimum.
const STEPS: usize = 12;

/// What the steps so far and their cost say, as numbers of similar size.
pub fn signs(steps: &[Step], spent: PicoUsd) -> [f64; SIGNS] {
    let (mut calls, mut results, mut files) = (HashSet::new(), HashSet::new(), HashSet::new());
    let seen: Vec<Seen> = steps
        .iter()
        .map(|step| Seen::of(step, &mut calls, &mut results, &mut files))
        .collect();
    let recent = &seen[seen.len().saturating_sub(RECENT_STEPS)..];
    let share = |of: &[Seen], is: fn(&Seen) -> bool| {
        of.iter().filter(|it| is(it)).count() as f64 / of.len().max(1) as f64
    };
    let usd = spent.0 as f64 / 1e12;
    [
        (steps.len() as f64).ln_1p(),
        steps.len() as f64 / 50.0,
        share(&seen, |it| it.failed),
        share(recent, |it| it.failed),
        share(&seen, |it| it.repeated),
        share(recent, |it| it.repeated),
        share(&seen, |it| it.brought_new),
        share(recent, |it| it.brought_new),
        share(&seen, |it| it.spoke),
        share(recent, |it| it.spoke),
        (files.len() as f64).ln_1p(),
        (usd * 100.0).ln_1p(),
    ]
}

/// What one step was.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that may all be true of a step"
)]
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    failed: bool,
    repeated: bool,
    brought_new: bool,
    spoke: bool,
}

impl Seen {
    fn of(
        step: &Step,
        calls: &mut HashSet<u64>,
        results: &mut HashSet<u64>,
        files: &mut HashSet<u64>,
    ) -> Self {
        match step {
            Step::Spoke { .. } => Self {
                spoke: true,
                brought_new: true,
                ..Self::default()
            },
            Step::ContextError => Self {
                failed: true,
                ..Self::default()
            },
            Step::Acted(acts) => {
                files.extend(acts.iter().filter_map(|act| act.file));
                let mut seen = Self {
                    repeated: true,
                    ..Self::default()
                };
                for Act {
                    call,
                    result,
                    error,
                    ..
                } in acts
                {
                    seen.failed |= error.is_some();
                    seen.repeated &= !calls.insert(*call);
                    seen.brought_new |= result.is_some_and(|result| results.insert(result));
                }
                seen
            }
        }
    }
}

/// A task at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// What was seen so far.
    pub signs: [f64; SIGNS],
    /// The kind of traffic, by number.
    pub segment: usize,
    /// The task, by number; its runs share it.
    pub group: usize,
    /// Whether it failed in the end.
    pub failed: bool,
}

/// Logistic regression: signs, and for each segment an offset and the signs of length and cost.
#[derive(Clone, Debug)]
pub struct Model {
    /// Mean and spread of each sign.
    scales: Vec<(f64, f64)>,
    weights: Vec<f64>,
    platt: Platt,
}

/// Signs whose weight each segment has for itself: steps and money, which mean as much as tasks of
/// that kind are long and dear.
const OWN: [usize; 2] = [0, SIGNS - 1];

impl Model {
    /// Trains on some rows; `segments` is their count.
    pub fn fit(rows: &[Row], on: &[usize], segments: usize) -> Self {
        let count = on.len().max(1) as f64;
        let scale = |at: usize| {
            let mean = on.iter().map(|row| rows[*row].signs[at]).sum::<f64>() / count;
            let apart = |row: &usize| (rows[*row].signs[at] - mean).powi(2);
            let spread = (on.iter().map(apart).sum::<f64>() / count).sqrt();
            (mean, spread.max(1e-9))
        };
        let width = 1 + SIGNS + segments * (1 + OWN.len());
        let mut model = Self {
            scales: (0..SIGNS).map(scale).collect(),
            weights: vec![0.0; width],
            platt: Platt {
                slope: 1.0,
                offset: 0.0,
            },
        };
        for _ in 0..STEPS {
            // Newton's equations, what is to be lowered as the last column.
            let mut equations = vec![vec![0.0; width + 1]; width];
            for (at, equation) in equations.iter_mut().enumerate() {
                equation[at] = PULL;
                equation[width] = -PULL * model.weights[at];
            }
            for row in on {
                let parts = model.parts(&rows[*row]);
                let now = sigmoid(model.sum(&parts));
                let error = f64::from(u8::from(rows[*row].failed)) - now;
                for (at, value) in &parts {
                    for (other, with) in &parts {
                        equations[*at][*other] += now * (1.0 - now) * value * with;
                    }
                    equations[*at][width] += error * value;
                }
            }
            for (weight, step) in model.weights.iter_mut().zip(solve(equations)) {
                *weight += step;
            }
        }
        model
    }

    /// Trains, and calibrates on what models say that have not seen the task.
    fn calibrated(rows: &[Row], on: &[usize], segments: usize, seed: u64) -> Self {
        let groups: Vec<usize> = on.iter().map(|row| rows[*row].group).collect();
        let fold = folds(&groups, FOLDS, seed);
        let (mut said, mut truth) = (Vec::new(), Vec::new());
        for part in 0..FOLDS {
            let (held, seen) = split(on, &fold, part);
            let model = Self::fit(rows, &seen, segments);
            said.extend(held.iter().map(|row| model.at(&rows[*row])));
            truth.extend(held.iter().map(|row| rows[*row].failed));
        }
        let mut model = Self::fit(rows, on, segments);
        model.platt = Platt::fit(&said, &truth);
        model
    }

    /// How likely the task fails.
    pub fn at(&self, row: &Row) -> f64 {
        self.platt.at(sigmoid(self.sum(&self.parts(row))))
    }

    /// The inputs that are not zero.
    fn parts(&self, row: &Row) -> Vec<(usize, f64)> {
        let scaled: Vec<f64> = row
            .signs
            .iter()
            .zip(&self.scales)
            .map(|(value, (mean, spread))| (value - mean) / spread)
            .collect();
        let own = 1 + SIGNS + row.segment * (1 + OWN.len());
        let mut parts = vec![(0, 1.0), (own, 1.0)];
        parts.extend(
            scaled
                .iter()
                .enumerate()
                .map(|(at, value)| (1 + at, *value)),
        );
        parts.extend(
            OWN.iter()
                .zip(own + 1..)
                .map(|(at, own)| (own, scaled[*at])),
        );
        parts
    }

    fn sum(&self, parts: &[(usize, f64)]) -> f64 {
        parts
            .iter()
            .map(|(at, value)| self.weights[*at] * value)
            .sum()
    }
}

fn sigmoid(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

/// The rows of a fold, and all others.
fn split(on: &[usize], fold: &[usize], part: usize) -> (Vec<usize>, Vec<usize>) {
    let of = |is_held: bool| {
        let rows = on.iter().zip(fold);
        rows.filter(|(_, fold)| (**fold == part) == is_held)
            .map(|(row, _)| *row)
            .collect()
    };
    (of(true), of(false))
}

/// For each row, what a calibrated model says that has not seen its task, and the share of failed
/// rows of its segment there, which is what the segment's name alone says.
pub fn cross_validated(rows: &[Row], segments: usize, seed: u64) -> Vec<(f64, f64)> {
    let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
    let fold = folds(&groups, FOLDS, seed);
    let on: Vec<usize> = (0..rows.len()).collect();
    let mut said = vec![(0.0, 0.0); rows.len()];
    for part in 0..FOLDS {
        let (held, seen) = split(&on, &fold, part);
        let model = Model::calibrated(rows, &seen, segments, seed);
        let mut rates = vec![(1.0, 2.0); segments];
        for row in &seen {
            let rate: &mut (f64, f64) = &mut rates[rows[*row].segment];
            rate.0 += f64::from(u8::from(rows[*row].failed));
            rate.1 += 1.0;
        }
        for row in held {
            let (failed, all) = rates[rows[row].segment];
            said[row] = (model.at(&rows[row]), failed / all);
        }
    }
    said
}

/// The chance that a row of a failed task is given a higher probability than one of another; ties
/// count half. None if all ended alike.
pub fn area(said: &[f64], came_true: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..said.len()).collect();
    order.sort_by(|left, right| said[*left].total_cmp(&said[*right]));
    let (mut below, mut pairs, mut positives) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|left, right| said[*left].total_cmp(&said[*right]).is_eq()) {
        let up = tied.iter().filter(|row| came_true[**row]).count() as f64;
        let down = tied.len() as f64 - up;
        pairs += up * (below + down / 2.0);
        below += down;
        positives += up;
    }
    let all = positives * below;
    (all > 0.0).then(|| pairs / all)
}

/// The mean square of what probabilities are off.
pub fn brier(said: &[f64], came_true: &[bool]) -> f64 {
    let off = said.iter().zip(came_true);
    let squares = off.map(|(said, truth)| (said - f64::from(u8::from(*truth))).powi(2));
    squares.sum::<f64>() / said.len().max(1) as f64
}

/// One run of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What each of its calls cost.
    pub costs: Vec<PicoUsd>,
    /// What was said before each of them; the first call is never stopped.
    pub said: Vec<f64>,
    /// Whether it failed in the end.
    pub failed: bool,
}

/// What stopping at a threshold would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Failed runs that were stopped.
    pub failures: u64,
    /// What they did not cost any more.
    pub saved: PicoUsd,
    /// Runs that would have succeeded, but were stopped.
    pub successes: u64,
    /// What they had cost until then, for nothing.
    pub wasted: PicoUsd,
    /// What they did not cost any more.
    pub unspent: PicoUsd,
}

/// Stops each run before the first call at which the probability reaches the threshold.
pub fn stopping(runs: &[Run], threshold: f64) -> Stopped {
    let mut stopped = Stopped::default();
    for run in runs {
        let said = run.said.iter().skip(1);
        let Some(at) = said.clone().position(|said| *said >= threshold) else {
            continue;
        };
        let (before, after) = run.costs.split_at((at + 1).min(run.costs.len()));
        let (before, after): (PicoUsd, PicoUsd) =
            (before.iter().copied().sum(), after.iter().copied().sum());
        if run.failed {
            stopped.failures += 1;
            stopped.saved += after;
        } else {
            stopped.successes += 1;
            stopped.wasted += before;
            stopped.unspent += after;
        }
    }
    stopped
}

#[cfg(test)]
mod tests {
    use policy::agents::steps::{Act, Purpose, Step};
    use policy::money::PicoUsd;

    use super::{Row, Run, SIGNS, area, brier, cross_validated, signs, stopping};
    use crate::draw::Draws;

    #[test]
    fn a_planted_sign_is_found() {
        let mut draws = Draws::new(5);
        let rows: Vec<Row> = (0..1_200)
            .map(|at| {
                let level = draws.below(1_000);
                let mut signs = [0.0; SIGNS];
                signs[2] = level as f64 / 1_000.0;
                Row {
                    signs,
                    segment: at % 2,
                    group: at / 10,
                    failed: draws.below(1_000) < level,
                }
            })
            .collect();
        let said = cross_validated(&rows, 2, 1);
        let truth: Vec<bool> = rows.iter().map(|row| row.failed).collect();
        let (model, segment): (Vec<f64>, Vec<f64>) = said.into_iter().unzip();
        // The best that can be had is an area of 5/6 and a square of 1/6.
        assert!(area(&model, &truth).is_some_and(|it| it > 0.8));
        assert!(brier(&model, &truth) < 0.18 && brier(&segment, &truth) > 0.24);
    }

    #[test]
    fn a_task_without_a_sign_is_judged_by_its_segment() {
        let row = |at: usize| Row {
            signs: [0.0; SIGNS],
            segment: at % 2,
            group: at,
            failed: at.is_multiple_of(2) || at % 8 == 1,
        };
        let rows: Vec<Row> = (0..400).map(row).collect();
        for (row, (said, _)) in rows.iter().zip(cross_validated(&rows, 2, 1)) {
            assert_eq!(said > 0.9, row.segment == 0, "{said}");
            assert!(row.segment == 0 || (said - 0.25).abs() < 0.1, "{said}");
        }
    }

    #[test]
    fn stopping_adds_up() {
        let run = |failed, said: &[f64]| Run {
            costs: vec![PicoUsd(10); said.len()],
            said: said.to_vec(),
            failed,
        };
        let runs = [
            run(true, &[0.9, 0.2, 0.9, 0.1]),
            run(false, &[0.0, 0.9]),
            run(false, &[0.9, 0.0]),
        ];
        let stopped = stopping(&runs, 0.5);
        assert_eq!((stopped.failures, stopped.saved), (1, PicoUsd(20)));
        assert_eq!((stopped.successes, stopped.wasted), (1, PicoUsd(10)));
        assert_eq!(stopped.unspent, PicoUsd(10));
        assert_eq!(stopping(&runs, 1.0), super::Stopped::default());
    }

    #[test]
    fn signs_say_what_was_seen() {
        let act = |call, result, error| Act {
            call,
            result: Some(result),
            error,
            file: None,
            purpose: Purpose::Work,
        };
        let one = |act| Step::Acted(vec![act]);
        let steps = [one(act(1, 1, None)), one(act(1, 1, Some(3)))];
        let signs = signs(&steps, PicoUsd(0));
        let halves = signs.iter().filter(|it| (*it - 0.5).abs() < 1e-9).count();
        // Errors, repeats and news, each over all and lately.
        assert_eq!(halves, 6);
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(area(&[0.5, 0.5], &[true, false]), Some(0.5));
        assert_eq!(area(&[0.5, 0.5], &[true, true]), None);
    }
}
