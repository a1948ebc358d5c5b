//! What both simulated dialects promise, checked with the readers that the gateway uses.

mod refusals;

use policy::moment::Moment;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::dialect::stream::{Ending, UsageDisplay};
use wire::usage::Usage;

use crate::metering::CacheMeter;
use crate::provider::meter::{Uncached, quarter_of_bytes};
use crate::provider::{Answer, Ask, Body, Provider};

const NOW: Moment = Moment(1_800_000_000_000);

fn provider() -> Provider {
    Provider::new(quarter_of_bytes, Box::new(Uncached))
}

fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "/v1/messages",
        Dialect::OpenAiChat => "/v1/chat/completions",
    }
}

fn ask<'a>(method: &'a str, path: &'a str, body: &'a [u8]) -> Ask<'a> {
    let authorization = Some("Bearer sk-test");
    Ask {
        method,
        path,
        authorization,
        x_api_key: None,
        anthropic_version: None,
        body,
        at: NOW,
    }
}

fn post(path: &str, body: &Value) -> Answer {
    provider().answer(&ask("POST", path, body.to_string().as_bytes()))
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body.bytes()).expect("a whole answer is JSON")
}

/// A request that both dialects understand.
fn request(dialect: Dialect, text: &str) -> Value {
    let tool = match dialect {
        Dialect::AnthropicMessages => json!({"name": "w", "input_schema": {"type": "object"}}),
        Dialect::OpenAiChat => json!({"type": "function", "function": {"name": "w"}}),
    };
    let mut request = json!({
        "model": "model-1",
        "max_tokens": 4_000,
        "messages": [{"role": "user", "content": text}],
        "tools": [tool],
    });
    match dialect {
        Dialect::AnthropicMessages => request["thinking"] = json!({"type": "adaptive"}),
        Dialect::OpenAiChat => request["reasoning_effort"] = "low".into(),
    }
    request
}

/// Text, thinking, signature and calls (name and arguments) that an answer carries.
#[derive(Debug, Default, PartialEq)]
struct Content {
    text: String,
    thinking: String,
    signature: String,
    calls: Vec<(String, String)>,
    stop: String,
    id: String,
}

fn said_whole(dialect: Dialect, answer: &Value) -> Content {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut content = Content {
        id: text(&answer["id"]),
        ..Content::default()
    };
    match dialect {
        Dialect::AnthropicMessages => {
            content.stop = text(&answer["stop_reason"]);
            for block in answer["content"].as_array().expect("blocks") {
                content.text += &text(&block["text"]);
                content.thinking += &text(&block["thinking"]);
                content.signature += &text(&block["signature"]);
                if block["type"] == "tool_use" {
                    content
                        .calls
                        .push((text(&block["name"]), block["input"].to_string()));
                }
            }
        }
        Dialect::OpenAiChat => {
            let choice = &answer["choices"][0];
            content.stop = text(&choice["finish_reason"]);
            content.text = text(&choice["message"]["content"]);
            for call in choice["message"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let function = &call["function"];
                content
                    .calls
                    .push((text(&function["name"]), text(&function["arguments"])));
            }
        }
    }
    content
}

fn said_streamed(dialect: Dialect, stream: &[u8]) -> Content {
    let stream = String::from_utf8(stream.to_vec()).expect("UTF-8");
    let lines = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut content = Content::default();
    for event in events {
        let choice = &event["choices"][0];
        let delta = if choice.is_null() {
            &event["delta"]
        } else {
            &choice["delta"]
        };
        content.text += &text(&delta["text"]);
        content.text += &text(&delta["content"]);
        content.thinking += &text(&delta["thinking"]);
        content.signature += &text(&delta["signature"]);
        content.stop += &text(&delta["stop_reason"]);
        content.stop += &text(&choice["finish_reason"]);
        match dialect {
            Dialect::AnthropicMessages => {
                content.id += &text(&event["message"]["id"]);
                if event["content_block"]["type"] == "tool_use" {
                    let name = text(&event["content_block"]["name"]);
                    content.calls.push((name, String::new()));
                }
                if let Some(call) = content.calls.last_mut() {
                    call.1 += &text(&delta["partial_json"]);
                }
            }
            Dialect::OpenAiChat => {
                content.id = text(&event["id"]);
                for call in delta["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    if !function["name"].is_null() {
                        content.calls.push((text(&function["name"]), String::new()));
                    }
                    let call = content.calls.last_mut().expect("a call has begun");
                    call.1 += &text(&function["arguments"]);
                }
            }
        }
    }
    content
}

/// Reads a stream as the gateway does, cut at `cut`.
fn read_stream(dialect: Dialect, bytes: &[u8], cut: usize) -> (Ending, Option<Usage>) {
    let mut stream = dialect.stream(UsageDisplay::Shown);
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    for part in [first, second] {
        stream.push(part);
    }
    let end = stream.finish();
    (end.ending, end.usage)
}

fn wishes() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_filter("no failure", |text| !text.contains("error:")),
        (0_usize..40).prop_map(|words| format!("words:{words}")),
        Just("tool:w".to_owned()),
        Just("please tools:w,v now".to_owned()),
    ]
}

proptest! {
    #[test]
    fn streams_say_what_whole_answers_say(text in wishes(), cut in any::<proptest::sample::Index>()) {
        for dialect in Dialect::ALL {
            let mut request = request(dialect, &text);
            let whole = post(path(dialect), &request);
            assert_eq!(whole.status, 200, "{}", body(&whole));
            request["stream"] = true.into();
            if dialect == Dialect::OpenAiChat {
                request["stream_options"] = json!({"include_usage": true});
            }
            let streamed = post(path(dialect), &request);
            assert!(matches!(streamed.body, Body::Stream(_)));
            let bytes = streamed.body.bytes();
            assert_eq!(said_whole(dialect, &body(&whole)), said_streamed(dialect, &bytes));

            let whole = dialect.read_answer(&whole.body.bytes());
            let (ending, usage) = read_stream(dialect, &bytes, cut.index(bytes.len()));
            assert_eq!(ending, Ending::Whole);
            assert_eq!(usage, whole.usage);

            // Without its last event a stream has not ended.
            let end = bytes.len() - 2;
            let (ending, _) = read_stream(dialect, &bytes[..cut.index(end)], 0);
            assert_ne!(ending, Ending::Whole);
        }
    }
}

#[test]
fn the_same_requests_get_the_same_bytes() {
    for dialect in Dialect::ALL {
        let request = request(dialect, "tool:w");
        assert_eq!(post(path(dialect), &request), post(path(dialect), &request));
    }
}

#[test]
fn usage_adds_up_to_the_count() {
    let mut request = request(Dialect::AnthropicMessages, "hello");
    let counted = body(&post("/v1/messages/count_tokens", &request));
    let plain = post("/v1/messages", &request);
    let usage = Dialect::AnthropicMessages
        .read_answer(&plain.body.bytes())
        .usage
        .expect("usage");
    assert_eq!(counted["input_tokens"], usage.input().0);
    assert!(usage.reasoning.0 > 0 && usage.reasoning < usage.output);

    let marker = json!({"type": "ephemeral"});
    request["messages"] = json!([{"role": "user", "content": [
        {"type": "text", "text": "hello", "cache_control": marker},
    ]}]);
    assert_eq!(
        counted,
        body(&post("/v1/messages/count_tokens", &request)),
        "markers cost nothing"
    );
}

/// What a provider with a cache meters for one request after another, each with its key.
fn metered(path: &str, dialect: Dialect, requests: &[(&str, &Value)]) -> Vec<(u64, u64, u64)> {
    let mut provider = Provider::new(quarter_of_bytes, Box::new(CacheMeter::new(0)));
    let usages = requests.iter().enumerate().map(|(turn, (key, request))| {
        let body = request.to_string();
        let mut ask = ask("POST", path, body.as_bytes());
        ask.authorization = Some(key);
        ask.at = NOW.after(1_000 * u64::try_from(turn).expect("a few turns"));
        let answer = provider.answer(&ask);
        dialect
            .read_answer(&answer.body.bytes())
            .usage
            .expect("usage")
    });
    usages
        .map(|usage| {
            (
                usage.uncached.0,
                usage.cache_read.0,
                usage.cache_write.total().0,
            )
        })
        .collect()
}

#[test]
fn the_cache_meters_as_the_real_ones_do() {
    let dialect = Dialect::AnthropicMessages;
    let long = "word ".repeat(4_000);
    let marked = json!({
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "system": [{"type": "text", "text": long, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "question"}],
    });
    let mut plain = marked.clone();
    plain["system"] = json!(long);
    let turns = [
        ("Bearer a", &marked),
        ("Bearer a", &marked),
        ("Bearer b", &marked),
        ("Bearer a", &plain),
    ];
    assert_eq!(
        metered("/v1/messages", dialect, &turns),
        [(2, 0, 5_000), (2, 5_000, 0), (2, 0, 5_000), (5_002, 0, 0)],
    );

    let implicit = json!({
        "model": "gpt-5.6-terra",
        "messages": [{"role": "user", "content": long}],
    });
    let mut explicit = implicit.clone();
    explicit["prompt_cache_options"] = json!({"mode": "explicit"});
    let turns = [
        ("Bearer a", &explicit),
        ("Bearer a", &explicit),
        ("Bearer a", &implicit),
    ];
    let metered = metered("/v1/chat/completions", Dialect::OpenAiChat, &turns);
    assert_eq!(metered, [(5_000, 0, 0), (5_000, 0, 0), (0, 0, 5_000)]);
}

#[test]
fn usage_is_on_a_stream_only_if_it_was_asked_for() {
    let mut request = request(Dialect::OpenAiChat, "words:2");
    request["stream"] = true.into();
    let text = |request: &Value| {
        let bytes = post("/v1/chat/completions", request).body.bytes();
        String::from_utf8(bytes).expect("UTF-8")
    };
    assert!(!text(&request).contains("usage"));
    request["stream_options"] = json!({"include_usage": true});
    let asked = text(&request);
    assert_eq!(asked.matches(r#""usage":null"#).count(), 4, "{asked}");
    assert_eq!(asked.matches(r#""choices":[],"usage":{"#).count(), 1);
    assert!(asked.ends_with("data: [DONE]\n\n"));
}

#[test]
fn cache_writes_are_named_by_models_that_charge_them() {
    for (model, names) in [
        ("gpt-5.4", false),
        ("gpt-5.6-terra", true),
        ("gpt-6-sol", true),
        ("gpt-4o", false),
    ] {
        let mut request = request(Dialect::OpenAiChat, "hi");
        request["model"] = model.into();
        let usage = &body(&post("/v1/chat/completions", &request))["usage"];
        let details = &usage["prompt_tokens_details"];
        assert_eq!(
            details.get("cache_write_tokens").is_some(),
            names,
            "{model}"
        );
    }
}

#[test]
fn an_answered_call_is_not_repeated() {
    let anthropic = json!([
        {"role": "user", "content": "tool:w"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "w", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sun"}]},
    ]);
    let openai = json!([
        {"role": "user", "content": "tool:w"},
        {"role": "assistant", "tool_calls": [{"id": "t", "type": "function",
            "function": {"name": "w", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "sun"},
    ]);
    for (dialect, messages) in Dialect::ALL.into_iter().zip([anthropic, openai]) {
        let mut request = request(dialect, "");
        request["messages"] = messages;
        let said = said_whole(dialect, &body(&post(path(dialect), &request)));
        assert_eq!(
            (said.text.as_str(), said.calls.len()),
            ("You said: tool:w", 0)
        );
    }
}
