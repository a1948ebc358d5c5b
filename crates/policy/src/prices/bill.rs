//! A bill: what each class of a call's usage costs, or why that is not known.
//!
//! **Invariant**: the total is the sum of the lines, and bills of one rate add up (test
//! `cost_is_additive_within_a_tier`).

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use wire::usage::{Tokens, Ttl, Usage};

use crate::money::{PicoUsd, Ratio};
use crate::prices::calendar::Date;
use crate::prices::model::{Model, Rates};

/// A class of tokens with a price of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Text and image input at the full rate.
    Input,
    /// Input read from the provider's cache.
    CacheRead,
    /// Input written to the provider's cache, by lifetime.
    CacheWrite(Ttl),
    /// Audio input.
    AudioInput,
    /// Generated text, reasoning included.
    Output,
    /// Generated audio.
    AudioOutput,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite(Ttl::Minutes5),
        Self::CacheWrite(Ttl::Minutes30),
        Self::CacheWrite(Ttl::Hour1),
        Self::CacheWrite(Ttl::Hours12),
        Self::AudioInput,
        Self::Output,
        Self::AudioOutput,
    ];

    /// The name in price files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "read",
            Self::CacheWrite(Ttl::Minutes5) => "write_5m",
            Self::CacheWrite(Ttl::Minutes30) => "write_30m",
            Self::CacheWrite(Ttl::Hour1) => "write_1h",
            Self::CacheWrite(Ttl::Hours12) => "write_12h",
            Self::AudioInput => "audio_input",
            Self::Output => "output",
            Self::AudioOutput => "audio_output",
        }
    }

    /// The tokens of this class in a usage.
    pub const fn tokens(self, usage: &Usage) -> Tokens {
        match self {
            Self::Input => usage.uncached,
            Self::CacheRead => usage.cache_read,
            Self::CacheWrite(ttl) => usage.cache_write.of(ttl),
            Self::AudioInput => usage.audio_input,
            Self::Output => usage.output,
            Self::AudioOutput => usage.audio_output,
        }
    }
}

/// What a call costs, class by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bill {
    /// Input at the full rate.
    pub input: PicoUsd,
    /// Cache reads.
    pub cache_read: PicoUsd,
    /// Cache writes for five minutes.
    pub write_5m: PicoUsd,
    /// Cache writes for thirty minutes.
    pub write_30m: PicoUsd,
    /// Cache writes for one hour.
    pub write_1h: PicoUsd,
    /// Cache writes for twelve hours.
    pub write_12h: PicoUsd,
    /// Audio input.
    pub audio_input: PicoUsd,
    /// Generated text, reasoning included.
    pub output: PicoUsd,
    /// Generated audio.
    pub audio_output: PicoUsd,
    /// Web searches.
    pub web_search: PicoUsd,
    /// What the serving region adds to the token lines.
    pub region: PicoUsd,
}

impl Bill {
    /// Prices a usage whose model is only named in the error.
    pub(crate) fn of(rates: &Rates, model: &Model, usage: &Usage) -> Result<Self, Unpriced> {
        let unknown = |class| Unpriced::Class {
            model: model.id.clone(),
            class,
        };
        let mut bill = Self::default();
        for class in Class::ALL {
            let tokens = class.tokens(usage);
            if tokens > Tokens(0) {
                let price = rates.price(class).ok_or_else(|| unknown(class.name()))?;
                *bill.line_mut(class) = price.cost(tokens);
            }
        }
        if usage.web_searches > 0 {
            let each = rates.web_search.ok_or_else(|| unknown("web_search"))?;
            bill.web_search = each.each(usage.web_searches);
        }
        Ok(bill)
    }

    /// The line of a class of tokens.
    pub fn line(mut self, class: Class) -> PicoUsd {
        *self.line_mut(class)
    }

    fn line_mut(&mut self, class: Class) -> &mut PicoUsd {
        match class {
            Class::Input => &mut self.input,
            Class::CacheRead => &mut self.cache_read,
            Class::CacheWrite(Ttl::Minutes5) => &mut self.write_5m,
            Class::CacheWrite(Ttl::Minutes30) => &mut self.write_30m,
            Class::CacheWrite(Ttl::Hour1) => &mut self.write_1h,
            Class::CacheWrite(Ttl::Hours12) => &mut self.write_12h,
            Class::AudioInput => &mut self.audio_input,
            Class::Output => &mut self.output,
            Class::AudioOutput => &mut self.audio_output,
        }
    }

    /// All token lines.
    pub fn tokens(&self) -> PicoUsd {
        Class::ALL.iter().map(|class| self.line(*class)).sum()
    }

    /// The whole bill.
    pub fn total(&self) -> PicoUsd {
        self.tokens() + self.web_search + self.region
    }

    /// This bill with a region's factor on its token lines: one extra line, rounded once, half up.
    #[must_use]
    pub fn in_region(self, ratio: Ratio) -> Self {
        let tokens = self.tokens();
        Self {
            region: tokens.times(ratio) - tokens,
            ..self
        }
    }
}

impl Add for Bill {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        for class in Class::ALL {
            *self.line_mut(class) += other.line(class);
        }
        self.web_search += other.web_search;
        self.region += other.region;
        self
    }
}

impl AddAssign for Bill {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bill {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// Why a call has no price. Such a call is booked as *unknown*, never as free.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unpriced {
    /// Neither an id, an alias nor a pattern of the provider fits.
    #[error("no price for `{model}` of `{provider}`; add it to a price file")]
    Model {
        /// The provider asked for.
        provider: String,
        /// The model asked for.
        model: String,
    },
    /// The model is known, but not its price on that day.
    #[error("no price for `{model}` on {date}; add a window that covers the day")]
    Date {
        /// The model's id.
        model: String,
        /// The day (UTC).
        date: Date,
    },
    /// The model has no rates for the tier that the response named.
    #[error("no price for `{model}` at service tier `{tier}`; add rates for that tier")]
    Tier {
        /// The model's id.
        model: String,
        /// The tier as named.
        tier: String,
    },
    /// The tier's rates end below this input.
    #[error("no price for `{model}` at {input} input tokens; the known rates end at {up_to}")]
    Size {
        /// The model's id.
        model: String,
        /// The whole input.
        input: Tokens,
        /// The last input with a known rate.
        up_to: Tokens,
    },
    /// The usage has a class whose rate is not known.
    #[error("no `{class}` price for `{model}`; add the rate to its row")]
    Class {
        /// The model's id.
        model: String,
        /// The class, as price files spell it.
        class: &'static str,
    },
    /// The model has no factor for the region.
    #[error("no price factor for `{model}` in region `{region}`; add it to `regions`")]
    Region {
        /// The model's id.
        model: String,
        /// The region asked for.
        region: String,
    },
}

impl Unpriced {
    pub(crate) fn unknown(provider: &str, model: &str) -> Self {
        Self::Model {
            provider: provider.to_owned(),
            model: model.to_owned(),
        }
    }
}
