//! How the simulated provider counts and meters a request's input.
//!
//! **Invariant**: what is metered adds up to what `count_tokens` says, whatever the cache did (test
//! `usage_adds_up_to_the_count` in `tests.rs`).

use policy::moment::Moment;
use serde_json::Value;
use wire::dialect::request::Request;
use wire::prompt::Kind;
use wire::usage::{Tokens, Usage};

/// Counts the tokens of a text.
pub type Count = fn(&str) -> u64;

/// Bytes per token of [`quarter_of_bytes`].
const BYTES_PER_TOKEN: u64 = 4;

/// An estimate that needs no vocabulary: a token is four bytes, and a rest is one more.
///
/// On English text and code it is within a third of the real count, on other scripts it is not;
/// a simulation only needs the same text to count the same every time.
pub fn quarter_of_bytes(text: &str) -> u64 {
    u64::try_from(text.len())
        .unwrap_or(u64::MAX)
        .div_ceil(BYTES_PER_TOKEN)
}

/// A picture or a document, whatever its size: that of a 1280×720 image as Anthropic counts it.
const MEDIA_TOKENS: u64 = 1_200;

/// Members that are not part of the rendered prompt: markers, and what only names a block's kind.
const UNRENDERED: [&str; 3] = ["cache_control", "prompt_cache_breakpoint", "type"];

/// One request, as far as the meter looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Metered<'a> {
    /// The request; its prompt says what can be cached, and where it is marked.
    pub request: &'a Request<'a>,
    /// The tokens of each of the prompt's segments.
    pub segment_tokens: &'a [Tokens],
    /// Whose cache it is: entries are never shared between organisations.
    pub organisation: &'a str,
    /// When the request arrived.
    pub at: Moment,
}

/// Splits a request's input into what is paid in full, read from a cache, and written to it.
pub trait Meter {
    /// Meters one request and remembers what it left in the cache. Output classes stay zero.
    fn split(&mut self, metered: &Metered<'_>) -> Usage;
}

/// A provider without a cache: all input is paid in full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uncached;

impl Meter for Uncached {
    fn split(&mut self, metered: &Metered<'_>) -> Usage {
        let uncached = metered.segment_tokens.iter().copied().sum();
        Usage {
            uncached,
            ..Usage::default()
        }
    }
}

/// The tokens of each segment of a prompt; markers and their wrapping count nothing.
pub fn segment_tokens(request: &Request<'_>, count: Count) -> Vec<Tokens> {
    let segments = request.prompt.segments.iter();
    let values = segments.map(|segment| {
        if segment.kind == Kind::Media {
            return Tokens(MEDIA_TOKENS);
        }
        let bytes = request.body.get(segment.span.clone()).unwrap_or_default();
        // The request has been read, so that its parts are JSON.
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        Tokens(value_tokens(&value, count))
    });
    values.collect()
}

fn value_tokens(value: &Value, count: Count) -> u64 {
    match value {
        Value::String(text) => count(text),
        Value::Array(items) => items.iter().map(|item| value_tokens(item, count)).sum(),
        Value::Object(members) => {
            let kind = members
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if ["image", "document"].contains(&kind) {
                return MEDIA_TOKENS;
            }
            let rendered = members
                .iter()
                .filter(|(name, _)| !UNRENDERED.contains(&name.as_str()));
            rendered
                .map(|(_, member)| value_tokens(member, count))
                .sum()
        }
        Value::Number(number) => count(&number.to_string()),
        Value::Bool(_) | Value::Null => 1,
    }
}
