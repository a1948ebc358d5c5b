//! Names: sessions, tasks and what they are part of, taken from where clients name them already.
//!
//! **Invariant**: our own header counts before a client's, a header before the body; a name that cannot
//! be one reaches nobody.

use std::collections::BTreeSet;

use gateway::admit::stops::Stopped;
use gateway::receive::names::{Names, Places};
use gateway::setup::Setup;
use http::HeaderName;
use testkit::client::{Response, exchange};
use testkit::upstream::{Step, Upstream};

use crate::stage::{SPOKEN, Spoken, Stage, plain};

const CHAT: &Spoken = &SPOKEN[0];

/// Headers, the metadata of the body, and what follows.
type Row<'r, T> = (&'r [(&'r str, &'r str)], &'r str, T);

const ANSWER: &str = r#"{"id":"a","object":"chat.completion","model":"gpt-5.4","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

fn places(headers: &[&'static str], metadata: &[&str]) -> Places {
    Places {
        headers: headers
            .iter()
            .copied()
            .map(HeaderName::from_static)
            .collect(),
        metadata: metadata.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn named(url: &str) -> Setup {
    Setup {
        names: Names {
            session: places(&["x-session-id"], &["session"]),
            task: places(&["x-run", "x-old-run"], &["run", "trace"]),
            parents: places(&[], &["whole"]),
        },
        ..plain(url)
    }
}

/// A call with these headers and members of its metadata.
async fn call(stage: &Stage, headers: &[(&str, &str)], metadata: &str) -> Response {
    let headers = [CHAT.headers, headers].concat();
    let body = format!(
        r#"{{"model":"gpt-5.4","metadata":{metadata},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    exchange(&stage.url, "POST", CHAT.path, &headers, body.as_bytes()).await
}

fn answers(calls: usize) -> Vec<Vec<Step>> {
    vec![Step::json(200, ANSWER); calls]
}

#[tokio::test]
async fn names_are_taken_from_where_clients_have_them() {
    let rows: [Row<'_, [&str; 3]>; 6] = [
        (&[], "{}", ["", "", ""]),
        (
            &[],
            r#"{"session":"s","trace":"t","whole":"w, v,w"}"#,
            ["s", "t", "w v"],
        ),
        (&[], r#"{"run":"r","trace":"t","whole":"r"}"#, ["", "r", ""]),
        (
            &[("x-old-run", "o")],
            r#"{"run":"r","whole":"w"}"#,
            ["", "o", "w"],
        ),
        (
            &[("x-old-run", "o"), ("x-run", "n"), ("x-session-id", "s")],
            "null",
            ["s", "n", ""],
        ),
        (
            &[
                ("x-tokenwise-task", "t"),
                ("x-tokenwise-parent-task", "p"),
                ("x-run", "n"),
            ],
            r#"{"whole":"w","session":null}"#,
            ["", "t", "p"],
        ),
    ];
    let upstream = Upstream::scripted(answers(rows.len())).await;
    let stage = Stage::with(named(upstream.url())).await;
    for (headers, metadata, _) in &rows {
        let response = call(&stage, headers, metadata).await;
        assert_eq!(response.status, 200, "{metadata}: {}", response.text());
    }
    let calls = stage.books.settled(rows.len()).await;
    for (call, (_, metadata, expect)) in calls.iter().zip(&rows) {
        let opened = &call.opened;
        let found = [
            opened.session.clone().unwrap_or_default(),
            opened.task.clone().unwrap_or_default(),
            opened.payers.parents.join(" "),
        ];
        assert_eq!(found, *expect, "{metadata}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused() {
    let upstream = Upstream::scripted([]).await;
    let stage = Stage::with(named(upstream.url())).await;
    let long = "r".repeat(257);
    let member = format!(r#"{{"run":"{long}"}}"#);
    let rows: [Row<'_, &str>; 5] = [
        (&[("x-run", &long)], "{}", "header `x-run` must be 1 to 256"),
        (
            &[],
            &member,
            "`metadata.run` must be a text of 1 to 256 bytes",
        ),
        (&[], r#"{"session":7}"#, "`metadata.session` must be a text"),
        (&[], r#"{"run":"a\nb"}"#, "without control characters"),
        (
            &[],
            r#"{"whole":"w"}"#,
            "name that task in `x-tokenwise-task`",
        ),
    ];
    for (headers, metadata, says) in rows {
        let response = call(&stage, headers, metadata).await;
        assert_eq!(response.status, 400, "{metadata}");
        assert!(response.text().contains(says), "{}", response.text());
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_stopped_task_is_known_by_the_body() {
    let upstream = Upstream::scripted(answers(1)).await;
    let stage = Stage::with(named(upstream.url())).await;
    stage.gateway.stops.set(Stopped {
        tasks: BTreeSet::from(["whole".to_owned()]),
        ..Stopped::default()
    });
    let refused = call(&stage, &[], r#"{"run":"part","whole":"whole"}"#).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(
        refused.text().contains("task `whole` was stopped"),
        "{}",
        refused.text()
    );
    let served = call(&stage, &[], r#"{"run":"other"}"#).await;
    assert_eq!(served.status, 200, "{}", served.text());
}

#[tokio::test]
async fn a_call_whose_body_names_its_task_can_be_stopped() {
    let upstream = Upstream::scripted([vec![Step::Hang]]).await;
    let stage = Stage::with(named(upstream.url())).await;
    let asked = call(&stage, &[], r#"{"run":"part","whole":"whole"}"#);
    let stopped = async {
        upstream.request(0).await;
        stage.gateway.stops.set(Stopped {
            tasks: BTreeSet::from(["whole".to_owned()]),
            ..Stopped::default()
        });
        upstream.gone(0).await;
    };
    let (answer, ()) = tokio::join!(asked, stopped);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("task `whole` was stopped"));
}
