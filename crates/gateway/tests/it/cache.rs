//! The cache lever before a simulated provider that meters as the real one does.
//!
//! **Invariant**: cost, untouched cost and savings are those of the provider's own figures at the
//! price book's rates, to the pico-dollar.

use gateway::clock::Clock as _;
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::Lever;
use serde_json::{Value, json};
use sim::metering::CacheMeter;
use sim::provider::meter::quarter_of_bytes;
use sim::provider::{Answer, Ask, Body, Provider};
use testkit::client::{Client, Response};
use testkit::upstream::{Recorded, Step, Upstream};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use crate::stage::{Hands, SPOKEN, Stage, full};

/// Calls that arrive at once.
const CALLS: usize = 8;

/// claude-sonnet-4-6, in pico-USD a token: 3 USD a million in, 0.30 read, 3.75 written for five
/// minutes, 15 out.
const INPUT: i128 = 3_000_000;
const READ: i128 = 300_000;
const WRITE: i128 = 3_750_000;
const OUTPUT: i128 = 15_000_000;

/// From a request until what it writes can be read.
const FIRST_TOKEN_MS: u64 = 800;

/// The simulated provider; `first` stands before the first answer.
pub(crate) async fn simulated(clock: Hands, first: Vec<Step>) -> Upstream {
    let meter = CacheMeter::new(FIRST_TOKEN_MS);
    let mut provider = Provider::new(quarter_of_bytes, Box::new(meter));
    let mut first = Some(first);
    Upstream::playing(move |request| {
        let answer = provider.answer(&asked(request, clock.now()));
        let steps = first.take().unwrap_or_default().into_iter();
        steps.chain(steps_of(answer)).collect()
    })
    .await
}

fn asked(request: &Recorded, at: Moment) -> Ask<'_> {
    Ask {
        method: &request.method,
        path: &request.path,
        authorization: request.header("authorization"),
        x_api_key: request.header("x-api-key"),
        anthropic_version: request.header("anthropic-version"),
        body: &request.body,
        at,
    }
}

fn steps_of(answer: Answer) -> Vec<Step> {
    match answer.body {
        Body::Whole(bytes) => Step::json(answer.status, &String::from_utf8(bytes).unwrap()),
        Body::Stream(frames) => {
            let frames = frames.into_iter().map(|frame| Step::Chunk(frame.bytes));
            [Step::head(answer.status, "text/event-stream")]
                .into_iter()
                .chain(frames)
                .collect()
        }
    }
}

/// An agent's conversation after so many turns.
pub(crate) fn conversation(turns: usize) -> String {
    let mut messages = Vec::new();
    for turn in 0..turns {
        let question = format!("question {turn}: {}", "what does this part do? ".repeat(40));
        messages.push(json!({"role": "user", "content": question}));
        if turn + 1 < turns {
            let answer = format!("answer {turn}: {}", "it counts. ".repeat(40));
            messages.push(json!({"role": "assistant", "content": answer}));
        }
    }
    let tools = json!([{
        "name": "read_file",
        "description": "Reads a file of the project. ".repeat(200),
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    }]);
    let system = "You are a careful engineer. ".repeat(400);
    json!({
        "model": "claude-sonnet-4-6",
        "max_tokens": 64,
        "system": system,
        "tools": tools,
        "messages": messages,
    })
    .to_string()
}

/// What the provider reported: paid in full, read, written, generated.
fn usage(response: &Response) -> [i128; 4] {
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    [
        "input_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "output_tokens",
    ]
    .map(|name| i128::from(body["usage"][name].as_u64().unwrap_or(0)))
}

#[tokio::test]
async fn identical_calls_write_once() {
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), vec![Step::Gate]).await;
    let stage = Stage::at(clock, full(upstream.url())).await;
    let spoken = &SPOKEN[1];
    assert_eq!(spoken.dialect, Dialect::AnthropicMessages);
    let body = conversation(2);
    let mut clients = Vec::new();
    for _ in 0..CALLS {
        let mut client = Client::connect(&stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        clients.push(client);
    }
    stage
        .books
        .wait_for(|written| written.opened == CALLS)
        .await;
    upstream.request(0).await;
    stage.clock.turn(FIRST_TOKEN_MS);
    upstream.open_gate();
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for client in &mut clients {
        let response = client.response().await.unwrap();
        let [_, read, written, _] = usage(&response);
        if written > 0 {
            writes.push(written);
        } else {
            reads.push(read);
        }
    }
    assert_eq!(
        (writes.len(), reads.len()),
        (1, CALLS - 1),
        "{writes:?} {reads:?}"
    );
    assert!(
        reads.iter().all(|read| *read == writes[0]),
        "{writes:?} {reads:?}"
    );
    stage.books.settled(CALLS).await;
}

#[tokio::test]
async fn a_conversation_is_booked_to_the_pico_dollar() {
    let clock = Hands::default();
    let upstream = simulated(clock.clone(), Vec::new()).await;
    let stage = Stage::at(clock, full(upstream.url())).await;
    let spoken = &SPOKEN[1];
    let mut written_before = 0;
    let mut saved_sum = 0;
    for turn in 0..4_usize {
        let body = conversation(turn + 1);
        let response = stage.ask(spoken, &body).await;
        let [uncached, read, written, output] = usage(&response);
        assert_eq!(
            read, written_before,
            "call {turn} reads what was written before"
        );
        written_before += written;
        let cost = uncached * INPUT + read * READ + written * WRITE + output * OUTPUT;
        let untouched = (uncached + read + written) * INPUT + output * OUTPUT;
        let calls = stage.books.settled(turn + 1).await;
        let settled = calls[turn].settled.as_ref().unwrap();
        let pico = |amount: i128| Some(PicoUsd(amount));
        assert_eq!(settled.cost, pico(cost));
        assert_eq!(settled.untouched, pico(untouched));
        assert_eq!(
            settled.savings.get(&Lever::Cache).copied(),
            pico(untouched - cost)
        );
        assert_eq!(calls[turn].opened.session, calls[0].opened.session);
        let saved = pico(untouched - cost).unwrap().exact();
        assert_eq!(
            response.header("x-tokenwise-saved-usd"),
            Some(saved.as_str())
        );
        let cost = pico(cost).unwrap().exact();
        assert_eq!(response.header("x-tokenwise-cost-usd"), Some(cost.as_str()));
        saved_sum += untouched;
        saved_sum -= settled.cost.map_or(0, |cost| cost.0);
        stage.clock.turn(20_000);
    }
    assert!(
        written_before > 0 && saved_sum > 0,
        "{written_before} {saved_sum}"
    );
}

/// What a provider reports moves our estimates; the start of a prompt, by which keys are told apart, must
/// not move with them.
#[tokio::test]
async fn a_conversation_keeps_its_key_whatever_is_reported() {
    let calls = 30;
    // Far fewer tokens than such a body is taken for at first.
    let answer = json!({"choices": [], "usage": {"prompt_tokens": 1_400, "completion_tokens": 1}});
    let answers = vec![Step::json(200, &answer.to_string()); calls];
    let upstream = Upstream::scripted(answers).await;
    let stage = Stage::at(Hands::default(), full(upstream.url())).await;
    let tools: Vec<Value> = (0..20)
        .map(|number| {
            let description = format!("Tool {number} reads one kind of record. ").repeat(10);
            json!({"type": "function", "function": {"name": format!("t{number}"), "description": description}})
        })
        .collect();
    let mut keys = Vec::new();
    for turn in 1..=calls {
        let messages: Vec<Value> = (0..turn)
            .map(|it| json!({"role": "user", "content": format!("question {it}")}))
            .collect();
        let body = json!({"model": "gpt-5.6-terra", "tools": tools, "messages": messages});
        let response = stage.ask(&SPOKEN[0], body.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let sent: Value = serde_json::from_slice(&upstream.request(turn - 1).await.body).unwrap();
        keys.push(sent["prompt_cache_key"].clone());
        stage.clock.turn(10_000);
    }
    keys.dedup();
    assert!(keys.len() == 1 && keys[0].is_string(), "{keys:?}");
}

/// An upstream that reports no usage has not said that it keeps nothing: what is estimated of a call
/// counts on what the calls before it wrote.
#[tokio::test]
async fn what_nobody_reported_is_still_held() {
    let frames = [
        json!({"type": "message_start", "message": {"role": "assistant", "content": []}}),
        json!({"type": "message_stop"}),
    ];
    let frames =
        frames.map(|it| format!("event: {}\ndata: {it}\n\n", it["type"].as_str().unwrap()));
    let answer = vec![
        Step::head(200, "text/event-stream"),
        Step::Chunk(frames.concat().into()),
    ];
    let upstream = Upstream::scripted(vec![answer; 2]).await;
    let stage = Stage::at(Hands::default(), full(upstream.url())).await;
    let streamed = |turns| {
        let mut body: Value = serde_json::from_str(&conversation(turns)).unwrap();
        body["stream"] = json!(true);
        body.to_string()
    };
    let mut read = Vec::new();
    for turn in 0..2 {
        let response = stage.ask(&SPOKEN[1], streamed(turn + 1)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let settled = stage.books.settled(turn + 1).await[turn].settled.clone();
        let leg = settled.unwrap().legs.remove(0);
        assert!(leg.estimated, "{leg:?}");
        read.push(leg.usage.cache_read > Tokens(0));
        stage.clock.turn(20_000);
    }
    assert_eq!(read, [false, true]);
}
