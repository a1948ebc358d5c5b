//! Two targets that misbehave as a story says, a gateway before them, and what a client is told.
//!
//! **Invariant**: an answer counts as whole only if every word and its end have come; anything else
//! must be an error in the client's dialect (`told`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway::setup::{Setup, Target, Upstream as Configured};
use policy::dispatch::fault::{Charge, Credential, Fault};
use policy::dispatch::patience;
use policy::dispatch::retry::Policy;
use policy::ports::read::StoredCall;
use policy::ports::{CallSettled, End};
use serde_json::{Value, json};
use testkit::client::{Client, Response, exchange};
use testkit::http1::Ending;
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::stage::{SPOKEN, Spoken, Stage, anthropic, openai, plain};

/// How the client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Stream,
    Whole,
}

/// What a target does with a leg.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Answers.
    Answers,
    /// Refuses with this status, body and header.
    Status(u16, &'static str, Option<(&'static str, &'static str)>),
    /// Resets the connection.
    Resets,
    /// Accepts and never answers.
    Hangs,
    /// Sends the head of an answer, and the rest once a gate is opened.
    IsSlow,
    /// Sends signs of life, and the rest once a gate is opened.
    Thinks,
    /// Sends so many of an answer's pieces, and then this.
    Begins(usize, Then),
    /// Sends an error event, and an end as if nothing had been wrong, in this many bytes a write.
    Errs(&'static str, usize),
    /// Answers, but for the stream's terminal event.
    OmitsEnd,
}

/// How an answer goes on that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Cut,
    Hang,
    /// The next piece breaks off, and the rest follows as if nothing had been wrong.
    Garble,
}

/// Pieces that show nothing yet, and pieces that show half of the answer.
pub(crate) const UNSEEN: usize = 1;
pub(crate) const HALF: usize = 3;

/// What target 0 and target 1 do with the n-th leg that they get, counted from 1.
pub(crate) type Story = fn(usize, usize) -> Does;

/// A target's models: the first target's, an equal one and one with a larger window.
pub(crate) const fn models(dialect: Dialect) -> [&'static str; 3] {
    match dialect {
        Dialect::OpenAiChat => ["gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4"],
        Dialect::AnthropicMessages => ["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-5-5"],
    }
}

pub(crate) const fn spoken(dialect: Dialect) -> &'static Spoken {
    match dialect {
        Dialect::OpenAiChat => &SPOKEN[0],
        Dialect::AnthropicMessages => &SPOKEN[1],
    }
}

/// A request of the route `m`.
pub(crate) fn body(dialect: Dialect, delivery: Delivery, tail: &str) -> String {
    let mut body = json!({
        "model": "m",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "good day"}],
    });
    if delivery == Delivery::Stream {
        body["stream"] = json!(true);
        if dialect == Dialect::OpenAiChat {
            body["stream_options"] = json!({"include_usage": true});
        }
    }
    if !tail.is_empty() {
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": tail}));
    }
    body.to_string()
}

/// The events of a streamed answer of a target; the words are split over two of them.
pub(crate) fn events(dialect: Dialect, words: &str) -> Vec<String> {
    let (first, second) = words.split_at(words.len() / 2);
    match dialect {
        Dialect::OpenAiChat => {
            let choice = |delta: Value, stop: Value| json!({"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": stop}]});
            let usage = json!({"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50});
            let chunks = [
                choice(json!({"role": "assistant", "content": ""}), Value::Null),
                choice(json!({}), Value::Null),
                choice(json!({"content": first}), Value::Null),
                choice(json!({"content": second}), Value::Null),
                choice(json!({}), json!("stop")),
                json!({"id": "c1", "choices": [], "usage": usage}),
            ];
            let chunks = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
            chunks.chain(["data: [DONE]\n\n".to_owned()]).collect()
        }
        Dialect::AnthropicMessages => {
            let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
            let begun = json!({"id": "m1", "usage": {"input_tokens": 10, "output_tokens": 1}});
            let events = [
                json!({"type": "message_start", "message": begun}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                text(first),
                text(second),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 40}}),
                json!({"type": "message_stop"}),
            ];
            let named = events.iter().map(|event| {
                let name = event["type"].as_str().unwrap();
                format!("event: {name}\ndata: {event}\n\n")
            });
            named.collect()
        }
    }
}

/// A whole answer of a target.
pub(crate) fn whole(dialect: Dialect, words: &str) -> String {
    let answer = match dialect {
        Dialect::OpenAiChat => json!({
            "id": "c1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50},
        }),
        Dialect::AnthropicMessages => json!({
            "id": "m1",
            "content": [{"type": "text", "text": words}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 40},
        }),
    };
    answer.to_string()
}

/// What a target sends.
pub(crate) fn script(dialect: Dialect, delivery: Delivery, does: Does, words: &str) -> Vec<Step> {
    match (does, delivery) {
        (Does::Status(status, body, header), _) => {
            let mut steps = Step::json(status, body);
            if let (Some((name, value)), Step::Head(_, headers)) = (header, &mut steps[0]) {
                headers.push((name.to_owned(), value.to_owned()));
            }
            steps
        }
        (Does::Resets, _) => vec![Step::Reset],
        (Does::Hangs, _) => vec![Step::Hang],
        (Does::Errs(event, write_bytes), _) => {
            let end = events(dialect, words).pop().unwrap();
            let text = format!("data: {event}\n\n{end}");
            let writes = text.as_bytes().chunks(write_bytes);
            let chunks = writes.map(|write| Step::Chunk(write.to_vec()));
            [Step::head(200, "text/event-stream")]
                .into_iter()
                .chain(chunks)
                .collect()
        }
        (_, Delivery::Stream) => streamed(does, &events(dialect, words)),
        (_, Delivery::Whole) => in_one_piece(does, &whole(dialect, words)),
    }
}

fn streamed(does: Does, events: &[String]) -> Vec<Step> {
    let chunk = |event: &String| Step::Chunk(event.clone().into_bytes());
    let head = Step::head(200, "text/event-stream");
    let all = || events.iter().map(chunk);
    match does {
        Does::IsSlow => [head, Step::Gate].into_iter().chain(all()).collect(),
        Does::Thinks => {
            let begun = [head].into_iter().chain(all().take(UNSEEN));
            begun
                .chain([Step::Gate])
                .chain(all().skip(UNSEEN))
                .collect()
        }
        Does::OmitsEnd => [head]
            .into_iter()
            .chain(all().take(events.len() - 1))
            .collect(),
        Does::Begins(count, then) => {
            let begun = [head].into_iter().chain(all().take(count));
            let rest: Vec<Step> = match then {
                Then::Cut => vec![Step::Cut],
                Then::Hang => vec![Step::Hang],
                Then::Garble => {
                    let torn = b"data: {\"choices\":[{\"delta\":{\"con\n\n".to_vec();
                    [Step::Chunk(torn)]
                        .into_iter()
                        .chain(all().skip(count))
                        .collect()
                }
            };
            begun.chain(rest).collect()
        }
        Does::Answers | Does::Status(..) | Does::Resets | Does::Hangs | Does::Errs(..) => {
            [head].into_iter().chain(all()).collect()
        }
    }
}

fn in_one_piece(does: Does, answer: &str) -> Vec<Step> {
    let half = &answer[..answer.len() / 2];
    let mut steps = Step::json(200, answer);
    if let Does::IsSlow = does {
        steps.insert(0, Step::Gate);
    }
    if let Does::Begins(_, then) = does {
        let end = match then {
            Then::Cut => Step::Cut,
            Then::Hang => Step::Hang,
            Then::Garble => return Step::json(200, half),
        };
        steps.truncate(1);
        steps.extend([Step::Chunk(half.into()), end]);
    }
    steps
}

/// Limits on silence that a test can wait for: so many milliseconds for a first token, and between
/// two pieces.
pub(crate) fn impatient(first_token_ms: u64, last_first_token_ms: u64, stall_ms: u64) -> Policy {
    quick(patience::Rules {
        first_token_ms_max: last_first_token_ms,
        first_token_ms_thinking: first_token_ms,
        stall_ms_thinking: stall_ms,
        ..patience::Rules::default()
    })
}

/// The default policy, but for the time between two attempts.
pub(crate) fn quick(patience: patience::Rules) -> Policy {
    Policy {
        backoff_ms: 2,
        backoff_ms_max: 4,
        wait_jitter_ms: 1,
        patience,
        ..Policy::default()
    }
}

/// A gateway before two targets, `a` and `b`, of one dialect.
pub(crate) struct World {
    pub(crate) dialect: Dialect,
    pub(crate) stage: Stage,
    pub(crate) upstreams: [Upstream; 2],
    /// Whether the story is on; the targets are well if not.
    pub(crate) ill: Arc<AtomicBool>,
}

/// The words of the answer of target `a` or `b`.
pub(crate) fn words(target: usize) -> String {
    format!("good day to you from {}", ["a", "b"][target])
}

impl World {
    /// `targets` of the two are in the route; `fallback` is the second one's model.
    pub(crate) async fn new(
        dialect: Dialect,
        delivery: Delivery,
        story: Story,
        targets: usize,
        fallback: &str,
        change: impl FnOnce(&mut Setup),
    ) -> Self {
        let ill = Arc::new(AtomicBool::new(true));
        let play = |target: usize| {
            let (ill, mut legs) = (Arc::clone(&ill), 0);
            Upstream::playing(move |_| {
                legs += 1;
                let does = if ill.load(Ordering::SeqCst) {
                    story(target, legs)
                } else {
                    Does::Answers
                };
                script(dialect, delivery, does, &words(target))
            })
        };
        let upstreams = [play(0).await, play(1).await];
        let route = [("a", models(dialect)[0]), ("b", fallback)];
        let world = Self::between(dialect, upstreams, &route[..targets], change).await;
        Self { ill, ..world }
    }

    /// A gateway before these two upstreams, with a route of these targets.
    pub(crate) async fn between(
        dialect: Dialect,
        upstreams: [Upstream; 2],
        route: &[(&str, &str)],
        change: impl FnOnce(&mut Setup),
    ) -> Self {
        let mut setup = plain("http://127.0.0.1:1");
        setup.upstreams = vec![
            named("a", upstreams[0].url(), dialect).into(),
            named("b", upstreams[1].url(), dialect).into(),
        ];
        let targets = route.iter().map(|(provider, model)| {
            let (provider, model) = ((*provider).to_owned(), (*model).to_owned());
            vec![Target { provider, model }]
        });
        setup.routes = BTreeMap::from([("m".to_owned(), targets.collect())]);
        setup.retry = quick(patience::Rules::default());
        change(&mut setup);
        Self {
            dialect,
            stage: Stage::with(setup).await,
            upstreams,
            ill: Arc::default(),
        }
    }

    /// Sends a call and leaves its answer to be read.
    pub(crate) async fn ask(&self, delivery: Delivery) -> Client {
        let spoken = spoken(self.dialect);
        let body = body(self.dialect, delivery, "");
        let mut client = Client::connect(&self.stage.url).await;
        client
            .ask("POST", spoken.path, spoken.headers, body.as_bytes())
            .await;
        client
    }

    /// Sends a call; gives what the client was told and what the ledger says.
    pub(crate) async fn call(&self, delivery: Delivery, tail: &str) -> (Response, StoredCall) {
        let number = self.stage.books.calls().len();
        let spoken = spoken(self.dialect);
        let body = body(self.dialect, delivery, tail);
        let url = &self.stage.url;
        let response = exchange(url, "POST", spoken.path, spoken.headers, body.as_bytes()).await;
        let mut calls = self.stage.books.settled(number + 1).await;
        (response, calls.remove(number))
    }

    /// Nothing is left of any call.
    pub(crate) fn assert_at_rest(&self) {
        for (target, in_flight) in self.stage.gateway.healths.in_flight() {
            assert_eq!(in_flight, 0, "{target}");
        }
        assert_eq!(self.stage.gateway.accounts.open_holds(), 0);
        let counts = self.stage.counts();
        assert!(counts.contains("tokenwise_calls_open 0\n"), "{counts}");
    }
}

pub(crate) fn named(id: &str, url: &str, dialect: Dialect) -> Configured {
    let upstream = match dialect {
        Dialect::OpenAiChat => openai(url),
        Dialect::AnthropicMessages => anthropic(url),
    };
    Configured {
        id: id.to_owned(),
        models: Vec::new(),
        ..upstream
    }
}

/// What the client has, in a word: who answered, which error it got, or which error event ended a
/// stream that had begun. Nothing else may come.
pub(crate) fn told(dialect: Dialect, delivery: Delivery, response: &Response) -> String {
    assert_eq!(response.ending, Ending::Whole, "{response:?}");
    let text = response.text();
    if response.status != 200 {
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_is_error(dialect, &error);
        return response.status.to_string();
    }
    let target = response.header("x-tokenwise-target").unwrap();
    let target = usize::from(target.starts_with("b/"));
    let expect = words(target);
    let (said, is_over, last) = match delivery {
        Delivery::Whole => {
            let answer: Value = serde_json::from_str(&text).unwrap();
            let said = match dialect {
                Dialect::OpenAiChat => &answer["choices"][0]["message"]["content"],
                Dialect::AnthropicMessages => &answer["content"][0]["text"],
            };
            (said.as_str().unwrap().to_owned(), true, Value::Null)
        }
        Delivery::Stream => read_stream(dialect, &text),
    };
    if last.get("error").is_some() {
        assert_is_error(dialect, &last);
        let is_ended = ["data: [DONE]", "event: message_stop"].map(|end| text.contains(end));
        assert_eq!(
            (is_ended, expect.starts_with(&said)),
            ([false; 2], true),
            "{text}"
        );
        return "event".to_owned();
    }
    assert_eq!((said, is_over), (expect, true), "{text}");
    format!("200 {}", ["a", "b"][target])
}

/// The words of a stream, whether a reason to stop was given, and its last event. Every event must
/// be readable.
fn read_stream(dialect: Dialect, text: &str) -> (String, bool, Value) {
    let (mut said, mut is_over, mut last) = (String::new(), false, Value::Null);
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            assert!(is_over, "{text}");
            continue;
        }
        let event: Value = serde_json::from_str(data).expect("an event that can be read");
        let (word, stop) = match dialect {
            Dialect::OpenAiChat => {
                let choice = &event["choices"][0];
                (&choice["delta"]["content"], &choice["finish_reason"])
            }
            Dialect::AnthropicMessages => (&event["delta"]["text"], &event["delta"]["stop_reason"]),
        };
        said.push_str(word.as_str().unwrap_or_default());
        is_over |= stop.is_string();
        last = event;
    }
    (said, is_over, last)
}

fn assert_is_error(dialect: Dialect, error: &Value) {
    assert!(error["error"]["message"].is_string(), "{error}");
    if dialect == Dialect::AnthropicMessages {
        assert_eq!(error["type"], "error", "{error}");
        assert!(error["error"]["type"].is_string(), "{error}");
    }
}

/// The legs of a call with their faults, in a line; what they cost is checked.
pub(crate) fn legs(call: &StoredCall) -> String {
    let settled = call.settled.as_ref().unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    let failed = notes["failed"].as_array().cloned().unwrap_or_default();
    let mut failed = failed.iter();
    let mut line = String::new();
    for leg in &settled.legs {
        let cost = leg.cost.expect("every model here has a price").0;
        let is_answered = leg.end == End::Answered;
        let fault = if is_answered { None } else { failed.next() };
        let what = if let Some(note) = fault {
            assert_eq!(note["target"], format!("{}/{}", leg.provider, leg.model));
            let name = note["fault"].as_str().unwrap();
            let mut all = Fault::ALL.into_iter();
            let fault = all.find(|fault| fault.name() == name).unwrap();
            assert_eq!(note["blame"], fault.blame(Credential::Ours).name());
            let is_free = fault.charge() == Charge::Nothing;
            assert_eq!((cost == 0, !leg.estimated), (is_free, is_free), "{leg:?}");
            name
        } else {
            assert!(is_answered, "{settled:?}");
            assert!(cost > 0 && !leg.estimated, "{leg:?}");
            "ok"
        };
        let comma = if line.is_empty() { "" } else { ", " };
        write!(line, "{comma}{} {what}", leg.provider).unwrap();
    }
    assert!(
        failed.next().is_none(),
        "a fault without a leg: {settled:?}"
    );
    assert_eq!(settled.cost, total(settled));
    line
}

fn total(settled: &CallSettled) -> Option<policy::money::PicoUsd> {
    settled.legs.iter().map(|leg| leg.cost).sum()
}
