//! Stopping, and the pages for operators.
//!
//! **Invariant**: a stop refuses what is new and finishes what is open.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::money::PicoUsd;
use policy::ports::End;
use testkit::client::{Client, exchange};
use testkit::http1::{Ending, Piece};
use testkit::upstream::{Step, Upstream};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::stage::{SPOKEN, Stage, plain};

const STREAM: &str =
    r#"{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const EVENTS: [&str; 2] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
];

/// A client that has read the first event of a stream.
async fn streaming(stage: &Stage) -> Client {
    let mut open = Client::connect(&stage.url).await;
    open.ask("POST", SPOKEN[0].path, SPOKEN[0].headers, STREAM.as_bytes())
        .await;
    open.head().await.unwrap();
    assert_eq!(open.piece().await, Piece::Data(EVENTS[0].into()));
    open
}

#[tokio::test]
async fn a_stop_waits_for_open_streams() {
    let mut script = Step::events(&EVENTS);
    script.insert(2, Step::Gate);
    let upstream = Upstream::scripted([script]).await;
    let mut stage = Stage::with(plain(upstream.url())).await;
    let mut open = streaming(&stage).await;

    // A client whose request has begun, but has not come to its end.
    let mut late = Client::connect(&stage.url).await;
    let request = testkit::client::request(
        "POST",
        SPOKEN[0].path,
        &[SPOKEN[0].headers, &[("expect", "100-continue")]].concat(),
        STREAM.as_bytes(),
    );
    let (head, body) = request.split_at(request.len() - STREAM.len());
    late.send(head).await;
    assert_eq!(late.head().await.unwrap().status(), 100);

    stage.gateway.tasks.stop();
    late.send(body).await;
    let refused = late.response().await.unwrap();
    assert_eq!(
        (refused.status, refused.header("x-should-retry")),
        (503, None)
    );
    assert!(
        refused.text().contains(r#""code":"shutting_down""#),
        "{}",
        refused.text()
    );

    upstream.open_gate();
    assert_eq!(open.piece().await, Piece::Data(EVENTS[1].into()));
    assert_eq!(open.piece().await, Piece::End);
    stage.stopped().await;
    stage.books.settled(1).await;
    let address = stage.url.trim_start_matches("http://");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "it still listens"
    );
}

/// One event, and then nothing for ever.
fn endless() -> Vec<Step> {
    let mut script = Step::events(&EVENTS[..1]);
    script.push(Step::Hang);
    script
}

#[tokio::test]
async fn a_stop_settles_what_does_not_end() {
    let upstream = Upstream::scripted([endless()]).await;
    let mut stage = Stage::with(plain(upstream.url())).await;
    let mut open = streaming(&stage).await;
    stage.gateway.tasks.stop();
    // The signal came again.
    stage.gateway.tasks.hurry();
    let Piece::Data(last) = open.piece().await else {
        panic!("the client is told");
    };
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.contains(r#""code":"shutting_down""#), "{last}");
    assert_eq!(open.piece().await, Piece::End);
    stage.stopped().await;
    let calls = stage.books.settled(1).await;
    let settled = calls[0].settled.as_ref().unwrap();
    assert_eq!(settled.end, End::Stopped);
    // What was seen of it has its price.
    assert!(settled.cost > Some(PicoUsd::ZERO), "{settled:?}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_clients_that_read_nothing() {
    let text = "x".repeat(32 << 10);
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    // 32 MiB: more than the buffers on the way to a client with a small one hold.
    let upstream = Upstream::scripted([Step::events(&[event.as_str(); 1 << 10])]).await;
    let mut stage = Stage::with(plain(upstream.url())).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address = stage.url.trim_start_matches("http://");
    let mut deaf = socket.connect(address.parse().unwrap()).await.unwrap();
    let headers = SPOKEN[0].headers;
    let request = testkit::client::request("POST", SPOKEN[0].path, headers, STREAM.as_bytes());
    deaf.write_all(&request).await.unwrap();
    upstream.request(0).await;
    // The clock only goes on when nothing else does.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::resume();
    stage.gateway.tasks.stop();
    stage.gateway.tasks.hurry();
    stage.stopped().await;
    let calls = stage.books.calls();
    assert!(calls[0].settled.is_some(), "{calls:?}");
}

#[tokio::test]
async fn operators_see_whether_it_lives() {
    let upstream = Upstream::scripted([Step::events(&EVENTS)]).await;
    let stage = Stage::with(plain(upstream.url())).await;
    let page = async |path: &str| exchange(&stage.url, "GET", path, &[], b"").await;
    assert_eq!(page("/healthz").await.text(), "ok\n");
    assert_eq!(page("/readyz").await.text(), "ready\n");
    let spoken = &SPOKEN[0];
    let answer = stage.ask(spoken, &STREAM).await;
    assert_eq!((answer.status, answer.ending), (200, Ending::Whole));
    assert_eq!(
        exchange(&stage.url, "POST", spoken.path, &[], b"{}")
            .await
            .status,
        401
    );
    let metrics = page("/metrics").await;
    for line in [
        r#"tokenwise_calls_total{provider="openai",end="answered"} 1"#,
        r#"tokenwise_refusals_total{reason="Unauthenticated"} 1"#,
        "tokenwise_calls_open 0",
        "tokenwise_ledger_failing 0",
        r#"tokenwise_tokens_total{provider="openai",class="output"} 1"#,
        r#"tokenwise_first_byte_seconds_count{provider="openai"} 1"#,
        r#"tokenwise_call_seconds_bucket{le="600.0",provider="openai"} 1"#,
        "# EOF",
    ] {
        assert!(
            metrics.text().lines().any(|had| had == line),
            "{line}\n{}",
            metrics.text()
        );
    }
    assert!(!metrics.text().contains("tw-client"));
    stage.books.is_full.store(true, Ordering::SeqCst);
    let metrics = page("/metrics").await.text();
    assert!(
        metrics.contains("\ntokenwise_ledger_failing 1\n"),
        "{metrics}"
    );
}
