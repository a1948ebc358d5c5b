//! Routes of the configuration before a simulated provider: who serves a call, and who is credited.
//!
//! **Invariant**: a lever that is off or observes changes no target; one that is on is credited with
//! exactly what the client's own target would have cost more, by that target's own cache.

use gateway::route::rehearse::rehearse;
use gateway::setup::{LeverMode, Rule, Setup, Target};
use policy::money::PicoUsd;
use policy::ports::{CallSettled, Lever};
use policy::route::rules::{Having, Unmet, When};
use serde_json::{Value, json};
use testkit::client::Response;
use wire::usage::{Tokens, Usage};

use crate::cache::{conversation, simulated};
use crate::stage::{CLIENT_KEY, Hands, SPOKEN, Spoken, Stage, TODAY, Written, full, rule};

const SONNET: &str = "claude-sonnet-4-6";
const HAIKU: &str = "claude-haiku-4-5";

fn anthropic() -> &'static Spoken {
    &SPOKEN[1]
}

fn target(model: &str) -> Target {
    Target {
        provider: "anthropic".into(),
        model: model.into(),
    }
}

/// A gateway with this route and both levers.
async fn stage(rule: Rule) -> (Stage, testkit::upstream::Upstream) {
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let setup = Setup {
        rules: vec![rule],
        ..full(upstream.url())
    };
    (Stage::at(clock, setup).await, upstream)
}

async fn ask(stage: &Stage, body: &str) -> Response {
    let spoken = anthropic();
    let response = stage.ask(spoken, &body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// The last call's row, and its notes about the route.
async fn last(stage: &Stage, calls: usize) -> (CallSettled, Value) {
    let rows = stage.books.settled(calls).await;
    let settled = rows.last().and_then(|row| row.settled.clone()).unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    (settled, notes["route"].clone())
}

fn saved(settled: &CallSettled, lever: Lever) -> PicoUsd {
    settled.savings.get(&lever).copied().unwrap_or_default()
}

#[tokio::test]
async fn only_a_route_that_is_on_moves_a_call() {
    for (mode, served, chosen) in [
        (LeverMode::Off, SONNET, json!(null)),
        (
            LeverMode::Observe,
            SONNET,
            json!("anthropic/claude-haiku-4-5"),
        ),
        (LeverMode::On, HAIKU, json!("anthropic/claude-haiku-4-5")),
    ] {
        let (stage, _upstream) = stage(Rule {
            as_good: vec![target(HAIKU)],
            ..rule(mode)
        })
        .await;
        let body = conversation(1);
        let response = ask(&stage, &body).await;
        let expect = format!("anthropic/{served}");
        assert_eq!(response.header("x-tokenwise-target"), Some(expect.as_str()));
        let (settled, route) = last(&stage, 1).await;
        assert_eq!(settled.legs[0].model, served, "{mode:?}");
        assert_eq!(route["lever"], mode.name());
        assert_eq!(route["choice"]["target"], chosen, "{route}");
        assert_eq!(
            saved(&settled, Lever::Route) > PicoUsd::ZERO,
            mode == LeverMode::On
        );
        let total: PicoUsd = settled.savings.values().sum();
        assert_eq!(
            Some(total),
            settled.untouched.zip(settled.cost).map(|(u, c)| u - c)
        );
        assert!(!settled.notes.contains("question"), "{}", settled.notes);
    }
}

#[tokio::test]
async fn a_call_goes_where_its_rehearsal_says() {
    let cheaper = |explore| Rule {
        cheaper: vec![target(HAIKU)],
        explore,
        ..rule(LeverMode::On)
    };
    let with_tag = When {
        tags: vec!["nightly".into()],
        ..When::default()
    };
    for (rule, takes) in [
        (rule(LeverMode::Observe), true),
        (
            Rule {
                as_good: vec![target(HAIKU)],
                ..rule(LeverMode::On)
            },
            true,
        ),
        (cheaper(0.0), true),
        (cheaper(1.0), true),
        (
            Rule {
                when: with_tag,
                to: Some(format!("anthropic/{HAIKU}")),
                ..rule(LeverMode::On)
            },
            false,
        ),
    ] {
        let body = conversation(1);
        let (stage, _upstream) = stage(rule).await;
        let head = http::Request::post(anthropic().path).body(()).unwrap();
        let (head, ()) = head.into_parts();
        let keyring = stage.gateway.keyring.load();
        let key = keyring.admit(CLIENT_KEY, TODAY).ok();
        let rehearsed = rehearse(&stage.gateway, head, key.as_deref(), body.clone().into());
        let rehearsal = rehearsed.unwrap();
        assert_eq!(stage.books.wait_for(|_| true).await, Written::default());
        assert_eq!(rehearsal.routes[0].takes, takes);
        assert_eq!(rehearsal.routes[0].unmet, (!takes).then_some(Unmet::Tags));

        let response = ask(&stage, &body).await;
        let goes = response.header("x-tokenwise-target");
        assert_eq!(goes, rehearsal.targets.first().map(String::as_str));
        let (_, route) = last(&stage, 1).await;
        let noted = serde_json::to_value(&rehearsal.notes).unwrap();
        assert_eq!(
            noted["route"]["choice"]["target"],
            route["choice"]["target"]
        );
        assert_eq!(noted["route"]["kinds"], route["kinds"]);
    }
}

#[tokio::test]
async fn a_moved_conversation_is_compared_with_its_own_target() {
    // Haiku 4.5 keeps prefixes from 4 096 tokens on, Sonnet 4.6 from 1 024: neither is marked by the
    // client, so that untouched every call pays its input in full at Sonnet's prices.
    let (stage, _upstream) = stage(Rule {
        as_good: vec![target(HAIKU)],
        ..rule(LeverMode::On)
    })
    .await;
    for turn in 1..=3 {
        ask(&stage, &conversation(turn)).await;
        let (settled, route) = last(&stage, turn).await;
        assert_eq!(settled.legs[0].model, HAIKU);
        let Usage { output, .. } = settled.legs[0].usage;
        let input = i128::from(settled.legs[0].usage.input().0);
        let expect = input * 3_000_000 + i128::from(output.0) * 15_000_000;
        assert_eq!(settled.untouched, Some(PicoUsd(expect)), "{route}");
        if turn > 1 {
            assert_eq!(route["choice"]["why"], "stays", "{route}");
        }
        stage.clock.turn(20_000);
    }
}

#[tokio::test]
async fn a_rule_leads_elsewhere_whatever_its_lever_says() {
    let only_small = When {
        input_max: Some(Tokens(100_000)),
        tools: Some(Having::With),
        ..When::default()
    };
    let (stage, upstream) = stage(Rule {
        when: only_small,
        to: Some("anthropic/claude-haiku-4-5".into()),
        ..rule(LeverMode::Off)
    })
    .await;
    ask(&stage, &conversation(1)).await;
    let (settled, _) = last(&stage, 1).await;
    assert_eq!(settled.legs[0].model, HAIKU);
    assert!(saved(&settled, Lever::Route) > PicoUsd::ZERO);
    // Without tools, the route does not take it.
    let plain = json!({"model": SONNET, "max_tokens": 8,
        "messages": [{"role": "user", "content": "hello"}]});
    ask(&stage, &plain.to_string()).await;
    let (settled, route) = last(&stage, 2).await;
    assert_eq!(
        (settled.legs[0].model.as_str(), route),
        (SONNET, json!(null))
    );
    assert_eq!(upstream.request(1).await.body, plain.to_string().as_bytes());
}

#[tokio::test]
async fn a_target_that_fails_falls_back_to_the_clients_own() {
    use policy::dispatch::retry;
    use testkit::upstream::{Step, Upstream};
    let upstream = Upstream::playing(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if body["model"] == HAIKU {
            return Step::json(
                500,
                r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#,
            );
        }
        let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": SONNET,
            "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 100, "output_tokens": 10}});
        Step::json(200, &answer.to_string())
    })
    .await;
    let setup = Setup {
        rules: vec![Rule {
            as_good: vec![target(HAIKU)],
            ..rule(LeverMode::On)
        }],
        retry: retry::Policy {
            retries: 0,
            ..retry::Policy::default()
        },
        ..full(upstream.url())
    };
    let stage = Stage::with(setup).await;
    ask(&stage, &conversation(1)).await;
    let (settled, _) = last(&stage, 1).await;
    let models: Vec<&str> = settled.legs.iter().map(|leg| leg.model.as_str()).collect();
    assert_eq!(models, [HAIKU, SONNET]);
    assert_eq!(saved(&settled, Lever::Route), PicoUsd::ZERO);
    assert_eq!(settled.untouched, settled.cost);
}
