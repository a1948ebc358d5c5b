//! A point in time, always given from outside, so that a replay can bring its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::prices::calendar::Date;

/// A minute, in milliseconds.
pub const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Milliseconds since the Unix epoch (UTC).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment, `millis` milliseconds later.
    #[must_use]
    pub const fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; 0 if that lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Moment {
    /// For people, to the second, in UTC: `2026-11-24 09:30:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes) = (self.0 % DAY_MS / HOUR_MS, self.0 % HOUR_MS / MINUTE_MS);
        let seconds = self.0 % MINUTE_MS / 1_000;
        let date = Date::of(*self);
        write!(f, "{date} {hours:02}:{minutes:02}:{seconds:02}")
    }
}
