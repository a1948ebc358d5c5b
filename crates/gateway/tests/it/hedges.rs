//! Hedges: a second target is asked beside a silent one, and whoever begins first answers.
//!
//! **Invariant**: the client has one answer and the ledger both legs, whoever wins, fails or leaves;
//! at rest nothing is held or in flight.

use gateway::setup::Setup;
use policy::dispatch::hedge::Hedging;
use policy::dispatch::patience;
use policy::dispatch::retry::Policy;
use policy::money::PicoUsd;
use policy::ports::read::StoredCall;
use policy::ports::{CallSettled, End, Leg};
use serde_json::{Value, json};
use testkit::client::exchange;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::misbehaviour::FILTER;
use crate::misbehaviour_exits::limit;
use crate::misbehaviour_world::{
    Delivery, Does, HALF, Story, Then, World, body, models, quick, spoken, told,
};

/// When a second target is asked; and much later, whatever the machine is busy with, when the first
/// is given up.
const AFTER_MS: u64 = 20;
const SILENT_MS: u64 = 400;

const DELIVERIES: [Delivery; 2] = [Delivery::Stream, Delivery::Whole];

/// Targets `a` and `b`, each with its own story; the second is asked after [`AFTER_MS`] of silence.
async fn world(dialect: Dialect, delivery: Delivery, story: Story) -> World {
    with(dialect, delivery, story, |_| {}).await
}

async fn with(
    dialect: Dialect,
    delivery: Delivery,
    story: Story,
    change: impl FnOnce(&mut Setup),
) -> World {
    let fallback = models(dialect)[1];
    let change = |setup: &mut Setup| {
        hedged(setup);
        change(setup);
    };
    World::new(dialect, delivery, story, 2, fallback, change).await
}

fn hedged(setup: &mut Setup) {
    let hedging = Hedging {
        after_ms: AFTER_MS,
        percent: 5,
    };
    setup.retry = Policy {
        retries: 0,
        hedging: Some(hedging),
        ..quick(patience::Rules::default())
    };
    setup.budgets.limits = vec![limit(PicoUsd(1_000_000_000_000))];
}

fn settled(call: &StoredCall) -> &CallSettled {
    call.settled.as_ref().unwrap()
}

fn legs(call: &StoredCall) -> Vec<(&str, End)> {
    let name = |leg: &Leg| if leg.provider == "a" { "a" } else { "b" };
    let legs = settled(call).legs.iter();
    legs.map(|leg| (name(leg), leg.end)).collect()
}

fn note(call: &StoredCall) -> Value {
    let notes: Value = serde_json::from_str(&settled(call).notes).unwrap();
    notes["hedge"]["went_on"].clone()
}

#[tokio::test]
async fn a_hedge_is_held_for_and_booked() {
    for dialect in Dialect::ALL {
        for delivery in DELIVERIES {
            let story: Story = |target, _| match target {
                0 => Does::Hangs,
                _ => Does::Answers,
            };
            let world = world(dialect, delivery, story).await;
            let (response, call) = world.call(delivery, "").await;
            assert_eq!(told(dialect, delivery, &response), "200 b");
            world.upstreams[0].gone(0).await;
            let expect = [("a", End::CalledOff), ("b", End::Answered)];
            assert_eq!(legs(&call), expect);
            let [lost, answered] = settled(&call).legs.as_slice() else {
                panic!("{call:?}");
            };
            // What `a` may have read is paid for, and said to be a guess.
            assert!(lost.estimated && lost.cost.unwrap() > PicoUsd::ZERO);
            assert!(!answered.estimated);
            let cost = lost.cost.unwrap() + answered.cost.unwrap();
            assert_eq!(settled(&call).cost, Some(cost));
            assert_eq!(note(&call), "second");
            let held = call.opened.held.unwrap();
            assert!(held.usd.unwrap() >= cost, "{held:?}");
            world.assert_at_rest();
        }
    }
}

#[tokio::test]
async fn whoever_begins_first_answers() {
    // What a second target does while the first is slow, how its leg ends, and whether that is
    // before the first answers.
    let rows: [(Story, End, bool); 3] = [
        (
            |target, _| [Does::IsSlow, Does::Hangs][target],
            End::CalledOff,
            false,
        ),
        (
            |target, _| [Does::IsSlow, Does::Status(500, "{}", None)][target],
            End::UpstreamError,
            true,
        ),
        (
            |target, _| [Does::IsSlow, Does::Resets][target],
            End::UpstreamBroke,
            true,
        ),
    ];
    for dialect in Dialect::ALL {
        for delivery in DELIVERIES {
            for (story, end, ends_before) in rows {
                let world = world(dialect, delivery, story).await;
                let mut client = world.ask(delivery).await;
                world.upstreams[1].request(0).await;
                if ends_before {
                    world.upstreams[1].played(0).await;
                }
                world.upstreams[0].open_gate();
                let response = client.response().await.unwrap();
                assert_eq!(told(dialect, delivery, &response), "200 a", "{end:?}");
                let calls = world.stage.books.settled(1).await;
                let expect = [("b", end), ("a", End::Answered)];
                assert_eq!(legs(&calls[0]), expect);
                assert_eq!(note(&calls[0]), "first");
                world.assert_at_rest();
            }
        }
    }
}

#[tokio::test]
async fn what_breaks_is_followed_up_as_without_a_hedge() {
    for dialect in Dialect::ALL {
        for delivery in DELIVERIES {
            // The second one answers, and breaks off before it shows anything: the first goes on.
            let story: Story = |target, _| match target {
                0 => Does::IsSlow,
                _ => Does::Begins(1, Then::Cut),
            };
            let broken = world(dialect, delivery, story).await;
            let mut client = broken.ask(delivery).await;
            broken.upstreams[1].played(0).await;
            broken.upstreams[0].open_gate();
            let response = client.response().await.unwrap();
            assert_eq!(told(dialect, delivery, &response), "200 a");
            broken.stage.books.settled(1).await;
            broken.assert_at_rest();
            // Both fail: the client has the first one's word, and no third leg is invented.
            let story: Story = |target, _| match target {
                0 => Does::Hangs,
                _ => Does::Status(503, "{}", None),
            };
            let silent = with(dialect, delivery, story, impatient).await;
            let (response, call) = silent.call(delivery, "").await;
            assert!(response.status >= 500, "{response:?}");
            let expect = [("b", End::UpstreamError), ("a", End::UpstreamBroke)];
            assert_eq!(legs(&call), expect);
            silent.assert_at_rest();
        }
    }
}

#[tokio::test]
async fn a_refusal_of_content_is_not_routed_around() {
    for dialect in Dialect::ALL {
        let mut refuses = Step::json(400, FILTER);
        refuses.insert(0, Step::Gate);
        let upstreams = [
            Upstream::scripted([refuses]).await,
            Upstream::scripted([vec![Step::Hang]]).await,
        ];
        let [first, second, _] = models(dialect);
        let route = [("a", first), ("b", second)];
        let world = World::between(dialect, upstreams, &route, hedged).await;
        let mut client = world.ask(Delivery::Whole).await;
        world.upstreams[1].request(0).await;
        world.upstreams[0].open_gate();
        let response = client.response().await.unwrap();
        assert_eq!(told(dialect, Delivery::Whole, &response), "400");
        let calls = world.stage.books.settled(1).await;
        let expect = [("b", End::CalledOff), ("a", End::UpstreamError)];
        assert_eq!(legs(&calls[0]), expect);
        world.assert_at_rest();
    }
}

#[tokio::test]
async fn what_was_begun_and_breaks_is_told() {
    for dialect in Dialect::ALL {
        let story: Story = |target, _| match target {
            0 => Does::Hangs,
            _ => Does::Begins(HALF, Then::Cut),
        };
        let world = world(dialect, Delivery::Stream, story).await;
        let (response, call) = world.call(Delivery::Stream, "").await;
        assert_eq!(told(dialect, Delivery::Stream, &response), "event");
        let expect = [("a", End::CalledOff), ("b", End::UpstreamBroke)];
        assert_eq!(legs(&call), expect);
        world.assert_at_rest();
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_both() {
    for dialect in Dialect::ALL {
        for delivery in DELIVERIES {
            let world = world(dialect, delivery, |_, _| Does::Hangs).await;
            let client = world.ask(delivery).await;
            world.upstreams[1].request(0).await;
            assert_eq!(world.stage.gateway.accounts.open_holds(), 1);
            client.hang_up();
            world.upstreams[0].gone(0).await;
            world.upstreams[1].gone(0).await;
            let calls = world.stage.books.settled(1).await;
            let expect = [("b", End::ClientGone), ("a", End::ClientGone)];
            assert_eq!(legs(&calls[0]), expect);
            assert!(settled(&calls[0]).legs.iter().all(|leg| leg.estimated));
            assert_eq!(note(&calls[0]), "neither");
            world.assert_at_rest();
        }
    }
}

/// The first target's patience ends after the time at which a second one would have been asked.
fn impatient(setup: &mut Setup) {
    setup.retry.patience.first_token_ms_thinking = SILENT_MS;
    setup.retry.patience.first_token_ms_max = SILENT_MS;
}

/// One call in twenty may have a second attempt; the first slow one has its own.
#[tokio::test]
async fn hedges_are_few() {
    let dialect = Dialect::AnthropicMessages;
    let story: Story = |target, _| [Does::Hangs, Does::Answers][target];
    let world = with(dialect, Delivery::Whole, story, impatient).await;
    let (_, first) = world.call(Delivery::Whole, "").await;
    assert_eq!(note(&first), "second");
    let (response, second) = world.call(Delivery::Whole, "").await;
    assert_eq!(told(dialect, Delivery::Whole, &response), "200 b");
    let expect = [("a", End::UpstreamBroke), ("b", End::Answered)];
    assert_eq!(
        (legs(&second), note(&second)),
        (expect.to_vec(), Value::Null)
    );
    world.assert_at_rest();
}

#[tokio::test]
async fn a_hedge_that_has_no_room_is_not_sent() {
    for dialect in Dialect::ALL {
        let tight = |setup: &mut Setup| {
            impatient(setup);
            // Room for one leg, not for two.
            let money = match dialect {
                Dialect::AnthropicMessages => 5_000_000_000,
                Dialect::OpenAiChat => 1_300_000_000,
            };
            setup.budgets.limits = vec![limit(PicoUsd(money))];
        };
        let world = with(dialect, Delivery::Whole, |_, _| Does::Hangs, tight).await;
        let (response, call) = world.call(Delivery::Whole, "").await;
        assert!(response.status >= 500, "{response:?}");
        assert_eq!(legs(&call), [("a", End::UpstreamBroke)], "{call:?}");
        assert_eq!(note(&call), Value::Null);
        assert!(world.upstreams[1].requests().is_empty());
        world.assert_at_rest();
    }
}

/// What the provider itself does would be done twice: the second is asked when the first has failed.
#[tokio::test]
async fn tools_of_the_provider_are_not_hedged() {
    let dialect = Dialect::AnthropicMessages;
    let story: Story = |target, _| [Does::Hangs, Does::Answers][target];
    let unlimited = |setup: &mut Setup| {
        impatient(setup);
        setup.budgets.limits.clear();
    };
    let world = with(dialect, Delivery::Whole, story, unlimited).await;
    let mut body: Value = serde_json::from_str(&body(dialect, Delivery::Whole, "")).unwrap();
    body["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let (spoken, body) = (spoken(dialect), body.to_string());
    let url = &world.stage.url;
    let response = exchange(url, "POST", spoken.path, spoken.headers, body.as_bytes()).await;
    assert_eq!(told(dialect, Delivery::Whole, &response), "200 b");
    let calls = world.stage.books.settled(1).await;
    let expect = [("a", End::UpstreamBroke), ("b", End::Answered)];
    assert_eq!(legs(&calls[0]), expect);
    assert_eq!(note(&calls[0]), Value::Null);
    world.assert_at_rest();
}
