//! Agents whose budget is nearly used up are asked to finish.
//!
//! **Invariant**: an agent is asked once, in words that stay where they are; who has no tools, another
//! budget or another history is not asked at all.

use gateway::setup::{Budgets, Setup};
use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use serde_json::{Value, json};
use testkit::client::{Response, exchange};
use testkit::upstream::{Step, Upstream};

use crate::budgets::{budgeted, staged, usd};
use crate::stage::{SPOKEN, Spoken, Stage};

const MESSAGES: &Spoken = &SPOKEN[1];

/// A dollar for each task, which asks to finish.
fn setup(url: &str) -> Setup {
    let limit = usd(Kind::Task, "1", Mode::Hard);
    let wrap_up = [limit.id.clone()].into();
    let plain = budgeted(url, vec![limit]);
    Setup {
        budgets: Budgets {
            wrap_up,
            ..plain.budgets
        },
        ..plain
    }
}

/// An agent's conversation after so many steps.
fn agent(steps: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "do it"})];
    for step in 0..steps {
        let id = format!("t{step}");
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": id, "name": "read", "input": {"step": step}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": format!("line {step}")}]}));
    }
    let tools = json!([{"name": "read", "input_schema": {"type": "object"}}]);
    json!({"model": "claude-haiku-4-5", "max_tokens": 100, "tools": tools, "messages": messages})
}

async fn call(stage: &Stage, task: &str, body: &Value) -> Response {
    let headers = [MESSAGES.headers, &[("x-tokenwise-task", task)]].concat();
    let body = body.to_string();
    let response = exchange(&stage.url, "POST", MESSAGES.path, &headers, body.as_bytes()).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// The words at the end of each tool result that was sent.
async fn results(upstream: &Upstream, call: usize) -> Vec<String> {
    let sent: Value = serde_json::from_slice(&upstream.request(call).await.body).unwrap();
    let messages = sent["messages"].as_array().unwrap().iter();
    let results = messages.filter_map(|it| it["content"][0]["content"].as_str());
    results.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_agent_is_asked_once_to_finish() {
    // At $1 a million tokens: 94 and then 97 cents of the dollar.
    let answers = [940_000, 30_000, 1, 1, 1].map(|input| {
        let usage = json!({"input_tokens": input, "output_tokens": 0});
        Step::json(200, &json!({"content": [], "usage": usage}).to_string())
    });
    let upstream = Upstream::scripted(answers.to_vec()).await;
    let stage = staged(setup(upstream.url())).await;
    let mut told = Vec::new();
    for steps in 1..=4 {
        let response = call(&stage, "t", &agent(steps)).await;
        let headers = response.headers.iter();
        told.push(
            headers
                .filter(|(_, value)| value.contains("degraded=wrap_up"))
                .count(),
        );
    }
    assert_eq!(told, [0, 0, 1, 1]);
    assert_eq!(results(&upstream, 1).await, ["line 0", "line 1"]);
    let asked = results(&upstream, 2).await;
    assert_eq!(asked[..2], ["line 0", "line 1"]);
    let words = "line 2\n\n[note from the gateway: the budget of task `t` is nearly used up, $0.03 of it \
                 are left. Finish now with what you have: say what is done and what is not.]";
    assert_eq!(asked[2], words);
    // It stays where it was, and is not said again.
    assert_eq!(
        results(&upstream, 3).await,
        ["line 0", "line 1", words, "line 3"]
    );
    let rows = stage.books.settled(4).await;
    let settled = rows[2].settled.clone().unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    assert_eq!(notes["degraded"][0]["step"], "wrap_up", "{notes}");
    assert_eq!(notes["degraded"][0]["to"], "$0.03");

    // Somebody who asks without tools has nothing to finish.
    let mut plain = agent(0);
    plain.as_object_mut().unwrap().remove("tools");
    plain["messages"][0]["content"] = json!("another question");
    call(&stage, "t", &plain).await;
    let sent = upstream.request(4).await.body;
    assert!(!String::from_utf8(sent).unwrap().contains("note from"));
}

#[tokio::test]
async fn nobody_else_is_asked() {
    let answers = [960_000, 1, 1, 1, 1].map(|input| {
        let usage = json!({"input_tokens": input, "output_tokens": 0});
        Step::json(200, &json!({"content": [], "usage": usage}).to_string())
    });
    let upstream = Upstream::scripted(answers.to_vec()).await;
    let stage = staged(setup(upstream.url())).await;
    call(&stage, "t", &agent(1)).await;
    call(&stage, "t", &agent(2)).await;
    assert!(results(&upstream, 1).await[1].contains("note from the gateway"));
    // Another task that has come the same way has a budget of its own.
    call(&stage, "other", &agent(2)).await;
    assert_eq!(results(&upstream, 2).await, ["line 0", "line 1"]);
    // One that rewrote what it had read is asked anew, at its end.
    let mut rewritten = agent(3);
    rewritten["messages"][2]["content"][0]["content"] = json!("left out");
    call(&stage, "t", &rewritten).await;
    let sent = results(&upstream, 3).await;
    assert_eq!(sent[..2], ["left out", "line 1"]);
    assert!(sent[2].contains("note from the gateway"), "{sent:?}");
    // A model that binds its thinking to every byte before it is never asked.
    let mut binding = agent(2);
    binding["model"] = json!("claude-opus-5-5");
    binding["messages"][0]["content"] = json!("another thing");
    call(&stage, "t", &binding).await;
    assert_eq!(results(&upstream, 4).await, ["line 0", "line 1"]);
}
