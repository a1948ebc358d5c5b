//! The arithmetic of a counter: what fits, what is refused, and which marks were passed.
//!
//! **Invariant**: a hard verdict lets in only what fits beside everything that is spent and held
//! (test `verdicts_follow_the_mode`); it knows no map, so that every store gives the same verdicts.

use crate::admit::degrade::Step;
use crate::admit::limit::{Limit, LimitId, Measure, Mode, Then, Units};
use crate::admit::scope::Scope;
use crate::admit::window::Span;
use crate::moment::Moment;

/// Shares of an amount that are worth telling, in percent, smallest first.
pub const MARKS: [u8; 4] = [50, 80, 95, 100];

/// What a counter has seen in its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Used, for certain.
    pub spent: Units,
    /// Held for calls under way, if each turns out as dear as it can.
    pub held_worst: Units,
    /// Held for calls under way, if each turns out as dear as expected.
    pub held_expected: Units,
}

impl Tally {
    /// What is held, as a limit of this mode sees it.
    pub const fn held(&self, mode: Mode) -> Units {
        match mode {
            Mode::Hard => self.held_worst,
            Mode::Soft | Mode::Observe => self.held_expected,
        }
    }

    /// Holds a charge.
    pub(super) fn hold(&mut self, charge: Charge) {
        self.held_worst = self.held_worst + charge.worst;
        self.held_expected = self.held_expected + charge.expected;
    }

    /// Lets a held charge go.
    pub(super) fn let_go(&mut self, charge: Charge) {
        self.held_worst = self.held_worst - charge.worst;
        self.held_expected = self.held_expected - charge.expected;
    }

    /// The most that this counter can still end above `amount`, with the calls under way.
    pub fn overshoot(&self, amount: Units) -> Units {
        (self.spent + self.held_worst - amount).max(Units(0))
    }
}

/// What a call asks of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The most it can cost.
    pub worst: Units,
    /// What it is expected to cost; at most `worst`.
    pub expected: Units,
    /// Whether the price behind it is known.
    pub price: Price,
}

/// Whether the price of a charge is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Price {
    /// It is.
    #[default]
    Known,
    /// It is not, and the amounts are a stand-in.
    Unknown,
    /// It is not, and calls without a price are to be refused wherever money is limited.
    Blocked,
}

impl Charge {
    /// What a limit of this mode is asked to hold.
    pub const fn asked(&self, mode: Mode) -> Units {
        match mode {
            Mode::Hard => self.worst,
            Mode::Soft | Mode::Observe => self.expected,
        }
    }
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is.
    Fits,
    /// There is none.
    Full(Relief),
}

/// What could make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relief {
    /// Calls under way that settle for less than they hold.
    Settling,
    /// The next window.
    NextWindow,
    /// Nothing but another limit or a smaller call.
    Nothing,
}

/// Judges a charge against an amount.
///
/// Hard: `spent + held + worst` must not exceed the amount. Soft and observe: `spent + held` must be
/// below it. A charge whose worst case is nothing always fits, unless its price is unknown and the
/// amount is reached: what costs nothing cannot exceed anything, but what is not known may.
pub fn judge(mode: Mode, amount: Units, tally: &Tally, charge: &Charge) -> Verdict {
    let asked = charge.asked(mode);
    if charge.worst <= Units(0) && charge.price == Price::Known {
        return Verdict::Fits;
    }
    let fits = |used: Units| match (charge.price, mode) {
        (Price::Blocked, _) => false,
        (Price::Known, Mode::Hard) => used + asked <= amount,
        (Price::Unknown, Mode::Hard) => used < amount && used + asked <= amount,
        (_, Mode::Soft | Mode::Observe) => used < amount,
    };
    if fits(tally.spent + tally.held(mode)) {
        Verdict::Fits
    } else if fits(tally.spent) {
        Verdict::Full(Relief::Settling)
    } else if fits(Units(0)) {
        Verdict::Full(Relief::NextWindow)
    } else {
        Verdict::Full(Relief::Nothing)
    }
}

/// The most by which a soft limit can be exceeded while these charges are under way.
///
/// The last call was let in while `spent + held` was below the amount, so it brings at most what it
/// costs itself, and each other one at most what it costs beyond its expectation:
/// `Σ (worst − expected) + max expected`.
pub fn overshoot_bound(in_flight: &[Charge]) -> Units {
    let dearer = in_flight
        .iter()
        .map(|charge| charge.worst - charge.expected)
        .fold(Units(0), |sum, more| sum + more);
    let last = in_flight.iter().map(|charge| charge.expected).max();
    dearer + last.unwrap_or_default()
}

/// How many of the [`MARKS`] are reached: 0 below half the amount, 4 at all of it.
pub fn marks_reached(spent: Units, amount: Units) -> u8 {
    // The mark of an amount of nothing is passed by the first unit that is spent.
    let spent = if amount == Units(0) {
        spent - Units(1)
    } else {
        spent
    };
    let reached =
        |mark: &&u8| spent.0.saturating_mul(100) >= amount.0.saturating_mul(i128::from(**mark));
    u8::try_from(MARKS.iter().filter(reached).count()).unwrap_or(u8::MAX)
}

/// Something about a limit that is worth telling once in its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which limit.
    pub limit: LimitId,
    /// Whose usage.
    pub scope: Scope,
    /// What is counted.
    pub measure: Measure,
    /// What happened.
    pub event: Event,
    /// How much may be used.
    pub amount: Units,
    /// How much is spent.
    pub spent: Units,
    /// The window.
    pub window: Span,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Spending reached this share of the amount, in percent.
    Reached(u8),
    /// A limit that only observes would have refused this call.
    WouldRefuse,
    /// A call got a lesser answer on account of the limit; told of each such call.
    Degraded(Step),
}

/// A call for which a limit has no room. Nothing was held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "limit `{limit}` of {scope} has no room: {} of {} spent, {} held, {} asked",
    .measure.show(*.spent), .measure.show(*.amount), .measure.show(*.held), .measure.show(*.asked)
)]
pub struct Spent {
    /// Which limit.
    pub limit: LimitId,
    /// Whose usage.
    pub scope: Scope,
    /// What is counted.
    pub measure: Measure,
    /// How much may be used.
    pub amount: Units,
    /// How much is spent.
    pub spent: Units,
    /// How much is held for calls under way.
    pub held: Units,
    /// How much this call asked for.
    pub asked: Units,
    /// The window that has no room.
    pub window: Span,
    /// What could make room.
    pub relief: Relief,
    /// What the limit wants to become of the call.
    pub then: Then,
    /// Whether the call has no known price.
    pub price: Price,
}

impl Spent {
    /// Something to tell about the limit.
    pub fn notice(&self, event: Event) -> Notice {
        Notice {
            limit: self.limit.clone(),
            scope: self.scope.clone(),
            measure: self.measure,
            event,
            amount: self.amount,
            spent: self.spent,
            window: self.window,
        }
    }

    /// Whole seconds until the next window may have room; none if waiting for it does not help.
    pub fn retry_after_seconds(&self, now: Moment) -> Option<u64> {
        match self.relief {
            Relief::Nothing => None,
            Relief::Settling | Relief::NextWindow => {
                let end = self.window.end?;
                Some(end.since(now).div_ceil(1_000))
            }
        }
    }

    /// Which of two refusals to tell: the one that is harder to get around.
    pub(super) fn worse(self, other: Self) -> Self {
        let weight = |spent: &Self| {
            (
                spent.then,
                spent.relief,
                spent.window.end.is_none(),
                spent.window.end,
            )
        };
        if weight(&other) > weight(&self) {
            other
        } else {
            self
        }
    }
}

/// The refusal of a limit that judged so.
pub(super) fn refusal(
    limit: &Limit,
    scope: &Scope,
    counter: (&Tally, Span),
    charge: &Charge,
    relief: Relief,
) -> Spent {
    let (tally, window) = counter;
    // A window that never ends brings no next one, except that calls under way make room.
    let relief = match (relief, window.end) {
        (Relief::NextWindow, None) => Relief::Nothing,
        (relief, _) => relief,
    };
    Spent {
        limit: limit.id.clone(),
        scope: scope.clone(),
        measure: limit.quota.measure(),
        amount: limit.quota.amount(),
        spent: tally.spent,
        held: tally.held(limit.mode),
        asked: charge.asked(limit.mode),
        window,
        relief,
        then: limit.then,
        price: charge.price,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Charge, Mode, Price, Relief, Tally, Units, Verdict, judge, marks_reached, overshoot_bound,
    };

    #[test]
    fn verdicts_follow_the_mode() {
        use Mode::{Hard, Observe, Soft};
        let full = Verdict::Full;
        for (mode, spent, held, (worst, expected), expect) in [
            (Hard, 0, 0, (100, 10), Verdict::Fits),
            (Hard, 0, 1, (100, 10), full(Relief::Settling)),
            (Hard, 1, 0, (100, 10), full(Relief::NextWindow)),
            (Hard, 0, 0, (101, 10), full(Relief::Nothing)),
            (Hard, 200, 0, (0, 0), Verdict::Fits),
            (Soft, 0, 99, (101, 10), Verdict::Fits),
            (Soft, 0, 100, (101, 10), full(Relief::Settling)),
            (Soft, 100, 0, (101, 10), full(Relief::NextWindow)),
            (Soft, 100, 0, (101, 0), full(Relief::NextWindow)),
            (Soft, 100, 0, (0, 0), Verdict::Fits),
            (Observe, 99, 0, (1_000, 1_000), Verdict::Fits),
            (Observe, 99, 1, (1_000, 1_000), full(Relief::Settling)),
        ] {
            let tally = Tally {
                spent: Units(spent),
                held_worst: Units(held),
                held_expected: Units(held),
            };
            let charge = Charge {
                worst: Units(worst),
                expected: Units(expected),
                price: Price::Known,
            };
            let verdict = judge(mode, Units(100), &tally, &charge);
            assert_eq!(verdict, expect, "{mode:?} {spent}+{held}+{worst}");
        }
    }

    #[test]
    fn an_unknown_price_does_not_pass_a_spent_limit() {
        let unknown = Charge {
            price: Price::Unknown,
            ..Charge::default()
        };
        let spent = |spent| Tally {
            spent: Units(spent),
            ..Tally::default()
        };
        for mode in Mode::ALL {
            assert_eq!(judge(mode, Units(100), &spent(99), &unknown), Verdict::Fits);
            let refused = judge(mode, Units(100), &spent(100), &unknown);
            assert_eq!(refused, Verdict::Full(Relief::NextWindow), "{mode:?}");
            let blocked = Charge {
                price: Price::Blocked,
                ..unknown
            };
            let refused = judge(mode, Units(100), &spent(0), &blocked);
            assert_eq!(refused, Verdict::Full(Relief::Nothing), "{mode:?}");
        }
    }

    #[test]
    fn marks_are_reached_exactly() {
        for (spent, amount, expect) in [
            (0, 1_000, 0),
            (499, 1_000, 0),
            (500, 1_000, 1),
            (949, 1_000, 2),
            (950, 1_000, 3),
            (1_000, 1_000, 4),
            (0, 0, 0),
            (1, 0, 4),
        ] {
            assert_eq!(
                marks_reached(Units(spent), Units(amount)),
                expect,
                "{spent} of {amount}"
            );
        }
    }

    #[test]
    fn the_overshoot_has_a_bound() {
        let charge = |worst, expected| Charge {
            worst: Units(worst),
            expected: Units(expected),
            price: Price::Known,
        };
        assert_eq!(overshoot_bound(&[]), Units(0));
        assert_eq!(overshoot_bound(&[charge(100, 10)]), Units(100));
        assert_eq!(
            overshoot_bound(&[charge(100, 10), charge(50, 20)]),
            Units(140)
        );
    }
}
