//! What a call asks for, and what the book keeps of it while it is under way.
//!
//! **Invariant**: what is expected is never above the worst case (test
//! `expectations_stay_below_the_worst_case`).

use wire::usage::Tokens;

use super::meter::MeterId;
use crate::admit::limit::{Measure, Units};
use crate::admit::scope::Scope;
use crate::admit::tally::{Charge, Price};
use crate::admit::window::Span;
use crate::moment::Moment;
use crate::money::PicoUsd;

/// Identifies a hold within one book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub u64);

/// What to do with a leg whose price is not known. Either way an alarm counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownPrice {
    /// Refuse it wherever money is limited: what cannot be priced cannot be kept within an amount.
    #[default]
    Block,
    /// Hold this much, and book it unless the price becomes known.
    HoldAtCeiling(PicoUsd),
    /// Let it through money limits that are not reached yet.
    Allow,
}

/// What one leg may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Need {
    /// The most that it can cost (see [`crate::admit::worst::worst`]); none if the price is unknown.
    pub worst: Option<PicoUsd>,
    /// What it is expected to cost, such as the route's observed q99; none to expect the worst.
    pub expected: Option<PicoUsd>,
    /// The most tokens that it can use, input and output.
    pub worst_tokens: Tokens,
    /// The tokens that it is expected to use.
    pub expected_tokens: Tokens,
    /// What to do if the price is unknown.
    pub unknown_price: UnknownPrice,
}

impl Need {
    /// The most money that it can take, by the price book or else by rule; none if nobody says.
    pub const fn most(&self) -> Option<PicoUsd> {
        match (self.worst, self.unknown_price) {
            (Some(worst), _) => Some(worst),
            (None, UnknownPrice::HoldAtCeiling(ceiling)) => Some(ceiling),
            (None, UnknownPrice::Block | UnknownPrice::Allow) => None,
        }
    }
}

/// A call that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// All that it is charged to, parents included; one that is given twice is charged once.
    pub scopes: &'a [Scope],
    /// What its first leg may use.
    pub need: Need,
    /// When its hold is let go if it was not settled by then: beyond the longest that it may last.
    pub expires_at: Moment,
}

/// One charge for each measure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charges {
    usd: Charge,
    tokens: Charge,
    calls: Charge,
}

/// Whether a leg is the first of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegOf {
    /// It is, and brings the call itself.
    NewCall,
    /// The call is counted already.
    CallUnderWay,
}

impl Charges {
    pub(super) fn of(need: &Need, leg: LegOf) -> Self {
        let (worst, price) = match (need.worst, need.unknown_price) {
            (Some(worst), _) => (worst, Price::Known),
            (None, UnknownPrice::Block) => (PicoUsd::ZERO, Price::Blocked),
            (None, UnknownPrice::HoldAtCeiling(ceiling)) => (ceiling, Price::Unknown),
            (None, UnknownPrice::Allow) => (PicoUsd::ZERO, Price::Unknown),
        };
        let calls = Units(i128::from(leg == LegOf::NewCall));
        Self {
            usd: charge(worst.into(), need.expected.unwrap_or(worst).into(), price),
            tokens: charge(
                need.worst_tokens.into(),
                need.expected_tokens.into(),
                Price::Known,
            ),
            calls: charge(calls, calls, Price::Known),
        }
    }

    pub(super) const fn of_measure(&self, measure: Measure) -> &Charge {
        match measure {
            Measure::Usd => &self.usd,
            Measure::Tokens => &self.tokens,
            Measure::Requests | Measure::Concurrency => &self.calls,
        }
    }

    /// These and a further leg's.
    pub(super) fn with(self, more: &Self) -> Self {
        let sum = |one: Charge, two: &Charge| Charge {
            worst: one.worst + two.worst,
            expected: one.expected + two.expected,
            price: if two.price == Price::Known {
                one.price
            } else {
                two.price
            },
        };
        Self {
            usd: sum(self.usd, &more.usd),
            tokens: sum(self.tokens, &more.tokens),
            calls: sum(self.calls, &more.calls),
        }
    }
}

/// 1.5 × 10¹⁴ USD, or as many units of another measure: sums of a billion such charges are still exact.
const CHARGE_MAX: Units = Units(i128::MAX >> 40);

fn charge(worst: Units, expected: Units, price: Price) -> Charge {
    let worst = worst.clamp(Units(0), CHARGE_MAX);
    Charge {
        worst,
        expected: expected.clamp(Units(0), worst),
        price,
    }
}

/// What a call turned out to use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actual {
    usd: Units,
    tokens: Units,
    requests: Units,
}

impl Actual {
    /// Nothing was sent.
    pub(super) const NOTHING: Self = Self {
        usd: Units(0),
        tokens: Units(0),
        requests: Units(0),
    };

    /// A call's own figures; a cost that stays unknown is booked as what was held for it.
    pub(super) fn of(cost: Option<PicoUsd>, tokens: Tokens, charges: &Charges) -> Self {
        Self {
            usd: cost.map_or(charges.usd.worst, Units::from),
            tokens: tokens.into(),
            requests: Units(1),
        }
    }

    /// The sum over calls that are over.
    pub(super) fn past(cost: PicoUsd, tokens: Tokens, requests: u64) -> Self {
        Self {
            usd: cost.into(),
            tokens: tokens.into(),
            requests: Units(i128::from(requests)),
        }
    }

    pub(super) const fn of_measure(&self, measure: Measure) -> Units {
        match measure {
            Measure::Usd => self.usd,
            Measure::Tokens => self.tokens,
            Measure::Requests => self.requests,
            Measure::Concurrency => Units(0),
        }
    }
}

/// One counter that a hold is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Which of the hold's scopes.
    pub(super) scope: usize,
    /// What is counted.
    pub(super) meter: MeterId,
    /// The window in which it was reserved.
    pub(super) window: Span,
}

/// What a hold is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A call.
    Call,
    /// One leg of a call that has a hold of its own, where the leg alone is charged. It raises no
    /// alarm, for the call's hold does.
    Leg,
}

/// A call under way, or a leg of it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) of: Of,
    pub(super) scopes: Box<[Scope]>,
    pub(super) entries: Vec<Entry>,
    pub(super) charges: Charges,
    pub(super) reserved_at: Moment,
    pub(super) expires_at: Moment,
}

impl Hold {
    /// Its counters, each with the payer.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Scope, &Entry)> {
        let entries = self.entries.iter();
        entries.filter_map(|entry| Some((self.scopes.get(entry.scope)?, entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Charges, LegOf, Measure, Need, PicoUsd, Price, Tokens, Units, UnknownPrice};

    #[test]
    fn expectations_stay_below_the_worst_case() {
        let check = |need: Need, worst: i128, expected: i128, price: Price| {
            let charges = Charges::of(&need, LegOf::NewCall);
            let usd = charges.of_measure(Measure::Usd);
            assert_eq!(
                (usd.worst, usd.expected, usd.price),
                (Units(worst), Units(expected), price)
            );
        };
        let need = |worst: Option<i128>, expected: Option<i128>, unknown_price| Need {
            worst: worst.map(PicoUsd),
            expected: expected.map(PicoUsd),
            worst_tokens: Tokens(5),
            expected_tokens: Tokens(9),
            unknown_price,
        };
        check(
            need(Some(9), Some(3), UnknownPrice::Block),
            9,
            3,
            Price::Known,
        );
        check(
            need(Some(9), Some(30), UnknownPrice::Block),
            9,
            9,
            Price::Known,
        );
        check(need(Some(9), None, UnknownPrice::Block), 9, 9, Price::Known);
        check(
            need(None, Some(3), UnknownPrice::Block),
            0,
            0,
            Price::Blocked,
        );
        check(need(None, None, UnknownPrice::Allow), 0, 0, Price::Unknown);
        let ceiling = UnknownPrice::HoldAtCeiling(PicoUsd(7));
        check(need(None, None, ceiling), 7, 7, Price::Unknown);
    }
}
