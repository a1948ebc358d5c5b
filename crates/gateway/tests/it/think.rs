//! The think lever on live calls.
//!
//! **Invariant**: only the reasoning field changes, only where the lever is on, and a conversation
//! keeps what it began with.

use std::sync::{Arc, Mutex};

use gateway::setup::cascade::{How, Pattern, Verifier};
use gateway::setup::{LeverMode, Rule, Setup, Think};
use policy::money::PicoUsd;
use policy::ports::{CallSettled, Lever};
use policy::prices::PriceBook;
use policy::think::saved::CALLS_MIN;
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};
use wire::usage::Tokens;

use crate::cascades_world::{OPENAI, last, setup, verified};
use crate::cheaper::Shelf;
use crate::stage::{SPOKEN, Stage, TODAY, plain};

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

/// A model whose thinking is metered, and its upstream, which thinks less when it is told to.
const METERED: &str = "gpt-5";

async fn metering() -> Upstream {
    Upstream::playing(|asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let thought = if body["reasoning_effort"] == "low" {
            100
        } else {
            1_000
        };
        let answer = json!({"id": "m", "object": "chat.completion", "model": METERED,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"},
                "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10 + thought,
                "total_tokens": 110 + thought,
                "completion_tokens_details": {"reasoning_tokens": thought}}});
        if body["stream"] == true {
            let chunk = json!({"id": "m", "object": "chat.completion.chunk", "model": METERED,
                "choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]});
            return Step::events(&[&format!("data: {chunk}\n\n"), "data: [DONE]\n\n"]);
        }
        Step::json(200, &answer.to_string())
    })
    .await
}

/// Asks the same easy question so often, and gives the last call.
async fn asked(stage: &Stage, times: usize, before: usize) -> CallSettled {
    let body = json!({"model": METERED, "messages": [{"role": "user", "content": EASY}]});
    for _ in 0..times {
        let response = stage.ask(&SPOKEN[0], body.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let rows = stage.books.settled(before + times).await;
    rows.last().and_then(|row| row.settled.clone()).unwrap()
}

#[tokio::test]
async fn less_thinking_is_booked_once_its_likes_are_known() {
    let enough = usize::try_from(CALLS_MIN).unwrap();
    let upstream = metering().await;
    let thinking = |mode| Setup {
        think: Think { mode, ..on() },
        ..plain(upstream.url())
    };
    let stage = Stage::with(thinking(LeverMode::Observe)).await;
    let observed = asked(&stage, enough, 0).await;
    assert_eq!(observed.savings.get(&Lever::Think), None);
    stage.gateway.setup.store(Arc::new(thinking(LeverMode::On)));
    let early = asked(&stage, enough, enough).await;
    assert_eq!(early.savings.get(&Lever::Think), None, "too few are known");
    assert_eq!(early.untouched, early.cost);
    // The same after a restart, from the calls that are settled.
    let second = Stage::with(thinking(LeverMode::On)).await;
    let shelf = Shelf {
        books: Arc::clone(&stage.books),
        outcomes: Mutex::default(),
    };
    assert_eq!(second.gateway.thinking.open(&shelf).unwrap(), 2 * enough);
    for (stage, before) in [(&stage, 2 * enough), (&second, 0)] {
        let known = asked(stage, 1, before).await;
        let notes: Value = serde_json::from_str(&known.notes).unwrap();
        let (thought, usual) = (&notes["think"]["thought"], &notes["think"]["usual"]);
        assert_eq!(thought, 100, "{notes}");
        // A sketch errs by a sixteenth at most, towards less.
        let usual = usual.as_u64().unwrap();
        assert!((938..=1_000).contains(&usual), "{usual}");
        let price = PriceBook::built_in().find("openai", METERED).unwrap();
        let price = price.rates(TODAY, Tokens(0), None).unwrap().output.unwrap();
        let saved = price.cost(Tokens(usual - 100));
        assert_eq!(known.savings.get(&Lever::Think), Some(&saved));
        let total: PicoUsd = known.savings.values().sum();
        assert_eq!(known.untouched, known.cost.map(|cost| cost + total));
    }
}

/// Where a cheap answer fails its check, the own target is not asked to think as little.
#[tokio::test]
async fn what_failed_its_check_is_lowered_by_one_level_less() {
    let cheap = "gpt-5-mini";
    for (pattern, why, expect) in [
        (
            "^never$",
            "verifier",
            json!([[cheap, "low"], [METERED, "medium"]]),
        ),
        // That is no failure of the answer's.
        (
            "",
            "held_too_long",
            json!([[cheap, "low"], [METERED, "low"]]),
        ),
    ] {
        let upstream = metering().await;
        let verifier = Verifier {
            name: "regex 1".into(),
            how: How::Pattern(Pattern::new(pattern).unwrap()),
        };
        let mut cascade = verified(OPENAI, vec![verifier]);
        cheap.clone_into(&mut cascade.target.model);
        let is_stream = why == "held_too_long";
        if is_stream {
            cascade.hold_back.bytes_max = 1;
        }
        let cascading = setup(upstream.url(), cascade);
        let rules = cascading.rules.into_iter();
        let rules = rules.map(|rule| Rule {
            think: on(),
            ..rule
        });
        let stage = Stage::with(Setup {
            rules: rules.collect(),
            ..plain(upstream.url())
        })
        .await;
        // The second turn keeps what the first one began with.
        for (turn, messages) in [&[EASY][..], &[EASY, "ok", "And into Dutch?"]]
            .into_iter()
            .enumerate()
        {
            let mut body = with(asking(messages), "model", json!(METERED));
            body.as_object_mut().unwrap().shift_remove("max_tokens");
            if is_stream {
                body["stream"] = json!(true);
            }
            let response = stage.ask(&SPOKEN[0], body.to_string()).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let (_, notes) = last(&stage, turn + 1).await;
            assert_eq!(notes["why"], why, "{notes}");
            let asked = upstream.requests();
            let asked = asked[2 * turn..].iter().map(|asked| {
                let body: Value = serde_json::from_slice(&asked.body).unwrap();
                json!([body["model"], body["reasoning_effort"]])
            });
            assert_eq!(asked.collect::<Value>(), expect, "turn {turn}");
        }
    }
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
