//! Reads OpenAI answers and brings every server's usage into the normal form.
//!
//! **Invariant**: input classes are disjoint and sum to `prompt_tokens`; output contains reasoning
//! (test `usage_identities_hold`). Sources, read 2026-11-23: OpenAI
//! <https://developers.openai.com/api/docs/guides/prompt-caching>, DeepSeek
//! <https://api-docs.deepseek.com/guides/kv_cache>, xAI <https://docs.x.ai/docs/guides/reasoning>,
//! Gemini <https://ai.google.dev/gemini-api/docs/openai>.

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
    let choices = || {
        root.get("choices")
            .into_iter()
            .flat_map(|choices| choices.items())
    };
    Answer {
        is_json: true,
        usage: fields::given(root, "usage")
            .filter(Node::is_object)
            .map(|usage| {
                let tier = fields::text(root, "service_tier");
                Usage {
                    tier,
                    ..read_usage(usage)
                }
            }),
        model: fields::text(root, "model"),
        id: fields::text(root, "id"),
        stop: choices().find_map(|choice| fields::text(choice, "finish_reason")),
        is_error: error.is_some(),
        error: error.map(error_message),
        output_bytes: choices()
            .filter_map(|choice| choice.get("message"))
            .map(visible_bytes)
            .sum(),
    }
}

/// The words of an `error` member, which some servers give as a bare string.
pub(super) fn error_message(error: Node<'_>) -> String {
    let message = fields::text(error, "message");
    message
        .or_else(|| error.as_str().map(Into::into))
        .unwrap_or_else(|| error.raw().to_owned())
}

/// Bytes of text, refusal, reasoning and arguments in a message or delta.
pub(super) fn visible_bytes(message: Node<'_>) -> u64 {
    let length = |node: Node<'_>| node.as_str().map_or(0, |text| text.len() as u64);
    let calls = |node: Node<'_>| -> u64 {
        let functions = node.items().filter_map(|call| call.get("function"));
        functions
            .flat_map(|function| function.members())
            .map(|(_, value)| length(value))
            .sum()
    };
    let bytes = message.members().map(|(key, value)| match key.raw() {
        "content" | "refusal" | "reasoning_content" | "reasoning" => length(value),
        "tool_calls" => calls(value),
        "function_call" => value.members().map(|(_, value)| length(value)).sum(),
        _ => 0,
    });
    bytes.sum()
}

/// Usage in the normal form.
///
/// `prompt_tokens` includes what was read from and written to the cache, and audio. Some servers
/// (xAI, Gemini) leave reasoning out of `completion_tokens` and count it in `total_tokens` only:
/// what the total has over the two is output. The Responses API, which is only ever passed through,
/// names the same figures `input_tokens` and `output_tokens`.
pub(super) fn read_usage(usage: Node<'_>) -> Usage {
    let count = |node: Node<'_>, key: &str| node.get(key).and_then(|count| count.as_u64());
    let either = |chat: &str, responses: &str| count(usage, chat).or(count(usage, responses));
    let prompt = either("prompt_tokens", "input_tokens").unwrap_or(0);
    let completion = either("completion_tokens", "output_tokens").unwrap_or(0);
    let prompt_details = fields::given(usage, "prompt_tokens_details")
        .or_else(|| fields::given(usage, "input_tokens_details"));
    let in_prompt = |key: &str| prompt_details.and_then(|details| count(details, key));
    let output_details = fields::given(usage, "completion_tokens_details")
        .or_else(|| fields::given(usage, "output_tokens_details"));
    let in_output = |key: &str| {
        output_details
            .and_then(|details| count(details, key))
            .unwrap_or(0)
    };

    // DeepSeek and Moonshot name the cached part beside the details.
    let cached = in_prompt("cached_tokens")
        .or_else(|| count(usage, "prompt_cache_hit_tokens"))
        .or_else(|| count(usage, "cached_tokens"));
    let cache_read = cached.unwrap_or(0).min(prompt);
    let written = in_prompt("cache_write_tokens")
        .unwrap_or(0)
        .min(prompt - cache_read);
    let ttls =
        prompt_details.and_then(|details| fields::given(details, "cache_write_tokens_details"));
    let hours_12 = ttls
        .and_then(|ttls| count(ttls, "ttl_12h_tokens"))
        .unwrap_or(0)
        .min(written);
    let audio_input = in_prompt("audio_tokens")
        .unwrap_or(0)
        .min(prompt - cache_read - written);

    let total = count(usage, "total_tokens").unwrap_or(0);
    let beside = total.saturating_sub(prompt).saturating_sub(completion);
    let audio_output = in_output("audio_tokens").min(completion);
    let output = completion - audio_output + beside;
    Usage {
        uncached: Tokens(prompt - cache_read - written - audio_input),
        cache_read: Tokens(cache_read),
        cache_write: CacheWrites {
            minutes_30: Tokens(written - hours_12),
            hours_12: Tokens(hours_12),
            ..CacheWrites::default()
        },
        audio_input: Tokens(audio_input),
        output: Tokens(output),
        reasoning: Tokens(in_output("reasoning_tokens").max(beside).min(output)),
        audio_output: Tokens(audio_output),
        web_searches: 0,
        tier: None,
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::usage::{CacheWrites, Tokens, Usage};

    /// Reads the usage and checks that its classes are disjoint and complete: input sums to
    /// `input`, text and audio output to `output`.
    fn check(usage: &str, input: u64, output: u64, expect: &Usage) {
        let answer = read(format!(r#"{{"usage":{usage}}}"#).as_bytes());
        let usage = answer.usage.unwrap();
        assert_eq!(&usage, expect);
        assert_eq!(usage.input(), Tokens(input));
        assert_eq!(usage.output + usage.audio_output, Tokens(output));
        assert!(usage.reasoning <= usage.output);
    }

    #[test]
    fn usage_identities_hold() {
        // OpenAI without and with caching, reasoning.
        check(
            r#"{"prompt_tokens":13,"completion_tokens":7,"total_tokens":20}"#,
            13,
            7,
            &Usage {
                uncached: Tokens(13),
                output: Tokens(7),
                ..Usage::default()
            },
        );
        check(
            r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
                "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":128,"audio_tokens":0}}"#,
            2006,
            300,
            &Usage {
                uncached: Tokens(86),
                cache_read: Tokens(1920),
                output: Tokens(300),
                reasoning: Tokens(128),
                ..Usage::default()
            },
        );
        // OpenAI from GPT-5.6 on: writes by lifetime, and without the split.
        check(
            r#"{"prompt_tokens":5000,"completion_tokens":10,"total_tokens":5010,"prompt_tokens_details":
                {"cached_tokens":2000,"cache_write_tokens":1500,
                "cache_write_tokens_details":{"ttl_30m_tokens":1000,"ttl_12h_tokens":500}}}"#,
            5000,
            10,
            &Usage {
                uncached: Tokens(1500),
                cache_read: Tokens(2000),
                cache_write: CacheWrites {
                    minutes_30: Tokens(1000),
                    hours_12: Tokens(500),
                    ..CacheWrites::default()
                },
                output: Tokens(10),
                ..Usage::default()
            },
        );
        check(
            r#"{"prompt_tokens":3000,"completion_tokens":1,"prompt_tokens_details":
                {"cached_tokens":0,"cache_write_tokens":2900}}"#,
            3000,
            1,
            &Usage {
                uncached: Tokens(100),
                cache_write: CacheWrites {
                    minutes_30: Tokens(2900),
                    ..CacheWrites::default()
                },
                output: Tokens(1),
                ..Usage::default()
            },
        );
        // Audio on both sides.
        check(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"audio_tokens":60},"completion_tokens_details":{"audio_tokens":30}}"#,
            100,
            50,
            &Usage {
                uncached: Tokens(40),
                audio_input: Tokens(60),
                output: Tokens(20),
                audio_output: Tokens(30),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn usage_identities_hold_for_the_responses_api() {
        check(
            r#"{"input_tokens":2006,"output_tokens":300,"total_tokens":2306,
                "input_tokens_details":{"cached_tokens":1920},
                "output_tokens_details":{"reasoning_tokens":128}}"#,
            2006,
            300,
            &Usage {
                uncached: Tokens(86),
                cache_read: Tokens(1920),
                output: Tokens(300),
                reasoning: Tokens(128),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn usage_identities_hold_for_servers_that_differ() {
        // DeepSeek names hits and misses beside the total.
        check(
            r#"{"prompt_tokens":1200,"completion_tokens":90,"total_tokens":1290,
                "prompt_cache_hit_tokens":1024,"prompt_cache_miss_tokens":176}"#,
            1200,
            90,
            &Usage {
                uncached: Tokens(176),
                cache_read: Tokens(1024),
                output: Tokens(90),
                ..Usage::default()
            },
        );
        // Gemini's thoughts are in the total only.
        check(
            r#"{"prompt_tokens":7,"completion_tokens":9,"total_tokens":130}"#,
            7,
            123,
            &Usage {
                uncached: Tokens(7),
                output: Tokens(123),
                reasoning: Tokens(114),
                ..Usage::default()
            },
        );
        // xAI's reasoning stands beside `completion_tokens`.
        check(
            r#"{"prompt_tokens":37,"completion_tokens":530,"total_tokens":800,
                "prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":233}}"#,
            37,
            763,
            &Usage {
                uncached: Tokens(29),
                cache_read: Tokens(8),
                output: Tokens(763),
                reasoning: Tokens(233),
                ..Usage::default()
            },
        );
        // Contradictions never make tokens out of nothing.
        check(
            r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":
                {"cached_tokens":50,"cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":99}}"#,
            10,
            2,
            &Usage {
                cache_read: Tokens(10),
                output: Tokens(2),
                reasoning: Tokens(2),
                ..Usage::default()
            },
        );
        // Explicit zero is zero.
        check(
            r#"{"prompt_tokens":0,"completion_tokens":0}"#,
            0,
            0,
            &Usage::default(),
        );
    }

    #[test]
    fn answers_are_read() {
        let answer = read(
            br#"{"id":"c1","model":"gpt-5.4-2026-03-01","service_tier":"priority","usage":{"prompt_tokens":1},
            "choices":[{"finish_reason":"tool_calls","message":{"role":"assistant","content":"h\u00e9","tool_calls":
            [{"id":"1","function":{"name":"f","arguments":"{}"}}]}}]}"#,
        );
        assert_eq!(answer.id.as_deref(), Some("c1"));
        assert_eq!(answer.model.as_deref(), Some("gpt-5.4-2026-03-01"));
        assert_eq!(answer.stop.as_deref(), Some("tool_calls"));
        assert_eq!(answer.usage.unwrap().tier.as_deref(), Some("priority"));
        assert_eq!((answer.is_error, answer.output_bytes), (false, 6));

        let refused = read(br#"{"error":{"message":"no","code":"x"}}"#);
        assert_eq!(
            (refused.is_error, refused.error.as_deref()),
            (true, Some("no"))
        );
        let refused = read(br#"{"error":"plain"}"#);
        assert_eq!(
            (refused.is_error, refused.error.as_deref()),
            (true, Some("plain"))
        );
        let nothing = super::Answer {
            is_json: true,
            ..super::Answer::default()
        };
        assert_eq!(read(br#"{"error":null,"usage":null}"#), nothing);
        assert_eq!(read(b"<html>"), super::Answer::default());
    }
}
