//! Amounts for people: counts with separators, shares, signed money.
//!
//! **Invariant**: figures are rounded for display only, and never through floating point (test
//! `amounts_are_shown`).

use policy::money::PicoUsd;
use serde_json::{Number, Value};

/// What stands for a cost that is not known.
pub(crate) const UNKNOWN: &str = "unknown";

/// A count with separators: `12,345`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent with one decimal place: `12.3 %`; a dash of nothing.
pub(crate) fn share(part: PicoUsd, whole: PicoUsd) -> String {
    if whole <= PicoUsd::ZERO {
        return "–".to_owned();
    }
    let sign = if part < PicoUsd::ZERO { "-" } else { "" };
    let magnitude = part.0.unsigned_abs().saturating_mul(1000);
    let whole = whole.0.unsigned_abs();
    let tenths = magnitude.saturating_add(whole / 2) / whole;
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

/// An amount, or that it is not known.
pub(crate) fn known(amount: Option<PicoUsd>) -> String {
    amount.map_or_else(|| UNKNOWN.to_owned(), |amount| amount.to_string())
}

/// An amount as JSON: integer pico-dollars; text where no JSON integer is large enough.
pub(crate) fn pico(amount: PicoUsd) -> Value {
    let number = Number::from_i128(amount.0).map(Value::Number);
    number.unwrap_or_else(|| Value::String(amount.0.to_string()))
}

/// An amount as JSON, `null` where it is not known.
pub(crate) fn pico_known(amount: Option<PicoUsd>) -> Value {
    amount.map_or(Value::Null, pico)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown() {
        for (given, expect) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(given), expect);
        }
        for (part, whole, expect) in [
            (1, 3, "33.3 %"),
            (-1, 8, "-12.5 %"),
            (2, 3, "66.7 %"),
            (5, 5, "100.0 %"),
            (0, 7, "0.0 %"),
            (1, 0, "–"),
        ] {
            assert_eq!(share(PicoUsd(part), PicoUsd(whole)), expect);
        }
        assert_eq!(pico(PicoUsd(-5)), serde_json::json!(-5));
        assert_eq!(
            pico(PicoUsd(i128::MAX)),
            serde_json::json!(i128::MAX.to_string())
        );
        assert_eq!(
            (known(None), pico_known(None)),
            (UNKNOWN.to_owned(), Value::Null)
        );
    }
}
