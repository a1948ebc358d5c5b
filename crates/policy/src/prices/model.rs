//! One model's row: dated rates, context cliffs, service tiers, and the facts of its cache.
//!
//! **Invariant**: at any moment, tier and input size at most one rate applies, and it applies to the
//! whole request (tests `the_built_in_book_is_unambiguous`, `invoices_are_exact`).

use std::collections::BTreeMap;

use wire::usage::{Tokens, Ttl, Usage};

use crate::moment::Moment;
use crate::money::{PicoUsd, Price, Ratio};
use crate::prices::bill::{Bill, Class, Unpriced};
use crate::prices::calendar::{Date, Hours};

/// The tier of a response that names none.
pub const STANDARD: &str = "standard";

/// A projected input is near an edge within one part in 20 (5 %): beyond that, estimates of input
/// tokens seldom err.
const NEAR_PARTS: u64 = 20;

/// A model as one provider sells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The provider's id.
    pub provider: String,
    /// The name in requests.
    pub id: String,
    /// Other exact names.
    pub aliases: Vec<String>,
    /// Globs (`*` stands for any text) for names that are not listed.
    pub globs: Vec<String>,
    /// The largest input, where known.
    pub context: Option<Tokens>,
    /// The largest output, where known.
    pub output_limit: Option<Tokens>,
    /// The day from which requests fail, where announced.
    pub retires: Option<Date>,
    /// What its prompt cache can do.
    pub cache: CacheFacts,
    /// What serving from a named region multiplies token prices by.
    pub regions: BTreeMap<String, Ratio>,
    /// Rates by time; they do not overlap.
    pub windows: Vec<Window>,
}

/// How a provider's prompt cache is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheFamily {
    /// `cache_control` markers, up to four, five minutes or one hour.
    Anthropic,
    /// Automatic, without a write fee (`OpenAI` up to GPT-5.5).
    OpenaiAuto,
    /// Breakpoints and a write fee (`OpenAI` from GPT-5.6 on).
    OpenaiBreakpoints,
    /// Implicit, without guarantee or write fee.
    GeminiImplicit,
    /// Automatic, in whole units on disk.
    Deepseek,
    /// Automatic, on the server that a conversation header picks.
    Xai,
    /// Automatic, with nothing to steer.
    Automatic,
    /// No discount for repeated input is known.
    #[default]
    None,
}

/// What a prompt cache needs; its prices are in the [`Rates`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CacheFacts {
    /// How it is driven.
    pub family: CacheFamily,
    /// The shortest prefix that it keeps, where known.
    pub minimum: Option<Tokens>,
}

/// How far a row can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Read on the provider's own page.
    Published,
    /// Taken from a maintained price database that cites the provider.
    #[default]
    Database,
    /// Reported by a third party.
    Secondary,
    /// Inferred or in conflict with another source; check before relying on it.
    Unverified,
}

impl Confidence {
    /// The name in price files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Database => "database",
            Self::Secondary => "secondary",
            Self::Unverified => "unverified",
        }
    }
}

/// The rates of a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first day (UTC); none if it was always so.
    pub from: Option<Date>,
    /// The first day (UTC) on which it no longer holds; none if no end is known.
    pub until: Option<Date>,
    /// Where the rates were read.
    pub source: String,
    /// When they were read.
    pub read: Date,
    /// How far they can be trusted.
    pub confidence: Confidence,
    /// Rates by tier, size and hour.
    pub rows: Vec<Row>,
}

impl Window {
    /// Whether the moment lies within.
    pub fn contains(&self, at: Moment) -> bool {
        self.from.is_none_or(|from| from.start() <= at)
            && self.until.is_none_or(|until| at < until.start())
    }
}

/// Rates and when they apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The tier's names in responses; the first is the name in the price file.
    pub tiers: Vec<String>,
    /// The smallest whole input to which they apply.
    pub from_input: Tokens,
    /// The largest whole input to which they apply, if no other row follows.
    pub up_to: Option<Tokens>,
    /// The hours to which they are limited.
    pub hours: Option<Hours>,
    /// The prices.
    pub rates: Rates,
}

impl Row {
    fn applies(&self, tier: &str, at: Moment) -> bool {
        self.tiers
            .iter()
            .any(|name| name.eq_ignore_ascii_case(tier))
            && self.hours.as_ref().is_none_or(|hours| hours.contain(at))
    }
}

/// The prices of one tier, size and time. `None` is *unknown*, not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input at the full rate.
    pub input: Option<Price>,
    /// Generated text.
    pub output: Option<Price>,
    /// Input read from the cache.
    pub read: Option<Price>,
    /// Input written for five minutes.
    pub write_5m: Option<Price>,
    /// Input written for thirty minutes.
    pub write_30m: Option<Price>,
    /// Input written for one hour.
    pub write_1h: Option<Price>,
    /// Input written for twelve hours.
    pub write_12h: Option<Price>,
    /// Audio input.
    pub audio_input: Option<Price>,
    /// Generated audio.
    pub audio_output: Option<Price>,
    /// One web search.
    pub web_search: Option<PicoUsd>,
}

impl Rates {
    /// The price of a class of tokens.
    pub const fn price(&self, class: Class) -> Option<Price> {
        match class {
            Class::Input => self.input,
            Class::CacheRead => self.read,
            Class::CacheWrite(ttl) => self.write(ttl),
            Class::AudioInput => self.audio_input,
            Class::Output => self.output,
            Class::AudioOutput => self.audio_output,
        }
    }

    /// The price of writing to the cache for `ttl`; none if the model does not offer it.
    pub const fn write(&self, ttl: Ttl) -> Option<Price> {
        match ttl {
            Ttl::Minutes5 => self.write_5m,
            Ttl::Minutes30 => self.write_30m,
            Ttl::Hour1 => self.write_1h,
            Ttl::Hours12 => self.write_12h,
        }
    }

    /// What a usage of `model` costs at these rates.
    pub fn bill(&self, model: &Model, usage: &Usage) -> Result<Bill, Unpriced> {
        Bill::of(self, model, usage)
    }
}

/// An edge near a projected input, at which every token of the request changes its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cliff {
    /// The largest input at the rates below the edge.
    pub edge: Tokens,
    /// The projected input.
    pub input: Tokens,
    /// What the projected usage costs more above the edge than below.
    pub delta: PicoUsd,
}

impl Model {
    /// The window in force at a moment.
    pub fn window(&self, at: Moment) -> Option<&Window> {
        self.windows.iter().find(|window| window.contains(at))
    }

    /// Whether requests still succeed at a moment, as far as announced.
    pub fn is_served(&self, at: Moment) -> bool {
        self.retires.is_none_or(|day| at < day.start()) && self.window(at).is_some()
    }

    /// The rates at a moment for a whole input and the tier as the response named it.
    pub fn rates(&self, at: Moment, input: Tokens, tier: Option<&str>) -> Result<Rates, Unpriced> {
        let rows = self.steps(at, tier)?;
        let step = rows.iter().rev().find(|row| row.from_input <= input);
        match step {
            Some(Row {
                up_to: Some(up_to), ..
            }) if input > *up_to => Err(Unpriced::Size {
                model: self.id.clone(),
                input,
                up_to: *up_to,
            }),
            Some(row) => Ok(row.rates),
            None => Err(self.no_tier(tier)),
        }
    }

    /// What a usage costs at a moment, by class.
    pub fn cost(&self, usage: &Usage, at: Moment) -> Result<Bill, Unpriced> {
        self.rates(at, usage.input(), usage.tier.as_deref())?
            .bill(self, usage)
    }

    /// As [`Model::cost`], served from `region`, whose factor becomes a line of its own.
    pub fn cost_in(&self, region: &str, usage: &Usage, at: Moment) -> Result<Bill, Unpriced> {
        let ratio = self.regions.get(region).ok_or_else(|| Unpriced::Region {
            model: self.id.clone(),
            region: region.to_owned(),
        })?;
        Ok(self.cost(usage, at)?.in_region(*ratio))
    }

    /// The edge within 5 % of a projected usage's input, and what crossing it costs.
    pub fn cliff_near(&self, usage: &Usage, at: Moment) -> Option<Cliff> {
        let rows = self.steps(at, usage.tier.as_deref()).ok()?;
        let input = usage.input();
        rows.windows(2).find_map(|pair| {
            let [below, above] = pair else { return None };
            let edge = Tokens(above.from_input.0.saturating_sub(1));
            if input.0.abs_diff(edge.0).saturating_mul(NEAR_PARTS) > edge.0 {
                return None;
            }
            let cheap = below.rates.bill(self, usage).ok()?.total();
            let dear = above.rates.bill(self, usage).ok()?.total();
            Some(Cliff {
                edge,
                input,
                delta: dear - cheap,
            })
        })
    }

    /// The largest input before the first edge.
    pub fn edge(&self, at: Moment) -> Option<Tokens> {
        let rows = self.steps(at, None).ok()?;
        let above = rows.get(1)?;
        Some(Tokens(above.from_input.0.saturating_sub(1)))
    }

    /// The tier's rows in force, one for each size, smallest first; special hours win.
    fn steps(&self, at: Moment, tier: Option<&str>) -> Result<Vec<&Row>, Unpriced> {
        let window = self.window(at).ok_or_else(|| Unpriced::Date {
            model: self.id.clone(),
            date: Date::of(at),
        })?;
        let tier_name = tier.unwrap_or(STANDARD);
        let mut rows: Vec<_> = window
            .rows
            .iter()
            .filter(|row| row.applies(tier_name, at))
            .collect();
        rows.sort_by_key(|row| (row.from_input, row.hours.is_none()));
        rows.dedup_by_key(|row| row.from_input);
        if rows.is_empty() {
            Err(self.no_tier(tier))
        } else {
            Ok(rows)
        }
    }

    fn no_tier(&self, tier: Option<&str>) -> Unpriced {
        Unpriced::Tier {
            model: self.id.clone(),
            tier: tier.unwrap_or(STANDARD).to_owned(),
        }
    }
}
