//! Gives the simulated provider a prompt cache: the meter that reports what a real one would.
//!
//! **Invariant**: what is metered adds up to the request's segments (test `adds_up`).

use std::collections::HashMap;

use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::prices::model::CacheFamily;
use policy::shape::cache::{Mode, rules};
use serde_json::Value;
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::usage::{Tokens, Usage};

use crate::cache::{ProviderCache, Sent};
use crate::provider::meter::{Meter, Metered};
use crate::replay::number;

/// A meter with one cache for each organisation and model.
#[derive(Debug, Default)]
pub struct CacheMeter {
    caches: HashMap<(String, String), ProviderCache>,
    first_token_ms: u64,
}

impl CacheMeter {
    /// A meter whose entries can be read `first_token_ms` after the request that writes them.
    pub fn new(first_token_ms: u64) -> Self {
        Self {
            first_token_ms,
            ..Self::default()
        }
    }

    /// The moment at which a request sent at `at` begins to be answered.
    pub fn first_token_at(&self, at: Moment) -> Moment {
        at.after(self.first_token_ms)
    }
}

/// A model's cache: as in the price book, or what is usual in its dialect.
fn cache_of(dialect: Dialect, model: &str) -> (CacheFamily, Tokens) {
    let usual = match dialect {
        Dialect::AnthropicMessages => CacheFamily::Anthropic,
        Dialect::OpenAiChat => CacheFamily::OpenaiAuto,
    };
    let facts = PriceBook::built_in()
        .find_any(model)
        .map(|model| model.cache);
    let family = facts.map_or(usual, |facts| facts.family);
    (
        family,
        facts
            .and_then(|facts| facts.minimum)
            .unwrap_or(rules::minimum(family)),
    )
}

/// Which breakpoints the request leaves to the provider.
pub fn mode_of(request: &Request<'_>) -> Mode {
    if !request.cache.options_given {
        return Mode::Default;
    }
    let root: Value = serde_json::from_slice(request.body).unwrap_or_default();
    match root
        .pointer("/prompt_cache_options/mode")
        .and_then(Value::as_str)
    {
        Some("explicit") => Mode::Explicit,
        Some(_) | None => Mode::Default,
    }
}

impl Meter for CacheMeter {
    fn split(&mut self, metered: &Metered<'_>) -> Usage {
        let Metered {
            request,
            segment_tokens,
            organisation,
            at,
        } = *metered;
        let sent = Sent {
            automatic: request.cache.automatic,
            mode: mode_of(request),
            key: request.client.prompt_cache_key.as_deref().map(number),
            ..Sent::of(0, &request.prompt, segment_tokens)
        };
        let first_token_at = self.first_token_at(at);
        let (family, minimum) = cache_of(request.dialect, &request.model);
        let place = (organisation.to_owned(), request.model.clone());
        let cache = self
            .caches
            .entry(place)
            .or_insert_with(|| ProviderCache::new(family, minimum));
        cache.serve(&sent, at, first_token_at).usage(Tokens(0))
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use wire::dialect::Dialect;

    use super::CacheMeter;
    use crate::provider::meter::{Meter, Metered, quarter_of_bytes, segment_tokens};

    /// What the second of two equal requests, a second apart, reads and writes.
    fn check(dialect: Dialect, body: &str, expect: (bool, bool)) {
        let mut meter = CacheMeter::new(500);
        let request = dialect.read(body.as_bytes()).expect("it is a request");
        let tokens = segment_tokens(&request, quarter_of_bytes);
        let mut usage = |at| {
            let metered = Metered {
                request: &request,
                segment_tokens: &tokens,
                organisation: "one",
                at: Moment(at),
            };
            meter.split(&metered)
        };
        usage(0);
        let second = usage(1_000);
        assert_eq!(second.input(), tokens.iter().copied().sum(), "{body}");
        assert_eq!(
            (second.cache_read.0 > 0, second.cache_write.total().0 > 0),
            expect,
            "{body}"
        );
    }

    #[test]
    fn adds_up() {
        let text = "word ".repeat(2_000);
        let openai = |model: &str, more: &str| {
            format!(
                r#"{{"model":"{model}"{more},"messages":[{{"role":"user","content":"{text}"}}]}}"#
            )
        };
        let explicit = r#","prompt_cache_options":{"mode":"explicit"}"#;
        check(Dialect::OpenAiChat, &openai("gpt-5.4", ""), (true, false));
        check(
            Dialect::OpenAiChat,
            &openai("gpt-5.6-terra", ""),
            (true, false),
        );
        check(
            Dialect::OpenAiChat,
            &openai("gpt-5.6-terra", explicit),
            (false, false),
        );
        let anthropic = |marker: &str| {
            format!(
                r#"{{"model":"claude-sonnet-4-6","max_tokens":9{marker},"messages":[{{"role":"user","content":"{text}"}}]}}"#
            )
        };
        let marker = r#","cache_control":{"type":"ephemeral"}"#;
        check(Dialect::AnthropicMessages, &anthropic(""), (false, false));
        check(
            Dialect::AnthropicMessages,
            &anthropic(marker),
            (true, false),
        );
    }
}
