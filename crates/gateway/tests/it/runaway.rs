//! Runaways: tasks that spend much faster than tasks of their kind ever did.
//!
//! **Invariant**: an alarm comes with the settled call that is too much, within the minute; a task is
//! stopped only where the owner says so, and no other task is.

use std::time::Duration;

use gateway::setup::{Budgets, Runaway, Setup};
use policy::agents::runaway::{MINUTES_MIN, Rules};
use policy::money::PicoUsd;
use policy::ports::Keys as _;
use serde_json::Value;
use testkit::client::{Response, exchange};
use testkit::upstream::{Step, Upstream};

use crate::admin_shelf::staged;
use crate::budgets_faults::{ANSWER, check_served};
use crate::stage::{CLIENT_KEY, SPOKEN, Spoken, Stage, TODAY, anthropic, plain};

const MESSAGES: &Spoken = &SPOKEN[1];

const BODY: &str = r#"{"model":"claude-haiku-4-5","max_tokens":10,"system":"You help.","messages":[{"role":"user","content":"hi"}]}"#;

/// Calls cost a tenth of a cent each; two cents a minute are enough to be looked at.
fn watched(url: &str, runaway: Runaway) -> Setup {
    let plain = plain(url);
    Setup {
        upstreams: vec![anthropic(url).into()],
        budgets: Budgets {
            runaway,
            runaway_rules: Rules {
                times: 5,
                least: PicoUsd(20_000_000_000),
            },
            ..plain.budgets
        },
        ..plain
    }
}

async fn call(stage: &Stage, task: &str) -> Response {
    let headers = [MESSAGES.headers, &[("x-tokenwise-task", task)]].concat();
    let body = BODY.as_bytes();
    exchange(&stage.url, "POST", MESSAGES.path, &headers, body).await
}

/// Tasks of one kind, each of ten minutes and two calls in each of them. The last minute of each is not
/// over when it ends, and teaches nothing.
async fn usual(stage: &Stage) -> usize {
    let minutes = MINUTES_MIN + 20;
    for minute in 0..minutes {
        for _ in 0..2 {
            check_served(&call(stage, &format!("usual-{}", minute / 10)).await);
            stage.clock.turn(30_000);
        }
    }
    usize::try_from(minutes * 2).unwrap()
}

/// What the call's notes say of a runaway.
async fn noted(stage: &Stage, calls: usize) -> Vec<Value> {
    let rows = stage.books.settled(calls).await;
    let notes = rows.iter().filter_map(|row| row.settled.as_ref());
    let notes = notes.map(|settled| serde_json::from_str::<Value>(&settled.notes).unwrap());
    notes
        .map(|notes| notes["runaway"].clone())
        .filter(|note| !note.is_null())
        .collect()
}

async fn before(runaway: Runaway) -> (Stage, Upstream, usize) {
    let answers = vec![Step::json(200, ANSWER); 500];
    let upstream = Upstream::scripted(answers).await;
    let (stage, shelf) = staged(watched(upstream.url(), runaway)).await;
    // A stop takes over what the store knows, keys included.
    let keyring = stage.gateway.keyring.load();
    let key = keyring.admit(CLIENT_KEY, TODAY).ok().unwrap();
    shelf.create(&key).unwrap();
    drop(keyring);
    let calls = usual(&stage).await;
    assert!(noted(&stage, calls).await.is_empty());
    (stage, upstream, calls)
}

#[tokio::test]
async fn a_runaway_is_told_of_within_a_minute() {
    let (stage, _upstream, calls) = before(Runaway::Alarm).await;
    // Forty calls in twenty seconds, where others make two a minute.
    for _ in 0..40 {
        check_served(&call(&stage, "mad").await);
        stage.clock.turn(500);
    }
    let notes = noted(&stage, calls + 40).await;
    let [note] = notes.as_slice() else {
        panic!("told once: {notes:?}");
    };
    assert_eq!(note["task"], "mad");
    assert_eq!(note["action"], "alarm");
    assert_eq!(note["spent_usd"], "0.02");
    let metrics = stage.counts();
    assert!(metrics.contains(r#"alarm="runaway"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_runaway_is_stopped_where_the_owner_says_so() {
    let (stage, _upstream, calls) = before(Runaway::Stop).await;
    for _ in 0..20 {
        check_served(&call(&stage, "mad").await);
    }
    let notes = noted(&stage, calls + 20).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0]["action"], "stop");
    let is_stopped = async {
        while !stage.gateway.stops.stopped().tasks.contains("mad") {
            tokio::task::yield_now().await;
        }
    };
    let stopped = tokio::time::timeout(Duration::from_secs(60), is_stopped).await;
    stopped.expect("the task is stopped");
    let refused = call(&stage, "mad").await;
    assert!(
        refused.text().contains("task `mad` was stopped"),
        "{}",
        refused.text()
    );
    check_served(&call(&stage, "usual-0").await);
}
