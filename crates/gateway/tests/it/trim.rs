//! The trim lever on live calls.
//!
//! **Invariant**: a conversation sends the same bytes for the same content in every call, through every
//! gateway, and what is saved is what the provider did not bill.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::setup::{LeverMode, Rule, Setup, Trim};
use policy::money::PicoUsd;
use policy::ports::Lever;
use policy::shape::trim::Level;
use policy::shape::trim::session::COLD_AFTER_MS;
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};

use crate::cache::simulated;
use crate::stage::{Hands, SPOKEN, Stage, full, plain, rule};

fn trims(mode: LeverMode, level: Level) -> Rule {
    let trim = Trim {
        mode,
        level: Some(level),
        focus: None,
    };
    Rule {
        trim,
        ..rule(LeverMode::Off)
    }
}

fn with(setup: Setup, mode: LeverMode, level: Level) -> Setup {
    Setup {
        rules: vec![trims(mode, level)],
        ..setup
    }
}

/// What a tool says: lines of a file, or the steps of a log.
fn listing(name: &str, lines: u32) -> String {
    let line = |at: u32| format!("{at}:    let {name}_{at} = compute_the_value(\"{at}\", other);");
    (1..=lines).map(line).collect::<Vec<_>>().join("\n")
}

/// An agent's conversation: a question, and steps with what the tool said.
fn conversation(question: &str, results: &[String]) -> Value {
    let mut messages = vec![json!({"role": "user", "content": question})];
    for (step, result) in results.iter().enumerate() {
        let id = format!("toolu_{step}");
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": id, "name": "read", "input": {"path": format!("f{step}")}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": result}]}));
    }
    json!({"model": "claude-sonnet-4-6", "max_tokens": 64, "system": "You are careful. ".repeat(600),
        "messages": messages})
}

/// A request as the model reads it: without markers, and without the wrapping that carries them.
fn read(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| *name != "cache_control");
            members
                .map(|(name, value)| (name.clone(), read(value)))
                .collect()
        }
        Value::Array(items) => match items.as_slice() {
            [only] if only["type"] == "text" => only["text"].clone(),
            items => items.iter().map(read).collect(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn messages(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(read)
        .collect()
}

/// What arrived upstream, call by call, and the notes of each.
async fn played(stage: &Stage, upstream: &Upstream, bodies: &[Value]) -> Vec<(Vec<u8>, Value)> {
    let mut seen = Vec::new();
    for body in bodies {
        let before = stage.books.wait_for(|_| true).await.settled;
        let arrived = upstream.requests().len();
        let response = stage.ask(&SPOKEN[1], body.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let rows = stage.books.settled(before + 1).await;
        let notes = rows[before].settled.as_ref().unwrap().notes.clone();
        let arrived = upstream.request(arrived).await.body.clone();
        seen.push((arrived, serde_json::from_str(&notes).unwrap()));
    }
    seen
}

fn steps(question: &str, count: usize) -> Vec<Value> {
    let results: Vec<String> = (0..count).map(|_| listing("value", 80)).collect();
    (0..=count)
        .map(|step| conversation(question, &results[..step]))
        .collect()
}

async fn answering() -> Upstream {
    let answer = json!({"id": "m", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-6", "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 10}});
    Upstream::playing(move |_| Step::json(200, &answer.to_string())).await
}

/// Some 20 kB: enough for a model that caches from 1 024 tokens on, and too little for one that caches
/// from 4 096 on.
#[tokio::test]
async fn what_the_model_would_not_cache_stays_whole() {
    for (model, is_shorter) in [("claude-sonnet-4-6", true), ("claude-haiku-4-5", false)] {
        let upstream = answering().await;
        let setup = with(plain(upstream.url()), LeverMode::On, Level::Exact);
        let stage = Stage::with(setup).await;
        let mut body = steps("read them", 2).pop().unwrap();
        body["model"] = model.into();
        let seen = played(&stage, &upstream, &[body.clone()]).await;
        let arrived = messages(&seen[0].0);
        let whole = messages(body.to_string().as_bytes());
        assert_eq!(arrived != whole, is_shorter, "{model}: {}", seen[0].1);
    }
}

#[tokio::test]
async fn results_are_said_in_fewer_tokens_and_the_saving_is_what_was_not_billed() {
    let mut costs = Vec::new();
    for mode in [LeverMode::Observe, LeverMode::On] {
        let clock = Hands::default();
        let upstream = simulated(clock.clone(), Vec::new()).await;
        let setup = with(full(upstream.url()), mode, Level::Exact);
        let stage = Stage::at(clock, setup).await;
        let (mut cost, mut saved, mut untouched) = (PicoUsd::ZERO, PicoUsd::ZERO, PicoUsd::ZERO);
        for (call, body) in steps("read them", 4).iter().enumerate() {
            let response = stage.ask(&SPOKEN[1], body.to_string()).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let rows = stage.books.settled(call + 1).await;
            let settled = rows[call].settled.as_ref().unwrap();
            let notes: Value = serde_json::from_str(&settled.notes).unwrap();
            assert_eq!(notes["trim"]["lever"], mode.name(), "{notes}");
            assert_eq!(
                notes["trim"]["tokens"].as_u64() > Some(0),
                call >= 2,
                "{notes}"
            );
            assert!(notes["input"]["system"].as_u64() > Some(1_000), "{notes}");
            assert_eq!(notes["input"]["tool_results"].as_u64() > Some(0), call > 0);
            cost += settled.cost.unwrap();
            untouched += settled.untouched.unwrap();
            saved += settled
                .savings
                .get(&Lever::Trim)
                .copied()
                .unwrap_or_default();
            let parts: PicoUsd = settled.savings.values().copied().sum();
            assert_eq!(settled.untouched.unwrap() - settled.cost.unwrap(), parts);
            stage.clock.turn(20_000);
        }
        costs.push((cost, saved, untouched));
    }
    let [(whole, nothing, untouched), (trimmed, saved, same)] = costs[..] else {
        panic!("two runs");
    };
    assert_eq!(nothing, PicoUsd::ZERO);
    // The counter of this test is the provider's own, so that only rounding is left.
    let near = |one: PicoUsd, other: PicoUsd| (one - other).0.abs() * 50 < one.0;
    assert!(
        near(whole - trimmed, saved),
        "{whole} - {trimmed} is not {saved}"
    );
    assert!(near(untouched, same), "{untouched} {same}");
}

#[tokio::test]
async fn an_observing_lever_changes_no_byte() {
    let upstream = answering().await;
    for mode in [LeverMode::Off, LeverMode::Observe] {
        let stage = Stage::with(with(plain(upstream.url()), mode, Level::Folded)).await;
        let bodies = steps("look", 3);
        for ((arrived, notes), body) in played(&stage, &upstream, &bodies).await.iter().zip(&bodies)
        {
            assert_eq!(*arrived, body.to_string().into_bytes());
            let is_noted = notes["trim"].is_object();
            assert_eq!(is_noted, mode == LeverMode::Observe, "{notes}");
        }
    }
}

#[tokio::test]
async fn a_conversation_keeps_its_bytes_when_the_lever_is_switched() {
    let upstream = answering().await;
    let switched = |mode| with(plain(upstream.url()), mode, Level::Exact);
    let stage = Stage::with(switched(LeverMode::Observe)).await;
    let (old, new) = (steps("the old one", 4), steps("the new one", 4));
    let whole =
        |seen: &[(Vec<u8>, Value)], body: &Value| seen[0].0 == body.to_string().into_bytes();
    played(&stage, &upstream, &old[..3]).await;
    stage.gateway.adopt(switched(LeverMode::On));
    // It was sent in full, and goes on so; another one is trimmed from its beginning.
    let seen = played(&stage, &upstream, &old[3..4]).await;
    assert!(whole(&seen, &old[3]), "{}", seen[0].1);
    assert!(seen[0].1["trim"]["why"].is_string(), "{}", seen[0].1);
    let seen = played(&stage, &upstream, &new[..4]).await;
    assert!(!whole(&seen[3..], &new[3]), "{}", seen[3].1);
    // And stays so when the lever is off again.
    stage.gateway.adopt(switched(LeverMode::Off));
    let last = played(&stage, &upstream, &new[4..]).await;
    let (before, after) = (messages(&seen[3].0), messages(&last[0].0));
    assert_eq!(after[..before.len()], before[..]);
    assert!(!whole(&last, &new[4]));
    // Once no cache can have it, the configuration holds.
    stage.gateway.adopt(switched(LeverMode::On));
    stage.clock.turn(COLD_AFTER_MS);
    let seen = played(&stage, &upstream, &old[4..]).await;
    assert!(!whole(&seen, &old[4]), "{}", seen[0].1);
}

/// Draws numbers (splitmix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % most
    }

    fn text(&mut self) -> String {
        let (kind, from, length) = (self.below(5), self.below(4), self.below(40));
        let line = |at: u64| match kind {
            0 => format!("    let value_{at} = compute_the_value({at}, \"other\");"),
            1 => format!("/repo/source/package/module/file_{}.rs:{at}: found", at % 4),
            2 => format!("Step {at}/100, loss: {}", 100 - at),
            3 => format!("test case_{at} ... ok\nERROR in case {at}"),
            _ => format!("{{\"id\": {at}, \"name\": \"näme {at}\"}}"),
        };
        let lines: Vec<String> = (from * 7..from * 7 + length).map(line).collect();
        match kind {
            4 => format!("[{}]", lines.join(", ")),
            _ => lines.join("\n"),
        }
    }
}

/// Everything before a message, as the model reads it.
fn prefix(body: &Value, message: usize) -> String {
    let before = &body["messages"].as_array().unwrap()[..message];
    let before: Vec<Value> = before.iter().map(read).collect();
    let mut hasher = DefaultHasher::new();
    (read(&body["system"]).to_string(), json!(before).to_string()).hash(&mut hasher);
    hasher.finish().to_string()
}

/// A provider that signs its thinking with what was before it, and counts what no longer fits.
async fn binding(broken: Arc<AtomicUsize>) -> Upstream {
    Upstream::playing(move |request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        for (place, message) in messages.iter().enumerate() {
            let signature = &message["content"][0]["signature"];
            if signature.is_string() && *signature != prefix(&body, place) {
                broken.fetch_add(1, Ordering::SeqCst);
            }
        }
        let signature = prefix(&body, messages.len());
        let answer = json!({"id": "m", "type": "message", "role": "assistant",
            "model": "claude-opus-5-5", "stop_reason": "tool_use", "content": [
                {"type": "thinking", "thinking": "hm", "signature": signature},
                {"type": "tool_use", "id": "t", "name": "read", "input": {}}],
            "usage": {"input_tokens": 100, "output_tokens": 10}});
        Step::json(200, &answer.to_string())
    })
    .await
}

#[tokio::test]
async fn restarts_and_replicas_break_no_prefix() {
    const SESSIONS: u64 = 60;
    const TURNS: usize = 6;
    let broken = Arc::new(AtomicUsize::new(0));
    let upstream = binding(Arc::clone(&broken)).await;
    let setup = || with(full(upstream.url()), LeverMode::On, Level::Folded);
    let mut replicas = [Stage::with(setup()).await, Stage::with(setup()).await];
    let (mut trimmed, rules) = (0, "You are careful. ".repeat(600));
    for session in 0..SESSIONS {
        let mut draws = Draws(session);
        let question = json!({"role": "user", "content": format!("question {session}")});
        let mut said = vec![question];
        let mut before: Vec<Value> = Vec::new();
        for turn in 0..TURNS {
            if turn == TURNS / 2 && session % 10 == 0 {
                replicas[0] = Stage::with(setup()).await;
            }
            let stage = &replicas[usize::try_from(draws.below(2)).unwrap()];
            let body = json!({"model": "claude-opus-5-5", "max_tokens": 64, "system": rules, "messages": said});
            let arrived = upstream.requests().len();
            let response = stage.ask(&SPOKEN[1], body.to_string()).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let sent = upstream.request(arrived).await.body.clone();
            let sent_messages = messages(&sent);
            assert_eq!(
                sent_messages[..before.len()],
                before[..],
                "session {session}"
            );
            trimmed += usize::from(sent_messages != messages(body.to_string().as_bytes()));
            before = sent_messages;
            let answer: Value = serde_json::from_slice(&response.body).unwrap();
            said.push(json!({"role": "assistant", "content": answer["content"]}));
            said.push(json!({"role": "user", "content": [{"type": "tool_result",
                "tool_use_id": "t", "content": draws.text()}]}));
        }
    }
    assert_eq!(broken.load(Ordering::SeqCst), 0);
    assert!(trimmed > 50, "{trimmed}");
}
