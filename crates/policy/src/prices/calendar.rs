//! Days and hours of the price book, in UTC, computed from a [`Moment`].
//!
//! **Invariant**: a date survives the way to a moment and back (test `dates_survive_the_round_trip`).

use std::fmt;

use crate::moment::Moment;

const MILLIS_PER_DAY: u64 = 86_400_000;
const MILLIS_PER_MINUTE: u64 = 60_000;

/// The last year that a price file may name, so that arithmetic stays far from its limits.
const YEAR_MAX: u16 = 9_999;

/// A calendar day in UTC, as days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(u32);

impl Date {
    /// The day, or `None` if the calendar has none such from 1970 on.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        if !(1970..=YEAR_MAX).contains(&year) || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        // Howard Hinnant's civil calendar: years begin in March, so that leap days come last.
        let (year, month, day) = (u32::from(year), u32::from(month), u32::from(day));
        let shifted = year - u32::from(month <= 2);
        let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let leap_days = shifted / 4 - shifted / 100 + shifted / 400;
        let date = Self(shifted * 365 + leap_days + in_year - EPOCH);
        // A day beyond its month would come back as another one.
        (date.civil() == (year, month, day)).then_some(date)
    }

    /// The UTC day of a moment.
    pub fn of(at: Moment) -> Self {
        Self(u32::try_from(at.0 / MILLIS_PER_DAY).unwrap_or(u32::MAX))
    }

    /// Midnight (UTC) at which the day begins.
    pub fn start(self) -> Moment {
        Moment(u64::from(self.0) * MILLIS_PER_DAY)
    }

    /// Year, month and day.
    fn civil(self) -> (u32, u32, u32) {
        let days = u64::from(self.0) + u64::from(EPOCH);
        let era = days / 146_097;
        let in_era = days % 146_097;
        let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * in_year + 2) / 153;
        let day = in_year - (153 * shifted_month + 2) / 5 + 1;
        let month = (shifted_month + 2) % 12 + 1;
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let narrow = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
        (narrow(year), narrow(month), narrow(day))
    }
}

/// Days from 0000-03-01, where the shifted calendar begins, to 1970-01-01.
const EPOCH: u32 = 719_468;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        f.pad(&format!("{year:04}-{month:02}-{day:02}"))
    }
}

/// Times of the week at which special rates apply: UTC minutes of the day, on some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// From (inclusive) and until (exclusive), in minutes since midnight.
    pub ranges: Vec<(u16, u16)>,
    /// Monday first.
    pub days: [bool; 7],
}

impl Hours {
    /// Whether the moment lies within.
    pub fn contain(&self, at: Moment) -> bool {
        // The epoch was a Thursday, the fourth day.
        let weekday = (at.0 / MILLIS_PER_DAY + 3) % 7;
        let minute = at.0 % MILLIS_PER_DAY / MILLIS_PER_MINUTE;
        let on_day = usize::try_from(weekday)
            .ok()
            .and_then(|index| self.days.get(index));
        on_day == Some(&true)
            && self
                .ranges
                .iter()
                .any(|(from, until)| (u64::from(*from)..u64::from(*until)).contains(&minute))
    }

    /// Whether some moment lies within both.
    pub fn overlap(&self, other: &Self) -> bool {
        let share_day = self
            .days
            .iter()
            .zip(other.days)
            .any(|(one, two)| *one && two);
        share_day
            && self.ranges.iter().any(|(from, until)| {
                other
                    .ranges
                    .iter()
                    .any(|(start, end)| from < end && start < until)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn known_days_have_their_number_and_weekday() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2026, 11, 24), 20_781),
        ] {
            assert_eq!(
                Date::new(date.0, date.1, date.2),
                Some(Date(days)),
                "{date:?}"
            );
        }
        for (year, month, day) in [(2026, 2, 29), (2026, 4, 31), (2026, 13, 1), (1969, 1, 1)] {
            assert_eq!(Date::new(year, month, day), None);
        }
    }

    #[test]
    fn hours_end_before_their_end() {
        let weekday_mornings = Hours {
            ranges: vec![(60, 240)],
            days: [true, true, true, true, true, false, false],
        };
        let tuesday = Date::new(2026, 11, 24).unwrap().start();
        let minutes = |count: u64| tuesday.after(count * MILLIS_PER_MINUTE);
        for (at, expect) in [
            (minutes(59), false),
            (minutes(60), true),
            (minutes(239), true),
            (minutes(240), false),
            (minutes(60 + 4 * 1_440), false), // Saturday
        ] {
            assert_eq!(weekday_mornings.contain(at), expect, "{at:?}");
        }
    }

    proptest! {
        #[test]
        fn dates_survive_the_round_trip(days in 0_u32..2_900_000) {
            let (year, month, day) = Date(days).civil();
            let narrow = |part: u32| u8::try_from(part).unwrap();
            assert_eq!(Date::new(u16::try_from(year).unwrap(), narrow(month), narrow(day)), Some(Date(days)));
            assert_eq!(Date::of(Date(days).start()), Date(days));
        }
    }
}
