//! Money as an integer: pico-dollars, so that µUSD per million tokens times tokens is exact.
//!
//! **Invariant**: sums are exact; overflow is an error, never a wrap (test `money_is_additive`).

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};

/// Pico-dollars (10⁻¹² USD). Signed, so that a lever's loss can be written down.
///
/// `i128` because a report sums many calls: an `i64` would end at 9.2 M USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PicoUsd(pub i128);
