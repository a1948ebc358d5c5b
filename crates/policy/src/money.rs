//! Money as an integer: pico-dollars, so that micro-dollars per million tokens times tokens is exact.
//!
//! **Invariant**: sums are exact and never wrap: operators saturate, `checked_*` say so (test
//! `money_is_additive`); only [`PicoUsd::times`] rounds (test `multipliers_round_once_and_half_up`).

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wire::usage::Tokens;

/// Decimal places of a pico-dollar.
const PICO_PLACES: u32 = 12;

/// Decimal places of a micro-dollar: the finest price per million tokens whose cost is exact.
const MICRO_PLACES: u32 = 6;

/// Digits that an amount shows before rounding; enough to compare two calls by eye.
const SHOWN_DIGITS: u32 = 5;

/// Pico-dollars (10⁻¹² USD). Signed, so that a lever's loss can be written down.
///
/// `i128` because a report sums many calls: an `i64` would end at 9.2 M USD.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PicoUsd(pub i128);

impl PicoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, or `None` beyond ±1.7 × 10²⁶ USD.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(pico) => Some(Self(pico)),
            None => None,
        }
    }

    /// The difference, or `None` beyond ±1.7 × 10²⁶ USD.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(pico) => Some(Self(pico)),
            None => None,
        }
    }

    /// This amount `count` times; saturates.
    #[must_use]
    pub fn each(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// This amount times a ratio, rounded half up to the pico-dollar: multiply sums, not parts.
    #[must_use]
    pub fn times(self, ratio: Ratio) -> Self {
        let doubled = self
            .0
            .saturating_mul(2)
            .saturating_mul(i128::from(ratio.numerator));
        let denominator = i128::from(ratio.denominator);
        Self(
            doubled
                .saturating_add(denominator)
                .div_euclid(2 * denominator),
        )
    }

    /// Every digit, without a currency sign: `0.0105`, `-3`. [`FromStr`] reads it back.
    pub fn exact(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        format!("{sign}{}", decimal(self.0.unsigned_abs(), PICO_PLACES, 0))
    }
}

impl Add for PicoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for PicoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for PicoUsd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for PicoUsd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl<'a> Sum<&'a Self> for PicoUsd {
    fn sum<I: Iterator<Item = &'a Self>>(iter: I) -> Self {
        iter.copied().sum()
    }
}

impl fmt::Display for PicoUsd {
    /// For people: `$1.2346`, `$0.000012`, `-$0.50`; [`PicoUsd::exact`] has every digit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let digits = magnitude.checked_ilog10().map_or(0, |log| log + 1);
        // A dollar and more shows four places; less shows five digits, wherever they begin.
        let places = (PICO_PLACES + SHOWN_DIGITS)
            .saturating_sub(digits)
            .clamp(4, PICO_PLACES);
        let unit = 10_u128.pow(PICO_PLACES - places);
        let rounded = magnitude.saturating_add(unit / 2) / unit;
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        f.pad(&format!("{sign}${}", decimal(rounded, places, 2)))
    }
}

impl FromStr for PicoUsd {
    type Err = MoneyError;

    /// Reads decimal dollars exactly: `12`, `0.0105`, `-$3.50`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let digits = rest.strip_prefix('$').unwrap_or(rest);
        let pico = fixed_point(digits, PICO_PLACES).map_err(|fault| fault.about(text))?;
        let pico = i128::try_from(pico).map_err(|_| Fault::Large.about(text))?;
        Ok(Self(if negative { -pico } else { pico }))
    }
}

/// A price: integer micro-dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u64);

impl Price {
    /// A price of so many micro-dollars per million tokens.
    pub const fn from_micro_usd_per_mtok(micro_usd: u64) -> Self {
        Self(micro_usd)
    }

    /// Micro-dollars per million tokens.
    pub const fn micro_usd_per_mtok(self) -> u64 {
        self.0
    }

    /// The cost of `tokens`, exactly: `µUSD/Mtok × tokens` is already pico-dollars. Saturates.
    pub fn cost(self, tokens: Tokens) -> PicoUsd {
        PicoUsd(i128::from(self.0).saturating_mul(i128::from(tokens.0)))
    }
}

impl fmt::Display for Price {
    /// Dollars per million tokens: `$3.00`, `$0.0375`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "${}",
            decimal(u128::from(self.0), MICRO_PLACES, 2)
        ))
    }
}

impl FromStr for Price {
    type Err = MoneyError;

    /// Reads dollars per million tokens exactly: `3`, `0.0375`; finer than a micro-dollar is an error.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let micro = fixed_point(text, MICRO_PLACES).map_err(|fault| fault.about(text))?;
        u64::try_from(micro)
            .map(Self)
            .map_err(|_| Fault::Large.about(text))
    }
}

/// An exact positive factor, as in "US-only inference costs 1.1 times".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ratio {
    numerator: u32,
    denominator: u32,
}

impl Ratio {
    /// `numerator / denominator`; `None` if either is zero.
    pub const fn new(numerator: u32, denominator: u32) -> Option<Self> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        Some(Self {
            numerator,
            denominator,
        })
    }
}

impl FromStr for Ratio {
    type Err = MoneyError;

    /// Reads a decimal factor above zero: `1.1`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let micro = fixed_point(text, MICRO_PLACES).map_err(|fault| fault.about(text))?;
        let micro = u32::try_from(micro).map_err(|_| Fault::Large.about(text))?;
        Self::new(micro, 1_000_000).ok_or_else(|| Fault::Shape.about(text))
    }
}

/// A text that is not an exact amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// It is not a plain decimal number.
    #[error("`{0}` is not a decimal amount; write digits with at most one point, as `0.0375`")]
    NotDecimal(String),
    /// It has more decimal places than the unit.
    #[error("`{text}` is finer than {places} decimal places; round it at its source")]
    TooFine {
        /// The text given.
        text: String,
        /// Decimal places that fit.
        places: u32,
    },
    /// It exceeds the integer behind the unit.
    #[error("`{0}` is too large an amount; check the unit")]
    TooLarge(String),
}

enum Fault {
    Shape,
    Fine(u32),
    Large,
}

impl Fault {
    fn about(self, text: &str) -> MoneyError {
        let text = text.to_owned();
        match self {
            Self::Shape => MoneyError::NotDecimal(text),
            Self::Fine(places) => MoneyError::TooFine { text, places },
            Self::Large => MoneyError::TooLarge(text),
        }
    }
}

/// Reads an unsigned decimal as an integer of 10⁻`places`.
fn fixed_point(text: &str, places: u32) -> Result<u128, Fault> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return Err(Fault::Shape);
    }
    let fraction = fraction.trim_end_matches('0');
    let given = u32::try_from(fraction.len()).map_err(|_| Fault::Large)?;
    if given > places {
        return Err(Fault::Fine(places));
    }
    let digits: u128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| Fault::Large)?;
    digits
        .checked_mul(10_u128.pow(places - given))
        .ok_or(Fault::Large)
}

/// Writes an integer of 10⁻`places` as a decimal, without trailing zeros beyond `places_min`.
fn decimal(amount: u128, places: u32, places_min: usize) -> String {
    let unit = 10_u128.pow(places);
    let width = places as usize;
    let fraction = format!("{:0width$}", amount % unit);
    let kept = fraction
        .trim_end_matches('0')
        .len()
        .max(places_min)
        .min(width);
    match fraction.get(..kept) {
        Some(fraction) if kept > 0 => format!("{}.{fraction}", amount / unit),
        _ => (amount / unit).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    const DOLLAR: i128 = 1_000_000_000_000;

    #[test]
    fn amounts_read_for_people() {
        for (pico, expect) in [
            (0, "$0.00"),
            (1, "$0.000000000001"),
            (12_000_000, "$0.000012"),
            (10_500_000_000, "$0.0105"),
            (123_456_789_000, "$0.12346"),
            (DOLLAR, "$1.00"),
            (1_234_550_000_000, "$1.2346"),
            (-DOLLAR / 2, "-$0.50"),
            (1_234_567 * DOLLAR + 5, "$1234567.00"),
            (999_999 * DOLLAR / 1_000_000, "$1.00"),
        ] {
            assert_eq!(PicoUsd(pico).to_string(), expect, "{pico}");
        }
    }

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        for (text, expect) in [
            ("12", Ok(12 * DOLLAR)),
            ("$0.0105", Ok(10_500_000_000)),
            ("-$3.50", Ok(-7 * DOLLAR / 2)),
            ("0.000000000001", Ok(1)),
            ("0.0000000000010", Ok(1)),
            ("0.0000000000015", Err(Fault::Fine(12))),
            ("1e3", Err(Fault::Shape)),
            ("1.", Err(Fault::Shape)),
            ("", Err(Fault::Shape)),
            ("--1", Err(Fault::Shape)),
            (
                "999999999999999999999999999999999999999999",
                Err(Fault::Large),
            ),
        ] {
            let expect = expect.map(PicoUsd).map_err(|fault| fault.about(text));
            assert_eq!(text.parse::<PicoUsd>(), expect, "{text}");
        }
    }

    #[test]
    fn a_price_finer_than_a_micro_dollar_is_refused() {
        assert_eq!("0.0375".parse(), Ok(Price(37_500)));
        assert_eq!(
            "0.0000005".parse::<Price>().unwrap_err().to_string(),
            "`0.0000005` is finer than 6 decimal places; round it at its source"
        );
        assert_eq!(Price(37_500).to_string(), "$0.0375");
        assert_eq!(
            Price(37_500).cost(Tokens(1_000_000)),
            PicoUsd(37_500_000_000)
        );
    }

    #[test]
    fn multipliers_round_once_and_half_up() {
        let ratio: Ratio = "1.1".parse().unwrap();
        assert_eq!(PicoUsd(10).times(ratio), PicoUsd(11));
        assert_eq!(PicoUsd(5).times(ratio), PicoUsd(6), "5.5 goes up");
        assert_eq!(PicoUsd(4).times(ratio), PicoUsd(4), "4.4 goes down");
        assert_eq!(PicoUsd(-5).times(ratio), PicoUsd(-5), "-5.5 goes up");
        assert!("0".parse::<Ratio>().is_err());
    }

    #[test]
    fn overflow_saturates_and_is_told() {
        let most = PicoUsd(i128::MAX);
        assert_eq!(most + PicoUsd(1), most);
        assert_eq!(most.checked_add(PicoUsd(1)), None);
        assert_eq!(PicoUsd(i128::MIN).checked_sub(PicoUsd(1)), None);
        assert_eq!(Price(u64::MAX).cost(Tokens(u64::MAX)), most);
    }

    proptest! {
        #[test]
        fn money_is_additive(price in any::<u64>(), one in any::<u32>(), two in any::<u32>()) {
            let cost = |tokens: u64| Price(price).cost(Tokens(tokens));
            let (one, two) = (u64::from(one), u64::from(two));
            assert_eq!(cost(one) + cost(two), cost(one + two));
            assert_eq!(cost(one + two) - cost(two), cost(one));
            assert_eq!([cost(one), -cost(one)].iter().sum::<PicoUsd>(), PicoUsd::ZERO);
        }

        #[test]
        fn exact_is_read_back(pico in any::<i64>()) {
            let amount = PicoUsd(i128::from(pico));
            assert_eq!(amount.exact().parse(), Ok(amount));
        }
    }
}
