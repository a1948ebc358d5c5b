//! Usage in one normal form: what a provider says it metered, in disjoint classes.
//!
//! **Invariant**: `input()` is the sum of its classes and `output` contains `reasoning`, whatever
//! the dialect reported (test `usage_identities_hold` in each dialect's `response.rs`).

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// A count of tokens.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Tokens(pub u64);

impl Add for Tokens {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

impl std::fmt::Display for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a cache entry lives after it is written, as priced by the providers that charge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ttl {
    /// Five minutes (Anthropic default).
    Minutes5,
    /// Thirty minutes (OpenAI, GPT-5.6 and later, default).
    Minutes30,
    /// One hour (Anthropic `ttl:"1h"`).
    Hour1,
    /// Twelve hours (OpenAI, GPT-5.6 and later, `ttl:"12h"`).
    Hours12,
}

impl Ttl {
    /// Every lifetime, shortest first.
    pub const ALL: [Self; 4] = [Self::Minutes5, Self::Minutes30, Self::Hour1, Self::Hours12];

    /// The lifetime in milliseconds.
    pub const fn millis(self) -> u64 {
        match self {
            Self::Minutes5 => 5 * 60_000,
            Self::Minutes30 => 30 * 60_000,
            Self::Hour1 => 60 * 60_000,
            Self::Hours12 => 12 * 60 * 60_000,
        }
    }

    /// The providers' spelling: `5m`, `30m`, `1h`, `12h`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minutes5 => "5m",
            Self::Minutes30 => "30m",
            Self::Hour1 => "1h",
            Self::Hours12 => "12h",
        }
    }
}

/// Tokens written to a provider's cache, by lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CacheWrites {
    /// Written for five minutes.
    pub minutes_5: Tokens,
    /// Written for thirty minutes.
    pub minutes_30: Tokens,
    /// Written for one hour.
    pub hour_1: Tokens,
    /// Written for twelve hours.
    pub hours_12: Tokens,
}

impl CacheWrites {
    /// The class of one lifetime.
    pub const fn of(&self, ttl: Ttl) -> Tokens {
        match ttl {
            Ttl::Minutes5 => self.minutes_5,
            Ttl::Minutes30 => self.minutes_30,
            Ttl::Hour1 => self.hour_1,
            Ttl::Hours12 => self.hours_12,
        }
    }

    /// The class of one lifetime, to write to.
    pub const fn of_mut(&mut self, ttl: Ttl) -> &mut Tokens {
        match ttl {
            Ttl::Minutes5 => &mut self.minutes_5,
            Ttl::Minutes30 => &mut self.minutes_30,
            Ttl::Hour1 => &mut self.hour_1,
            Ttl::Hours12 => &mut self.hours_12,
        }
    }

    /// All written tokens.
    pub fn total(&self) -> Tokens {
        Ttl::ALL.iter().map(|ttl| self.of(*ttl)).sum()
    }
}

/// What one upstream call used, in classes that do not overlap (but `reasoning`, which is part of
/// `output`).
///
/// Anthropic's `input_tokens` excludes cached tokens, OpenAI's includes them, Gemini adds thoughts
/// beside the answer: the dialects undo all of that, so that a price applies to each class once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Text and image input paid at the full rate.
    pub uncached: Tokens,
    /// Input read from the provider's cache.
    pub cache_read: Tokens,
    /// Input written to the provider's cache.
    pub cache_write: CacheWrites,
    /// Audio input paid at the audio rate.
    pub audio_input: Tokens,
    /// Everything generated as text, reasoning included.
    pub output: Tokens,
    /// The part of `output` that was reasoning, where the provider tells.
    pub reasoning: Tokens,
    /// Audio output, beside `output`.
    pub audio_output: Tokens,
    /// Billed web searches (count of calls, not tokens).
    pub web_searches: u64,
    /// The service tier *as named in the response* (`default`, `priority`, `batch`, …).
    pub tier: Option<String>,
}

impl Usage {
    /// The same tokens with all input uncached: what a cache that was never asked would report.
    #[must_use]
    pub fn uncached_only(&self) -> Self {
        Self {
            uncached: self.uncached + self.cache_read + self.cache_write.total(),
            cache_read: Tokens(0),
            cache_write: CacheWrites::default(),
            ..self.clone()
        }
    }

    /// All input tokens: the size that decides context tiers.
    pub fn input(&self) -> Tokens {
        self.uncached + self.cache_read + self.cache_write.total() + self.audio_input
    }
}
