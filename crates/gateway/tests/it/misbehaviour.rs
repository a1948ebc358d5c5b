//! The sixteen ways in which a provider misbehaves, through the whole gateway: both dialects,
//! streaming and not, with a fallback and without.
//!
//! **Invariant**: every call is rescued or cleanly refused, all its legs are in the ledger with
//! fault, blame and cost, nothing stays in flight, and a healthy call right after is served.
//! `cargo test -p gateway --test it misbehaviour -- --nocapture` prints the table.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use gateway::setup::Setup;
use policy::dispatch::retry::Policy;
use policy::ports::End;
use testkit::http1::Piece;
use wire::dialect::Dialect;

use crate::misbehaviour_world::{
    Delivery, Does, HALF, Story, Then, UNSEEN, World, impatient, legs, models, told,
};

const BOTH: &[Delivery] = &[Delivery::Stream, Delivery::Whole];
const STREAM: &[Delivery] = &[Delivery::Stream];
const WHOLE: &[Delivery] = &[Delivery::Whole];

/// One behaviour, and what comes of it with a fallback and without.
struct Row {
    name: &'static str,
    deliveries: &'static [Delivery],
    story: Story,
    policy: Option<Policy>,
    expect: [&'static str; 2],
}

const OVERFLOW: &str = r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"m"}}"#;
pub(crate) const FILTER: &str = r#"{"type":"error","error":{"type":"invalid_request_error","code":"content_policy_violation","message":"m"}}"#;
const LIMITED: &str =
    r#"{"type":"error","error":{"type":"rate_limit_error","message":"too many"}}"#;
const FAILED: &str = r#"{"type":"error","error":{"type":"api_error","message":"oops"}}"#;
const OVERLOADED: &str =
    r#"{"type":"error","error":{"type":"overloaded_error","message":"too busy"}}"#;
const DENIED: &str = r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#;
const PREFILL: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"This model does not support assistant message prefill."}}"#;

/// What a target does the first time, `Answers` from then on, and the fallback always.
const fn once(target: usize, leg: usize, does: Does) -> Does {
    match (target, leg) {
        (0, 1) => does,
        _ => Does::Answers,
    }
}

/// What a target does every time, and the fallback answers.
const fn always(target: usize, does: Does) -> Does {
    if target == 0 { does } else { Does::Answers }
}

fn row(
    name: &'static str,
    deliveries: &'static [Delivery],
    story: Story,
    expect: [&'static str; 2],
) -> Row {
    Row {
        name,
        deliveries,
        story,
        policy: None,
        expect,
    }
}

fn statuses() -> Vec<Row> {
    let same = |text| [text, text];
    vec![
        row(
            "S01 429 with retry-after",
            BOTH,
            |target, leg| {
                once(
                    target,
                    leg,
                    Does::Status(429, LIMITED, Some(("retry-after-ms", "20"))),
                )
            },
            same("200 a: a rate_limited, a ok"),
        ),
        row(
            "S01 429, a minute",
            BOTH,
            |target, _| {
                always(
                    target,
                    Does::Status(429, LIMITED, Some(("retry-after", "60"))),
                )
            },
            ["200 b: a rate_limited, b ok", "429, 60 s: a rate_limited"],
        ),
        row(
            "S02 429 persistent",
            BOTH,
            |target, _| always(target, Does::Status(429, LIMITED, None)),
            [
                "200 b: a rate_limited, a rate_limited, a rate_limited, b ok",
                "429: a rate_limited, a rate_limited, a rate_limited",
            ],
        ),
        row(
            "S03 500 once",
            BOTH,
            |target, leg| once(target, leg, Does::Status(500, FAILED, None)),
            same("200 a: a failed, a ok"),
        ),
        row(
            "S04 503 persistent",
            BOTH,
            |target, _| always(target, Does::Status(503, OVERLOADED, None)),
            [
                "200 b: a overloaded, a overloaded, a overloaded, b ok",
                "503: a overloaded, a overloaded, a overloaded",
            ],
        ),
        row(
            "S04 overloaded, told late",
            STREAM,
            |target, leg| once(target, leg, Does::Errs(OVERLOADED, usize::MAX)),
            same("200 a: a overloaded, a ok"),
        ),
        row(
            "S04 the same in small pieces",
            STREAM,
            |target, leg| once(target, leg, Does::Errs(OVERLOADED, 7)),
            same("200 a: a overloaded, a ok"),
        ),
        row(
            "    401 of our credential",
            BOTH,
            |target, _| always(target, Does::Status(401, DENIED, None)),
            ["200 b: a denied, b ok", "502: a denied"],
        ),
    ]
}

fn refusals() -> Vec<Row> {
    let same = |text| [text, text];
    vec![
        row(
            "S12 context exceeded",
            BOTH,
            |target, _| always(target, Does::Status(400, OVERFLOW, None)),
            same("400: a context_exceeded"),
        ),
        row(
            "S13 content filter",
            BOTH,
            |target, _| always(target, Does::Status(400, FILTER, None)),
            same("400: a refused"),
        ),
    ]
}

/// Half a second: long enough for a healthy target on a busy machine.
const SOON_MS: u64 = 500;

/// Longer than any test.
const NEVER_MS: u64 = 600_000;

fn silences() -> Vec<Row> {
    vec![
        Row {
            policy: Some(impatient(SOON_MS, SOON_MS, NEVER_MS)),
            ..row(
                "S06 silence",
                BOTH,
                |target, _| always(target, Does::Hangs),
                ["200 b: a silent, b ok", "502: a silent"],
            )
        },
        Row {
            policy: Some(impatient(SOON_MS, NEVER_MS, NEVER_MS)),
            ..row(
                "S07 slow first token",
                BOTH,
                |target, _| always(target, Does::IsSlow),
                ["200 b: a silent, b ok", "200 a: a ok"],
            )
        },
        Row {
            policy: Some(impatient(NEVER_MS, NEVER_MS, SOON_MS)),
            ..row(
                "S09 stall",
                STREAM,
                |target, _| always(target, Does::Begins(HALF, Then::Hang)),
                ["event: a stalled", "event: a stalled"],
            )
        },
        Row {
            policy: Some(impatient(NEVER_MS, NEVER_MS, SOON_MS)),
            ..row(
                "S09 stall unseen",
                BOTH,
                |target, _| always(target, Does::Begins(UNSEEN, Then::Hang)),
                ["200 b: a stalled, b ok", "502: a stalled"],
            )
        },
    ]
}

fn broken_answers() -> Vec<Row> {
    let same = |text| [text, text];
    vec![
        row(
            "S05 reset before headers",
            BOTH,
            |target, leg| once(target, leg, Does::Resets),
            same("200 a: a reset, a ok"),
        ),
        row(
            "S08 cut mid-answer",
            STREAM,
            |target, _| always(target, Does::Begins(HALF, Then::Cut)),
            same("event: a cut"),
        ),
        row(
            "S08 cut mid-answer",
            WHOLE,
            |target, _| always(target, Does::Begins(HALF, Then::Cut)),
            [
                "200 b: a cut, a cut, a cut, b ok",
                "502: a cut, a cut, a cut",
            ],
        ),
        row(
            "S08 cut unseen, once",
            STREAM,
            |target, leg| once(target, leg, Does::Begins(UNSEEN, Then::Cut)),
            same("200 a: a cut, a ok"),
        ),
        row(
            "S10 malformed chunk",
            STREAM,
            |target, _| always(target, Does::Begins(HALF, Then::Garble)),
            same("event: a unreadable"),
        ),
        row(
            "S10 malformed answer",
            WHOLE,
            |target, _| always(target, Does::Begins(HALF, Then::Garble)),
            [
                "200 b: a unreadable, a unreadable, a unreadable, b ok",
                "502: a unreadable, a unreadable, a unreadable",
            ],
        ),
        row(
            "S10 malformed unseen, once",
            STREAM,
            |target, leg| once(target, leg, Does::Begins(UNSEEN, Then::Garble)),
            same("200 a: a unreadable, a ok"),
        ),
        row(
            "S11 no terminal event",
            STREAM,
            |target, _| always(target, Does::OmitsEnd),
            same("200 a: a ok"),
        ),
    ]
}

/// Plays a row in every way, and gives its part of the table.
async fn play(row: &Row) -> Vec<String> {
    let change = |setup: &mut Setup| {
        setup.retry = row.policy.unwrap_or(setup.retry);
        // What can be seen is waited for as long as the operator allows, whoever else there is.
        let stall_ms = setup.retry.patience.stall_ms_thinking;
        setup.limits.idle_timeout = Duration::from_millis(stall_ms);
    };
    let mut worlds = Vec::new();
    for dialect in Dialect::ALL {
        for delivery in row.deliveries {
            for (targets, expect) in [(2, row.expect[0]), (1, row.expect[1])] {
                let equal = models(dialect)[1];
                let world = World::new(dialect, *delivery, row.story, targets, equal, change);
                worlds.push((world.await, *delivery, targets, expect));
            }
        }
    }
    let ways = worlds
        .iter()
        .map(|(world, delivery, targets, expect)| async move {
            let found = tell(world, *delivery, *targets).await;
            let way = format!("{:<18} {delivery:?} {targets}", world.dialect.id());
            assert_eq!(found, *expect, "{} {way}", row.name);
            format!("{:<28} {way:<27} | {found}", row.name)
        });
    join_all(ways).await
}

/// One call while the targets misbehave, and one after it.
async fn tell(world: &World, delivery: Delivery, targets: usize) -> String {
    let opens = async {
        if targets == 1 {
            // Whoever stands alone may take its time; where it is not slow, the gate is not met.
            world.upstreams[0].request(0).await;
            world.upstreams[0].open_gate();
        }
    };
    let ((response, call), ()) = tokio::join!(world.call(delivery, ""), opens);
    let mut what = told(world.dialect, delivery, &response);
    if let Some(seconds) = response.header("retry-after") {
        what = format!("{what}, {seconds} s");
    }
    let found = format!("{what}: {}", legs(&call));
    world.assert_at_rest();
    world.ill.store(false, Ordering::SeqCst);
    world.stage.clock.turn(61_000);
    let (response, call) = world.call(delivery, "").await;
    assert_eq!(
        told(world.dialect, delivery, &response),
        "200 a",
        "after {found}"
    );
    assert_eq!(legs(&call), "a ok");
    world.assert_at_rest();
    found
}

#[tokio::test]
async fn the_sixteen_behaviours_are_rescued_or_cleanly_refused() {
    let rows = [statuses(), refusals(), silences(), broken_answers()];
    for row in rows.iter().flatten() {
        for line in play(row).await {
            println!("{line}");
        }
    }
}

#[tokio::test]
async fn thinking_is_not_kept_back_for_long() {
    let story: Story = |_, _| Does::Thinks;
    for dialect in Dialect::ALL {
        let soon = |setup: &mut Setup| setup.retry.patience.kept_back_ms = 20;
        let equal = models(dialect)[1];
        let world = World::new(dialect, Delivery::Stream, story, 2, equal, soon).await;
        let mut client = world.ask(Delivery::Stream).await;
        // The rest does not come before what has come is seen.
        let head = client.head().await.unwrap();
        assert_eq!(head.status(), 200);
        assert!(matches!(client.piece().await, Piece::Data(_)));
        world.upstreams[0].open_gate();
        while let Piece::Data(_) = client.piece().await {}
        let calls = world.stage.books.settled(1).await;
        assert_eq!(legs(&calls[0]), "a ok");
        world.assert_at_rest();
    }
}

#[tokio::test]
async fn an_overflow_goes_to_a_larger_window() {
    let story: Story = |target, _| always(target, Does::Status(400, OVERFLOW, None));
    for dialect in Dialect::ALL {
        for delivery in BOTH {
            let larger = models(dialect)[2];
            let world = World::new(dialect, *delivery, story, 2, larger, |_| ()).await;
            let found = tell(&world, *delivery, 2).await;
            println!(
                "S12 to a larger window       {:<18} {delivery:?} 2 | {found}",
                dialect.id()
            );
            assert_eq!(found, "200 b: a context_exceeded, b ok");
        }
    }
}

#[tokio::test]
async fn retries_of_clients_do_not_multiply_ours() {
    type Row = (&'static str, Story, u32, usize, Option<&'static str>);
    let rows: [Row; 7] = [
        (
            "persistent",
            |_, _| Does::Status(503, OVERLOADED, None),
            2,
            3,
            Some("false"),
        ),
        ("reset", |_, _| Does::Resets, 2, 3, Some("false")),
        (
            "tried once",
            |_, _| Does::Status(503, OVERLOADED, None),
            0,
            1,
            None,
        ),
        (
            "patience",
            |_, _| Does::Status(429, OVERLOADED, Some(("retry-after", "60"))),
            2,
            1,
            None,
        ),
        (
            "upstream says yes",
            |_, _| Does::Status(503, OVERLOADED, Some(("x-should-retry", "true"))),
            2,
            3,
            Some("true"),
        ),
        (
            "upstream says no",
            |_, _| Does::Status(503, OVERLOADED, Some(("x-should-retry", "false"))),
            0,
            1,
            Some("false"),
        ),
        (
            "client's",
            |_, _| Does::Status(400, PREFILL, None),
            2,
            1,
            None,
        ),
    ];
    for dialect in Dialect::ALL {
        for (row, story, retries, legs, expect) in rows {
            let equal = models(dialect)[1];
            let change = |setup: &mut Setup| setup.retry.retries = retries;
            let world = World::new(dialect, Delivery::Whole, story, 1, equal, change).await;
            let (response, call) = world.call(Delivery::Whole, "").await;
            assert_eq!(response.header("x-should-retry"), expect, "{row}");
            let sent = call.settled.unwrap().legs.len();
            assert_eq!(sent, legs, "{row}");
            world.assert_at_rest();
        }
    }
}

#[tokio::test]
async fn a_prefill_is_never_forced_and_never_hides_what_was_wrong() {
    let story: Story = |target, _| match target {
        0 => Does::Status(503, OVERLOADED, None),
        _ => Does::Status(400, PREFILL, None),
    };
    let again = "a overloaded, a overloaded, a overloaded";
    for dialect in Dialect::ALL {
        let [_, equal, larger] = models(dialect);
        for (fallback, asked) in [(equal, true), (larger, dialect == Dialect::OpenAiChat)] {
            for delivery in BOTH {
                let world = World::new(dialect, *delivery, story, 2, fallback, |_| ()).await;
                let (response, call) = world.call(*delivery, "Good day to").await;
                let found = format!("{}: {}", told(dialect, *delivery, &response), legs(&call));
                println!(
                    "S14 prefill                  {:<18} {delivery:?} 2 | {found}",
                    dialect.id()
                );
                // Where it is known to be rejected, it is not even tried.
                let last = if asked { ", b prefill_rejected" } else { "" };
                assert_eq!(found, format!("503: {again}{last}"));
                assert!(
                    response
                        .header("x-tokenwise-target")
                        .unwrap()
                        .starts_with("a/")
                );
                world.assert_at_rest();
            }
        }
    }
}

#[tokio::test]
async fn a_flapping_primary_is_left_and_found_again() {
    let story: Story = |target, _| always(target, Does::Status(503, OVERLOADED, None));
    for dialect in Dialect::ALL {
        for delivery in BOTH {
            let equal = models(dialect)[1];
            let world = World::new(dialect, *delivery, story, 2, equal, |_| ()).await;
            let (mut asked, mut back_at) = (0, None);
            for call in 0..20_u64 {
                world.ill.store(call * 4 < 60, Ordering::SeqCst);
                let (response, row) = world.call(*delivery, "").await;
                assert!(told(dialect, *delivery, &response).starts_with("200 "));
                let line = legs(&row);
                if call * 4 < 60 {
                    asked += line.matches("a overloaded").count();
                } else if line == "a ok" {
                    back_at.get_or_insert(call * 4);
                }
                world.stage.clock.turn(4_000);
            }
            let back_at = back_at.expect("the primary is used again");
            assert!(asked <= 12, "{asked} legs to a dead target");
            world.assert_at_rest();
            println!(
                "S15 flapping primary         {:<18} {delivery:?} 2 | {asked} legs while down for \
                 60 s, back at {back_at} s",
                dialect.id()
            );
        }
    }
}

#[tokio::test]
async fn a_failover_is_accounted_to_whom_it_is_due() {
    let story: Story = |target, _| always(target, Does::Status(503, OVERLOADED, None));
    for dialect in Dialect::ALL {
        for delivery in BOTH {
            let equal = models(dialect)[1];
            let world = World::new(dialect, *delivery, story, 2, equal, |_| ()).await;
            let (response, call) = world.call(*delivery, "").await;
            let target = response.header("x-tokenwise-target");
            assert_eq!(target, Some(format!("b/{equal}").as_str()));
            let settled = call.settled.as_ref().unwrap();
            let (last, failed) = settled.legs.split_last().unwrap();
            assert_eq!(
                (settled.end, last.end, failed.len()),
                (End::Answered, End::Answered, 3)
            );
            assert_eq!((last.usage.input().0, last.usage.output.0), (10, 40));
            assert_eq!(settled.cost, last.cost, "what was refused is not billed");
            if *delivery == Delivery::Whole {
                let cost = last.cost.unwrap().exact();
                assert_eq!(response.header("x-tokenwise-cost-usd"), Some(cost.as_str()));
            }
            let counts = world.stage.counts();
            let failed = r#"tokenwise_failed_legs_total{provider="a",fault="overloaded"} 3"#;
            assert!(counts.contains(failed), "{counts}");
            println!(
                "S16 accounting               {:<18} {delivery:?} 2 | {}",
                dialect.id(),
                legs(&call)
            );
        }
    }
}
