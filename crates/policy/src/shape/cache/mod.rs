//! The cache lever: where breakpoints go, how long they live, which key routes the call, and
//! whether a write pays at all.
//!
//! A caller builds a [`Sight`], asks [`decide::decide`], and then tells [`memory::Memory`] what
//! became of the [`Ticket`]: `began` at the first byte, `settled` with the usage, or `failed`.
//!
//! **Invariant**: at most four breakpoints counting the client's, which are never touched; none
//! below the model's minimum; none that live shorter before one that lives longer (property
//! `breakpoints_keep_the_rules`).

mod bank;
pub mod decide;
pub mod estimate;
pub mod explain;
pub mod keys;
mod lifetime;
pub mod memory;
pub mod place;
pub mod recent;
pub mod rules;
pub mod session;
#[cfg(test)]
mod tests;
pub mod walk;
pub mod worth;

use wire::dialect::request::ClientCache;
use wire::prompt::{Chain, Prompt};
use wire::usage::{Tokens, Ttl};

use crate::moment::Moment;
use crate::prices::model::{CacheFamily, Model, Rates};

use self::estimate::Counting;
use self::explain::Miss;

/// A model's cache and its prices at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How the cache is driven.
    pub family: CacheFamily,
    /// The shortest prefix that it keeps.
    pub minimum: Tokens,
    /// The prices in force.
    pub rates: Rates,
    /// Where an entry can be read.
    pub grain: Grain,
}

/// Where what was written can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// Only where a breakpoint stood, as the providers do.
    #[default]
    Breakpoints,
    /// At the end of every segment before a breakpoint: a yardstick for traces whose segments are
    /// blocks of tokens, which do not say where messages end.
    Segments,
}

impl Terms {
    /// The terms of a model at the rates in force.
    pub fn of(model: &Model, rates: Rates) -> Self {
        let family = model.cache.family;
        let minimum = model.cache.minimum.unwrap_or(rules::minimum(family));
        Self {
            family,
            minimum,
            rates,
            grain: Grain::Breakpoints,
        }
    }

    /// What a read costs relative to plain input; 1 where no discount is known.
    pub fn read_ratio(&self) -> f64 {
        ratio(self.rates.read, self.rates.input).unwrap_or(1.0)
    }

    /// What a write costs relative to plain input; none if the model does not sell it.
    pub fn write_ratio(&self, ttl: Ttl) -> Option<f64> {
        ratio(self.rates.write(ttl), self.rates.input)
    }
}

/// One price relative to another.
fn ratio(price: Option<crate::money::Price>, base: Option<crate::money::Price>) -> Option<f64> {
    let (price, base) = (price?.micro_usd_per_mtok(), base?.micro_usd_per_mtok());
    (base > 0).then(|| float(price) / float(base))
}

/// A count as a score; counts beyond 2³² are all equally large.
pub(crate) fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// All that a decision may look at.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// When the call is about to be sent.
    pub at: Moment,
    /// Whose traffic it is; nothing is learned across tenants.
    pub tenant: &'a str,
    /// Provider, account and model: what the provider keeps caches apart by.
    pub target: &'a str,
    /// The model's cache and prices.
    pub terms: Terms,
    /// The prompt as rendered.
    pub prompt: &'a Prompt,
    /// Tokens of each segment, from [`memory::Memory::sizes`] or counted.
    pub sizes: &'a [Tokens],
    /// Input after the last segment that no breakpoint can reach.
    pub rest: Tokens,
    /// The body that the prompt's spans point into; empty if there is none.
    pub body: &'a [u8],
    /// The session that the client named, if it did.
    pub session: Option<&'a str>,
    /// What the client itself asked of the cache.
    pub client: &'a ClientCache,
}

/// A breakpoint of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Index into the prompt's segments.
    pub segment: usize,
    /// How long it should live.
    pub ttl: Ttl,
}

/// Which breakpoints the provider places by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As the provider does by default.
    #[default]
    Default,
    /// Only those that the request names: without any, nothing is written and nothing is charged
    /// (`prompt_cache_options: {"mode": "explicit"}`).
    Explicit,
}

/// A call's part among simultaneous calls with the same prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// Nobody else is writing a prefix of this call.
    #[default]
    Alone,
    /// It writes this prefix; calls that share it should wait for its first byte.
    First(Chain),
    /// Another call is writing this prefix now; wait for its first byte, at most
    /// [`rules::WAIT_MAX_MS`], then send.
    Wait(Chain),
}

/// Why a decision is as it is; `explain` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The prompt, or what is left of it, is shorter than the provider keeps.
    BelowMinimum,
    /// The client's own breakpoints take every place.
    ClientMarked,
    /// Written: expected to be read again with this probability, in percent.
    PaysToWrite(u32),
    /// Not written: expected to be read again with only this probability, in percent.
    DoesNotPay(u32),
    /// The client rewrites its last segments on every call; the breakpoint stands before them.
    StopsBeforeRewrite(u32),
    /// Pauses between calls are long enough that the longer lifetime is cheaper.
    LongPauses,
    /// The provider caches by itself; there is nothing to mark.
    ProviderDecides,
    /// The key of a prefix was busy, so the call went to the next one.
    NextShard(u32),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BelowMinimum => f.write_str("shorter than the provider keeps"),
            Self::ClientMarked => f.write_str("the client's own breakpoints are used"),
            Self::PaysToWrite(percent) => write!(f, "a write pays: read again with {percent} %"),
            Self::DoesNotPay(percent) => {
                write!(f, "a write does not pay: read again with only {percent} %")
            }
            Self::StopsBeforeRewrite(segments) => {
                write!(
                    f,
                    "the client rewrites its last {segments} segments on every call"
                )
            }
            Self::LongPauses => f.write_str("long pauses: the longer lifetime is cheaper"),
            Self::ProviderDecides => f.write_str("the provider caches by itself"),
            Self::NextShard(shard) => write!(f, "cache key was busy: shard {shard}"),
        }
    }
}

/// What to do with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The session, named by the client or recognised.
    pub session: String,
    /// Calls of this session before this one.
    pub turn: u32,
    /// Breakpoints of ours, in rendered order.
    pub marks: Vec<Mark>,
    /// Which breakpoints the provider places by itself.
    pub mode: Mode,
    /// A routing key: the body's `prompt_cache_key` (OpenAI), the header `x-grok-conv-id` (xAI).
    /// None where the client sent its own, or the family has none.
    pub cache_key: Option<String>,
    /// Its part among simultaneous calls.
    pub lead: Lead,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What the session lost of its previous prompt, if it did.
    pub miss: Option<Miss>,
    /// To be handed back when the call begins to answer, ends or fails.
    pub ticket: Ticket,
}

/// What a decision expects, handed back when the call is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) at: Moment,
    pub(crate) target: u64,
    pub(crate) entries: Vec<u128>,
    pub(crate) terms: Terms,
    /// Tokens expected to be read.
    pub expected_read: Tokens,
    /// Tokens of the whole input, as estimated.
    pub estimated_input: Tokens,
    pub(crate) counting: Option<Counting>,
}
