//! How long an upstream asks to be left alone: `retry-after-ms`, `retry-after`, and the reset
//! headers of the providers' limits.
//!
//! **Invariant**: never longer than [`AFTER_MS_MAX`], and a reset counts only where its limit has
//! nothing left (test `waits_are_read`).

use crate::moment::Moment;
use crate::prices::calendar::Date;

/// One day: daily limits reset within it. What asks for more is a quota, or nonsense.
pub const AFTER_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Numbers from here on are Unix times in milliseconds: as seconds they lie 30 000 years ahead.
const UNIX_MS_FROM: u64 = 1_000_000_000_000;

/// Numbers from here on are Unix times in seconds: as waits they would last 30 years.
const UNIX_SECONDS_FROM: u64 = 1_000_000_000;

/// A limit that reports itself: what is left of it, and when it is whole again.
struct Limit {
    remaining: &'static str,
    reset: &'static str,
}

/// The limits that providers report. Sources, read 2026-11-24: Anthropic (times as RFC 3339)
/// <https://github.com/anthropics/anthropic-sdk-typescript/issues/357>; OpenAI and those like it
/// (`6m0s`) <https://thoughtbot.com/blog/openai-rate-limits>; OpenRouter (Unix milliseconds)
/// <https://openrouter.ai/docs/api_reference/limits>.
const LIMITS: [Limit; 7] = [
    Limit {
        remaining: "anthropic-ratelimit-requests-remaining",
        reset: "anthropic-ratelimit-requests-reset",
    },
    Limit {
        remaining: "anthropic-ratelimit-tokens-remaining",
        reset: "anthropic-ratelimit-tokens-reset",
    },
    Limit {
        remaining: "anthropic-ratelimit-input-tokens-remaining",
        reset: "anthropic-ratelimit-input-tokens-reset",
    },
    Limit {
        remaining: "anthropic-ratelimit-output-tokens-remaining",
        reset: "anthropic-ratelimit-output-tokens-reset",
    },
    Limit {
        remaining: "x-ratelimit-remaining-requests",
        reset: "x-ratelimit-reset-requests",
    },
    Limit {
        remaining: "x-ratelimit-remaining-tokens",
        reset: "x-ratelimit-reset-tokens",
    },
    Limit {
        remaining: "x-ratelimit-remaining",
        reset: "x-ratelimit-reset",
    },
];

/// How long to wait, in milliseconds; nothing if no header says so in a way that can be read.
///
/// `header` gives a header's value by its lowercase name.
pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>, now: Moment) -> Option<u64> {
    let exact = header("retry-after-ms").and_then(|value| decimal_ms(value, 1));
    let told = exact.or_else(|| header("retry-after").and_then(|value| wait_ms(value, now)));
    let wait = told.or_else(|| {
        let spent = LIMITS
            .iter()
            .filter(|limit| header(limit.remaining).is_some_and(is_zero));
        // All of them must be whole again.
        spent
            .filter_map(|limit| wait_ms(header(limit.reset)?, now))
            .max()
    });
    wait.map(|ms| ms.min(AFTER_MS_MAX))
}

/// Milliseconds as the whole seconds of a `retry-after` header, never too few and never 0.
pub const fn whole_seconds(ms: u64) -> u64 {
    let seconds = ms.div_ceil(1_000);
    if seconds == 0 { 1 } else { seconds }
}

fn is_zero(value: &str) -> bool {
    value.trim().parse::<u64>() == Ok(0)
}

/// Any of the forms that a wait is written in: seconds, a Unix time, a duration, a date.
fn wait_ms(value: &str, now: Moment) -> Option<u64> {
    let value = value.trim();
    let moment = match value.parse::<u64>() {
        Ok(number) if number >= UNIX_MS_FROM => Some(Moment(number)),
        Ok(number) if number >= UNIX_SECONDS_FROM => Some(Moment(number.saturating_mul(1_000))),
        Ok(seconds) => return Some(seconds.saturating_mul(1_000)),
        Err(_) => http_date(value).or_else(|| rfc3339(value)),
    };
    let ahead = moment.map(|moment| moment.since(now));
    ahead
        .or_else(|| decimal_ms(value, 1_000))
        .or_else(|| duration_ms(value))
}

/// A decimal number of units of `unit_ms` milliseconds, rounded up.
fn decimal_ms(value: &str, unit_ms: u64) -> Option<u64> {
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    // Finer than a thousandth of a unit is rounded up with the rest.
    let thousandths = fraction.bytes().chain(*b"000").take(3);
    let thousandths = thousandths.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let whole = whole.parse::<u64>().ok()?.saturating_mul(unit_ms);
    let part = (thousandths + u64::from(fraction.len() > 3)) * unit_ms;
    Some(whole.saturating_add(part.div_ceil(1_000)))
}

/// A duration as Go prints it: `6m0s`, `12ms`, `1h2m3.5s`.
fn duration_ms(value: &str) -> Option<u64> {
    let mut rest = value;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.saturating_add(decimal_ms(number, unit_ms)?);
        rest = tail;
    }
    (!value.is_empty()).then_some(sum)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7; the obsolete forms are not sent).
fn http_date(value: &str) -> Option<Moment> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_weekday, rest) = value.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = words.next()?.parse().ok()?;
    let time = words.next()?;
    if words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    moment(year, u8::try_from(month + 1).ok()?, day, time)
}

/// `2026-11-24T10:00:00Z`, with or without fractions of a second, or with an offset.
fn rfc3339(value: &str) -> Option<Moment> {
    let (date, time) = value.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return moment(year, month, day, time);
    }
    let sign = time.rfind(['+', '-'])?;
    let (time, offset) = time.split_at(sign);
    let local = moment(year, month, day, time)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let offset_ms = (hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?) * 60_000;
    Some(if offset.starts_with('-') {
        local.after(offset_ms)
    } else {
        Moment(local.0.saturating_sub(offset_ms))
    })
}

/// A day and `hh:mm:ss`, fractions of a second rounded up.
fn moment(year: u16, month: u8, day: u8, time: &str) -> Option<Moment> {
    let mut parts = time.splitn(3, ':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds_ms = decimal_ms(parts.next()?, 1_000)?;
    if hours > 23 || minutes > 59 || seconds_ms >= 61_000 {
        return None;
    }
    let midnight = Date::new(year, month, day)?.start();
    Some(midnight.after((hours * 60 + minutes) * 60_000 + seconds_ms))
}

#[cfg(test)]
mod tests {
    use super::{AFTER_MS_MAX, read, whole_seconds};
    use crate::moment::Moment;

    /// 1994-11-06 08:49:37 UTC, the example of RFC 9110.
    const NOW: Moment = Moment(784_111_777_000);

    fn check(headers: &[(&str, &str)], expect: Option<u64>) {
        let header = |name: &str| {
            let found = headers.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| *value)
        };
        assert_eq!(read(header, NOW), expect, "{headers:?}");
    }

    #[test]
    fn waits_are_read() {
        for (value, expect) in [
            ("2", Some(2_000)),
            ("0", Some(0)),
            (" 7 ", Some(7_000)),
            ("1.5", Some(1_500)),
            ("0.0001", Some(1)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("1994-11-06T08:49:38Z", Some(1_000)),
            ("1994-11-06T08:49:37.250Z", Some(250)),
            ("1994-11-06T09:49:40+01:00", Some(3_000)),
            ("1994-11-06T03:49:39-05:00", Some(2_000)),
            ("784111779000", Some(AFTER_MS_MAX)),
            ("99999999", Some(AFTER_MS_MAX)),
            ("18446744073709551615", Some(AFTER_MS_MAX)),
            ("Sun, 06 Nov 2094 08:49:47 GMT", Some(AFTER_MS_MAX)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("Sun, 31 Feb 1994 08:49:47 GMT", None),
            ("Sun, 06 Nov 1994 08:49:47 CET", None),
            ("1994-11-06", None),
            ("1994-11-06T25:00:00Z", None),
            ("6x", None),
        ] {
            check(&[("retry-after", value)], expect);
        }
        for (value, expect) in [
            ("6m0s", Some(360_000)),
            ("12ms", Some(12)),
            ("1h2m3.5s", Some(3_723_500)),
            ("7.66s", Some(7_660)),
            ("30", Some(30_000)),
            ("1994-11-06T08:50:37Z", Some(60_000)),
        ] {
            let spent = ("x-ratelimit-remaining-tokens", "0");
            check(&[spent, ("x-ratelimit-reset-tokens", value)], expect);
        }
    }

    #[test]
    fn the_most_exact_header_wins() {
        check(
            &[("retry-after-ms", "250"), ("retry-after", "9")],
            Some(250),
        );
        check(
            &[("retry-after-ms", "?"), ("retry-after", "9")],
            Some(9_000),
        );
        check(
            &[
                ("retry-after", "9"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1s"),
            ],
            Some(9_000),
        );
    }

    #[test]
    fn resets_count_where_nothing_is_left() {
        check(&[("x-ratelimit-reset-requests", "1s")], None);
        check(
            &[
                ("x-ratelimit-remaining-requests", "12"),
                ("x-ratelimit-reset-requests", "1s"),
            ],
            None,
        );
        check(
            &[
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                (
                    "anthropic-ratelimit-input-tokens-reset",
                    "1994-11-06T08:49:47Z",
                ),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:57Z"),
            ],
            Some(20_000),
        );
    }

    #[test]
    fn clients_get_whole_seconds() {
        for (ms, expect) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            assert_eq!(whole_seconds(ms), expect, "{ms}");
        }
    }
}
