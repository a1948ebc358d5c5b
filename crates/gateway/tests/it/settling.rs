//! When the books are settled, and how long anybody is waited for.
//!
//! **Invariant**: a client that has the last byte is in the ledger; a disk, an upstream or a client
//! that hangs is given up within its limit. Limits pass on a paused clock.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::ports::End;
use testkit::client::{Client, exchange};
use testkit::http1::{Ending, Piece};
use testkit::upstream::{Step, Upstream};
use tokio::net::TcpListener;

use crate::stage::{SPOKEN, Stage, plain};

const STREAMS: [(&str, &[&str], &str); 2] = [
    (
        r#"{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        &[
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n",
        ],
        "data: [DONE]\n\n",
    ),
    (
        r#"{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n",
        ],
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
];

/// The whole answers, held back for the same reason.
const ANSWERS: [&str; 2] = [
    r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#,
    r#"{"content":[],"usage":{"input_tokens":9,"output_tokens":3}}"#,
];

/// Lets everybody else run until nothing is left to do at once.
async fn let_others_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Whether the next piece is there.
async fn has_piece(client: &mut Client) -> bool {
    let_others_run().await;
    tokio::select! {
        biased;
        _ = client.piece() => true,
        () = std::future::ready(()) => false,
    }
}

/// A stream whose last frame the ledger keeps back, read up to there.
async fn held_stream(row: usize, stage: &Stage) -> Client {
    let (body, events, _) = STREAMS[row];
    let spoken = &SPOKEN[row];
    let mut client = Client::connect(&stage.url).await;
    client
        .ask("POST", spoken.path, spoken.headers, body.as_bytes())
        .await;
    client.head().await.unwrap();
    let mut got = Vec::new();
    while got.len() < events.concat().len() {
        match client.piece().await {
            Piece::Data(data) => got.extend(data),
            end @ (Piece::End | Piece::Broken) => panic!("{end:?}"),
        }
    }
    assert_eq!(String::from_utf8(got).unwrap(), events.concat());
    stage.books.wait_for(|written| written.settled == 1).await;
    client
}

async fn stage_before_stream(row: usize) -> (Stage, Upstream) {
    let (_, events, last) = STREAMS[row];
    let all: Vec<&str> = events.iter().copied().chain([last]).collect();
    let upstream = Upstream::scripted([Step::events(&all)]).await;
    let stage = Stage::with(plain(upstream.url())).await;
    stage.books.hold();
    (stage, upstream)
}

#[tokio::test]
async fn streams_settle_before_their_last_byte() {
    for (row, (.., last)) in STREAMS.iter().enumerate() {
        let (stage, _upstream) = stage_before_stream(row).await;
        let mut client = held_stream(row, &stage).await;
        assert!(
            !has_piece(&mut client).await,
            "the last frame did not wait for the ledger"
        );
        stage.books.release();
        assert_eq!(client.piece().await, Piece::Data(last.as_bytes().to_vec()));
        assert_eq!(client.piece().await, Piece::End);
    }
}

#[tokio::test]
async fn an_upstream_that_lingers_is_not_waited_for() {
    for (row, (body, events, last)) in STREAMS.iter().enumerate() {
        let all: Vec<&str> = events.iter().copied().chain([*last]).collect();
        let mut steps = Step::events(&all);
        steps.push(Step::Hang);
        let upstream = Upstream::scripted([steps]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let spoken = &SPOKEN[row];
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        client.head().await.unwrap();
        let mut got = Vec::new();
        while let Piece::Data(data) = client.piece().await {
            got.extend(data);
        }
        assert_eq!(String::from_utf8(got).unwrap(), all.concat());
        let calls = stage.books.settled(1).await;
        assert_eq!(calls[0].settled.as_ref().unwrap().end, End::Answered);
    }
}

#[tokio::test]
async fn whole_answers_settle_before_their_first_byte() {
    for (row, answer) in ANSWERS.iter().enumerate() {
        let upstream = Upstream::scripted([Step::json(200, answer)]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        stage.books.hold();
        let body = STREAMS[row].0.replace(r#""stream":true,"#, "");
        let spoken = &SPOKEN[row];
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        stage.books.wait_for(|written| written.settled == 1).await;
        let_others_run().await;
        let early = tokio::select! {
            biased;
            head = client.head() => Some(head),
            () = std::future::ready(()) => None,
        };
        assert_eq!(early, None, "the answer did not wait for the ledger");
        stage.books.release();
        assert_eq!(client.response().await.unwrap().text(), *answer);
    }
}

#[tokio::test]
async fn a_ledger_that_hangs_is_not_waited_for_long() {
    for (row, (.., last)) in STREAMS.iter().enumerate() {
        let (stage, _upstream) = stage_before_stream(row).await;
        let mut client = held_stream(row, &stage).await;
        tokio::time::pause();
        assert_eq!(client.piece().await, Piece::Data(last.as_bytes().to_vec()));
        assert_eq!(client.piece().await, Piece::End);
        tokio::time::resume();
    }
}

/// How an answer in each dialect says that the upstream failed.
const FAILURES: [(&str, &str); 2] = [
    (
        r#"{"error":{"message":"provider `openai` "#,
        r#""code":"upstream_unreachable"}}"#,
    ),
    (
        r#"{"type":"error","error":{"type":"api_error","message":"provider `anthropic` "#,
        r#""request_id":"call_"#,
    ),
];

fn assert_failure(row: usize, text: &str, what: &str) {
    let (start, rest) = FAILURES[row];
    assert!(text.starts_with(&format!("{start}{what}")), "{text}");
    assert!(text.contains(rest), "{text}");
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    for (row, (body, ..)) in STREAMS.iter().enumerate() {
        let upstream = Upstream::scripted([vec![Step::Hang]]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let spoken = &SPOKEN[row];
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        upstream.request(0).await;
        tokio::time::pause();
        let response = client.response().await.unwrap();
        tokio::time::resume();
        assert_eq!(response.status, 502);
        assert_eq!(response.header("x-should-retry"), None);
        assert_failure(
            row,
            &response.text(),
            "did not answer within 600s; try again",
        );
        upstream.gone(0).await;
        let calls = stage.books.settled(1).await;
        assert_eq!(calls[0].settled.as_ref().unwrap().end, End::UpstreamBroke);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_is_given_up() {
    // The system takes the connection; nobody ever says a word on it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for (row, (body, ..)) in STREAMS.iter().enumerate() {
        let mut setup = plain(&format!("https://{address}"));
        setup.limits.connect_timeout = Duration::from_millis(50);
        let stage = Stage::with(setup).await;
        let refused = stage.ask(&SPOKEN[row], body).await;
        assert_eq!(refused.status, 502);
        assert_failure(row, &refused.text(), "cannot be reached");
    }
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    for (row, (body, events, _)) in STREAMS.iter().enumerate() {
        let first = events[0];
        let mut script = Step::events(&[first]);
        script.push(Step::Hang);
        let upstream = Upstream::scripted([script]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let spoken = &SPOKEN[row];
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        client.head().await.unwrap();
        assert_eq!(client.piece().await, Piece::Data(first.as_bytes().to_vec()));
        tokio::time::pause();
        let Piece::Data(last) = client.piece().await else {
            panic!("the stream ended without a word");
        };
        tokio::time::resume();
        assert_eq!(client.piece().await, Piece::End);
        let last = String::from_utf8(last).unwrap();
        let data = last
            .trim_start_matches("event: error\n")
            .trim_start_matches("data: ");
        assert_failure(row, data, "fell silent in the middle of its answer");
        upstream.gone(0).await;
        let calls = stage.books.settled(1).await;
        assert_eq!(calls[0].settled.as_ref().unwrap().end, End::UpstreamBroke);
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let stage = Stage::with(plain(&nobody)).await;
    for (row, (body, ..)) in STREAMS.iter().enumerate() {
        let spoken = &SPOKEN[row];
        let response = stage.ask(spoken, &body).await;
        assert_eq!((response.status, response.ending), (502, Ending::Whole));
        assert_failure(row, &response.text(), "cannot be reached; try again");
        let calls = stage.books.settled(row + 1).await;
        let settled = calls[row].settled.as_ref().unwrap();
        assert_eq!((settled.end, settled.status), (End::UpstreamBroke, 502));
        assert_eq!(settled.cost.unwrap().0, 0);
    }
}

#[tokio::test]
async fn a_ledger_that_is_down_takes_no_calls() {
    for (row, spoken) in SPOKEN.iter().enumerate() {
        let upstream = Upstream::scripted([Step::json(200, ANSWERS[row])]).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let body = STREAMS[row].0.replace(r#""stream":true,"#, "");
        let call = async || {
            let body = body.as_bytes();
            exchange(&stage.url, "POST", spoken.path, spoken.headers, body).await
        };
        stage.books.is_behind.store(true, Ordering::SeqCst);
        let refused = call().await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(
            refused
                .text()
                .contains("the ledger's disk does not keep up"),
            "{}",
            refused.text()
        );
        let ready = exchange(&stage.url, "GET", "/readyz", &[], b"").await;
        assert_eq!(
            (ready.status, ready.text()),
            (503, "ledger behind\n".to_owned())
        );
        assert_eq!(upstream.requests().len(), 0);
        stage.books.is_behind.store(false, Ordering::SeqCst);
        assert_eq!(call().await.status, 200);
        assert_eq!(stage.books.settled(1).await.len(), 1);
    }
}
