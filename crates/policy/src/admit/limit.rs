//! Limits: how much of what may be used by whom in which window, and what happens then.
//!
//! **Invariant**: for one payer, measure and window there is at most one limit of each mode, so that
//! it is clear which amount counts (test `contradicting_limits_are_refused`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wire::usage::Tokens;

use crate::admit::scope::Kind;
use crate::admit::window::Window;
use crate::money::PicoUsd;

/// The name of a limit in configuration, headers and events.
pub type LimitId = Arc<str>;

/// To whom of a kind a limit applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// To every id, each with a counter of its own: also to one that was never seen before.
    Each,
    /// To this id, in place of what applies to each, for the same measure and window.
    One(Arc<str>),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Money.
    Usd,
    /// Tokens, input and output.
    Tokens,
    /// Calls.
    Requests,
    /// Calls that are under way.
    Concurrency,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 4] = [Self::Usd, Self::Tokens, Self::Requests, Self::Concurrency];

    /// The name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Concurrency => "concurrency",
        }
    }

    /// An amount of this measure, for people: `$1.50`, `2000 tokens`.
    pub fn show(self, units: Units) -> String {
        match self {
            Self::Usd => PicoUsd(units.0).to_string(),
            Self::Tokens => format!("{} tokens", units.0),
            Self::Requests => format!("{} requests", units.0),
            Self::Concurrency => format!("{} calls at once", units.0),
        }
    }
}

/// An amount of some measure: pico-dollars, tokens or calls. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Units(pub i128);

impl std::ops::Add for Units {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Units {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<PicoUsd> for Units {
    fn from(money: PicoUsd) -> Self {
        Self(money.0)
    }
}

impl From<Tokens> for Units {
    fn from(tokens: Tokens) -> Self {
        Self(i128::from(tokens.0))
    }
}

/// How much may be used in each window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Money.
    Usd(PicoUsd, Window),
    /// Tokens, input and output.
    Tokens(Tokens, Window),
    /// Calls.
    Requests(u64, Window),
    /// Calls under way at any one time: there is no window.
    Concurrency(u64),
}

impl Quota {
    /// What it counts.
    pub const fn measure(&self) -> Measure {
        match self {
            Self::Usd(..) => Measure::Usd,
            Self::Tokens(..) => Measure::Tokens,
            Self::Requests(..) => Measure::Requests,
            Self::Concurrency(_) => Measure::Concurrency,
        }
    }

    /// How much, in the measure's unit.
    pub fn amount(&self) -> Units {
        match self {
            Self::Usd(money, _) => (*money).into(),
            Self::Tokens(tokens, _) => (*tokens).into(),
            Self::Requests(count, _) | Self::Concurrency(count) => Units(i128::from(*count)),
        }
    }

    /// The windows it counts in; for calls under way, the one that never ends.
    pub fn window(&self) -> Window {
        match self {
            Self::Usd(_, window) | Self::Tokens(_, window) | Self::Requests(_, window) => {
                window.clone()
            }
            Self::Concurrency(_) => Window::lifetime(),
        }
    }
}

/// How seriously a limit is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It refuses nothing and says what it would have refused.
    Observe,
    /// It holds what a call is expected to cost; calls under way may go beyond by as much as they
    /// turn out dearer (see [`crate::admit::tally::overshoot_bound`]).
    Soft,
    /// It holds the worst case: what is spent never exceeds the amount.
    Hard,
}

impl Mode {
    /// Every mode, the mildest first.
    pub const ALL: [Self; 3] = [Self::Observe, Self::Soft, Self::Hard];

    /// The name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// What becomes of a call for which a limit has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// It gets a lesser answer (see [`crate::admit::degrade`]), and is refused when none fits.
    Degrade,
    /// It is refused.
    Refuse,
}

/// One line of an operator's budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name; unique.
    pub id: LimitId,
    /// The kind of payer that it applies to.
    pub kind: Kind,
    /// Which payers of that kind.
    pub which: Which,
    /// How much, of what, in which window.
    pub quota: Quota,
    /// How seriously it is meant.
    pub mode: Mode,
    /// What happens when there is no room.
    pub then: Then,
}

impl fmt::Display for Limit {
    /// For people: ``$5.00 per day (UTC) for each user``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quota.measure().show(self.quota.amount()))?;
        if self.quota.measure() != Measure::Concurrency {
            write!(f, " per {}", self.quota.window())?;
        }
        match &self.which {
            Which::Each => write!(f, " for each {}", self.kind.name()),
            Which::One(id) => write!(f, " for {} `{id}`", self.kind.name()),
        }
    }
}

/// Limits that cannot stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Two limits have one name.
    #[error("two limits are called `{0}`; give each its own name")]
    SameId(LimitId),
    /// Two limits count the same thing equally seriously.
    #[error("limits `{one}` and `{two}` are both {mode} limits on the same usage; keep one")]
    Same {
        /// The earlier limit.
        one: LimitId,
        /// The later limit.
        two: LimitId,
        /// The mode of both.
        mode: &'static str,
    },
    /// An amount is below zero.
    #[error("limit `{0}` is below zero; write zero or more")]
    Negative(LimitId),
}

/// Checks that the limits do not contradict each other.
pub fn check(limits: &[Limit]) -> Result<(), LimitError> {
    let mut ids = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        if !ids.insert(&limit.id) {
            return Err(LimitError::SameId(limit.id.clone()));
        }
        if limit.quota.amount() < Units(0) {
            return Err(LimitError::Negative(limit.id.clone()));
        }
        let same = |other: &&Limit| {
            (other.kind, &other.which, other.mode) == (limit.kind, &limit.which, limit.mode)
                && other.quota.measure() == limit.quota.measure()
                && other.quota.window().cuts_like(&limit.quota.window())
        };
        if let Some(earlier) = limits.iter().take(index).find(same) {
            return Err(LimitError::Same {
                one: earlier.id.clone(),
                two: limit.id.clone(),
                mode: limit.mode.name(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Kind, Limit, Mode, PicoUsd, Quota, Then, Which, Window, check};
    use crate::admit::window::{Period, Zone};

    fn limit(id: &str, mode: Mode, quota: Quota) -> Limit {
        Limit {
            id: id.into(),
            kind: Kind::User,
            which: Which::Each,
            quota,
            mode,
            then: Then::Refuse,
        }
    }

    fn daily(pico: i128) -> Quota {
        Quota::Usd(PicoUsd(pico), Window::new(Period::Day, Zone::UTC))
    }

    #[test]
    fn contradicting_limits_are_refused() {
        let says = |limits: &[Limit], expect: &str| {
            let said = check(limits).map_or_else(|error| error.to_string(), |()| "fine".into());
            assert_eq!(said, expect);
        };
        let hard = limit("a", Mode::Hard, daily(5));
        says(&[hard.clone(), limit("b", Mode::Soft, daily(4))], "fine");
        says(
            &[hard.clone(), limit("b", Mode::Hard, daily(9))],
            "limits `a` and `b` are both hard limits on the same usage; keep one",
        );
        says(
            &[hard.clone(), limit("a", Mode::Soft, daily(9))],
            "two limits are called `a`; give each its own name",
        );
        says(
            &[limit("a", Mode::Hard, daily(-1))],
            "limit `a` is below zero; write zero or more",
        );
        let one = Limit {
            which: Which::One("ann".into()),
            ..limit("b", Mode::Hard, daily(9))
        };
        says(&[hard, one], "fine");
    }

    #[test]
    fn limits_read_as_sentences() {
        let five = limit("a", Mode::Hard, daily(5_000_000_000_000));
        assert_eq!(five.to_string(), "$5.00 per day (UTC) for each user");
        let two = limit("b", Mode::Hard, Quota::Concurrency(2));
        assert_eq!(two.to_string(), "2 calls at once for each user");
    }
}
