//! The providers' cache rules as data, each with its source.
//!
//! **Invariant**: nothing here is guessed: a rule without a source is not written down (test
//! `every_family_has_a_source`).

use wire::usage::{Tokens, Ttl};

use crate::prices::model::CacheFamily;

/// Breakpoints that a request may carry, the client's and the automatic one included.
/// Source: <https://platform.claude.com/docs/en/build-with-claude/prompt-caching> and
/// <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
pub const BREAKPOINTS_MAX: usize = 4;

/// Positions that Anthropic looks back from a breakpoint, the breakpoint's own included.
/// Source: <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>, read 2026-11-23.
pub const LOOKBACK_POSITIONS: u32 = 20;

/// Positions after which we place another breakpoint: five short of the limit, because blocks that
/// we do not know may count differently.
pub const LOOKBACK_POSITIONS_SAFE: u32 = 15;

/// The latest breakpoints that OpenAI (GPT-5.6 and later) matches against.
/// Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
pub const MATCHED_BREAKPOINTS_MAX: usize = 80;

/// OpenAI's automatic caches match in blocks of so many tokens.
/// Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
pub const BLOCK: Tokens = Tokens(128);

/// Requests a minute that one OpenAI routing key carries before it overflows to a cold machine.
/// Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
pub const KEY_REQUESTS_PER_MINUTE: usize = 15;

/// Tokens at the start of a prompt that OpenAI routes by.
/// Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
pub const ROUTED_TOKENS: Tokens = Tokens(256);

/// The same in bytes, at four each. Where there is a body, the start is told by its bytes: estimates of
/// tokens move with what providers report, and what is taken for the start would move with them.
pub const ROUTED_BYTES: u64 = ROUTED_TOKENS.0 * 4;

/// How long a call may be held back for the first byte of the call that writes its prefix: longer
/// would be felt, and a first byte seldom takes longer.
pub const WAIT_MAX_MS: u64 = 2_000;

/// One family's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The family.
    pub family: CacheFamily,
    /// The shortest prefix that is kept, unless the price book names another for the model.
    pub minimum: Tokens,
    /// Lifetimes on sale, shortest first; empty where writes are free and lifetimes are not ours
    /// to choose.
    pub lifetimes: &'static [Ttl],
    /// How long an entry lives without use where lifetimes are not ours to choose, in milliseconds.
    pub idle_ms: u64,
    /// Where this was read.
    pub source: &'static str,
}

/// Every family, in the order of [`CacheFamily`].
pub const RULES: &[Rules] = &[
    Rules {
        family: CacheFamily::Anthropic,
        minimum: Tokens(1_024),
        lifetimes: &[Ttl::Minutes5, Ttl::Hour1],
        idle_ms: Ttl::Minutes5.millis(),
        source: "https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::OpenaiAuto,
        minimum: Tokens(1_024),
        lifetimes: &[],
        idle_ms: Ttl::Minutes5.millis(),
        source: "https://developers.openai.com/api/docs/guides/prompt-caching, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::OpenaiBreakpoints,
        minimum: Tokens(1_024),
        lifetimes: &[Ttl::Minutes30, Ttl::Hours12],
        idle_ms: Ttl::Minutes30.millis(),
        source: "https://developers.openai.com/api/docs/guides/prompt-caching, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::GeminiImplicit,
        minimum: Tokens(4_096),
        lifetimes: &[],
        idle_ms: Ttl::Minutes5.millis(),
        source: "https://ai.google.dev/gemini-api/docs/caching, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::Deepseek,
        minimum: Tokens(64),
        lifetimes: &[],
        idle_ms: Ttl::Hour1.millis(),
        source: "https://api-docs.deepseek.com/guides/kv_cache, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::Xai,
        minimum: Tokens(128),
        lifetimes: &[],
        idle_ms: Ttl::Minutes5.millis(),
        source: "https://docs.x.ai/docs/guides/prompt-caching, read 2026-11-23",
    },
    Rules {
        family: CacheFamily::Automatic,
        minimum: Tokens(1_024),
        lifetimes: &[],
        idle_ms: Ttl::Minutes5.millis(),
        source: "the model's row in the price book",
    },
    Rules {
        family: CacheFamily::None,
        minimum: Tokens(0),
        lifetimes: &[],
        idle_ms: 0,
        source: "the model's row in the price book",
    },
];

/// A family's rules.
pub fn of(family: CacheFamily) -> &'static Rules {
    let index = match family {
        CacheFamily::Anthropic => 0,
        CacheFamily::OpenaiAuto => 1,
        CacheFamily::OpenaiBreakpoints => 2,
        CacheFamily::GeminiImplicit => 3,
        CacheFamily::Deepseek => 4,
        CacheFamily::Xai => 5,
        CacheFamily::Automatic => 6,
        CacheFamily::None => 7,
    };
    &RULES[index]
}

/// The shortest prefix that a family keeps unless the price book says otherwise.
pub fn minimum(family: CacheFamily) -> Tokens {
    of(family).minimum
}

#[cfg(test)]
mod tests {
    use super::{RULES, of};

    #[test]
    fn every_family_has_a_source() {
        for rules in RULES {
            assert_eq!(of(rules.family), rules);
            assert!(!rules.source.is_empty(), "{:?}", rules.family);
            assert!(rules.lifetimes.is_sorted(), "{:?}", rules.family);
        }
    }
}
