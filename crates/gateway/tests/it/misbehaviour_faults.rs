//! Faults of streaming and of cancelled calls that users of other gateways have reported, a test
//! each.
//!
//! **Invariant**: none of them is ours.

use futures_util::future::join_all;
use gateway::setup::Setup;
use policy::dispatch::patience;
use policy::dispatch::retry::Policy;
use policy::ports::End;
use policy::prices::PriceBook;
use serde_json::{Value, json};
use testkit::client::exchange;
use testkit::http1::Piece;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;
use wire::usage::{Tokens, Usage};

use crate::misbehaviour_world::{
    Delivery, World, body, events, models, named, quick, spoken, told, whole, words,
};
use crate::stage::{Stage, TODAY, plain};

/// A gateway before one upstream, `b`, that is asked once.
async fn before(dialect: Dialect, upstream: Upstream) -> World {
    let nobody = Upstream::scripted([]).await;
    let once = |setup: &mut Setup| {
        setup.retry = Policy {
            retries: 0,
            ..quick(patience::Rules::default())
        };
    };
    let route = [("b", models(dialect)[0])];
    World::between(dialect, [nobody, upstream], &route, once).await
}

/// One delta of text.
fn delta(dialect: Dialect, text: &str) -> String {
    let event = match dialect {
        Dialect::OpenAiChat => json!({"choices": [{"index": 0, "delta": {"content": text}}]}),
        Dialect::AnthropicMessages => {
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
        }
    };
    format!("data: {event}\n\n")
}

/// Fault 10: 806 deltas were written down as one token when the client left.
#[tokio::test]
async fn client_aborts_are_billed() {
    const DELTAS: usize = 806;
    for dialect in Dialect::ALL {
        let begin = events(dialect, &words(1)).remove(0);
        let deltas = vec![delta(dialect, "word"); DELTAS];
        let all: Vec<&str> = [&begin]
            .into_iter()
            .chain(&deltas)
            .map(String::as_str)
            .collect();
        let mut script = Step::events(&all);
        script.push(Step::Hang);
        let world = before(dialect, Upstream::scripted([script]).await).await;
        let mut client = world.ask(Delivery::Stream).await;
        client.head().await.unwrap();
        let mut got = 0;
        while got < all.concat().len() {
            match client.piece().await {
                Piece::Data(data) => got += data.len(),
                end @ (Piece::End | Piece::Broken) => panic!("{end:?}"),
            }
        }
        client.hang_up();
        world.upstreams[1].gone(0).await;
        let calls = world.stage.books.settled(1).await;
        let settled = calls[0].settled.as_ref().unwrap();
        let leg = &settled.legs[0];
        assert_eq!((settled.end, leg.estimated), (End::ClientGone, true));
        assert_eq!(
            leg.usage.output,
            Tokens(DELTAS as u64),
            "four bytes a token"
        );
        let output = Usage {
            output: leg.usage.output,
            ..Usage::default()
        };
        let provider = plain(world.upstreams[1].url()).upstreams[provider(dialect)]
            .prices
            .clone();
        let model = models(dialect)[0];
        let bill = PriceBook::built_in()
            .cost(&provider, model, &output, TODAY)
            .unwrap();
        assert!(settled.cost.unwrap() > bill.total(), "{settled:?}");
        world.assert_at_rest();
    }
}

/// Where a dialect's provider stands among those of the stage.
const fn provider(dialect: Dialect) -> usize {
    match dialect {
        Dialect::AnthropicMessages => 0,
        Dialect::OpenAiChat => 1,
    }
}

/// Every count in this text is 0.
fn without_usage(text: &str) -> String {
    text.replace(":10", ":0")
        .replace(":40", ":0")
        .replace(":50", ":0")
        .replace("\"output_tokens\":1", "\"output_tokens\":0")
}

/// Fault 11: a usage of zero was taken for none, and replaced by an estimate.
#[tokio::test]
async fn explicit_zero_usage_is_kept() {
    for dialect in Dialect::ALL {
        for delivery in [Delivery::Stream, Delivery::Whole] {
            let script = match delivery {
                Delivery::Stream => {
                    let events = events(dialect, &words(1)).into_iter();
                    let events: Vec<String> = events.map(|event| without_usage(&event)).collect();
                    Step::events(&events.iter().map(String::as_str).collect::<Vec<_>>())
                }
                Delivery::Whole => Step::json(200, &without_usage(&whole(dialect, &words(1)))),
            };
            let world = before(dialect, Upstream::scripted([script]).await).await;
            let (response, call) = world.call(delivery, "").await;
            assert_eq!(told(dialect, delivery, &response), "200 b");
            let settled = call.settled.as_ref().unwrap();
            let leg = &settled.legs[0];
            assert_eq!((leg.end, leg.estimated), (End::Answered, false));
            assert_eq!(
                (leg.usage.input(), leg.usage.output),
                (Tokens(0), Tokens(0))
            );
            assert_eq!(settled.cost.unwrap().0, 0, "{settled:?}");
        }
    }
}

/// How a stream comes to an end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The connection is closed within the body.
    Cut,
    /// The body ends as HTTP would have it.
    Clean,
}

/// Fault 12: half an answer was passed on as a whole one. The stream ends at one byte in so many.
#[tokio::test]
async fn a_broken_stream_never_ends_clean() {
    const STEP: usize = 11;
    for dialect in Dialect::ALL {
        let text = events(dialect, &words(1)).concat();
        let stop = match dialect {
            Dialect::OpenAiChat => text.find("\"stop\"").unwrap(),
            Dialect::AnthropicMessages => text.find("\"end_turn\"").unwrap(),
        };
        let cases = (0..text.len()).step_by(STEP).chain([text.len()]);
        let cases: Vec<(usize, Ends)> = cases
            .flat_map(|at| [(at, Ends::Cut), (at, Ends::Clean)])
            .collect();
        let scripts = cases.iter().map(|(at, ends)| {
            let mut steps = vec![
                Step::head(200, "text/event-stream"),
                Step::Chunk(text.as_bytes()[..*at].to_vec()),
            ];
            steps.retain(|step| *step != Step::Chunk(Vec::new()));
            steps.extend((*ends == Ends::Cut).then_some(Step::Cut));
            steps
        });
        let world = before(
            dialect,
            Upstream::scripted(scripts.collect::<Vec<_>>()).await,
        )
        .await;
        for (at, ends) in cases {
            let (response, call) = world.call(Delivery::Stream, "").await;
            let found = told(dialect, Delivery::Stream, &response);
            let end = call.settled.as_ref().unwrap().end;
            let may_be_whole = at == text.len() || (ends == Ends::Clean && at > stop);
            if may_be_whole && found == "200 b" {
                assert_eq!(end, End::Answered, "{at} {ends:?}");
            } else {
                assert!(found == "event" || found == "502", "{found}: {at} {ends:?}");
                assert_eq!(end, End::UpstreamBroke, "{at} {ends:?}");
            }
        }
        world.assert_at_rest();
    }
}

/// Fault 13: the first event told of no input, and a client's context display broke.
#[tokio::test]
async fn the_first_event_carries_input_usage() {
    let dialect = Dialect::AnthropicMessages;
    let all = events(dialect, &words(1));
    let script = Step::events(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let world = before(dialect, Upstream::scripted([script]).await).await;
    let (response, _) = world.call(Delivery::Stream, "").await;
    let text = response.text();
    assert_eq!(text, all.concat(), "not a byte is changed");
    let first = text
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["type"], "message_start");
    assert_eq!(
        first["message"]["usage"],
        json!({"input_tokens": 10, "output_tokens": 1})
    );
}

/// Fault 14: under load, streams met parts of others. Every upstream answers with the number that
/// its request brought, in pieces that all streams send at once.
///
/// That an idle connection keeps no body cannot be seen from outside; the books of the gateway, at
/// least, hold nothing afterwards.
#[tokio::test]
async fn streams_do_not_mix_or_keep_bodies() {
    const STREAMS: usize = 64;
    const DELTAS: usize = 20;
    for dialect in Dialect::ALL {
        let echo = move |request: &testkit::upstream::Recorded| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let number = body["messages"][0]["content"].as_str().unwrap().to_owned();
            let mut all = events(dialect, &number);
            for part in 0..DELTAS {
                all.insert(2 + part, delta(dialect, &format!("{number}/{part} ")));
            }
            let mut steps = Step::events(&all.iter().map(String::as_str).collect::<Vec<_>>());
            steps.insert(4, Step::Gate);
            steps
        };
        let upstream = Upstream::playing(echo).await;
        let mut setup = plain("http://127.0.0.1:1");
        setup.upstreams = vec![named("b", upstream.url(), dialect).into()];
        setup.routes.clear();
        let stage = Stage::with(setup).await;
        let calls = (0..STREAMS).map(|number| {
            let spoken = spoken(dialect);
            let model = format!("b/{}", models(dialect)[0]);
            let body =
                body(dialect, Delivery::Stream, "").replace("\"m\"", &format!("\"{model}\""));
            let body = body.replace("good day", &format!("number {number}"));
            let url = &stage.url;
            async move { exchange(url, "POST", spoken.path, spoken.headers, body.as_bytes()).await }
        });
        let all_at_once = async {
            upstream.request(STREAMS - 1).await;
            (0..STREAMS).for_each(|_| upstream.open_gate());
        };
        let (responses, ()) = tokio::join!(join_all(calls), all_at_once);
        for (number, response) in responses.iter().enumerate() {
            let text = response.text();
            assert_eq!(response.status, 200, "{text}");
            for part in 0..DELTAS {
                assert!(
                    text.contains(&format!("\"number {number}/{part} \"")),
                    "{text}"
                );
            }
            let mentions = text.matches("number ").count();
            let own = text.matches(&format!("number {number}/")).count();
            assert_eq!(
                (own, mentions),
                (
                    DELTAS,
                    DELTAS + usize::from(text.contains(&format!("number {number}\"")))
                ),
                "{text}"
            );
        }
        stage.books.settled(STREAMS).await;
        let in_flight = stage.gateway.healths.in_flight();
        assert!(
            in_flight.iter().all(|(_, count)| *count == 0),
            "{in_flight:?}"
        );
    }
}
