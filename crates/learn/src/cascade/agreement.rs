//! Cascades by agreement: some cheaper targets are asked, and what enough of them say is the answer;
//! otherwise a dearer one is asked.
//!
//! Which targets vote and which one decides is chosen on training rows for a share of the best
//! target's quality, and measured on others, beside the cheapest that one call a question could do
//! there with the quality that the cascade really had: the best mix of targets, and a router that
//! reads the text.
//!
//! **Invariant**: every voter is paid (test `voters_are_paid_whether_they_agree_or_not`), and the
//! single call is given the hull of the very rows that are measured, which favours it.
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use crate::draw::folds;
use crate::measure::Pair;
use crate::outcome::numbered;
use crate::pool::hull;
use crate::trial::{Interval, interval, resamples};

/// The shares of the best target's quality that a cascade is chosen for.
pub const QUALITIES: [f64; 4] = [0.95, 0.97, 0.99, 1.0];

/// One recorded question with what every target answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Near-duplicates.
    pub group: String,
    /// By target.
    pub answers: Vec<Answered>,
}

/// What a target answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The answer in its normal form; none if there was none, which agrees with nothing.
    pub says: Option<String>,
    /// 0..=1.
    pub score: f64,
    /// What it cost.
    pub usd: f64,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cascade {
    /// Two targets; if they disagree, the last decides.
    Two {
        /// The voters.
        voters: [usize; 2],
        /// Who decides.
        last: usize,
    },
    /// Two targets; if they disagree a third; if it agrees with neither, the last decides.
    Three {
        /// The voters in order.
        voters: [usize; 3],
        /// Who decides.
        last: usize,
    },
}

impl Cascade {
    /// Every cascade of so many targets.
    pub fn all(targets: usize) -> Vec<Self> {
        let mut all = Vec::new();
        for first in 0..targets {
            for second in first + 1..targets {
                for other in (0..targets).filter(|it| *it != first && *it != second) {
                    all.push(Self::Two {
                        voters: [first, second],
                        last: other,
                    });
                    let lasts = (0..targets).filter(|it| ![first, second, other].contains(it));
                    all.extend(lasts.map(|last| Self::Three {
                        voters: [first, second, other],
                        last,
                    }));
                }
            }
        }
        all
    }

    /// Who is asked, in order.
    pub fn targets(&self) -> Vec<usize> {
        match self {
            Self::Two { voters, last } => [&voters[..], &[*last]].concat(),
            Self::Three { voters, last } => [&voters[..], &[*last]].concat(),
        }
    }

    /// What a row costs and scores, and what was paid for answers that were not given.
    fn serve(&self, row: &Row) -> Served {
        let order = self.targets();
        let last = order.len() - 1;
        let mut paid = 0.0;
        for (at, target) in order.iter().enumerate() {
            let answered = &row.answers[*target];
            paid += answered.usd;
            let agrees = |other: &&usize| {
                answered.says.is_some() && row.answers[**other].says == answered.says
            };
            let earlier = order[..at].iter().find(agrees);
            if at == last {
                return Served {
                    cost: paid,
                    score: answered.score,
                    wasted: paid - answered.usd,
                };
            }
            if let Some(first) = earlier {
                // They say the same; the earlier one's words are given.
                let given = &row.answers[*first];
                return Served {
                    cost: paid,
                    score: given.score,
                    wasted: 0.0,
                };
            }
        }
        Served::default()
    }
}

/// A row under a cascade.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Served {
    cost: f64,
    score: f64,
    wasted: f64,
}

fn mean(rows: &[&Row], cascade: &Cascade) -> Served {
    let count = rows.len().max(1) as f64;
    let mut sum = Served::default();
    for row in rows {
        let served = cascade.serve(row);
        sum.cost += served.cost / count;
        sum.score += served.score / count;
        sum.wasted += served.wasted / count;
    }
    sum
}

/// Cost and quality of every target alone.
fn singles(rows: &[&Row]) -> Vec<(f64, f64)> {
    let count = rows.len().max(1) as f64;
    let targets = rows.first().map_or(0, |row| row.answers.len());
    let single = |target: usize| {
        let sum = rows.iter().fold((0.0, 0.0), |sum, row| {
            let answered = &row.answers[target];
            (sum.0 + answered.usd, sum.1 + answered.score)
        });
        (sum.0 / count, sum.1 / count)
    };
    (0..targets).map(single).collect()
}

/// The least cost at which a line of cost and quality has this quality; the cost of its best point
/// if it never has.
fn least(line: &[(f64, f64)], quality: f64) -> f64 {
    let after = line.partition_point(|it| it.1 < quality);
    match (
        after.checked_sub(1).and_then(|at| line.get(at)),
        line.get(after),
    ) {
        (Some(low), Some(high)) => low.0 + (high.0 - low.0) * (quality - low.1) / (high.1 - low.1),
        (None, Some(only)) | (Some(only), None) => only.0,
        (None, None) => f64::NAN,
    }
}

/// One set with one quality asked for; costs and qualities as shares of the best single target.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The share of the best target's quality that was asked for on the training rows.
    pub asked: f64,
    /// The cascade; none if no cascade had it there for less than a mix of single targets.
    pub cascade: Option<Cascade>,
    /// The quality it had.
    pub quality: f64,
    /// Its cost.
    pub cost: f64,
    /// What of that was paid for answers that were thrown away.
    pub wasted: f64,
    /// The cost of the best mix of single targets with the same quality.
    pub mix: f64,
    /// The cost of the text router with the same quality; none if there was no router.
    pub router: Option<f64>,
    /// Whether no single call has that quality; then its cost is that of its best.
    pub is_beyond: bool,
    /// What the cascade saves of the cheaper of both.
    pub saved: f64,
    /// Of what is saved.
    pub interval: Interval,
}

/// What there is to measure.
#[derive(Clone, Copy, Debug)]
pub struct Set<'rows> {
    /// The rows to choose on.
    pub train: &'rows [Row],
    /// The rows to measure.
    pub measured: &'rows [Row],
    /// For each setting of a text router, the target of each measured row; empty if there is none.
    pub routed: &'rows [Vec<usize>],
}

/// Chooses and measures; `draws` resamples for intervals.
///
/// Of the cascades that have the quality on the training rows for less than a mix of single targets,
/// the cheapest is taken that is cheaper than the mix on both halves of them: of hundreds, some are
/// cheaper on the whole by luck.
pub fn evaluate(set: Set<'_>, seed: u64, draws: usize) -> Vec<Figures> {
    let train: Vec<&Row> = set.train.iter().collect();
    let alone = singles(&train);
    let best = alone.iter().map(|it| it.1).fold(0.0, f64::max);
    let line = hull(alone.clone());
    let mut all: Vec<(Cascade, Served)> = Cascade::all(alone.len())
        .into_iter()
        .map(|cascade| {
            let served = mean(&train, &cascade);
            (cascade, served)
        })
        .collect();
    all.sort_by(|left, right| left.1.cost.total_cmp(&right.1.cost));
    let (groups, _) = numbered(set.train.iter().map(|it| it.group.as_str()));
    let half_of = folds(&groups, 2, seed);
    let halves = [0, 1].map(|half| -> Vec<&Row> {
        let in_half = set.train.iter().zip(&half_of).filter(|it| *it.1 == half);
        in_half.map(|(row, _)| row).collect()
    });
    let lines = [0, 1].map(|half| hull(singles(&halves[half])));
    let pays = |cascade: &Cascade| {
        (0..2).all(|half| {
            let served = mean(&halves[half], cascade);
            let reaches = lines[half].iter().any(|it| it.1 >= served.score);
            !reaches || served.cost < least(&lines[half], served.score)
        })
    };
    let choose = |asked: f64| {
        let quality = asked * best;
        let is_beyond = alone.iter().all(|it| it.1 < quality);
        let most = if is_beyond {
            f64::INFINITY
        } else {
            least(&line, quality)
        };
        let fit = all
            .iter()
            .filter(|(_, it)| it.score >= quality && it.cost < most);
        let mut fit = fit.map(|(cascade, _)| cascade);
        fit.find(|cascade| pays(cascade)).cloned()
    };
    QUALITIES
        .map(|asked| set.figures(asked, choose(asked), seed, draws))
        .to_vec()
}

impl Set<'_> {
    fn figures(self, asked: f64, cascade: Option<Cascade>, seed: u64, draws: usize) -> Figures {
        let all: Vec<usize> = (0..self.measured.len()).collect();
        let Some(cascade) = cascade else {
            return Figures {
                asked,
                cascade,
                quality: f64::NAN,
                cost: f64::NAN,
                wasted: f64::NAN,
                mix: f64::NAN,
                router: None,
                is_beyond: false,
                saved: f64::NAN,
                interval: [f64::NAN; 2],
            };
        };
        let view = self.view(&all, &cascade);
        let (groups, _) = numbered(self.measured.iter().map(|it| it.group.as_str()));
        let pair = |group: &usize| Pair {
            group: *group,
            ..Pair::default()
        };
        let pairs: Vec<Pair> = groups.iter().map(pair).collect();
        let drawn = resamples(&pairs, draws, seed);
        let saved = drawn.map(|rows| self.view(&rows, &cascade).saved());
        Figures {
            asked,
            quality: view.served.score / view.best.1,
            cost: view.served.cost / view.best.0,
            wasted: view.served.wasted / view.best.0,
            mix: view.mix / view.best.0,
            router: view.router.map(|cost| cost / view.best.0),
            is_beyond: view.is_beyond,
            saved: view.saved(),
            interval: interval(saved.collect()),
            cascade: Some(cascade),
        }
    }

    fn view(self, on: &[usize], cascade: &Cascade) -> View {
        let rows: Vec<&Row> = on.iter().map(|row| &self.measured[*row]).collect();
        let alone = singles(&rows);
        let best = alone.iter().copied().fold(
            (0.0, 0.0),
            |best: (f64, f64), it| {
                if it.1 > best.1 { it } else { best }
            },
        );
        let served = mean(&rows, cascade);
        let count = rows.len().max(1) as f64;
        let knob = |chosen: &Vec<usize>| {
            on.iter().fold((0.0, 0.0), |sum, row| {
                let answered = &self.measured[*row].answers[chosen[*row]];
                (sum.0 + answered.usd / count, sum.1 + answered.score / count)
            })
        };
        let routed = hull(self.routed.iter().map(knob).collect());
        let reaches = |line: &[(f64, f64)]| line.iter().any(|it| it.1 >= served.score);
        let line = hull(alone);
        View {
            served,
            best,
            mix: least(&line, served.score),
            router: (!routed.is_empty()).then(|| least(&routed, served.score)),
            is_beyond: !reaches(&line) && !reaches(&routed),
        }
    }
}

/// A cascade on some rows, beside single calls.
struct View {
    served: Served,
    best: (f64, f64),
    mix: f64,
    router: Option<f64>,
    is_beyond: bool,
}

impl View {
    fn saved(&self) -> f64 {
        let single = self.router.map_or(self.mix, |router| router.min(self.mix));
        1.0 - self.served.cost / single
    }
}

#[cfg(test)]
mod tests {
    use policy::cascade::closed::normal;

    use super::{Answered, Cascade, Row, Set, evaluate};
    use crate::draw::Draws;

    fn answered(says: &str, score: f64, usd: f64) -> Answered {
        Answered {
            says: normal(says),
            score,
            usd,
        }
    }

    #[test]
    fn voters_are_paid_whether_they_agree_or_not() {
        let row = |says: [&str; 4]| Row {
            group: String::new(),
            answers: vec![
                answered(says[0], 0.0, 1.0),
                answered(says[1], 0.1, 2.0),
                answered(says[2], 0.2, 4.0),
                answered(says[3], 1.0, 8.0),
            ],
        };
        let two = Cascade::Two {
            voters: [0, 1],
            last: 3,
        };
        let three = Cascade::Three {
            voters: [0, 1, 2],
            last: 3,
        };
        for (cascade, says, cost, score, wasted) in [
            (&two, ["a", "a", "b", "c"], 3.0, 0.0, 0.0),
            (&two, ["a", "b", "a", "c"], 11.0, 1.0, 3.0),
            // Nothing agrees with nothing.
            (&two, ["", "", "", "c"], 11.0, 1.0, 3.0),
            (&three, ["a", "b", "b", "c"], 7.0, 0.1, 0.0),
            (&three, ["a", "b", "c", "a"], 15.0, 1.0, 7.0),
        ] {
            let served = cascade.serve(&row(says));
            let found = [served.cost, served.score, served.wasted];
            let apart = found
                .iter()
                .zip([cost, score, wasted])
                .map(|(left, right)| (left - right).abs());
            assert!(apart.sum::<f64>() < 1e-9, "{says:?}: {served:?}");
        }
        assert_eq!(Cascade::all(3).len(), 3);
        assert_eq!(Cascade::all(4).len(), 6 * 2 * 2);
    }

    #[test]
    fn agreement_pays_where_errors_differ() {
        let mut draws = Draws::new(5);
        let mut rows = || -> Vec<Row> {
            let mut answer = |of_ten: usize, usd: f64| {
                let is_right = draws.below(10) < of_ten;
                let says = if is_right { 0 } else { 1 + draws.below(50) };
                answered(&says.to_string(), f64::from(u8::from(is_right)), usd)
            };
            let row = |at: usize| Row {
                group: at.to_string(),
                answers: vec![answer(7, 1.0), answer(7, 1.0), answer(9, 40.0)],
            };
            (0..1_000).map(row).collect()
        };
        let (train, measured) = (rows(), rows());
        let set = Set {
            train: &train,
            measured: &measured,
            routed: &[],
        };
        let found = evaluate(set, 1, 50);
        let at_95 = &found[0];
        assert!(at_95.quality > 0.95 && at_95.interval[0] > 0.2, "{at_95:?}");
        assert!(at_95.wasted > 0.0 && at_95.wasted < at_95.cost);
    }
}
