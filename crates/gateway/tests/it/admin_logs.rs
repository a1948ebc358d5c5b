//! What is logged while good, bad and misplaced secrets go through the gateway, down to the last
//! detail of every library.
//!
//! **Invariant**: no token, no key of a client or provider and no text of a prompt is in any log line
//! (test `no_secret_is_logged`); what the command line prints is checked in `cli`.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use policy::ports::Keys as _;
use testkit::client::exchange;
use testkit::upstream::{Step, Upstream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::admin_shelf::{OPEN, TOKEN, admin, ask, opened, staged};
use crate::stage::{PROVIDER_KEY, Stage, plain};

/// What a client wants answered.
const PROMPT: &str = "planted prompt text";

/// What a provider answers.
const ANSWER: &str = "planted answer text";

/// A token that opens nothing.
const WRONG_TOKEN: &str = "planted-wrong-token-0123456789";

/// Whether lines are kept. Those of other tests that run meanwhile are kept as well, since work on
/// other threads is to be heard; they must hold no secret either.
static LISTENS: AtomicBool = AtomicBool::new(false);

/// Where log lines are kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A call with this model, in the OpenAI dialect.
fn body(model: &str, stream: &str) -> Vec<u8> {
    let message = format!(r#"{{"role":"user","content":"{PROMPT}"}}"#);
    format!(r#"{{"model":"{model}","stream":{stream},"messages":[{message}]}}"#).into_bytes()
}

/// What the upstream does, call by call.
fn steps() -> Vec<Vec<Step>> {
    let whole = format!(
        r#"{{"choices":[{{"message":{{"content":"{ANSWER}"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}}}"#
    );
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{ANSWER}\"}}}}]}}\n\n");
    let stream = || {
        vec![
            Step::head(200, "text/event-stream"),
            Step::Chunk(event.clone().into_bytes()),
        ]
    };
    let error = format!(r#"{{"error":{{"message":"{ANSWER}","type":"server_error"}}}}"#);
    let mut whole_stream = stream();
    whole_stream.push(Step::Chunk(b"data: [DONE]\n\n".to_vec()));
    let mut cut_stream = stream();
    cut_stream.push(Step::Reset);
    let (whole, error) = (Step::json(200, &whole), Step::json(500, &error));
    vec![whole.clone(), error, whole_stream, cut_stream, whole]
}

/// Calls of a client, with its secret in every header that may carry one, and misplaced.
async fn calls(stage: &Stage, secret: &str) {
    let bearer = format!("Bearer {secret}");
    let json = ("content-type", "application/json");
    let chat = "/v1/chat/completions";
    for (headers, stream, status) in [
        ([("authorization", bearer.as_str()), json], "false", 200),
        ([("x-api-key", secret), json], "false", 500),
        ([("x-tokenwise-key", secret), json], "true", 200),
        ([("authorization", &bearer), json], "true", 200),
    ] {
        let body = body("gpt-5.4", stream);
        let response = exchange(&stage.url, "POST", chat, &headers, &body).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
    let headers = [("authorization", bearer.as_str()), json];
    for (path, body) in [
        (chat, body("nobody-sells-this", "false")),
        (chat, body("gpt-5.4", "maybe")),
        (chat, PROMPT.as_bytes().to_vec()),
        (
            "/v2/nowhere?key=planted-in-a-query",
            body("gpt-5.4", "true"),
        ),
    ] {
        let response = exchange(&stage.url, "POST", path, &headers, &body).await;
        assert!((400..500).contains(&response.status), "{}", response.text());
    }
    let wrong = [("authorization", "Bearer planted-wrong-key"), json];
    let response = ask(
        stage,
        &format!("POST {chat}"),
        &wrong,
        &body("gpt-5.4", "false"),
    )
    .await;
    assert_eq!(response.status, 401);
}

/// Requests of an operator, with the token where it belongs and where it does not.
async fn admin_requests(stage: &Stage, secret: &str) {
    let wrong = format!("Bearer {WRONG_TOKEN}");
    let (token, in_name) = (TOKEN, format!(r#"{{"name":"{secret}"}}"#));
    for (line, headers, body, status) in [
        ("GET /admin/v1/keys".to_owned(), [OPEN], "", 200),
        (
            "GET /admin/v1/keys".to_owned(),
            [("authorization", &*wrong)],
            "",
            401,
        ),
        (
            "GET /admin/v1/keys".to_owned(),
            [("x-api-key", TOKEN)],
            "",
            401,
        ),
        (format!("GET /admin/v1/{token}"), [OPEN], "", 400),
        (format!("GET /admin/v1/keys/{secret}"), [OPEN], "", 400),
        (format!("GET /admin/v1/audit?last={token}"), [OPEN], "", 400),
        (
            format!("DELETE /admin/v1/stops/task/{secret}"),
            [OPEN],
            "",
            400,
        ),
        ("POST /admin/v1/keys".to_owned(), [OPEN], &in_name, 400),
        ("POST /admin/v1/keys".to_owned(), [OPEN], TOKEN, 400),
    ] {
        let response = ask(stage, &line, &headers, body.as_bytes()).await;
        assert_eq!(response.status, status, "{line}: {}", response.text());
    }
}

/// One call and one admin request over HTTP/2, whose library logs what it sends and reads.
async fn over_http2(stage: &Stage, secret: &str) {
    let address = stage.url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(connection);
    for (method, path, secret, body) in [
        (
            "POST",
            "/v1/chat/completions",
            secret,
            body("gpt-5.4", "false"),
        ),
        ("GET", "/admin/v1/keys", TOKEN, Vec::new()),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", stage.url))
            .header("authorization", format!("Bearer {secret}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let lines = Lines::default();
    let kept = lines.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || kept.clone())
        .with_filter(dynamic_filter_fn(|_, _| LISTENS.load(Ordering::Relaxed)));
    tracing_subscriber::registry().with(layer).init();
    LISTENS.store(true, Ordering::Relaxed);
    let upstream = Upstream::scripted(steps()).await;
    let (mut stage, shelf) = staged(opened(plain(upstream.url()))).await;
    let (_, made) = admin(&stage, "POST /admin/v1/keys", r#"{"name":"ci"}"#).await;
    let first = made["secret"].as_str().unwrap();
    let rotate = format!(
        "POST /admin/v1/keys/{}/rotate",
        made["id"].as_str().unwrap()
    );
    let (_, rotated) = admin(&stage, &rotate, "").await;
    let second = rotated["secret"].as_str().unwrap();
    calls(&stage, second).await;
    over_http2(&stage, second).await;
    admin_requests(&stage, first).await;
    assert_eq!(upstream.requests().len(), 5);
    stage.stop().await;
    LISTENS.store(false, Ordering::Relaxed);

    let text = lines.text();
    // The log is there: ours, and that of the libraries.
    for part in [
        "call refused",
        "admin request refused",
        "a key or a stop was changed",
        "TRACE h2",
    ] {
        assert!(text.contains(part), "`{part}` is not in the log");
    }
    let hashes = shelf.list().unwrap();
    let hash = format!("{:?}", hashes[0].hash);
    let secrets = [
        TOKEN,
        WRONG_TOKEN,
        PROVIDER_KEY,
        PROMPT,
        ANSWER,
        first,
        second,
        &hash,
    ];
    for line in text.lines() {
        let shown = secrets.iter().find(|secret| line.contains(**secret));
        assert_eq!(shown, None, "{line}");
        assert!(!line.contains("planted"), "{line}");
    }
}
