//! What a client can get wrong: a clear error in the dialect that it spoke, nothing upstream,
//! nothing in the books.
//!
//! **Invariant**: the table is complete for what `receive` and `route` refuse (`bad_input`).

use gateway::setup::{Limits, Setup};
use testkit::client::{Client, Response, request};
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::stage::{SPOKEN, Spoken, Stage, plain};

/// Larger bodies are refused in these tests.
const BODY_BYTES_MAX: usize = 4_096;

/// One mistake, and the answer to it.
struct Mistake {
    name: &'static str,
    method: &'static str,
    /// In place of the dialect's own path.
    path: Option<&'static str>,
    /// In place of the dialect's own headers.
    headers: Option<Vec<(&'static str, &'static str)>>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// A part of the message.
    says: &'static str,
}

impl Mistake {
    fn new(
        name: &'static str,
        body: &str,
        status: u16,
        code: &'static str,
        says: &'static str,
    ) -> Self {
        Self {
            name,
            method: "POST",
            path: None,
            headers: None,
            body: body.into(),
            status,
            code,
            says,
        }
    }

    fn with(self, headers: &[(&'static str, &'static str)]) -> Self {
        Self {
            headers: Some(headers.to_vec()),
            ..self
        }
    }

    fn to(self, method: &'static str, path: Option<&'static str>) -> Self {
        Self {
            method,
            path,
            ..self
        }
    }

    fn bytes(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }
}

const GOOD: &str = r#"{"model":"fast","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;

/// Bodies that are not requests.
fn bodies() -> Vec<Mistake> {
    let bad = |name, body, says| Mistake::new(name, body, 400, "invalid_request", says);
    let deep = "[".repeat(2_000) + &"]".repeat(2_000);
    let deep = GOOD.replace("\"hi\"", &deep);
    vec![
        bad("no body", "", "JSON"),
        bad(
            "malformed JSON",
            r#"{"model": "fast", "messages": [}"#,
            "JSON",
        ),
        bad(
            "cut off",
            r#"{"model":"fast","messages":[{"role":"user""#,
            "JSON",
        ),
        bad("something behind", &format!("{GOOD} true"), "JSON"),
        bad("not an object", "[1,2]", "object"),
        bad("no model", r#"{"max_tokens":9,"messages":[]}"#, "model"),
        bad(
            "model is a number",
            r#"{"model":7,"max_tokens":9,"messages":[]}"#,
            "model",
        ),
        bad(
            "no messages",
            r#"{"model":"fast","max_tokens":9}"#,
            "messages",
        ),
        bad(
            "messages are text",
            r#"{"model":"fast","max_tokens":9,"messages":"hi"}"#,
            "messages",
        ),
        bad(
            "a message is a number",
            r#"{"model":"fast","max_tokens":9,"messages":[{"role":"user","content":"hi"},2]}"#,
            "messages[1]",
        ),
        bad(
            "stream is text",
            r#"{"model":"fast","max_tokens":9,"stream":"yes","messages":[]}"#,
            "stream",
        ),
        bad("nested too deep", &deep, "at most 128 levels"),
        bad("invalid UTF-8", "", "UTF-8").bytes(
            [
                &GOOD.as_bytes()[..GOOD.len() - 5],
                b"\xff\xfe",
                &GOOD.as_bytes()[GOOD.len() - 5..],
            ]
            .concat(),
        ),
        Mistake::new(
            "unknown model",
            &GOOD.replace("fast", "llama-9"),
            404,
            "model_not_found",
            "no configured provider serves `llama-9`; configured: anthropic, openai; names of `[models]`: fast",
        ),
        Mistake::new("oversized body", "", 413, "request_too_large", "4096 bytes")
            .bytes(vec![b' '; BODY_BYTES_MAX + 1]),
    ]
}

/// Requests that are wrong before their body.
fn heads() -> Vec<Mistake> {
    let keys = |name, says| Mistake::new(name, GOOD, 401, "invalid_api_key", says);
    let key = ("authorization", "Bearer tw-client");
    let long: &'static str = Box::leak("s".repeat(257).into_boxed_str());
    let bad = |name, says| Mistake::new(name, GOOD, 400, "invalid_request", says);
    vec![
        keys("no key", "no key was given").with(&[]),
        keys("empty key", "no key was given").with(&[("authorization", "Bearer ")]),
        keys("wrong scheme", "no key was given").with(&[("authorization", "Basic tw-client")]),
        keys("wrong key", "not known here").with(&[("authorization", "Bearer tw-guess")]),
        keys("wrong x-api-key", "not known here").with(&[("x-api-key", "tw-guess")]),
        keys("expired key", "`key_expired` has expired").with(&[("x-api-key", "tw-expired")]),
        keys("disabled key", "`key_disabled` is disabled")
            .with(&[("authorization", "Bearer tw-disabled")]),
        bad("compressed body", "content-encoding `gzip`")
            .with(&[key, ("content-encoding", "gzip")]),
        bad("session too long", "x-tokenwise-session").with(&[key, ("x-tokenwise-session", long)]),
        bad("empty task", "x-tokenwise-task").with(&[key, ("x-tokenwise-task", "")]),
        bad(
            "parent without a task",
            "name that task in `x-tokenwise-task`",
        )
        .with(&[key, ("x-tokenwise-parent-task", "whole")]),
        bad("too many parents", "names 9 tasks; at most 8").with(&[
            key,
            ("x-tokenwise-task", "t"),
            ("x-tokenwise-parent-task", "1,2,3,4,5,6,7,8,9"),
        ]),
        bad("session not ASCII", "x-tokenwise-session").with(&[key, ("x-tokenwise-session", "é")]),
        Mistake::new(
            "wrong method",
            "",
            405,
            "method_not_allowed",
            "takes POST, not GET",
        )
        .to("GET", None),
        Mistake::new(
            "wrong method",
            "{}",
            405,
            "method_not_allowed",
            "takes POST, not DELETE",
        )
        .to("DELETE", None),
    ]
}

/// Paths that are nobody's, in the dialect that the path or the headers suggest.
fn routes() -> Vec<(Dialect, Mistake)> {
    let lost = |path| {
        Mistake::new(
            "unknown route",
            GOOD,
            404,
            "unknown_route",
            "served here: POST /v1/chat",
        )
        .to("POST", Some(path))
    };
    let openai = [("authorization", "Bearer tw-client")];
    let anthropic = [("x-api-key", "tw-client")];
    vec![
        (Dialect::OpenAiChat, lost("/").with(&openai)),
        (
            Dialect::OpenAiChat,
            lost("/v2/chat/completions").with(&openai),
        ),
        (Dialect::OpenAiChat, lost("/nobody/v1/files").with(&openai)),
        (
            Dialect::AnthropicMessages,
            lost("/v2/complete").with(&anthropic),
        ),
        (
            Dialect::AnthropicMessages,
            lost("/v2/messages/batches").with(&openai),
        ),
        (
            Dialect::AnthropicMessages,
            lost("/x").with(&[("anthropic-version", "2023-06-01")]),
        ),
        (
            Dialect::OpenAiChat,
            Mistake::new(
                "other dialect",
                GOOD,
                404,
                "model_not_found",
                "send it to `/v1/messages`",
            )
            .with(&openai),
        ),
        (
            Dialect::AnthropicMessages,
            Mistake::new(
                "other dialect",
                &GOOD.replace("fast", "gpt-5.4"),
                404,
                "model_not_found",
                "send it to `/v1/chat/completions`",
            )
            .with(&anthropic),
        ),
    ]
}

fn setup(url: &str) -> Setup {
    let limits = Limits {
        body_bytes_max: BODY_BYTES_MAX,
        ..Limits::default()
    };
    Setup {
        limits,
        ..plain(url)
    }
}

/// OpenAI's dialect asks for a model that its provider has.
fn spoken_body(dialect: Dialect, mistake: &Mistake) -> Vec<u8> {
    let text = String::from_utf8(mistake.body.clone());
    match (dialect, text) {
        (Dialect::OpenAiChat, Ok(text)) if mistake.name != "other dialect" => {
            text.replace("\"fast\"", "\"gpt-5.4\"").into_bytes()
        }
        _ => mistake.body.clone(),
    }
}

#[tokio::test]
async fn bad_input() {
    let upstream = Upstream::scripted([]).await;
    let mut stage = Stage::with(setup(upstream.url())).await;
    println!(
        "{:24} {:18} {:>6}  {:20} message",
        "mistake", "dialect", "status", "code or type"
    );
    for spoken in &SPOKEN {
        for mistake in bodies().iter().chain(&heads()) {
            check(&stage, spoken, mistake).await;
        }
    }
    for (dialect, mistake) in routes() {
        let spoken = SPOKEN
            .iter()
            .find(|spoken| spoken.dialect == dialect)
            .unwrap();
        check(&stage, spoken, &mistake).await;
    }
    for spoken in &SPOKEN {
        slow_client(&stage, spoken).await;
        endless_body(&stage, spoken).await;
    }
    bad_header_names(&stage).await;
    stage.stop().await;
    assert_eq!(upstream.requests(), []);
    assert_eq!(stage.books.calls(), []);
}

async fn check(stage: &Stage, spoken: &Spoken, mistake: &Mistake) {
    let headers = mistake.headers.as_deref().unwrap_or(spoken.headers);
    let path = mistake.path.unwrap_or(spoken.path);
    let body = spoken_body(spoken.dialect, mistake);
    let mut client = Client::connect(&stage.url).await;
    client.ask(mistake.method, path, headers, &body).await;
    let response = client.response().await.expect(mistake.name);
    let Mistake {
        name,
        status,
        code,
        says,
        ..
    } = mistake;
    shows(spoken.dialect, name, &response, (*status, code, says));
    assert_eq!(response.header("x-should-retry"), Some("false"), "{name}");
    // Who used the wrong method is told the right one, as HTTP asks for.
    assert_eq!(response.header("allow").is_some(), *status == 405, "{name}");
}

/// The answer has the status, the dialect's exact shape, and says what is wrong.
fn shows(dialect: Dialect, name: &str, response: &Response, expect: (u16, &str, &str)) {
    let (status, code, says) = expect;
    let text = response.text();
    let call = response.header("x-tokenwise-call").unwrap();
    let body: serde_json::Value = serde_json::from_str(&text).expect(&text);
    let error = &body["error"];
    let message = error["message"].as_str().unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let shown = match dialect {
        Dialect::OpenAiChat => {
            assert_eq!(keys(&body), ["error"], "{name}");
            assert_eq!(keys(error), ["message", "type", "param", "code"], "{name}");
            error["code"].as_str().unwrap()
        }
        Dialect::AnthropicMessages => {
            assert_eq!(keys(&body), ["type", "error", "request_id"], "{name}");
            assert_eq!(keys(error), ["type", "message"], "{name}");
            assert_eq!(
                (&body["type"], &body["request_id"]),
                (&"error".into(), &call.into())
            );
            error["type"].as_str().unwrap()
        }
    };
    println!(
        "{name:24} {:18} {:>6}  {shown:20} {message}",
        dialect.id(),
        response.status
    );
    assert_eq!(response.status, status, "{name}: {text}");
    let expected = match dialect {
        Dialect::OpenAiChat => code,
        Dialect::AnthropicMessages => anthropic_type(code),
    };
    assert_eq!(shown, expected, "{name}");
    assert!(message.contains(says), "{name}: {message}");
    assert_eq!(
        response.header("content-type"),
        Some("application/json"),
        "{name}"
    );
}

/// Anthropic has no codes; its types say as much.
fn anthropic_type(code: &str) -> &'static str {
    match code {
        "invalid_api_key" => "authentication_error",
        "model_not_found" | "unknown_route" => "not_found_error",
        "request_too_large" => "request_too_large",
        "request_timeout" => "timeout_error",
        _ => "invalid_request_error",
    }
}

/// Begins a request, and waits until the gateway reads its body.
async fn begun(stage: &Stage, spoken: &Spoken, framing: (&str, &str)) -> Client {
    let headers = [spoken.headers, &[("expect", "100-continue"), framing]].concat();
    let request = request("POST", spoken.path, &headers, b"");
    let head = String::from_utf8(request)
        .unwrap()
        .replace("content-length: 0\r\n", "");
    let mut client = Client::connect(&stage.url).await;
    client.send(head.as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status(), 100);
    client
}

async fn slow_client(stage: &Stage, spoken: &Spoken) {
    let mut client = begun(stage, spoken, ("content-length", "100")).await;
    client.send(b"{\"model\":").await;
    tokio::time::pause();
    let response = client.response().await.unwrap();
    tokio::time::resume();
    let expect = (408, "request_timeout", "not complete after 60s");
    shows(spoken.dialect, "slow client", &response, expect);
    assert_eq!(response.header("x-should-retry"), None);
}

/// A body whose length nobody announced is refused as soon as it is too long.
async fn endless_body(stage: &Stage, spoken: &Spoken) {
    let mut client = begun(stage, spoken, ("transfer-encoding", "chunked")).await;
    let chunk = format!("{:x}\r\n{}\r\n", BODY_BYTES_MAX, " ".repeat(BODY_BYTES_MAX));
    client.send(chunk.as_bytes()).await;
    client.send(chunk.as_bytes()).await;
    let response = client.response().await.unwrap();
    let expect = (413, "request_too_large", "4096 bytes");
    shows(spoken.dialect, "endless body", &response, expect);
}

/// What is not HTTP has no dialect: the connection answers 400 or closes.
async fn bad_header_names(stage: &Stage) {
    for bytes in [
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nbad name: 1\r\ncontent-length: 0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-\u{e9}: 1\r\ncontent-length: 0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx: a\u{0}b\r\ncontent-length: 0\r\n\r\n",
        "POST /v1/messages HTTP/9.9\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = Client::connect(&stage.url).await;
        client.send(bytes.as_bytes()).await;
        let status = client
            .response()
            .await
            .map_or(0, |response| response.status);
        println!("{:24} {:18} {status:>6}", "not HTTP", "none");
        assert!([0, 400].contains(&status), "{bytes}: {status}");
    }
}

#[tokio::test]
async fn a_good_request_passes_after_bad_ones() {
    let upstream = Upstream::scripted([Step::json(200, "{}")]).await;
    let stage = Stage::with(setup(upstream.url())).await;
    let spoken = &SPOKEN[1];
    let mut client = Client::connect(&stage.url).await;
    for (body, status) in [("{", 400), (GOOD, 200)] {
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        assert_eq!(client.response().await.unwrap().status, status);
    }
    assert_eq!(upstream.requests().len(), 1);
}
