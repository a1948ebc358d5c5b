//! Calls that are turned away before anything is sent: what they leave, and what they do not.
//!
//! **Invariant**: whoever is given an id finds under it why; no sum and no limit knows of it
//! (`what_is_turned_away_can_be_explained`).

use gateway::setup::loops::{Action, Loops};
use gateway::setup::{LeverMode, Rule, Setup};
use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::money::PicoUsd;
use policy::ports::End;
use policy::ports::read::Totals;
use policy::shape::context::budget::{Budget, Class, Step as Over};
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};
use wire::usage::Tokens;

use crate::budgets::{budgeted, staged, usd};
use crate::stage::{SPOKEN, Spoken, plain, rule};

/// Room for no call at all.
fn spent(url: &str) -> Setup {
    budgeted(url, vec![usd(Kind::Key, "0.000000001", Mode::Hard)])
}

fn looping(url: &str) -> Setup {
    let loops = Loops {
        action: Action::Stop,
        ..Loops::OFF
    };
    Setup {
        loops: loops.into(),
        ..plain(url)
    }
}

fn crowded(url: &str) -> Setup {
    let budget = Budget {
        class: Class::Input,
        tokens_max: Tokens(1),
        over: vec![Over::Refuse],
    };
    Setup {
        rules: vec![Rule {
            context: vec![budget].into(),
            ..rule(LeverMode::Off)
        }],
        ..plain(url)
    }
}

fn chat() -> Value {
    json!({"model": "gpt-5.4", "user": "ann", "messages": [{"role": "user", "content": "hi there"}]})
}

fn messages() -> Value {
    json!({"model": "claude-sonnet-4-6", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi there"}]})
}

/// The same call of a tool with the same result, often enough.
fn circles() -> Value {
    let call = json!({"role": "assistant", "content": [
        {"type": "tool_use", "id": "c", "name": "read", "input": {"id": 7}}]});
    let result = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "c", "content": "seven"}]});
    let mut body = messages();
    let turns = (0..30).flat_map(|_| [call.clone(), result.clone()]);
    body["messages"].as_array_mut().unwrap().extend(turns);
    body
}

#[tokio::test]
async fn what_is_turned_away_can_be_explained() {
    let [openai, anthropic] = &SPOKEN;
    let embeddings = &Spoken {
        path: "/v1/embeddings",
        ..*openai
    };
    let passed = &Spoken {
        path: "/openai/v1/responses",
        ..*openai
    };
    let ask = json!({"model": "gpt-5.4", "input": "hi", "user": "ann"});
    for (setup, spoken, body, status, reason) in [
        (
            spent as fn(&str) -> Setup,
            openai,
            chat(),
            429,
            "budget_exceeded",
        ),
        (spent, anthropic, messages(), 429, "budget_exceeded"),
        (spent, embeddings, ask.clone(), 429, "budget_exceeded"),
        (spent, passed, ask, 429, "budget_exceeded"),
        (looping, anthropic, circles(), 403, "looping"),
        (
            crowded,
            anthropic,
            messages(),
            400,
            "context_length_exceeded",
        ),
    ] {
        let case = format!("{reason} {}", spoken.path);
        let upstream = Upstream::playing(|_| Step::json(200, "{}")).await;
        let stage = staged(setup(upstream.url())).await;
        let response = stage.ask(spoken, body.to_string()).await;
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert!(upstream.requests().is_empty(), "{case}");

        let rows = stage.books.settled(1).await;
        let (opened, settled) = (&rows[0].opened, rows[0].settled.as_ref().unwrap());
        assert_eq!(response.header("x-tokenwise-call"), Some(&*opened.call.0));
        assert_eq!((settled.end, settled.status), (End::TurnedAway, status));
        assert_eq!(settled.legs, [], "{case}");
        assert_eq!(settled.cost, Some(PicoUsd::ZERO), "{case}");
        assert_eq!(json!(opened.model), body["model"], "{case}");
        assert_eq!(json!(opened.payers.user), body["user"], "{case}");
        let notes: Value = serde_json::from_str(&settled.notes).unwrap();
        assert_eq!(notes["turned_away"]["reason"], reason, "{case}");
        let error: Value = serde_json::from_slice(&response.body).unwrap();
        let told = &error["error"]["message"];
        assert_eq!(&notes["turned_away"]["message"], told, "{case}");

        let mut totals = Totals::default();
        totals.count(&rows[0]);
        let alone = Totals {
            turned_away: 1,
            ..Totals::default()
        };
        assert_eq!(totals, alone, "{case}");
        assert_eq!(stage.gateway.accounts.open_holds(), 0, "{case}");
    }
}
