//! The kill switch: what was begun ends, what comes is refused, and all of it is in the books.
//!
//! **Invariant**: nothing here waits for time to pass; a stop is noticed by whoever is waiting.

use std::collections::BTreeSet;

use gateway::admit::stops::Stopped;
use policy::ports::End;
use testkit::client::{Client, exchange};
use testkit::http1::{Ending, Piece};
use testkit::upstream::{Step, Upstream};

use crate::stage::{CLIENT_ID, SPOKEN, Stage, plain};

/// The beginning of a stream that can be seen, in each dialect, and a body that asks for it.
const BEGUN: [(&str, &str); 2] = [
    (
        r#"{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Good morning\"}}]}\n\n",
    ),
    (
        r#"{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Good morning\"}}\n\n",
    ),
];

fn key() -> Stopped {
    Stopped {
        keys: BTreeSet::from([CLIENT_ID.to_owned()]),
        ..Stopped::default()
    }
}

#[tokio::test]
async fn a_stop_ends_calls_under_way() {
    for (row, (body, begun)) in BEGUN.iter().enumerate() {
        let spoken = &SPOKEN[row];
        let stream = vec![
            Step::head(200, "text/event-stream"),
            Step::Chunk(begun.as_bytes().to_vec()),
            Step::Hang,
        ];
        let silent = vec![Step::Hang];
        let upstream = Upstream::scripted([stream, silent]).await;
        let mut stage = Stage::with(plain(upstream.url())).await;
        let ask = async || {
            let mut client = Client::connect(&stage.url).await;
            let body = body.as_bytes();
            client.ask("POST", spoken.path, spoken.headers, body).await;
            client
        };
        // One whose answer has begun, and one that still waits for its head.
        let mut streaming = ask().await;
        assert_eq!(streaming.head().await.unwrap().status(), 200);
        assert_eq!(
            streaming.piece().await,
            Piece::Data(begun.as_bytes().to_vec())
        );
        let mut waiting = ask().await;
        upstream.request(1).await;

        stage.gateway.stops.set(key());
        let mut last = Vec::new();
        while let Piece::Data(data) = streaming.piece().await {
            last.extend(data);
        }
        let last = String::from_utf8(last).unwrap();
        let told = format!("key `{CLIENT_ID}` was stopped by an operator");
        assert!(last.contains("data: ") && last.contains(&told), "{last}");
        let refused = waiting.response().await.unwrap();
        assert_eq!((refused.status, refused.ending), (403, Ending::Whole));
        assert!(refused.text().contains(&told), "{}", refused.text());
        for index in 0..2 {
            upstream.gone(index).await;
        }
        // What comes now reaches nobody, and owes nothing.
        let response = stage.ask(spoken, &body).await;
        assert_eq!(response.status, 403);
        assert_eq!(response.header("x-should-retry"), Some("false"));
        assert_eq!(upstream.requests().len(), 2);
        for call in stage.books.settled(2).await {
            let settled = call.settled.unwrap();
            assert_eq!(settled.end, End::Stopped);
            assert!(settled.legs.iter().all(|leg| leg.estimated), "{settled:?}");
        }
        stage.stop().await;
    }
}

#[tokio::test]
async fn who_is_let_go_on_is_served_again() {
    let body = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#;
    let answer =
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;
    let upstream = Upstream::scripted([Step::json(200, answer)]).await;
    let stage = Stage::with(plain(upstream.url())).await;
    let spoken = &SPOKEN[0];
    let call = async || {
        let body = body.as_bytes();
        let response = exchange(&stage.url, "POST", spoken.path, spoken.headers, body).await;
        response.status
    };
    for stopped in [
        key(),
        Stopped {
            everything: true,
            ..Stopped::default()
        },
    ] {
        stage.gateway.stops.set(stopped);
        assert_eq!(call().await, 403);
    }
    stage.gateway.stops.set(Stopped {
        tasks: BTreeSet::from(["other".to_owned()]),
        ..Stopped::default()
    });
    assert_eq!(call().await, 200);
}
