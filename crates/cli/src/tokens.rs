//! Counts the tokens of a prompt's segments with the `o200k` vocabulary.
//!
//! It is the vocabulary of the GPT-4o and GPT-5 models; for others it is a yardstick, the same for
//! every side of a comparison.
//!
//! **Invariant**: equal segments count the same wherever they stand (test `counts_by_content`).

mod o200k;

use std::collections::HashMap;

use policy::shape::edited::Edited;
use serde_json::Value;
use sim::replay::Sizes;
use wire::prompt::{Chain, Kind, Part, Prompt, Segment};
use wire::usage::Tokens;

/// Tokens that frame a message, in OpenAI's chat format.
const FRAME: u64 = 4;

/// An image as a 1280×720 picture counts with Anthropic; the vocabulary cannot count it.
const MEDIA_TOKENS: u64 = 1_200;

/// Members that are no part of the rendered prompt.
const UNRENDERED: [&str; 5] = [
    "cache_control",
    "prompt_cache_breakpoint",
    "type",
    "id",
    "tool_use_id",
];

/// Counts, and remembers what it counted.
#[derive(Debug, Default)]
pub(crate) struct O200k {
    by_chain: HashMap<Chain, Tokens>,
    by_content: HashMap<[u8; 32], u64>,
}

impl O200k {
    /// Tokens of a plain text.
    pub(crate) fn count(text: &str) -> u64 {
        o200k::count(text)
    }

    /// Tokens that a text has more than another one that was made of it.
    pub(crate) fn more(text: &str, edited: &Edited) -> i64 {
        o200k::more(text, edited)
    }

    fn segment(&mut self, segment: &Segment, body: &[u8]) -> Tokens {
        if let Some(tokens) = self.by_chain.get(&segment.chain) {
            return *tokens;
        }
        let bytes = body.get(segment.span.clone()).unwrap_or_default();
        let content = *self
            .by_content
            .entry(*blake3::hash(bytes).as_bytes())
            .or_insert_with(|| content_tokens(segment, bytes));
        let framed = segment.part == Part::Messages && segment.block == 0;
        let frame = if framed || (segment.part == Part::System && segment.index == 0) {
            FRAME
        } else {
            0
        };
        let tokens = Tokens(content + frame);
        self.by_chain.insert(segment.chain, tokens);
        tokens
    }
}

impl Sizes for O200k {
    fn sizes(&mut self, prompt: &Prompt, body: &[u8]) -> Vec<Tokens> {
        prompt
            .segments
            .iter()
            .map(|segment| self.segment(segment, body))
            .collect()
    }
}

fn content_tokens(segment: &Segment, bytes: &[u8]) -> u64 {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match segment.kind {
        Kind::Media => MEDIA_TOKENS,
        // A schema is rendered more or less as it is written.
        Kind::ToolDefinition => O200k::count(&value.to_string()),
        Kind::Text
        | Kind::ToolUse
        | Kind::ToolResult
        | Kind::Thinking
        | Kind::Document
        | Kind::Other => texts(&value),
    }
}

fn texts(value: &Value) -> u64 {
    match value {
        Value::String(text) => O200k::count(text),
        Value::Array(items) => items.iter().map(texts).sum(),
        Value::Object(members) => {
            let rendered = members
                .iter()
                .filter(|(name, _)| !UNRENDERED.contains(&name.as_str()));
            rendered
                .map(|(name, value)| match (name.as_str(), value) {
                    ("input", value) => O200k::count(&value.to_string()),
                    (_, value) => texts(value),
                })
                .sum()
        }
        Value::Number(number) => O200k::count(&number.to_string()),
        Value::Bool(_) | Value::Null => 0,
    }
}

#[cfg(test)]
mod tests {
    use sim::replay::Sizes;
    use wire::dialect::Dialect;

    use super::O200k;

    fn check(dialect: Dialect, body: &str, expect: &[u64]) {
        let request = dialect.read(body.as_bytes()).expect("it is a request");
        let sizes = O200k::default().sizes(&request.prompt, body.as_bytes());
        let sizes: Vec<u64> = sizes.iter().map(|size| size.0).collect();
        assert_eq!(sizes, expect, "{body}");
    }

    #[test]
    fn counts_by_content() {
        check(
            Dialect::OpenAiChat,
            r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#,
            &[6],
        );
        let bare =
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hello world"}]}"#;
        check(Dialect::AnthropicMessages, bare, &[6]);
        let block = bare.replace(
            r#""hello world""#,
            r#"[{"type":"text","text":"hello world","cache_control":{"type":"ephemeral"}}]"#,
        );
        check(Dialect::AnthropicMessages, &block, &[6]);
    }
}
