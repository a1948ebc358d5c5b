//! Cascades on the signals that a weaker answer shows of itself, beside a random mix of both targets:
//! the best that a router can do that sees neither text nor answer.
//!
//! A row is scored by what the stronger target is expected to add, learned on other rows; the highest
//! scores escalate. Every call pays for the weak answer and what judging it costs.
//!
//! **Invariant**: no row is scored by a model that saw its group, and thresholds that are transferred
//! come from the other half (test `a_cascade_pays_where_its_signal_tells`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use crate::calibrate::{error, reliability};
use crate::draw::folds;
use crate::measure::{Pair, QUALITIES};
use crate::outcome::{is_adequate, numbered};
use crate::trial::{BINS, Interval, interval, resamples};

use super::forecast::{Counted, foreseen};
use super::isotonic::isotonic;
use super::ridge::Ridge;

/// Five folds for scoring rows.
const FOLDS: usize = 5;

/// 20 rows: a set has some 800.
const PULL: f64 = 20.0;

/// One recorded question with both answers' scores and the weak answer's signals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The set of questions.
    pub set: String,
    /// Questions about the same document.
    pub group: String,
    /// Score of the weaker target.
    pub weak: f64,
    /// Score of the stronger target.
    pub strong: f64,
    /// How sure the weak target is of its answer when it is asked.
    pub self_verified: f64,
    /// The mean log-probability of the weak answer's tokens.
    pub mean_logprob: f64,
    /// The mean entropy of the weak answer's tokens.
    pub entropy: f64,
    /// Tokens of the weak answer.
    pub weak_tokens: f64,
    /// Tokens of the strong answer.
    pub strong_tokens: f64,
}

/// What is read of the weak answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Its mean log-probability.
    LogProb,
    /// What comes with the answer at no cost: log-probability, entropy and length.
    Shown,
    /// What the weak target says when it is asked about its answer.
    SelfVerified,
    /// Everything.
    All,
}

impl Reads {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LogProb, Self::Shown, Self::SelfVerified, Self::All];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogProb => "log_prob",
            Self::Shown => "shown",
            Self::SelfVerified => "self_verified",
            Self::All => "all",
        }
    }

    fn inputs(self, row: &Row) -> Vec<f64> {
        let (sure, entropy, asked) = (row.mean_logprob, row.entropy, row.self_verified);
        let length = row.weak_tokens.ln_1p();
        let shown = [
            sure,
            entropy,
            length,
            sure * length,
            length * length,
            sure * sure,
        ];
        match self {
            Self::LogProb => vec![sure],
            Self::Shown => shown.to_vec(),
            Self::SelfVerified => vec![asked],
            Self::All => [&shown[..], &[asked, asked * sure]].concat(),
        }
    }

    /// Whether the weak target must be asked once more.
    const fn asks(self) -> bool {
        matches!(self, Self::SelfVerified | Self::All)
    }
}

/// USD per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// Of the weaker target's input.
    pub weak_input: f64,
    /// Of its output.
    pub weak_output: f64,
    /// Of the stronger target's input.
    pub strong_input: f64,
    /// Of its output.
    pub strong_output: f64,
}

/// What is assumed about costs, which were not recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Assumed {
    /// Prices.
    pub prices: Prices,
    /// Tokens of every question with its document.
    pub prompt_tokens: f64,
    /// Calls of the weak target for one self-verification, each reading question and answer and
    /// writing one token.
    pub verifications: f64,
}

impl Assumed {
    fn weak(&self, row: &Row, reads: Reads) -> f64 {
        let prices = self.prices;
        let answer = self.prompt_tokens * prices.weak_input + row.weak_tokens * prices.weak_output;
        let asked = (self.prompt_tokens + row.weak_tokens) * prices.weak_input + prices.weak_output;
        answer
            + if reads.asks() {
                self.verifications * asked
            } else {
                0.0
            }
    }

    fn strong(&self, row: &Row) -> f64 {
        self.prompt_tokens * self.prices.strong_input
            + row.strong_tokens * self.prices.strong_output
    }
}

/// What a set and a reading come to; costs and qualities as shares of always-strong.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The set.
    pub set: String,
    /// What is read.
    pub reads: Reads,
    /// Rows.
    pub rows: usize,
    /// Mean scores, the strong one first.
    pub quality: [f64; 2],
    /// Always-weak.
    pub weak_cost: f64,
    /// Area under the gap recovered over the share escalated: one half at random.
    pub area: f64,
    /// Of the area.
    pub area_interval: Interval,
    /// The cascade's cost at 95, 97 and 99 % of the strong quality.
    pub cost: [f64; 3],
    /// The random mix's at the same.
    pub single: [f64; 3],
    /// What the cascade saves of the mix's cost at 95 %: below 0 it does not pay.
    pub saved: Interval,
    /// At 95 %, with the threshold and the choice between both made on the other half.
    pub transferred: Transferred,
}

/// What was chosen on one half, on the other; means of both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Transferred {
    /// How often, of two, the cascade was chosen and not the mix.
    pub cascades: usize,
    /// Quality.
    pub quality: f64,
    /// Cost.
    pub cost: f64,
    /// The mix's cost at that quality.
    pub single: f64,
    /// Foreseen cost and quality of the cascade less what came, each as a share of always-strong on
    /// its half, of both ways the one further off; both are zero if it was never chosen.
    pub off: [f64; 2],
}

/// How well the log-probability of a set was calibrated, on rows that the curve had not seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// The set.
    pub set: String,
    /// Expected calibration error, 15 bins.
    pub error: f64,
}

/// One scored row.
#[derive(Clone, Copy, Debug, Default)]
struct Case {
    weak: f64,
    strong: f64,
    weak_alone_cost: f64,
    weak_cost: f64,
    strong_cost: f64,
    score: f64,
}

/// Means over rows.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    weak: f64,
    strong: f64,
    weak_alone_cost: f64,
    weak_cost: f64,
    strong_cost: f64,
}

impl Means {
    fn of(cases: &[Case]) -> Self {
        let rows = cases.len().max(1) as f64;
        let mean = |of: fn(&Case) -> f64| cases.iter().map(of).sum::<f64>() / rows;
        Self {
            weak: mean(|it| it.weak),
            strong: mean(|it| it.strong),
            weak_alone_cost: mean(|it| it.weak_alone_cost),
            weak_cost: mean(|it| it.weak_cost),
            strong_cost: mean(|it| it.strong_cost),
        }
    }

    /// The share of strong calls with which a random mix has this quality.
    fn share(&self, quality: f64) -> f64 {
        let gap = self.strong - self.weak;
        let needed = if gap > 0.0 {
            (quality - self.weak) / gap
        } else {
            0.0
        };
        needed.clamp(0.0, 1.0)
    }

    /// Cost and quality of a mix.
    fn mix(&self, share: f64) -> (f64, f64) {
        let between = |low: f64, high: f64| low + share * (high - low);
        (
            between(self.weak_alone_cost, self.strong_cost),
            between(self.weak, self.strong),
        )
    }
}

/// A point of a cascade: what escalating these scores and all above costs and is.
#[derive(Clone, Copy, Debug)]
struct Step {
    threshold: f64,
    share: f64,
    cost: f64,
    quality: f64,
}

/// From escalating nothing to escalating everything.
fn steps(cases: &[Case]) -> Vec<Step> {
    let means = Means::of(cases);
    let mut order: Vec<&Case> = cases.iter().collect();
    order.sort_by(|left, right| right.score.total_cmp(&left.score));
    let rows = cases.len().max(1) as f64;
    let mut step = Step {
        threshold: f64::INFINITY,
        share: 0.0,
        cost: means.weak_cost,
        quality: means.weak,
    };
    let mut steps = vec![step];
    for (at, case) in order.iter().enumerate() {
        step.threshold = case.score;
        step.share += 1.0 / rows;
        step.cost += case.strong_cost / rows;
        step.quality += (case.strong - case.weak) / rows;
        let next = order.get(at + 1).map(|it| it.score);
        if next.is_none_or(|it| it.total_cmp(&case.score).is_ne()) {
            steps.push(step);
        }
    }
    steps
}

/// The least cost of a cascade with this quality, and its threshold; between two thresholds a mix.
fn reach(steps: &[Step], quality: f64) -> (f64, f64) {
    let found = steps.iter().position(|it| it.quality >= quality - 1e-12);
    let Some(at) = found else {
        return (f64::NAN, f64::NEG_INFINITY);
    };
    let high = steps[at];
    let Some(low) = at.checked_sub(1).map(|at| steps[at]) else {
        return (high.cost, high.threshold);
    };
    let part = (quality - low.quality) / (high.quality - low.quality);
    (low.cost + part * (high.cost - low.cost), high.threshold)
}

fn area(steps: &[Step], means: &Means) -> f64 {
    let gap = means.strong - means.weak;
    let recovered = |step: &Step| (step.quality - means.weak) / gap;
    let parts = steps.windows(2).map(|pair| {
        (pair[1].share - pair[0].share) * f64::midpoint(recovered(&pair[0]), recovered(&pair[1]))
    });
    parts.sum()
}

/// Evaluates every set with every reading; `draws` resamples for intervals.
pub fn evaluate(rows: &[Row], assumed: &Assumed, seed: u64, draws: usize) -> Vec<Figures> {
    let mut found = Vec::new();
    for set in sets(rows) {
        found.extend(Reads::ALL.map(|reads| figures(&set, reads, assumed, seed, draws)));
    }
    found
}

/// The rows of each set.
fn sets(rows: &[Row]) -> Vec<Vec<&Row>> {
    let (numbers, names) = numbered(rows.iter().map(|it| it.set.as_str()));
    let mut sets = vec![Vec::new(); names.len()];
    for (row, set) in rows.iter().zip(numbers) {
        sets[set].push(row);
    }
    sets
}

fn figures(set: &[&Row], reads: Reads, assumed: &Assumed, seed: u64, draws: usize) -> Figures {
    let (groups, _) = numbered(set.iter().map(|it| it.group.as_str()));
    let scores = scores(set, &groups, reads, seed);
    let case = |(row, score): (&&Row, &f64)| Case {
        weak: row.weak,
        strong: row.strong,
        weak_alone_cost: assumed.weak(row, Reads::LogProb),
        weak_cost: assumed.weak(row, reads),
        strong_cost: assumed.strong(row),
        score: *score,
    };
    let cases: Vec<Case> = set.iter().zip(&scores).map(case).collect();
    let (means, curve) = (Means::of(&cases), steps(&cases));
    let at = |share: f64| {
        let quality = share * means.strong;
        let single = means.mix(means.share(quality)).0;
        (
            reach(&curve, quality).0 / means.strong_cost,
            single / means.strong_cost,
        )
    };
    let (mut areas, mut saved) = (Vec::new(), Vec::new());
    let pairs: Vec<Pair> = groups
        .iter()
        .map(|group| Pair {
            group: *group,
            ..Pair::default()
        })
        .collect();
    for drawn in resamples(&pairs, draws, seed) {
        let drawn: Vec<Case> = drawn.iter().map(|row| cases[*row]).collect();
        let (means, curve) = (Means::of(&drawn), steps(&drawn));
        let quality = QUALITIES[0] * means.strong;
        let single = means.mix(means.share(quality)).0;
        areas.push(area(&curve, &means));
        saved.push(1.0 - reach(&curve, quality).0 / single);
    }
    Figures {
        set: set.first().map(|it| it.set.clone()).unwrap_or_default(),
        reads,
        rows: set.len(),
        quality: [means.strong, means.weak],
        weak_cost: means.weak_alone_cost / means.strong_cost,
        area: area(&curve, &means),
        area_interval: interval(areas),
        cost: QUALITIES.map(|share| at(share).0),
        single: QUALITIES.map(|share| at(share).1),
        saved: interval(saved),
        transferred: transfer(&cases, &folds(&groups, 2, seed ^ 1)),
    }
}

/// What the strong target is expected to add, by models that saw other groups.
fn scores(set: &[&Row], groups: &[usize], reads: Reads, seed: u64) -> Vec<f64> {
    let inputs: Vec<Vec<f64>> = set.iter().map(|row| reads.inputs(row)).collect();
    let gains: Vec<f64> = set.iter().map(|row| row.strong - row.weak).collect();
    let fold_of = folds(groups, FOLDS, seed);
    let fit = |fold: usize| {
        let on: Vec<usize> = (0..set.len()).filter(|row| fold_of[*row] != fold).collect();
        Ridge::fit(&inputs, &gains, &on, PULL)
    };
    let models: Vec<Ridge> = (0..FOLDS).map(fit).collect();
    (0..set.len())
        .map(|row| models[fold_of[row]].at(&inputs[row]))
        .collect()
}

/// Chooses on each half between the cascade, with its threshold, and the mix, with its share.
fn transfer(cases: &[Case], half_of: &[usize]) -> Transferred {
    let half = |which: usize| -> Vec<Case> {
        let rows = cases
            .iter()
            .zip(half_of)
            .filter(|(_, half)| **half == which);
        rows.map(|(case, _)| *case).collect()
    };
    let mut sum = Transferred::default();
    for way in 0..2 {
        let (calibration, measured) = (half(way), half(1 - way));
        let (known, means) = (Means::of(&calibration), Means::of(&measured));
        let quality = QUALITIES[0] * known.strong;
        let (cost, threshold) = reach(&steps(&calibration), quality);
        let share = known.share(quality);
        let (cost, quality) = if cost < known.mix(share).0 {
            sum.cascades += 1;
            let foreseen = foreseen(&counted(&calibration, threshold));
            let rows = measured.len().max(1) as f64;
            let mut point = (means.weak_cost, means.weak);
            for case in measured.iter().filter(|it| it.score >= threshold) {
                point.0 += case.strong_cost / rows;
                point.1 += (case.strong - case.weak) / rows;
            }
            let off = [
                foreseen.0 / known.strong_cost - point.0 / means.strong_cost,
                foreseen.1 / known.strong - point.1 / means.strong,
            ];
            for (most, off) in sum.off.iter_mut().zip(off) {
                if off.abs() > most.abs() {
                    *most = off;
                }
            }
            point
        } else {
            means.mix(share)
        };
        sum.quality += quality / means.strong / 2.0;
        sum.cost += cost / means.strong_cost / 2.0;
        sum.single += means.mix(means.share(quality)).0 / means.strong_cost / 2.0;
    }
    sum
}

fn counted(cases: &[Case], threshold: f64) -> Vec<Counted> {
    let counted = |case: &Case| Counted {
        weak: case.weak,
        strong: case.strong,
        weak_cost: case.weak_cost,
        strong_cost: case.strong_cost,
        is_accepted: case.score < threshold,
    };
    cases.iter().map(counted).collect()
}

/// Calibrates the log-probability of every set on one half and measures it on the other, both ways.
pub fn calibration(rows: &[Row], seed: u64) -> Vec<Calibrated> {
    let measure = |set: Vec<&Row>| {
        let (groups, _) = numbered(set.iter().map(|it| it.group.as_str()));
        let half_of = folds(&groups, 2, seed ^ 1);
        let truth = |row: &Row| is_adequate(row.weak, row.strong);
        let (mut said, mut came_true) = (Vec::new(), Vec::new());
        for way in 0..2 {
            let half = |which: usize| {
                set.iter()
                    .zip(&half_of)
                    .filter(move |(_, half)| **half == which)
            };
            let (signal, known): (Vec<f64>, Vec<bool>) = half(way)
                .map(|(row, _)| (row.mean_logprob, truth(row)))
                .unzip();
            let Some(curve) = isotonic(&signal, &known) else {
                continue;
            };
            for (row, _) in half(1 - way) {
                said.extend(curve.at(row.mean_logprob));
                came_true.push(truth(row));
            }
        }
        Calibrated {
            set: set.first().map(|it| it.set.clone()).unwrap_or_default(),
            error: error(&reliability(&said, &came_true, BINS)),
        }
    };
    sets(rows).into_iter().map(measure).collect()
}

#[cfg(test)]
mod tests {
    use super::{Assumed, Prices, Reads, Row, calibration, evaluate};
    use crate::draw::Draws;

    /// In `tells` the weak answer is right when it is sure; in `mute` sureness says nothing.
    fn rows() -> Vec<Row> {
        let mut draws = Draws::new(9);
        let mut rows = Vec::new();
        for at in 0..1_600_u32 {
            let mut chance = |of_ten: usize| draws.below(10) < of_ten;
            let (is_sure, is_strong) = (chance(5), chance(8));
            let tells = at % 2 == 0;
            let is_weak = chance(if !tells {
                5
            } else if is_sure {
                9
            } else {
                1
            });
            rows.push(Row {
                set: if tells { "tells" } else { "mute" }.to_owned(),
                group: format!("{}", at / 4),
                weak: f64::from(u8::from(is_weak)),
                strong: f64::from(u8::from(is_strong)),
                mean_logprob: if is_sure { -0.1 } else { -1.0 },
                weak_tokens: 10.0,
                strong_tokens: 10.0,
                ..Row::default()
            });
        }
        rows
    }

    #[test]
    fn a_cascade_pays_where_its_signal_tells() {
        let assumed = Assumed {
            prices: Prices {
                weak_input: 1.0,
                weak_output: 1.0,
                strong_input: 10.0,
                strong_output: 10.0,
            },
            prompt_tokens: 100.0,
            verifications: 4.0,
        };
        let found = evaluate(&rows(), &assumed, 1, 50);
        let of = |set: &str, reads: Reads| {
            let of = found.iter().find(|it| it.set == set && it.reads == reads);
            of.expect("figures")
        };
        let tells = of("tells", Reads::LogProb);
        assert!(tells.area > 0.8 && tells.saved[0] > 0.1, "{tells:?}");
        assert_eq!(tells.transferred.cascades, 2);
        assert!(tells.transferred.cost < tells.transferred.single);
        // The weak answer is paid also where it is thrown away.
        let mute = of("mute", Reads::LogProb);
        assert!(
            mute.saved[1] < 0.1 && (mute.area - 0.5).abs() < 0.1,
            "{mute:?}"
        );
        // Asking costs four weak calls of a tenth each, and tells nothing here.
        let asked = of("tells", Reads::SelfVerified);
        assert!(asked.cost[0] > tells.cost[0] + 0.3, "{asked:?}");
    }

    #[test]
    fn a_log_probability_is_calibrated() {
        for set in calibration(&rows(), 1) {
            assert!(set.error < 0.06, "{set:?}");
        }
    }
}
