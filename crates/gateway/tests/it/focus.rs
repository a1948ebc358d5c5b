//! Focus on live calls.
//!
//! **Invariant**: a message is sent as the same bytes in every call of its conversation.

use gateway::setup::{LeverMode, Rule, Setup, Trim};
use serde_json::{Value, json};
use wire::usage::Tokens;

use crate::context::answering;
use crate::stage::{SPOKEN, Stage, plain, rule};

const TOPICS: [&str; 8] = [
    "apples", "rivers", "copper", "violins", "glaciers", "bread", "comets", "sails",
];

/// Some 600 tokens about a topic.
fn about(topic: &str) -> Value {
    let text = format!("{topic}: {}", "this and that, and more. ".repeat(96));
    json!({"type": "text", "text": text})
}

fn asked(question: &str) -> Value {
    let documents = TOPICS.iter().map(|topic| about(topic));
    let question = json!({"type": "text", "text": question});
    json!({"role": "user", "content": documents.chain([question]).collect::<Value>()})
}

fn setup(mode: LeverMode, url: &str) -> Setup {
    let trim = Trim {
        mode,
        focus: Some(Tokens(2_000)),
        ..Trim::OFF
    };
    Setup {
        rules: vec![Rule {
            trim,
            ..rule(LeverMode::Off)
        }],
        ..plain(url)
    }
}

#[tokio::test]
async fn documents_that_earn_no_place_are_left_out() {
    let upstream = answering().await;
    let first = [asked("what is known of violins?")];
    let later = [
        first[0].clone(),
        json!({"role": "assistant", "content": "much"}),
        asked("and of rivers?"),
    ];
    let body = |messages: &[Value]| {
        json!({"model": "claude-haiku-4-5", "max_tokens": 64, "messages": messages}).to_string()
    };
    let mut before: Vec<Value> = Vec::new();
    for messages in [&first[..], &later[..]] {
        // Each call meets a gateway that has just started.
        let stage = Stage::with(setup(LeverMode::On, upstream.url())).await;
        let arrived = upstream.requests().len();
        let response = stage.ask(&SPOKEN[1], body(messages)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let told = response.header("x-tokenwise-context").unwrap_or_default();
        assert!(told.starts_with("kind=focused; documents="), "{told}");
        let sent: Value = serde_json::from_slice(&upstream.request(arrived).await.body).unwrap();
        let sent = sent["messages"].as_array().unwrap().clone();
        assert_eq!(sent[..before.len()], before[..]);
        for (sent, whole) in sent.iter().zip(messages) {
            let Some(blocks) = sent["content"].as_array() else {
                assert_eq!(sent, whole);
                continue;
            };
            let whole = whole["content"].as_array().unwrap();
            assert!(
                blocks.len() > 1 && blocks.len() < whole.len(),
                "{}",
                blocks.len()
            );
            assert!(blocks.iter().all(|block| whole.contains(block)));
            assert_eq!(blocks.last(), whole.last());
        }
        let text = sent[0]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("violins"), "{text}");
        let rows = stage.books.settled(1).await;
        let notes: Value = serde_json::from_str(&rows[0].settled.as_ref().unwrap().notes).unwrap();
        assert_eq!(notes["focus"]["sent"], true, "{notes}");
        let picked = notes["focus"]["messages"].as_array().unwrap();
        assert_eq!(picked.len(), messages.len().div_ceil(2), "{notes}");
        before = sent;
    }
    for mode in [LeverMode::Off, LeverMode::Observe] {
        let stage = Stage::with(setup(mode, upstream.url())).await;
        let arrived = upstream.requests().len();
        let response = stage.ask(&SPOKEN[1], body(&first)).await;
        assert_eq!(response.header("x-tokenwise-context"), None);
        assert_eq!(
            upstream.request(arrived).await.body,
            body(&first).as_bytes()
        );
        let rows = stage.books.settled(1).await;
        let notes: Value = serde_json::from_str(&rows[0].settled.as_ref().unwrap().notes).unwrap();
        let would = notes["focus"]["tokens"].as_u64() > Some(1_000);
        assert_eq!(would, mode == LeverMode::Observe, "{notes}");
    }
}
