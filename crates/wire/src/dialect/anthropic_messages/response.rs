//! Reads Anthropic answers and brings their usage into the normal form.
//!
//! **Invariant**: `input_tokens` is the uncached rest only, so that input is the sum of the
//! classes; iterations outside the totals are added (test `usage_identities_hold`). Source:
//! <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>, read 2026-11-23.

use crate::json::{Node, Tape};
use crate::usage::{CacheWrites, Tokens, Usage};

use super::super::answer::Answer;
use super::super::fields;

/// Reads a whole answer; see [`super::super::Dialect::read_answer`].
pub(in crate::dialect) fn read(body: &[u8]) -> Answer {
    let Ok(tape) = Tape::read(body) else {
        return Answer::default();
    };
    let root = tape.root();
    let error = fields::given(root, "error");
    let blocks = root
        .get("content")
        .into_iter()
        .flat_map(|content| content.items());
    Answer {
        is_json: true,
        usage: read_usage(root),
        model: fields::text(root, "model"),
        id: fields::text(root, "id"),
        stop: fields::text(root, "stop_reason"),
        is_error: error.is_some(),
        error: error
            .map(|error| fields::text(error, "message").unwrap_or_else(|| error.raw().to_owned())),
        output_bytes: blocks.map(visible_bytes).sum(),
    }
}

/// Bytes of text, thinking and tool input in a block or delta.
pub(super) fn visible_bytes(block: Node<'_>) -> u64 {
    let bytes = block.members().map(|(key, value)| match key.raw() {
        "text" | "thinking" | "partial_json" => value.as_str().map_or(0, |text| text.len() as u64),
        // Whole answers carry the input as an object, streams begin it with `{}`.
        "input" if value.raw() != "{}" => value.span().len() as u64,
        _ => 0,
    });
    bytes.sum()
}

/// The usage of a whole answer. `count_tokens` answers with a bare `input_tokens`, which is
/// no usage: counting is free.
fn read_usage(root: Node<'_>) -> Option<Usage> {
    let usage = fields::given(root, "usage").filter(Node::is_object)?;
    let mut meter = Meter::default();
    meter.read(usage);
    Some(meter.usage())
}

/// What a provider has reported so far; a stream reports twice, the second time in totals.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    minutes_5: u64,
    hour_1: u64,
    output: u64,
    thinking: u64,
    web_searches: u64,
    tier: Option<String>,
    /// What iterations outside the totals used.
    beside: Option<Usage>,
}

impl Meter {
    /// Reads a `usage` object. Counts only grow, so that a later report that leaves one out, or
    /// repeats it as zero, takes nothing back.
    pub(super) fn read(&mut self, usage: Node<'_>) {
        let raise = |to: &mut u64, node: Option<Node<'_>>, key: &str| {
            let count = node
                .and_then(|node| node.get(key))
                .and_then(|count| count.as_u64());
            *to = (*to).max(count.unwrap_or(0));
        };
        let split = fields::given(usage, "cache_creation");
        let tools = fields::given(usage, "server_tool_use");
        let details = fields::given(usage, "output_tokens_details");
        raise(&mut self.input, Some(usage), "input_tokens");
        raise(&mut self.cache_read, Some(usage), "cache_read_input_tokens");
        raise(
            &mut self.cache_write,
            Some(usage),
            "cache_creation_input_tokens",
        );
        raise(&mut self.minutes_5, split, "ephemeral_5m_input_tokens");
        raise(&mut self.hour_1, split, "ephemeral_1h_input_tokens");
        raise(&mut self.output, Some(usage), "output_tokens");
        raise(&mut self.thinking, details, "thinking_tokens");
        raise(&mut self.web_searches, tools, "web_search_requests");

        // `speed` is priced like a tier of its own, and is only named when it is not the standard.
        let speed = fields::text(usage, "speed").filter(|speed| speed != "standard");
        if let Some(tier) = speed.or_else(|| fields::text(usage, "service_tier")) {
            self.tier = Some(tier);
        }
        if let Some(iterations) = fields::given(usage, "iterations") {
            // Iterations of type `message` are what the totals count.
            let is_counted = |iteration: &Node<'_>| {
                iteration
                    .get("type")
                    .is_none_or(|kind| kind.raw() == r#""message""#)
            };
            let beside = iterations
                .items()
                .filter(|iteration| !is_counted(iteration));
            self.beside = beside
                .map(iteration_usage)
                .reduce(|first, second| sum(first, &second));
        }
    }

    /// The normal form.
    pub(super) fn usage(&self) -> Usage {
        let total = Usage {
            uncached: Tokens(self.input),
            cache_read: Tokens(self.cache_read),
            cache_write: CacheWrites {
                // What the split does not name was written for five minutes, the default.
                minutes_5: Tokens(
                    self.cache_write
                        .saturating_sub(self.hour_1)
                        .max(self.minutes_5),
                ),
                hour_1: Tokens(self.hour_1),
                ..CacheWrites::default()
            },
            output: Tokens(self.output),
            reasoning: Tokens(self.thinking.min(self.output)),
            web_searches: self.web_searches,
            tier: self.tier.clone(),
            ..Usage::default()
        };
        match &self.beside {
            Some(beside) => sum(total, beside),
            None => total,
        }
    }
}

fn iteration_usage(iteration: Node<'_>) -> Usage {
    let mut meter = Meter::default();
    meter.read(iteration);
    meter.usage()
}

/// Both together; the first names the tier.
fn sum(first: Usage, second: &Usage) -> Usage {
    let (one, two) = (first.cache_write, second.cache_write);
    Usage {
        uncached: first.uncached + second.uncached,
        cache_read: first.cache_read + second.cache_read,
        cache_write: CacheWrites {
            minutes_5: one.minutes_5 + two.minutes_5,
            hour_1: one.hour_1 + two.hour_1,
            ..one
        },
        output: first.output + second.output,
        reasoning: first.reasoning + second.reasoning,
        web_searches: first.web_searches + second.web_searches,
        ..first
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, read};
    use crate::json::Tape;
    use crate::usage::{CacheWrites, Tokens, Usage};

    /// Reads reports in order, as a stream gives them, and checks that input sums to `input`.
    fn check(reports: &[&str], input: u64, expect: &Usage) {
        let mut meter = Meter::default();
        for report in reports {
            meter.read(Tape::read(report.as_bytes()).unwrap().root());
        }
        let usage = meter.usage();
        assert_eq!(&usage, expect, "{reports:?}");
        assert_eq!(usage.input(), Tokens(input));
        assert!(usage.reasoning <= usage.output);
    }

    fn writes(minutes_5: u64, hour_1: u64) -> CacheWrites {
        CacheWrites {
            minutes_5: Tokens(minutes_5),
            hour_1: Tokens(hour_1),
            ..CacheWrites::default()
        }
    }

    #[test]
    fn usage_identities_hold() {
        // Input is the uncached rest; the split tells lifetimes.
        check(
            &[
                r#"{"input_tokens":3,"cache_creation_input_tokens":1500,"cache_read_input_tokens":20000,
                "cache_creation":{"ephemeral_5m_input_tokens":1000,"ephemeral_1h_input_tokens":500},
                "output_tokens":200,"output_tokens_details":{"thinking_tokens":150},
                "server_tool_use":{"web_search_requests":2},"service_tier":"standard"}"#,
            ],
            21_503,
            &Usage {
                uncached: Tokens(3),
                cache_read: Tokens(20_000),
                cache_write: writes(1000, 500),
                output: Tokens(200),
                reasoning: Tokens(150),
                web_searches: 2,
                tier: Some("standard".to_owned()),
                ..Usage::default()
            },
        );
        // Without the split, and with half of it, the rest was written for five minutes.
        check(
            &[r#"{"input_tokens":1,"cache_creation_input_tokens":700,"output_tokens":5}"#],
            701,
            &Usage {
                uncached: Tokens(1),
                cache_write: writes(700, 0),
                output: Tokens(5),
                ..Usage::default()
            },
        );
        check(
            &[r#"{"input_tokens":1,"cache_creation_input_tokens":700,
                "cache_creation":{"ephemeral_1h_input_tokens":300}}"#],
            701,
            &Usage {
                uncached: Tokens(1),
                cache_write: writes(400, 300),
                ..Usage::default()
            },
        );
        // Iterations: compaction stands outside the totals, messages inside.
        check(
            &[r#"{"input_tokens":100,"output_tokens":20,"iterations":[
                {"type":"compaction","input_tokens":5000,"cache_creation_input_tokens":9,"output_tokens":300},
                {"type":"message","input_tokens":100,"output_tokens":20}]}"#],
            5109,
            &Usage {
                uncached: Tokens(5100),
                cache_write: writes(9, 0),
                output: Tokens(320),
                ..Usage::default()
            },
        );
        // A speed that has a price of its own is named as the tier.
        check(
            &[r#"{"input_tokens":1,"service_tier":"standard","speed":"fast"}"#],
            1,
            &Usage {
                uncached: Tokens(1),
                tier: Some("fast".to_owned()),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn usage_identities_hold_over_a_stream() {
        // The second report is a total, with or without the input.
        let start = r#"{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":1}"#;
        let whole = Usage {
            uncached: Tokens(10),
            cache_read: Tokens(90),
            output: Tokens(40),
            ..Usage::default()
        };
        check(&[start, r#"{"output_tokens":40}"#], 100, &whole);
        check(
            &[
                start,
                r#"{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":40}"#,
            ],
            100,
            &whole,
        );
        check(
            &[start, r#"{"input_tokens":0,"output_tokens":40}"#],
            100,
            &whole,
        );
    }

    #[test]
    fn answers_are_read() {
        let answer = read(
            br#"{"id":"msg_1","type":"message","model":"claude-sonnet-4-6","stop_reason":"tool_use",
            "content":[{"type":"thinking","thinking":"hm","signature":"zz"},{"type":"text","text":"hi"},
            {"type":"tool_use","id":"1","name":"f","input":{"a":1}}],"usage":{"input_tokens":2,"output_tokens":3}}"#,
        );
        assert_eq!(answer.id.as_deref(), Some("msg_1"));
        assert_eq!(answer.model.as_deref(), Some("claude-sonnet-4-6"));
        assert_eq!(answer.stop.as_deref(), Some("tool_use"));
        assert_eq!((answer.is_error, answer.output_bytes), (false, 11));
        assert_eq!(answer.usage.unwrap().output, Tokens(3));

        let refused =
            read(br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
        assert_eq!(
            (refused.is_error, refused.error.as_deref()),
            (true, Some("Overloaded"))
        );
        assert_eq!(
            read(br#"{"input_tokens":14}"#).usage,
            None,
            "counting is not usage"
        );
    }
}
