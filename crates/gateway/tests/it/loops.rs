//! Agents that go in circles: seen from their own messages, told, moved or stopped.
//!
//! **Invariant**: observing changes no byte; what was told is told again in the same place, by whichever
//! replica (`an_observed_loop_changes_nothing`, `nudges_keep_the_prefix`).

use gateway::setup::loops::{Action, Loops};
use gateway::setup::{Setup, Target};
use policy::agents::loops::{CERTAIN, THRESHOLDS};
use serde_json::{Value, json};
use testkit::client::Response;
use testkit::upstream::{Recorded, Step, Upstream};
use wire::dialect::Dialect;

use crate::budgets::lines;
use crate::stage::{SPOKEN, Spoken, Stage, full, plain, rule};

const CHEAP: &str = "claude-haiku-4-5";

/// Answers both dialects; what it says does not matter, for the clients of these tests say it all.
fn answer(asked: &Recorded) -> Vec<Step> {
    let body = if asked.path.contains("completions") {
        json!({"id": "c", "object": "chat.completion", "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"},
                "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}})
    } else {
        json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": 1}})
    };
    Step::json(200, &body.to_string())
}

fn model(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "gpt-5.4",
        Dialect::AnthropicMessages => "claude-sonnet-4-6",
    }
}

/// A call of a tool and what came back, as the dialect writes them.
fn called(dialect: Dialect, tool: &str, what: usize) -> [Value; 2] {
    let said = format!("{tool} says {what}");
    match dialect {
        Dialect::OpenAiChat => [
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c",
                "type": "function",
                "function": {"name": tool, "arguments": format!("{{\"id\":{what}}}")}}]}),
            json!({"role": "tool", "tool_call_id": "c", "content": said}),
        ],
        Dialect::AnthropicMessages => [
            json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": "c", "name": tool, "input": {"id": what}}]}),
            json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": said}]}),
        ],
    }
}

/// An agent's request after these calls of a tool.
fn body(dialect: Dialect, tool: &str, calls: &[usize]) -> String {
    let ask = json!({"role": "user", "content": "find out what is wrong"});
    let calls = calls.iter().flat_map(|what| called(dialect, tool, *what));
    let messages: Vec<Value> = std::iter::once(ask).chain(calls).collect();
    let messages = Value::from(messages);
    let model = model(dialect);
    format!(r#"{{"model":"{model}","max_tokens":64,"messages":{messages}}}"#)
}

fn acting(url: &str, action: Action) -> Setup {
    let loops = Loops {
        action,
        ..Loops::OFF
    };
    Setup {
        loops: loops.into(),
        ..plain(url)
    }
}

async fn ask(stage: &Stage, spoken: &Spoken, calls: &[usize]) -> Response {
    stage.ask(spoken, body(spoken.dialect, "read", calls)).await
}

/// The note of the last of so many calls.
async fn note(stage: &Stage, calls: usize) -> Value {
    let rows = stage.books.settled(calls).await;
    let settled = rows.last().and_then(|row| row.settled.clone()).unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    notes["loop"].clone()
}

fn same(limit: u64) -> Vec<usize> {
    vec![7; usize::try_from(limit).unwrap()]
}

#[tokio::test]
async fn an_observed_loop_changes_nothing() {
    for spoken in &SPOKEN {
        let upstream = Upstream::playing(answer).await;
        let stage = Stage::with(acting(upstream.url(), Action::Observe)).await;
        let calls = same(THRESHOLDS.same);
        let before = ask(&stage, spoken, &calls[1..]).await;
        assert_eq!(
            (before.status, before.header("x-tokenwise-loop")),
            (200, None)
        );
        assert_eq!(note(&stage, 1).await, Value::Null);
        let response = ask(&stage, spoken, &calls).await;
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("x-tokenwise-loop"),
            Some("kind=cycle; length=1; repeats=4; since=1; action=observe")
        );
        let expect = json!({"kind": "cycle", "length": 1, "repeats": 4, "since": 1,
            "action": "observe"});
        assert_eq!(note(&stage, 2).await, expect);
        let sent = upstream.request(1).await.text();
        assert_eq!(sent, body(spoken.dialect, "read", &calls));
        let counted = lines(&stage, "tokenwise_loops_total{");
        assert_eq!(
            counted,
            [r#"tokenwise_loops_total{kind="cycle",action="observe"} 1"#]
        );
    }
}

#[tokio::test]
async fn nudges_keep_the_prefix() {
    for spoken in &SPOKEN {
        let upstream = Upstream::playing(answer).await;
        let replicas = [
            Stage::with(acting(upstream.url(), Action::Nudge)).await,
            Stage::with(acting(upstream.url(), Action::Nudge)).await,
        ];
        let mut calls = vec![1, 2];
        for turn in 0..16 {
            // It goes in circles twice, and does something else between.
            calls.push(if turn == 6 { 3 } else { 7 });
            let response = ask(&replicas[turn % 2], spoken, &calls).await;
            assert_eq!(response.status, 200, "{}", response.text());
        }
        let sent: Vec<String> = upstream.requests().iter().map(Recorded::text).collect();
        for pair in sent.windows(2) {
            let earlier = pair[0].strip_suffix("]}").unwrap();
            assert!(pair[1].starts_with(earlier), "{earlier}\n{}", pair[1]);
        }
        let last = sent.last().unwrap();
        assert!(serde_json::from_str::<Value>(last).is_ok(), "{last}");
        let told = |from: &str| last.matches(from).count();
        assert_eq!(told("since step 3 you made the same call 4 times"), 1);
        assert_eq!(told("[note from the gateway: "), 3);
        let note = note(&replicas[1], 8).await;
        assert_eq!(note["action"], "nudge");
    }
}

#[tokio::test]
async fn nudges_leave_the_cache_as_warm() {
    let read = |upstream: &Upstream| -> Vec<String> {
        upstream.requests().iter().map(Recorded::text).collect()
    };
    let upstream = Upstream::playing(answer).await;
    let setup = Setup {
        loops: acting("http://127.0.0.1:1", Action::Nudge).loops,
        ..full(upstream.url())
    };
    let stage = Stage::with(setup).await;
    for turns in 1..12 {
        ask(&stage, &SPOKEN[1], &vec![7; turns]).await;
    }
    // Markers move on with the conversation; without them the prefix stays.
    let bodies = unmarked(&read(&upstream));
    for pair in bodies.windows(2) {
        let earlier = pair[0].strip_suffix("]}").unwrap();
        assert!(pair[1].starts_with(earlier), "{earlier}\n{}", pair[1]);
    }
    assert!(bodies.last().unwrap().contains("[note from the gateway: "));
}

/// The bodies without markers, all written alike.
fn unmarked(bodies: &[String]) -> Vec<String> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("cache_control");
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let bare = |body: &String| {
        let mut value: Value = serde_json::from_str(body).unwrap();
        strip(&mut value);
        format!(r#"{{"messages":{}}}"#, value["messages"])
    };
    bodies.iter().map(bare).collect()
}

#[tokio::test]
async fn a_loop_goes_to_a_cheaper_target_while_it_lasts() {
    let upstream = Upstream::playing(answer).await;
    let loops = Loops {
        action: Action::Degrade,
        degrade_to: Some(Target {
            provider: "anthropic".into(),
            model: CHEAP.into(),
        }),
        ..Loops::OFF
    };
    let mut rule = rule(gateway::setup::LeverMode::Off);
    rule.loops = loops.into();
    let setup = Setup {
        rules: vec![rule],
        ..plain(upstream.url())
    };
    let stage = Stage::with(setup).await;
    let spoken = &SPOKEN[1];
    let mut calls = same(THRESHOLDS.same);
    for (what, expect) in [(7, CHEAP), (8, "claude-sonnet-4-6")] {
        calls.push(what);
        let response = ask(&stage, spoken, &calls).await;
        let target = format!("anthropic/{expect}");
        assert_eq!(response.header("x-tokenwise-target"), Some(target.as_str()));
        let is_told = response.header("x-tokenwise-loop").is_some();
        assert_eq!(is_told, expect == CHEAP);
    }
    let rows = stage.books.settled(2).await;
    let settled = rows[0].settled.clone().unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    assert_eq!(notes["loop"]["to"], format!("anthropic/{CHEAP}"));
    assert_eq!(notes["loop"]["action"], "degrade");
    // It is another answer: nothing counts as saved.
    assert!(settled.savings.values().all(|saved| saved.0 == 0));
}

#[tokio::test]
async fn a_certain_loop_is_stopped() {
    for spoken in &SPOKEN {
        let upstream = Upstream::playing(answer).await;
        let stage = Stage::with(acting(upstream.url(), Action::Stop)).await;
        let calls = same(CERTAIN.same);
        let response = ask(&stage, spoken, &calls[1..]).await;
        assert_eq!(response.status, 200);
        assert!(response.header("x-tokenwise-loop").is_some());
        let response = ask(&stage, spoken, &calls).await;
        assert_eq!(response.status, 403);
        assert_eq!(response.header("x-should-retry"), Some("false"));
        let error: Value = serde_json::from_slice(&response.body).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("since step 1 you made the same call 8 times and got the same result"),
            "{error}"
        );
        match spoken.dialect {
            Dialect::OpenAiChat => assert_eq!(error["error"]["code"], "looping"),
            Dialect::AnthropicMessages => assert_eq!(error["error"]["type"], "permission_error"),
        }
        // Whoever does something else may go on.
        let mut calls = calls;
        calls.push(8);
        assert_eq!(ask(&stage, spoken, &calls).await.status, 200);
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[tokio::test]
async fn tools_that_wait_may_repeat() {
    let upstream = Upstream::playing(answer).await;
    let loops = Loops {
        action: Action::Stop,
        polling: vec!["tail_build".to_owned()],
        degrade_to: None,
    };
    let setup = Setup {
        loops: loops.into(),
        ..plain(upstream.url())
    };
    let stage = Stage::with(setup).await;
    let spoken = &SPOKEN[0];
    for (tool, expect) in [("get_status", 200), ("tail_build", 200), ("read", 403)] {
        let body = body(spoken.dialect, tool, &[7; 30]);
        let response = stage.ask(spoken, body).await;
        assert_eq!(response.status, expect, "{tool}");
        assert!(response.header("x-tokenwise-loop").is_none(), "{tool}");
    }
}
