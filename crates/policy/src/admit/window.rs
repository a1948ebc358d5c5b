//! Windows of time that limits count in: calendar periods in a named time zone.
//!
//! **Invariant**: every moment lies in exactly one window of a kind, and each window begins where the
//! one before ends, also where clocks change (property `windows_tile_time`).

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::moment::Moment;

/// 9000-01-01: the window that holds it has no end, so that calendars need not reach further.
const LAST: Moment = Moment(221_845_392_000_000);

/// How long a window lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// From one full minute to the next.
    Minute,
    /// From one full hour on local clocks to the next; shorter where a clock change cuts it.
    Hour,
    /// A local day: 23 or 25 hours where clocks change.
    Day,
    /// Seven local days from Monday on.
    Week,
    /// A month of the local calendar.
    Month,
    /// For ever.
    Lifetime,
}

impl Period {
    /// Every period, shortest first.
    pub const ALL: [Self; 6] = [
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Lifetime,
    ];

    /// The name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Lifetime => "lifetime",
        }
    }
}

/// A time zone of the IANA database that ships in the binary. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A name that the time zone database does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no time zone `{0}`; write an IANA name, as `Europe/Berlin` or `UTC`")]
pub struct UnknownZone(pub String);

impl Zone {
    /// UTC, where clocks never change.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone of this IANA name, in any case.
    ///
    /// ```
    /// use policy::admit::window::Zone;
    ///
    /// assert_eq!(Zone::named("europe/berlin").unwrap().name(), "Europe/Berlin");
    /// assert!(Zone::named("Middle/Earth").is_err());
    /// ```
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        TimeZoneDatabase::bundled()
            .get(name)
            .map(Self)
            .map_err(|_| UnknownZone(name.to_owned()))
    }

    /// What its clocks show; none beyond the end of calendars.
    pub fn clock(&self, at: Moment) -> Option<Time> {
        timestamp(at).map(|at| self.0.to_datetime(at).time())
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

/// A stretch of time; the end does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first moment.
    pub start: Moment,
    /// The first moment after it; none if it never ends.
    pub end: Option<Moment>,
}

impl Span {
    /// All of time.
    pub const FOREVER: Self = Self {
        start: Moment(0),
        end: None,
    };

    /// Whether the moment lies within.
    pub fn contains(&self, at: Moment) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// Whether it is over at this moment.
    pub fn is_over(&self, at: Moment) -> bool {
        self.end.is_some_and(|end| end <= at)
    }
}

/// How time is cut for a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    period: Period,
    zone: Zone,
}

impl Window {
    /// Windows of this length on the clocks of a zone.
    pub const fn new(period: Period, zone: Zone) -> Self {
        Self { period, zone }
    }

    /// The one window that never ends.
    pub const fn lifetime() -> Self {
        Self::new(Period::Lifetime, Zone::UTC)
    }

    /// How long its windows last.
    pub const fn period(&self) -> Period {
        self.period
    }

    /// Whose clocks it follows.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Whether it cuts time as another one does.
    pub(super) fn cuts_like(&self, other: &Self) -> bool {
        self.period == other.period && (self.period == Period::Lifetime || self.zone == other.zone)
    }

    /// The window that a moment lies in. Reads the zone's table of clock changes: keep the answer.
    pub fn span(&self, at: Moment) -> Span {
        let at = at.min(LAST);
        let span = match self.period {
            Period::Minute => self.clock_span(at, 60),
            Period::Hour => self.clock_span(at, 3_600),
            Period::Day | Period::Week | Period::Month => self.calendar_span(at),
            Period::Lifetime => None,
        };
        let mut span = span.unwrap_or(Span::FOREVER);
        span.end = span.end.filter(|end| *end <= LAST);
        span
    }

    /// The full minute or hour of local clocks, cut where the clocks change.
    fn clock_span(&self, at: Moment, seconds: i64) -> Option<Span> {
        let zone = &self.zone.0;
        let now = timestamp(at)?;
        let offset = zone.to_offset(now);
        let shift = i64::from(offset.seconds());
        let local = now.as_second() + shift;
        let first = local.div_euclid(seconds) * seconds - shift;
        let mut start = Timestamp::from_second(first).ok()?;
        let mut end = Timestamp::from_second(first + seconds).ok()?;
        if zone.to_offset(start) != offset {
            // `preceding` looks strictly before its argument, and the change may be this very moment.
            let change = zone.preceding(after(now)?).next()?;
            start = change.timestamp();
        }
        let change = zone.following(start).next();
        if let Some(change) = change.filter(|it| it.timestamp() < end && it.offset() != offset) {
            end = change.timestamp();
        }
        Some(span(start, end))
    }

    /// The days from one boundary of the calendar to the next.
    ///
    /// Boundaries are moments, in the order of their days, and the window is found between them: a
    /// local date may come twice where clocks are set back across midnight.
    fn calendar_span(&self, at: Moment) -> Option<Span> {
        let zone = &self.zone.0;
        let now = timestamp(at)?;
        let mut first = self.first_day(zone.to_datetime(now).date())?;
        let mut start = self.begin(first)?;
        while now < start {
            first = self.first_day(first.yesterday().ok()?)?;
            start = self.begin(first)?;
        }
        let mut end = self.begin(self.next_day(first)?)?;
        while end <= now {
            first = self.next_day(first)?;
            start = end;
            end = self.begin(self.next_day(first)?)?;
        }
        Some(span(start, end))
    }

    /// The first day of the period that a day belongs to.
    fn first_day(&self, date: Date) -> Option<Date> {
        match self.period {
            Period::Week => {
                let past = date.weekday().to_monday_zero_offset();
                date.checked_sub(i64::from(past).days()).ok()
            }
            Period::Month => Some(date.first_of_month()),
            Period::Minute | Period::Hour | Period::Day | Period::Lifetime => Some(date),
        }
    }

    /// The first day of the period that follows the one which begins on `first`.
    fn next_day(&self, first: Date) -> Option<Date> {
        let step = match self.period {
            Period::Week => 1.week(),
            Period::Month => 1.month(),
            Period::Minute | Period::Hour | Period::Day | Period::Lifetime => 1.day(),
        };
        first.checked_add(step).ok()
    }

    /// The moment at which a local day begins.
    fn begin(&self, date: Date) -> Option<Timestamp> {
        let midnight = date.to_zoned_datetime(self.zone.0.clone());
        Some(midnight.ok()?.timestamp())
    }
}

impl fmt::Display for Window {
    /// For people: `day (Europe/Berlin)`, `lifetime`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.period.name())?;
        if self.period == Period::Lifetime {
            return Ok(());
        }
        write!(f, " ({})", self.zone.name())
    }
}

fn timestamp(at: Moment) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()
}

fn after(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.as_millisecond() + 1).ok()
}

/// A span whose start before 1970 is moved there, since no moment lies before.
fn span(start: Timestamp, end: Timestamp) -> Span {
    let moment = |at: Timestamp| Moment(u64::try_from(at.as_millisecond()).unwrap_or(0));
    Span {
        start: moment(start),
        end: Some(moment(end)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::{LAST, Moment, Period, Span, Timestamp, Window, Zone};

    fn moment(text: &str) -> Moment {
        let at: Timestamp = text.parse().unwrap();
        Moment(u64::try_from(at.as_millisecond()).unwrap())
    }

    fn window(period: Period, zone: &str) -> Window {
        Window::new(period, Zone::named(zone).unwrap())
    }

    /// Period, zone, moment; start and end of its window.
    const WINDOWS: &str = "
        minute UTC                 2026-11-24T10:41:29Z 2026-11-24T10:41:00Z 2026-11-24T10:42:00Z
        hour   Asia/Kolkata        2026-11-24T10:41:29Z 2026-11-24T10:30:00Z 2026-11-24T11:30:00Z
        day    Europe/Berlin       2026-11-24T22:59:59Z 2026-11-23T23:00:00Z 2026-11-24T23:00:00Z
        day    Europe/Berlin       2026-11-24T23:00:00Z 2026-11-24T23:00:00Z 2026-11-25T23:00:00Z
        week   UTC                 2026-11-29T23:59:59Z 2026-11-23T00:00:00Z 2026-11-30T00:00:00Z
        month  Asia/Tokyo          2028-02-29T15:00:00Z 2028-02-29T15:00:00Z 2028-03-31T15:00:00Z

        # Days of 23 and 25 hours.
        day    America/New_York    2026-03-08T12:00:00Z 2026-03-08T05:00:00Z 2026-03-09T04:00:00Z
        day    America/New_York    2026-11-01T12:00:00Z 2026-11-01T04:00:00Z 2026-11-02T05:00:00Z

        # The hour from one to two comes twice.
        hour   America/New_York    2026-11-01T05:30:00Z 2026-11-01T05:00:00Z 2026-11-01T06:00:00Z
        hour   America/New_York    2026-11-01T06:30:00Z 2026-11-01T06:00:00Z 2026-11-01T07:00:00Z

        # Half an hour back at two: half an hour is left until two comes again.
        hour   Australia/Lord_Howe 2026-04-04T14:59:00Z 2026-04-04T14:00:00Z 2026-04-04T15:00:00Z
        hour   Australia/Lord_Howe 2026-04-04T15:00:00Z 2026-04-04T15:00:00Z 2026-04-04T15:30:00Z

        # Midnight was skipped: the day began at one.
        day    America/Sao_Paulo   2018-11-04T12:00:00Z 2018-11-04T03:00:00Z 2018-11-05T02:00:00Z

        # A whole day was skipped.
        day    Pacific/Apia        2011-12-30T09:59:00Z 2011-12-29T10:00:00Z 2011-12-30T10:00:00Z
        day    Pacific/Apia        2011-12-30T10:00:00Z 2011-12-30T10:00:00Z 2011-12-31T10:00:00Z

        # A minute past midnight clocks went back into a day that was over.
        day    America/St_Johns    2010-11-07T02:45:00Z 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z
    ";

    fn check(row: &str) {
        let [period, zone, at, start, end] = row
            .split_whitespace()
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let period = Period::ALL.into_iter().find(|it| it.name() == period);
        let expect = Span {
            start: moment(start),
            end: Some(moment(end)),
        };
        assert_eq!(
            window(period.unwrap(), zone).span(moment(at)),
            expect,
            "{row}"
        );
    }

    #[test]
    fn windows_follow_local_clocks() {
        let rows = WINDOWS.lines().map(str::trim);
        let rows = rows.filter(|row| !row.is_empty() && !row.starts_with('#'));
        rows.for_each(check);
        assert_eq!(Window::lifetime().span(Moment(5)), Span::FOREVER);
        assert_eq!(window(Period::Day, "UTC").span(Moment(u64::MAX)).end, None);
    }

    #[test]
    fn windows_say_what_they_are() {
        assert_eq!(
            window(Period::Day, "Europe/Berlin").to_string(),
            "day (Europe/Berlin)"
        );
        assert_eq!(Window::lifetime().to_string(), "lifetime");
        assert_eq!(
            Zone::named("Moon/Base").unwrap_err().to_string(),
            "no time zone `Moon/Base`; write an IANA name, as `Europe/Berlin` or `UTC`"
        );
    }

    /// Zones whose clocks have changed in every odd way.
    const ZONES: [&str; 12] = [
        "UTC",
        "Africa/Casablanca",
        "Africa/Monrovia",
        "America/Havana",
        "America/New_York",
        "America/Sao_Paulo",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Europe/Dublin",
        "Pacific/Apia",
    ];

    /// Moments of all years, half of them within two days of a clock change.
    fn moments() -> impl Strategy<Value = (usize, Moment)> {
        let any_time = (0..ZONES.len(), 0..LAST.0).prop_map(|(zone, at)| (zone, Moment(at)));
        let near = (0..ZONES.len(), 0..4_000_000_000_000_u64, any::<i32>());
        let near = near.prop_map(|(zone, from, aside)| {
            let from = Timestamp::from_millisecond(i64::try_from(from).unwrap()).unwrap();
            let zoned = Zone::named(ZONES[zone]).unwrap();
            let change = zoned
                .0
                .following(from)
                .next()
                .map_or(from, |it| it.timestamp());
            let aside = i64::from(aside) % 172_800_000;
            let at = change.as_millisecond().saturating_add(aside).max(0);
            (zone, Moment(u64::try_from(at).unwrap()))
        });
        prop_oneof![any_time, near]
    }

    proptest! {
        #[test]
        fn windows_tile_time((zone, at) in moments(), pick in 0..6_usize) {
            let window = window(Period::ALL[pick], ZONES[zone]);
            let span = window.span(at);
            assert!(span.contains(at));
            assert_eq!(window.span(span.start), span, "the first moment");
            if let Some(end) = span.end {
                assert!(span.start < end);
                assert_eq!(window.span(Moment(end.0 - 1)), span, "the last moment");
                assert_eq!(window.span(end).start, end, "the next window");
            }
            if span.start > Moment(0) {
                let before = window.span(Moment(span.start.0 - 1));
                assert_eq!(before.end, Some(span.start), "the window before");
            }
        }
    }
}
