//! Moments for people, and what people write for a moment: `7d`, `2026-11-24`.
//!
//! **Invariant**: what is shown can be read back (test `moments_are_read`).

use policy::moment::Moment;
use policy::prices::calendar::Date;
use policy::route::rules::clock;

use super::failure::UsageError;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A moment to the second, in UTC: `2026-11-24 09:30:00`.
pub(crate) fn shown(at: Moment) -> String {
    at.to_string()
}

/// A stretch of time: `850 ms`, `1.2 s`, `3 min`.
pub(crate) fn stretch(millis: u64) -> String {
    match millis {
        0..SECOND_MS => format!("{millis} ms"),
        SECOND_MS..MINUTE_MS => format!("{}.{} s", millis / SECOND_MS, millis % SECOND_MS / 100),
        MINUTE_MS..HOUR_MS => format!("{} min", millis / MINUTE_MS),
        HOUR_MS..DAY_MS => format!("{} h", millis / HOUR_MS),
        _ => format!("{} d", millis / DAY_MS),
    }
}

/// Reads a stretch such as `30m`, `12h`, `7d`, `2w`, in milliseconds.
pub(crate) fn duration(text: &str) -> Result<u64, UsageError> {
    let cut = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(cut);
    let unit = match unit {
        "s" => SECOND_MS,
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        "w" => 7 * DAY_MS,
        _ => 0,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    millis.filter(|millis| *millis > 0).ok_or_else(|| {
        UsageError(format!(
            "`{text}` is not a stretch of time; write a number and `s`, `m`, `h`, `d` or `w`, as `7d`"
        ))
    })
}

/// Reads a day such as `2026-11-24` as its beginning in UTC.
pub(crate) fn day(text: &str) -> Option<Moment> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    parts.next().is_none().then(|| date.start())
}

/// Reads a time of a day such as `2026-11-24T22:30`, in UTC.
fn minute(text: &str) -> Option<Moment> {
    let (date, time) = text.strip_suffix('Z').unwrap_or(text).split_once('T')?;
    let time = clock(time)?;
    let hours = u64::try_from(time.hour()).ok()?;
    let minutes = u64::try_from(time.minute()).ok()?;
    Some(day(date)?.after(hours * HOUR_MS + minutes * MINUTE_MS))
}

/// Reads a day, a time of a day, or a stretch that ends at `now`.
pub(crate) fn moment(text: &str, now: Moment) -> Result<Moment, UsageError> {
    if let Some(at) = day(text).or_else(|| minute(text)) {
        return Ok(at);
    }
    match duration(text) {
        Ok(millis) => Ok(Moment(now.0.saturating_sub(millis))),
        Err(_) => Err(UsageError(format!(
            "`{text}` is no time; write a day as `2026-11-24` or a minute as `2026-11-24T22:30`, \
             both UTC, or how long ago as `7d`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let now = Moment(1_800_000_000_000);
        assert_eq!(shown(now), "2027-01-15 08:00:00");
        for (text, expect) in [
            ("2027-01-15", Some(1_799_971_200_000)),
            ("1970-01-01", Some(0)),
            ("1970-01-01T01:02", Some(HOUR_MS + 2 * MINUTE_MS)),
            ("1970-01-01T01:02Z", Some(HOUR_MS + 2 * MINUTE_MS)),
            ("1970-01-01T24:00", None),
            ("1970-01-01T1", None),
            ("7d", Some(now.0 - 7 * DAY_MS)),
            ("30m", Some(now.0 - 30 * MINUTE_MS)),
            ("2w", Some(now.0 - 14 * DAY_MS)),
            ("2027-02-30", None),
            ("2027-01", None),
            ("0d", None),
            ("d", None),
            ("7", None),
            ("", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(moment(text, now).ok(), expect.map(Moment), "{text}");
        }
    }

    #[test]
    fn stretches_are_shown() {
        for (millis, expect) in [
            (0, "0 ms"),
            (1_250, "1.2 s"),
            (61_000, "1 min"),
            (HOUR_MS, "1 h"),
            (3 * DAY_MS, "3 d"),
        ] {
            assert_eq!(stretch(millis), expect);
        }
    }
}
