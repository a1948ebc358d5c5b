//! Limits that prefer a lesser answer to none: less effort, then a cheaper target, then a refusal.
//!
//! **Invariant**: what was done to a call is in its notes and its headers, and a limit that says
//! `refuse` does nothing of it.

use gateway::setup::{Budgets, LeverMode, Rule, Setup, Target};
use policy::admit::limit::{Limit, Mode, Then};
use policy::admit::scope::Kind;
use policy::money::PicoUsd;
use serde_json::{Value, json};
use testkit::client::Response;
use testkit::upstream::{Step, Upstream};

use crate::budgets::{budgeted, staged, usd};
use crate::stage::{SPOKEN, Stage, rule};

const DEAR: &str = "claude-opus-5-5";

const CHEAP: &str = "claude-haiku-4-5";

/// Room for what a call may cost at [`CHEAP`], and not at [`DEAR`].
const BETWEEN: &str = "0.005";

fn target(model: &str) -> Target {
    Target {
        provider: "anthropic".into(),
        model: model.into(),
    }
}

fn degrading(amount: &str, mode: Mode) -> Limit {
    Limit {
        then: Then::Degrade,
        ..usd(Kind::Key, amount, mode)
    }
}

/// A setup with this limit, which names these targets.
fn setup(url: &str, limit: Limit, degrade_to: &[&str]) -> Setup {
    let targets = degrade_to.iter().map(|model| target(model)).collect();
    let degrade_to = [(limit.id.clone(), targets)].into();
    let plain = budgeted(url, vec![limit]);
    Setup {
        budgets: Budgets {
            degrade_to,
            ..plain.budgets
        },
        ..plain
    }
}

/// An upstream that reports this usage of every call.
async fn reporting(input: u64) -> Upstream {
    let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": DEAR,
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": input, "output_tokens": 0}});
    Upstream::playing(move |_| Step::json(200, &answer.to_string())).await
}

fn body(model: &str, messages: &[&str]) -> Value {
    let messages = messages.iter().enumerate().map(|(turn, text)| {
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": text})
    });
    let messages: Vec<Value> = messages.collect();
    json!({"model": model, "max_tokens": 100, "messages": messages})
}

async fn ask(stage: &Stage, body: &Value) -> Response {
    stage.ask(&SPOKEN[1], body.to_string()).await
}

/// The notes of the last of so many calls.
async fn notes(stage: &Stage, calls: usize) -> Value {
    let rows = stage.books.settled(calls).await;
    let settled = rows.last().and_then(|row| row.settled.clone()).unwrap();
    let saved = settled.savings.values().copied().sum::<PicoUsd>();
    assert_eq!(saved, PicoUsd::ZERO);
    serde_json::from_str(&settled.notes).unwrap()
}

/// What the header says of budgets, if it is about this.
fn told<'r>(response: &'r Response, of: &str) -> Option<&'r str> {
    let mut told = response.headers.iter();
    let found = told.find(|(name, value)| name == "x-tokenwise-budget" && value.contains(of));
    found.map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn a_limit_degrades_before_it_refuses() {
    let refusing = usd(Kind::Key, BETWEEN, Mode::Hard);
    let degrading = |amount| degrading(amount, Mode::Hard);
    for (case, asked, limit, degrade_to, as_good, served) in [
        ("refuses", DEAR, refusing, &[CHEAP][..], &[][..], None),
        ("fits", DEAR, degrading("1"), &[CHEAP], &[], Some(DEAR)),
        ("nowhere", DEAR, degrading(BETWEEN), &[], &[], None),
        (
            "limit",
            DEAR,
            degrading(BETWEEN),
            &[DEAR, CHEAP],
            &[],
            Some(CHEAP),
        ),
        (
            "route",
            DEAR,
            degrading(BETWEEN),
            &[],
            &[CHEAP],
            Some(CHEAP),
        ),
        ("dearer", CHEAP, degrading("0.0001"), &[DEAR], &[], None),
        ("too dear", DEAR, degrading("0.0001"), &[CHEAP], &[], None),
    ] {
        let upstream = reporting(10).await;
        let rule = Rule {
            as_good: as_good.iter().map(|model| target(model)).collect(),
            ..rule(LeverMode::Off)
        };
        let setup = setup(upstream.url(), limit, degrade_to);
        let stage = staged(Setup {
            rules: vec![rule],
            ..setup
        })
        .await;
        let response = ask(&stage, &body(asked, &["hi"])).await;
        let Some(model) = served else {
            assert_eq!(response.status, 429, "{case}: {}", response.text());
            assert_eq!(upstream.requests().len(), 0, "{case}");
            assert_eq!(stage.gateway.accounts.open_holds(), 0, "{case}");
            continue;
        };
        assert_eq!(response.status, 200, "{case}: {}", response.text());
        let sent: Value = serde_json::from_slice(&upstream.request(0).await.body).unwrap();
        assert_eq!(sent["model"], model, "{case}");
        let notes = notes(&stage, 1).await;
        if model == asked {
            assert_eq!(notes["degraded"], Value::Null, "{case}");
            continue;
        }
        assert_eq!(
            notes["degraded"],
            json!([{"limit": "key-usd-hard", "payer": "key `key_client`", "step": "target",
                "to": "anthropic/claude-haiku-4-5", "instead_of": "anthropic/claude-opus-5-5"}]),
            "{case}"
        );
        let told = told(&response, "degraded");
        let expect = "limit=key-usd-hard; key=key_client; degraded=target";
        assert_eq!(told, Some(expect), "{case}");
        let text = stage.counts();
        assert!(text.contains(r#"event="degraded=target"} 1"#), "{text}");
    }
}

#[tokio::test]
async fn conversations_think_less_once_most_is_spent() {
    // At $4 a million tokens, 212 500 are $0.85 of $1; each call after it costs nothing worth telling.
    let big = json!({"input_tokens": 212_500, "output_tokens": 0});
    let small = json!({"input_tokens": 1, "output_tokens": 0});
    let answer = move |call: usize| {
        let usage = if call == 0 { &big } else { &small };
        json!({"content": [], "usage": usage}).to_string()
    };
    let answers = (0..6).map(|call| Step::json(200, &answer(call)));
    let upstream = Upstream::scripted(answers).await;
    let stage = staged(setup(upstream.url(), degrading("1", Mode::Hard), &[])).await;
    let mut fixed = body(DEAR, &["third"]);
    fixed["output_config"] = json!({"effort": "high"});
    for (call, (body, effort)) in [
        (body(DEAR, &["first"]), json!(null)),
        (body(DEAR, &["second"]), json!("low")),
        // It began as it is, and a change would cost its cache.
        (body(DEAR, &["first", "ok", "more"]), json!(null)),
        (fixed, json!("high")),
        (body(DEAR, &["second", "ok", "more"]), json!("low")),
    ]
    .into_iter()
    .enumerate()
    {
        let response = ask(&stage, &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let sent: Value = serde_json::from_slice(&upstream.request(call).await.body).unwrap();
        assert_eq!(sent["output_config"]["effort"], effort, "{body}");
        let lowered = effort == json!("low");
        assert_eq!(told(&response, "degraded=effort").is_some(), lowered);
        let notes = notes(&stage, call + 1).await;
        assert_eq!(notes["degraded"][0]["to"] == json!("low"), lowered);
    }
    // There is room again, and what began with less effort goes on with it.
    let roomy = setup(upstream.url(), degrading("100", Mode::Hard), &[]);
    stage.gateway.adopt(roomy);
    let response = ask(&stage, &body(DEAR, &["second", "ok", "more", "ok", "and"])).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let sent: Value = serde_json::from_slice(&upstream.request(5).await.body).unwrap();
    assert_eq!(sent["output_config"]["effort"], "low");
}

#[tokio::test]
async fn a_soft_limit_moves_calls_shortly_before_it_is_used_up() {
    // At $4 a million tokens, 118 000 are 94 % of $0.50 and 4 000 more are 98 %; at the cheap target,
    // 20 000 use up the rest.
    let answers = [118_000, 4_000, 20_000, 20_000].map(|input| {
        let usage = json!({"input_tokens": input, "output_tokens": 0});
        Step::json(200, &json!({"content": [], "usage": usage}).to_string())
    });
    let upstream = Upstream::scripted(answers.to_vec()).await;
    let limit = degrading("0.5", Mode::Soft);
    let stage = staged(setup(upstream.url(), limit, &[CHEAP])).await;
    for (call, served) in [Some(DEAR), Some(DEAR), Some(CHEAP), None]
        .into_iter()
        .enumerate()
    {
        let text = format!("question {call}");
        let response = ask(&stage, &body(DEAR, &[&text])).await;
        let Some(model) = served else {
            assert_eq!(response.status, 429, "{}", response.text());
            continue;
        };
        assert_eq!(response.status, 200, "{}", response.text());
        let sent: Value = serde_json::from_slice(&upstream.request(call).await.body).unwrap();
        assert_eq!(sent["model"], model, "{call}");
        stage.books.settled(call + 1).await;
    }
}
