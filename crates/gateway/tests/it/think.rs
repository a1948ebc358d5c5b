//! The think lever on live calls.
//!
//! **Invariant**: only the reasoning field changes, only where the lever is on, and a conversation
//! keeps what it began with.

use gateway::setup::{LeverMode, Setup, Think};
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};

use crate::stage::{SPOKEN, Stage, plain};

/// A model that thinks by default, and takes less.
const MODEL: &str = "claude-opus-5-5";

const EASY: &str = "Translate into French: The shop opens at nine and closes at six.";

const HARD: &str = "Prove that the square root of 2 is irrational, and find all integers n such that \
                    n^2 + n + 41 is divisible by 7.";

/// What was sent upstream, call by call, and what the notes say of it.
async fn sent(think: Think, bodies: &[Value]) -> Vec<(Value, Value)> {
    let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": MODEL,
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 100, "output_tokens": 10}});
    let upstream = Upstream::playing(move |_| Step::json(200, &answer.to_string())).await;
    let stage = Stage::with(Setup {
        think,
        ..plain(upstream.url())
    })
    .await;
    let mut seen = Vec::new();
    for (call, body) in bodies.iter().enumerate() {
        let (spoken, body) = (&SPOKEN[1], body.to_string());
        let response = stage.ask(spoken, &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let rows = stage.books.settled(call + 1).await;
        let notes = rows[call].settled.as_ref().unwrap().notes.clone();
        let notes: Value = serde_json::from_str(&notes).unwrap();
        let arrived = upstream.request(call).await.body;
        let arrived: Value = serde_json::from_slice(&arrived).unwrap();
        seen.push((arrived, notes["think"].clone()));
    }
    seen
}

fn on() -> Think {
    Think {
        mode: LeverMode::On,
        with_tools: false,
    }
}

fn asking(messages: &[&str]) -> Value {
    let messages = messages.iter().enumerate().map(|(turn, text)| {
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": text})
    });
    json!({"model": MODEL, "max_tokens": 2_000, "messages": messages.collect::<Vec<_>>()})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

#[tokio::test]
async fn easy_questions_are_asked_to_think_less_where_the_lever_is_on() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let effort = json!({"effort": "max"});
    for (mode, body, expect) in [
        (LeverMode::On, asking(&[EASY]), json!("low")),
        (LeverMode::Observe, asking(&[EASY]), json!(null)),
        (LeverMode::Off, asking(&[EASY]), json!(null)),
        (LeverMode::On, asking(&[HARD]), json!(null)),
        (
            LeverMode::On,
            with(asking(&[EASY]), "tools", tools),
            json!(null),
        ),
        (
            LeverMode::On,
            with(asking(&[EASY]), "output_config", effort),
            json!("max"),
        ),
    ] {
        let think = Think { mode, ..on() };
        let sent = sent(think, std::slice::from_ref(&body)).await;
        let (arrived, notes) = &sent[0];
        assert_eq!(arrived["output_config"]["effort"], expect, "{body} {notes}");
        let mut rest = arrived.clone();
        let mut before = body.clone();
        for body in [&mut rest, &mut before] {
            body.as_object_mut().unwrap().shift_remove("output_config");
        }
        assert_eq!(rest, before);
        let lever = if mode == LeverMode::Off {
            json!(null)
        } else {
            json!(mode.name())
        };
        assert_eq!(notes["lever"], lever, "{notes}");
    }
}

#[tokio::test]
async fn a_conversation_keeps_its_effort() {
    let bodies = [
        asking(&[EASY]),
        asking(&[EASY, "ok", HARD]),
        asking(&[HARD]),
        asking(&[HARD, "ok", EASY]),
    ];
    let sent = sent(on(), &bodies).await;
    let efforts: Vec<&Value> = sent
        .iter()
        .map(|(body, _)| &body["output_config"]["effort"])
        .collect();
    assert_eq!(
        efforts,
        [&json!("low"), &json!("low"), &json!(null), &json!(null)]
    );
    assert_eq!(sent[1].1["why"], "the session began so");
}
