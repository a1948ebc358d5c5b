//! Models of the providers' prompt caches, on virtual time.
//!
//! **Invariant**: the parts of a split add up to the input, nothing is read that was not written
//! before, and no entry outlives its lifetime (property `splits_add_up`, and rows in
//! each family's file).

pub mod anthropic;
pub mod automatic;
pub mod deepseek;
pub mod entries;
pub mod openai_breakpoints;
pub mod routes;

use automatic::Routed;
use policy::moment::Moment;
use policy::prices::model::CacheFamily;
use policy::shape::cache::{Grain, Mode, rules};
use wire::prompt::{Chain, Prompt};
use wire::usage::{CacheWrites, Tokens, Ttl, Usage};

/// One segment of a prompt as a provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Identity of the prefix that ends with it.
    pub chain: Chain,
    /// Its size.
    pub tokens: Tokens,
    /// Its bytes; 0 where only sizes are known.
    pub bytes: u64,
    /// Its lookback position.
    pub position: u32,
    /// The marker on it, whoever placed it.
    pub marker: Option<Ttl>,
}

/// One request as a provider's cache sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// What caches are kept apart by: provider, account or workspace, and model, as one number.
    pub place: u64,
    /// The prompt.
    pub pieces: Vec<Piece>,
    /// Input after the last piece that no breakpoint can reach.
    pub rest: Tokens,
    /// A marker for the whole request.
    pub automatic: Option<Ttl>,
    /// Which breakpoints the provider places itself.
    pub mode: Mode,
    /// The routing key, hashed, or a conversation id.
    pub key: Option<u64>,
}

impl Sent {
    /// A prompt and the sizes of its segments, with the markers that it carries.
    pub fn of(place: u64, prompt: &Prompt, sizes: &[Tokens]) -> Self {
        let pieces = prompt
            .segments
            .iter()
            .zip(sizes)
            .map(|(segment, tokens)| Piece {
                chain: segment.chain,
                tokens: *tokens,
                bytes: segment.span.len() as u64,
                position: segment.position,
                marker: segment.marker,
            });
        Self {
            place,
            pieces: pieces.collect(),
            ..Self::default()
        }
    }

    /// All input.
    pub fn input(&self) -> Tokens {
        self.pieces.iter().map(|piece| piece.tokens).sum::<Tokens>() + self.rest
    }

    /// Tokens through each piece.
    pub fn through(&self) -> Vec<u64> {
        let mut sum = 0;
        let through = self.pieces.iter().map(|piece| {
            sum += piece.tokens.0;
            sum
        });
        through.collect()
    }
}

/// How a request's input was metered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSplit {
    /// Paid in full.
    pub uncached: Tokens,
    /// Read from the cache.
    pub read: Tokens,
    /// Written to the cache, by lifetime.
    pub written: CacheWrites,
}

impl InputSplit {
    /// Everything paid in full.
    pub fn plain(input: Tokens) -> Self {
        Self {
            uncached: input,
            ..Self::default()
        }
    }

    /// All input.
    pub fn input(&self) -> Tokens {
        self.uncached + self.read + self.written.total()
    }

    /// The usage that a provider would report, with so much output.
    pub fn usage(&self, output: Tokens) -> Usage {
        Usage {
            uncached: self.uncached,
            cache_read: self.read,
            cache_write: self.written,
            output,
            ..Usage::default()
        }
    }

    /// The same proportions over another total, as a provider that counts differently would meter.
    #[must_use]
    pub fn scaled_to(&self, input: Tokens) -> Self {
        let whole = u128::from(self.input().0.max(1));
        let scale = |tokens: Tokens| {
            let product = u128::from(tokens.0) * u128::from(input.0);
            Tokens(u64::try_from(product / whole).unwrap_or(u64::MAX))
        };
        let mut written = CacheWrites::default();
        for ttl in Ttl::ALL {
            *written.of_mut(ttl) = scale(self.written.of(ttl));
        }
        let read = scale(self.read);
        let uncached = Tokens(input.0.saturating_sub(read.0 + written.total().0));
        Self {
            uncached,
            read,
            written,
        }
    }
}

/// A provider's prompt cache.
pub trait Cache {
    /// Meters one request sent at `at` whose answer begins at `first_token_at`, and remembers what
    /// it leaves in the cache.
    fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit;
}

/// The prompt cache of any family.
pub struct ProviderCache(Box<dyn Cache + Send>);

impl ProviderCache {
    /// An empty cache of a family, for a model with this minimum.
    pub fn new(family: CacheFamily, minimum: Tokens) -> Self {
        Self::with_grain(family, minimum, Grain::Breakpoints)
    }

    /// The same, with a say in where entries with breakpoints can be read.
    pub fn with_grain(family: CacheFamily, minimum: Tokens, grain: Grain) -> Self {
        let idle_ms = rules::of(family).idle_ms;
        let automatic = |block: Tokens, routed| {
            Box::new(automatic::Automatic::new(automatic::Manner {
                minimum,
                block,
                idle_ms,
                routed,
            }))
        };
        Self(match family {
            CacheFamily::Anthropic => Box::new(anthropic::Anthropic::new(minimum, grain)),
            CacheFamily::OpenaiBreakpoints => {
                Box::new(openai_breakpoints::OpenaiBreakpoints::new(minimum))
            }
            CacheFamily::OpenaiAuto | CacheFamily::Xai => {
                automatic(rules::BLOCK, Routed::ByKeyOrPrefix)
            }
            CacheFamily::GeminiImplicit | CacheFamily::Automatic => {
                automatic(Tokens(1), Routed::Nowhere)
            }
            CacheFamily::Deepseek => Box::new(deepseek::Deepseek::new(minimum, idle_ms)),
            CacheFamily::None => Box::new(Nothing),
        })
    }

    /// Meters one request sent at `at` whose answer begins at `first_token_at`.
    pub fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit {
        self.0.serve(sent, at, first_token_at)
    }
}

impl std::fmt::Debug for ProviderCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderCache").finish_non_exhaustive()
    }
}

/// No cache at all.
struct Nothing;

impl Cache for Nothing {
    fn serve(&mut self, sent: &Sent, _at: Moment, _first_token_at: Moment) -> InputSplit {
        InputSplit::plain(sent.input())
    }
}
