//! Cascades that go wrong: cheap targets that fail, clients that leave, budgets that are spent.
//!
//! **Invariant**: a cheap target that fails costs the client nothing but time, is asked once, and
//! what was rejected is never handed out.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway::admit::stops::Stopped;
use gateway::setup::cascade::Cascade;
use gateway::setup::{Budgets, Setup};
use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::cascade::verdict::HoldBack;
use policy::money::PicoUsd;
use policy::ports::{End, Lever};
use serde_json::json;
use testkit::client::Client;
use testkit::http1::Piece;
use testkit::upstream::{Step, Upstream};

use crate::budgets::usd;
use crate::cascades_world::{
    OPENAI, PROSE, ROWS, Says, answer, cascade, cheap, cost, dear, events, last, models, request,
    setup, stream_of, streamed, tools, upstream,
};
use crate::stage::{CLIENT_ID, SPOKEN, Stage};

/// A cascade that holds back for as long as a test takes.
fn patient(row: usize) -> Cascade {
    Cascade {
        hold_back: HoldBack {
            time_max: Duration::from_secs(600),
            ..HoldBack::default()
        },
        ..cascade(row)
    }
}

#[tokio::test]
async fn a_cheap_target_that_fails_is_asked_once() {
    for row in ROWS {
        let started = events(row, cheap(row), &Says::text(PROSE));
        let begun = |end: Step| {
            let mut script = stream_of(&started[..4]);
            script.push(end);
            script
        };
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}});
        let error = error.to_string();
        let event = format!("event: error\ndata: {error}\n\n");
        for (script, why) in [
            (Step::json(500, &error), "failed"),
            (Step::json(429, &error), "rate_limited"),
            (Step::json(400, &error), "bad_request"),
            (vec![Step::Reset], "reset"),
            (begun(Step::Cut), "cut"),
            (begun(Step::Chunk(event.into())), "interrupted"),
        ] {
            let own = events(row, dear(row), &Says::text("Own."));
            let upstream = upstream(row, script, stream_of(&own)).await;
            let stage = Stage::with(setup(upstream.url(), patient(row))).await;
            let response = stage.ask(&SPOKEN[row], streamed(row, &json!({}))).await;
            assert_eq!(
                (response.status, response.text()),
                (200, own.concat()),
                "{why}"
            );
            assert_eq!(upstream.requests().len(), 2, "{why}");
            let (settled, notes) = last(&stage, 1).await;
            assert_eq!(models(&settled.legs), [cheap(row), dear(row)], "{why}");
            assert_eq!(
                (&notes["outcome"], &notes["why"]),
                (&json!("failed"), &json!(why))
            );
            let wasted = settled.legs[0].cost.unwrap();
            assert_eq!(settled.cost, Some(wasted + cost(row, dear(row))), "{why}");
            assert_eq!(settled.untouched, Some(cost(row, dear(row))), "{why}");
        }
    }
}

#[tokio::test]
async fn what_was_rejected_is_never_handed_out() {
    for row in ROWS {
        let cheaply = answer(row, cheap(row), &Says::text("I can't help with that."));
        let error =
            r#"{"type":"error","error":{"type":"api_error","message":"the dear one broke"}}"#;
        let upstream = upstream(row, Step::json(200, &cheaply), Step::json(500, error)).await;
        let stage = Stage::with(setup(upstream.url(), cascade(row))).await;
        let response = stage.ask(&SPOKEN[row], request(row, &json!({}))).await;
        assert_eq!((response.status, response.text().as_str()), (500, error));
        let (settled, _) = last(&stage, 1).await;
        assert_eq!(models(&settled.legs), [cheap(row), dear(row)]);
        assert_eq!(settled.end, End::UpstreamError);
        let wasted = cost(row, cheap(row));
        assert_eq!(
            (settled.cost, settled.untouched),
            (Some(wasted), Some(PicoUsd::ZERO))
        );
        assert_eq!(
            settled.savings.get(&Lever::Cascade),
            Some(&(PicoUsd::ZERO - wasted))
        );
    }
}

/// A call whose stream is held back: it may call tools, and its end does not come.
async fn held(row: usize, stage: &Stage, upstream: &Upstream) -> Client {
    let spoken = &SPOKEN[row];
    let body = streamed(row, &json!({"tools": tools(row)}));
    let mut client = Client::connect(&stage.url).await;
    client
        .ask("POST", spoken.path, spoken.headers, body.as_bytes())
        .await;
    upstream.request(0).await;
    client
}

fn without_end(row: usize) -> Vec<Step> {
    let events = events(row, cheap(row), &Says::text(PROSE));
    let mut script = stream_of(&events[..8]);
    script.push(Step::Hang);
    script
}

#[tokio::test]
async fn a_client_that_leaves_a_held_stream_is_billed_for_one_leg() {
    for row in ROWS {
        let upstream = upstream(row, without_end(row), Step::json(500, "{}")).await;
        let stage = Stage::with(setup(upstream.url(), patient(row))).await;
        held(row, &stage, &upstream).await.hang_up();
        upstream.gone(0).await;
        let (settled, notes) = last(&stage, 1).await;
        assert_eq!(
            (settled.end, models(&settled.legs)),
            (End::ClientGone, vec![cheap(row)])
        );
        assert!(settled.legs[0].estimated && settled.cost > Some(PicoUsd::ZERO));
        assert_eq!(notes["outcome"], json!(null));
        let total: PicoUsd = settled.savings.values().sum();
        assert_eq!(settled.untouched, settled.cost.map(|cost| cost + total));
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_stop_ends_a_held_stream() {
    for row in ROWS {
        let upstream = upstream(row, without_end(row), Step::json(500, "{}")).await;
        let stage = Stage::with(setup(upstream.url(), patient(row))).await;
        let mut client = held(row, &stage, &upstream).await;
        stage.gateway.stops.set(Stopped {
            keys: BTreeSet::from([CLIENT_ID.to_owned()]),
            ..Stopped::default()
        });
        assert_eq!(client.response().await.unwrap().status, 403);
        upstream.gone(0).await;
        let (settled, _) = last(&stage, 1).await;
        assert_eq!((settled.end, settled.legs.len()), (End::Stopped, 1));
    }
}

#[tokio::test]
async fn text_is_passed_on_once_its_beginning_convinces() {
    for row in ROWS {
        let all = events(row, cheap(row), &Says::text(PROSE));
        let mut script = stream_of(&all);
        script.insert(script.len() - 2, Step::Gate);
        let upstream = upstream(row, script, Step::json(500, "{}")).await;
        let stage = Stage::with(setup(upstream.url(), patient(row))).await;
        let spoken = &SPOKEN[row];
        let body = streamed(row, &json!({}));
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        // The end is still to come.
        assert_eq!(client.head().await.unwrap().status(), 200);
        let Piece::Data(mut got) = client.piece().await else {
            panic!("nothing came");
        };
        upstream.open_gate();
        while let Piece::Data(more) = client.piece().await {
            got.extend(more);
        }
        assert_eq!(String::from_utf8(got).unwrap(), all.concat());
        let (settled, _) = last(&stage, 1).await;
        assert_eq!(settled.cost, Some(cost(row, cheap(row))));
    }
}

#[tokio::test]
async fn calls_of_tools_are_held_to_their_end() {
    for row in ROWS {
        let all = events(row, cheap(row), &Says::calling("read", r#"{"path":"a"}"#));
        let mut script = stream_of(&all);
        // Before the event that gives the reason to stop.
        script.insert(script.len() - 3, Step::Gate);
        let upstream = upstream(row, script, Step::json(500, "{}")).await;
        let stage = Stage::with(setup(upstream.url(), patient(row))).await;
        let mut client = held(row, &stage, &upstream).await;
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let came = tokio::select! {
            biased;
            _ = client.head() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!came, "nothing is passed on before the end");
        upstream.open_gate();
        let response = client.response().await.unwrap();
        assert_eq!((response.status, response.text()), (200, all.concat()));
        let (settled, notes) = last(&stage, 1).await;
        assert_eq!(models(&settled.legs), [cheap(row)]);
        assert_eq!(notes["outcome"], "accepted");
    }
}

#[tokio::test]
async fn the_second_leg_needs_money_of_its_own() {
    let cheaply = answer(
        OPENAI,
        cheap(OPENAI),
        &Says::text("I can't help with that."),
    );
    let own = answer(OPENAI, dear(OPENAI), &Says::text(PROSE));
    let body = request(OPENAI, &json!({}));
    // Enough for the cheap target's worst case; for both; for the one that is left.
    for (amount, status, legs) in [("0.003", 429, 1), ("0.1", 200, 2)] {
        let upstream = upstream(OPENAI, Step::json(200, &cheaply), Step::json(200, &own)).await;
        let limits = vec![usd(Kind::Key, amount, Mode::Hard)];
        let setup = Setup {
            budgets: Budgets {
                limits,
                ..Budgets::default()
            },
            ..setup(upstream.url(), cascade(OPENAI))
        };
        let stage = Stage::with(setup).await;
        let response = stage.ask(&SPOKEN[OPENAI], &body).await;
        assert_eq!(response.status, status, "{amount}: {}", response.text());
        let (settled, _) = last(&stage, 1).await;
        assert_eq!(settled.legs.len(), legs);
        let expect = if legs == 1 {
            End::Refused
        } else {
            End::Answered
        };
        assert_eq!(settled.end, expect);
    }
}
