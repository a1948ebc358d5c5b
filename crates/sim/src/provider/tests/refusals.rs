//! What the simulated provider refuses, because the real ones do.

use serde_json::{Value, json};
use wire::dialect::Dialect;

use super::{ask, body, path, post, provider, request};

/// Sets `pointer` in a good request to `value` and expects this status and these words.
fn check(dialect: Dialect, pointer: &str, value: Value, status: u16, words: &str) {
    let mut request = request(dialect, "hi");
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    request.pointer_mut(parent).expect("the parent is there")[name] = value;
    let answer = post(path(dialect), &request);
    let text = String::from_utf8(answer.body.bytes()).expect("UTF-8");
    assert_eq!(answer.status, status, "{pointer}: {text}");
    assert!(text.contains(words), "{pointer}: {text}");
    let read = dialect.read_answer(text.as_bytes());
    assert_eq!(read.is_error, status != 200, "{text}");
}

#[test]
fn anthropic_refuses_what_the_real_one_refuses() {
    let check = |pointer: &str, value: Value, status, words| {
        check(Dialect::AnthropicMessages, pointer, value, status, words);
    };
    let short = json!({"type": "ephemeral"});
    let long = json!({"type": "ephemeral", "ttl": "1h"});
    let text = |marker: &Value| json!({"type": "text", "text": "a", "cache_control": marker});
    let (marked, long_marked) = (text(&short), text(&long));
    let system = |blocks: &[&Value]| json!(blocks);
    check("/system", system(&[&marked; 4]), 200, "end_turn");
    check("/system", system(&[&marked; 5]), 400, "at most 4 blocks");
    check("/system", system(&[&long_marked, &marked]), 200, "end_turn");
    check(
        "/system",
        system(&[&marked, &long_marked]),
        400,
        "must not come after a `5m`",
    );
    check("/tools/0/cache_control", short.clone(), 200, "end_turn");
    check(
        "/cache_control",
        json!({"type": "other"}),
        400,
        "must be `ephemeral`",
    );
    check(
        "/cache_control",
        json!({"type": "ephemeral", "ttl": "2h"}),
        400,
        "`5m` or `1h`",
    );
    check(
        "/system",
        json!([{"type": "text", "text": "", "cache_control": short}]),
        400,
        "empty",
    );
    check("/model", Value::Null, 400, "model: field required");
    check("/model", json!("no-such-model"), 404, "not_found_error");
    check("/messages", Value::Null, 400, "messages: field required");
    check("/messages", json!([]), 400, "at least one message");
    check(
        "/max_tokens",
        Value::Null,
        400,
        "max_tokens: field required",
    );
    check(
        "/max_tokens",
        json!(0),
        200,
        r#""stop_reason":"max_tokens""#,
    );
    check(
        "/thinking",
        json!({"type": "enabled", "budget_tokens": 4_000}),
        400,
        "budget_tokens",
    );
    let messages = |content: &str| json!([{"role": "user", "content": content}]);
    check("/messages", messages("error:429"), 429, "rate_limit_error");
    check("/messages", messages("error:500"), 500, "api_error");
    check("/messages", messages("error:529"), 529, "overloaded_error");
}

#[test]
fn openai_refuses_what_the_real_one_refuses() {
    let check = |pointer: &str, value: Value, status, words| {
        check(Dialect::OpenAiChat, pointer, value, status, words);
    };
    let marker = json!({"type": "ephemeral"});
    check("/cache_control", marker.clone(), 400, "unknown_parameter");
    check(
        "/tools/0/cache_control",
        marker.clone(),
        400,
        "tools[0].cache_control",
    );
    check(
        "/messages/0/cache_control",
        marker.clone(),
        400,
        "messages[0].cache_control",
    );
    let part = json!([{"type": "text", "text": "a", "cache_control": marker}]);
    check(
        "/messages/0/content",
        part,
        400,
        "messages[0].content[0].cache_control",
    );
    let part =
        json!([{"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}]);
    check("/messages/0/content", part, 400, "unsupported_parameter");
    check(
        "/prompt_cache_options",
        json!({"mode": "explicit"}),
        400,
        "unsupported_parameter",
    );
    check(
        "/stream_options",
        json!({"include_usage": true}),
        400,
        "stream_options",
    );
    check("/model", Value::Null, 400, "missing_required_parameter");
    check("/model", json!("no-such-model"), 404, "model_not_found");
    check("/messages", Value::Null, 400, "missing_required_parameter");
    check("/max_tokens", json!(6), 200, r#""finish_reason":"length""#);
    let messages = |content: &str| json!([{"role": "user", "content": content}]);
    check(
        "/messages",
        messages("error:429"),
        429,
        "rate_limit_exceeded",
    );
    check("/messages", messages("error:500"), 500, "server_error");
}

#[test]
fn thinking_comes_back_as_it_was_given() {
    let first = body(&post(
        "/v1/messages",
        &request(Dialect::AnthropicMessages, "hi"),
    ));
    let mut next = request(Dialect::AnthropicMessages, "hi");
    next["messages"] = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": "more"},
    ]);
    assert_eq!(post("/v1/messages", &next).status, 200);
    for member in ["thinking", "signature"] {
        let mut altered = next.clone();
        altered["messages"][1]["content"][0][member] = "x".into();
        let answer = post("/v1/messages", &altered);
        assert_eq!(answer.status, 400);
        assert!(
            body(&answer)["error"]["message"]
                .to_string()
                .contains("signature")
        );
    }
}

#[test]
fn other_paths_methods_and_keys() {
    let mut no_key = ask("GET", "/v1/models", b"");
    no_key.authorization = None;
    let mut anthropic = ask("GET", "/v1/models", b"");
    anthropic.x_api_key = Some("k");
    for (ask, status, words) in [
        (no_key, 401, "no API key"),
        (anthropic, 200, r#""has_more":false"#),
        (
            ask("GET", "/v1/models?limit=5", b""),
            200,
            r#""object":"list""#,
        ),
        (ask("GET", "/v1/models/gpt-x", b""), 200, r#""id":"gpt-x""#),
        (
            ask("GET", "/v1/models/no-such-x", b""),
            404,
            "model_not_found",
        ),
        (
            ask("GET", "/v1/messages", b""),
            405,
            "invalid_request_error",
        ),
        (ask("POST", "/v1/other", b"{}"), 404, "no such path"),
        (
            ask("POST", "/v1/messages?beta=true", b"{"),
            400,
            "not valid JSON",
        ),
        (
            ask("POST", "/v1/chat/completions", b"[]"),
            400,
            "not an object",
        ),
        (
            ask("POST", "/v1/embeddings", br#"{"model":"e","input":"a"}"#),
            200,
            "embedding",
        ),
        (
            ask("POST", "/v1/embeddings", br#"{"model":"e"}"#),
            400,
            "`input`",
        ),
    ] {
        let answer = provider().answer(&ask);
        let text = String::from_utf8(answer.body.bytes()).expect("UTF-8");
        assert_eq!(answer.status, status, "{text}");
        assert!(text.contains(words), "{text}");
        let ids = ["request-id", "x-request-id"];
        assert!(answer.headers.iter().any(|(name, _)| ids.contains(name)));
    }
}
