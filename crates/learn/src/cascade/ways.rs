//! The way of each call by what is known of it beforehand, beside a cascade that asks the cheap target
//! for every call and a router that never asks twice; replayed call by call.
//!
//! The judge is drawn: it accepts so many of the adequate and so many of the other answers, for no
//! recorded outcomes have both texts and a judge's verdicts. What is learned of it is learned as on
//! live traffic.
//!
//! **Invariant**: the way is chosen by the very code that chooses on live traffic, and never with the
//! row's own outcome (test `what_is_known_saves_wasted_legs`).

use policy::cascade::record::{Asks, Fared, Record};
use policy::cascade::way::{Chances, Known, Way};
use policy::money::PicoUsd;

use crate::draw::Draws;
use crate::measure::{Pair, weights};
use crate::outcome::is_adequate;
use crate::trial::{Interval, interval, resamples};

/// A judge that is drawn: the shares of adequate and of inadequate answers that it accepts.
pub type Judge = [f64; 2];

/// What was known of each row before it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen<'a> {
    /// The calibrated probability that the weaker target is adequate.
    pub adequate: &'a [f64],
    /// Whether a promise vouches for the weaker target.
    pub kept: &'a [bool],
    /// The share of the stronger target's quality that was promised.
    pub quality: f64,
}

/// What one way of deciding came to, as shares of always asking the stronger target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arm {
    /// Quality.
    pub quality: f64,
    /// Of it.
    pub quality_interval: Interval,
    /// Cost.
    pub cost: f64,
    /// Of it.
    pub cost_interval: Interval,
    /// The part of the cost that went into answers that were thrown away.
    pub wasted: f64,
    /// Shares of the calls that went straight, were judged, and were not.
    pub ways: [f64; 3],
}

/// The three ways of deciding.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Every call is cascaded, as long as that pays on the whole.
    pub always: Arm,
    /// A call goes to the weaker target where a promise vouches for it.
    pub routed: Arm,
    /// Both, chosen call by call.
    pub chosen: Arm,
    /// What the choice costs less than the cascade.
    pub saved: Interval,
}

/// One row's fate.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    score: f64,
    usd: f64,
    wasted: f64,
    way: usize,
}

/// Replays the rows in a drawn order; `draws` resamples for the intervals.
pub fn evaluate(
    pairs: &[Pair],
    foreseen: Foreseen<'_>,
    judge: Judge,
    seed: u64,
    draws: usize,
) -> Figures {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut random = Draws::new(seed ^ 0x3A75);
    random.shuffle(&mut order);
    let empty = vec![Fate::default(); pairs.len()];
    let (mut always, mut routed, mut chosen) = (empty.clone(), empty.clone(), empty);
    let (mut record, mut knowing) = (Record::default(), Record::default());
    for row in order {
        let pair = &pairs[row];
        let (cheap, dear) = (pico(pair.weak_usd), pico(pair.strong_usd));
        let share = judge[usize::from(!is_adequate(pair.weak, pair.strong))];
        let fared = if unit(&mut random) < share {
            Fared::Accepted
        } else {
            Fared::Rejected
        };
        let way = match record.asks(cheap, dear) {
            Asks::Never => Way::Straight,
            Asks::Pays | Asks::Retrial => Way::Checked,
        };
        if way == Way::Checked {
            record.came(fared, None);
        }
        always[row] = fate(pair, way, fared);
        let is_kept = foreseen.kept[row];
        let way = if is_kept {
            Way::Unchecked
        } else {
            Way::Straight
        };
        routed[row] = fate(pair, way, fared);
        let chances = Chances {
            adequate: foreseen.adequate[row],
            own: 1.0,
            quality: foreseen.quality,
            known: if is_kept { Known::Kept } else { Known::Open },
            cheap,
            dear,
            escalated: dear,
            check: PicoUsd::ZERO,
        };
        let taken = knowing.way(&chances).way;
        let way = if knowing.goes(taken) {
            Way::Checked
        } else {
            taken
        };
        if way == Way::Checked {
            knowing.came(fared, Some(foreseen.adequate[row]));
        }
        chosen[row] = fate(pair, way, fared);
    }
    let drawn: Vec<Vec<usize>> = resamples(pairs, draws, seed).collect();
    let cost = |fates: &[Fate], rows: &[usize]| shares(pairs, fates, rows)[1];
    let saved = drawn
        .iter()
        .map(|rows| cost(&always, rows) - cost(&chosen, rows));
    Figures {
        saved: interval(saved.collect()),
        always: arm(pairs, &always, &drawn),
        routed: arm(pairs, &routed, &drawn),
        chosen: arm(pairs, &chosen, &drawn),
    }
}

fn fate(pair: &Pair, way: Way, fared: Fared) -> Fate {
    let weak = Fate {
        score: pair.weak,
        usd: pair.weak_usd,
        wasted: 0.0,
        way: way as usize,
    };
    match (way, fared) {
        (Way::Straight, _) => Fate {
            score: pair.strong,
            usd: pair.strong_usd,
            ..weak
        },
        (Way::Checked, Fared::Rejected) => Fate {
            score: pair.strong,
            usd: pair.weak_usd + pair.strong_usd,
            wasted: pair.weak_usd,
            ..weak
        },
        (Way::Checked, Fared::Accepted) | (Way::Unchecked, _) => weak,
    }
}

/// Quality, cost and waste of some rows, as shares of the stronger target's.
fn shares(pairs: &[Pair], fates: &[Fate], rows: &[usize]) -> [f64; 3] {
    let weights = weights(rows.iter().map(|row| pairs[*row].segment));
    let sum = |of: &dyn Fn(usize) -> f64| -> f64 {
        let weighed = rows.iter().zip(&weights);
        weighed.map(|(row, weight)| weight * of(*row)).sum()
    };
    let (score, usd) = (
        sum(&|row| pairs[row].strong),
        sum(&|row| pairs[row].strong_usd),
    );
    [
        sum(&|row| fates[row].score) / score,
        sum(&|row| fates[row].usd) / usd,
        sum(&|row| fates[row].wasted) / usd,
    ]
}

fn arm(pairs: &[Pair], fates: &[Fate], drawn: &[Vec<usize>]) -> Arm {
    let all: Vec<usize> = (0..pairs.len()).collect();
    let [quality, cost, wasted] = shares(pairs, fates, &all);
    let resampled: Vec<[f64; 3]> = drawn
        .iter()
        .map(|rows| shares(pairs, fates, rows))
        .collect();
    let of = |which: usize| interval(resampled.iter().map(|it| it[which]).collect());
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are small")]
    let share = |way: usize| {
        fates.iter().filter(|it| it.way == way).count() as f64 / pairs.len().max(1) as f64
    };
    Arm {
        quality,
        quality_interval: of(0),
        cost,
        cost_interval: of(1),
        wasted,
        ways: [share(0), share(1), share(2)],
    }
}

/// 0..1: 53 bits are what a float of this size holds.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(random: &mut Draws) -> f64 {
    (random.number() >> 11) as f64 / (1_u64 << 53) as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a forecast, not a bill")]
fn pico(usd: f64) -> PicoUsd {
    PicoUsd((usd * 1e12).round() as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two kinds of calls: one that the weaker target nearly always gets right, and one that it
    /// nearly never does, at a price that makes the second one a waste.
    #[test]
    fn what_is_known_saves_wasted_legs() {
        let mut random = Draws::new(3);
        let (mut pairs, mut adequate) = (Vec::new(), Vec::new());
        for group in 0..2_000 {
            let is_easy = group % 2 == 0;
            let chance = if is_easy { 0.9 } else { 0.1 };
            let weak = f64::from(u8::from(unit(&mut random) < chance));
            pairs.push(Pair {
                strong: 1.0,
                weak,
                strong_usd: 1.0,
                weak_usd: 0.3,
                segment: group % 2,
                group,
            });
            adequate.push(chance);
        }
        let check = |judge: Judge| {
            let kept = vec![false; pairs.len()];
            let foreseen = Foreseen {
                adequate: &adequate,
                kept: &kept,
                quality: 0.95,
            };
            evaluate(&pairs, foreseen, judge, 1, 50)
        };
        let found = check([1.0, 0.0]);
        assert!(found.saved[0] > 0.05, "{found:?}");
        assert!(found.chosen.wasted < found.always.wasted / 2.0, "{found:?}");
        assert!(found.chosen.quality > 0.999);
        // Whatever is accepted is no better than the weaker target, and half of its answers are wrong.
        let found = check([1.0, 1.0]);
        assert!(found.always.quality < 0.6, "{found:?}");
        assert!(found.chosen.quality > 0.9, "{found:?}");
    }
}
