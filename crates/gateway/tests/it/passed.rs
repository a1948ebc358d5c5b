//! What is passed through, where a key or a limit has a say.
//!
//! **Invariant**: whatever names no model is refused to keys that are limited to some, in words that
//! say so, and what costs nothing needs no money (`keys_for_some_models_are_told_why`,
//! `uploads_cost_nothing`).

use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::money::PicoUsd;
use testkit::client::{Client, exchange};
use testkit::http1::Piece;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::budgets::{budgeted, staged, usd};
use crate::models::{only, row};
use crate::stage::{SPOKEN, Stage, plain};

#[tokio::test]
async fn keys_for_some_models_are_told_why() {
    let row = row(Dialect::OpenAiChat);
    let upstream = Upstream::scripted([]).await;
    let stage = Stage::with(plain(upstream.url())).await;
    stage.gateway.keyring.store(only(&["gpt-*"]).into());
    for (method, path) in [("GET", "/v1/files"), ("POST", "/v1/batches")] {
        let headers = SPOKEN[row].headers;
        let answer = exchange(&stage.url, method, path, headers, b"").await;
        assert_eq!(answer.status, 403);
        let text = answer.text();
        let expect = "key `key_client` may call gpt-* only, and this call names no model";
        assert!(text.contains(expect), "{text}");
    }
}

#[tokio::test]
async fn uploads_cost_nothing() {
    let row = row(Dialect::OpenAiChat);
    let upstream = Upstream::scripted(vec![Step::json(200, r#"{"id":"file_1"}"#); 2]).await;
    let limits = vec![usd(Kind::Key, "0.01", Mode::Hard)];
    let stage = staged(budgeted(upstream.url(), limits)).await;
    let headers = [
        SPOKEN[row].headers,
        &[("content-type", "multipart/form-data")],
    ]
    .concat();
    for path in ["/v1/files", "/v1/batches/batch_1/cancel"] {
        let answer = exchange(&stage.url, "POST", path, &headers, b"a file").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for call in stage.books.settled(2).await {
        let settled = call.settled.expect("it is over");
        assert_eq!(settled.cost, Some(PicoUsd::ZERO));
    }
    // A batch is billed, and nobody knows yet with how much.
    let answer = exchange(&stage.url, "POST", "/v1/batches", &headers, b"").await;
    assert_eq!(answer.status, 429);
    let text = answer.text();
    assert!(text.contains("or it names none"), "{text}");
}

#[tokio::test]
async fn what_is_compressed_travels_as_it_is() {
    let row = row(Dialect::OpenAiChat);
    let upstream = Upstream::scripted([Step::json(200, "{}")]).await;
    let stage = Stage::with(plain(upstream.url())).await;
    let packed = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00];
    let fields = [
        ("content-type", "application/json"),
        ("content-encoding", "zstd"),
    ];
    let headers = [SPOKEN[row].headers, &fields].concat();
    let answer = exchange(&stage.url, "POST", "/v1/responses", &headers, &packed).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = upstream.request(0).await;
    assert_eq!(
        (sent.header("content-encoding"), &sent.body[..]),
        (Some("zstd"), &packed[..])
    );
    // What comes back is read here, so that it must come plain.
    assert_eq!(sent.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn results_of_batches_are_not_waited_for() {
    let row = row(Dialect::AnthropicMessages);
    for head in [
        Step::head(200, "application/x-jsonl"),
        Step::head(200, "application/x-ndjson; charset=utf-8"),
        // More than is ever read whole.
        Step::Head(
            200,
            vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("content-length".to_owned(), (65 << 20).to_string()),
            ],
        ),
    ] {
        let line = "{\"custom_id\":\"a\"}\n";
        let script = vec![head, Step::Chunk(line.into()), Step::Gate];
        let upstream = Upstream::scripted([script]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let mut client = Client::connect(&stage.url).await;
        let path = "/v1/messages/batches/batch_1/results";
        client.ask("GET", path, SPOKEN[row].headers, b"").await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        // The rest is still to come.
        assert_eq!(client.piece().await, Piece::Data(line.into()));
    }
}
