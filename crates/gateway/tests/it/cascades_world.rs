//! The two targets of a cascade, in both dialects: what is asked of them, and what they say.
//!
//! **Invariant**: a request of a row names the dear target, and a script tells the two apart by the
//! model alone (test `what_convinces_is_passed_on_unchanged`).

use std::sync::Arc;

use gateway::setup::cascade::{Cascade, Verifier};
use gateway::setup::{LeverMode, Rule, Setup, Target};
use policy::cascade::verdict::HoldBack;
use policy::cascade::word::TRUST;
use policy::money::PicoUsd;
use policy::ports::{CallSettled, Leg};
use policy::prices::PriceBook;
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};
use wire::usage::{Tokens, Usage};

use crate::stage::{Stage, TODAY, plain, rule};

/// The dialects, as rows of `SPOKEN`.
pub(crate) const OPENAI: usize = 0;
pub(crate) const ANTHROPIC: usize = 1;
pub(crate) const ROWS: [usize; 2] = [OPENAI, ANTHROPIC];

/// The provider, the cheap model and the dear one, by row.
const MODELS: [(&str, &str, &str); 2] = [
    ("openai", "gpt-5.4-mini", "gpt-5.4"),
    ("anthropic", "claude-haiku-4-5", "claude-sonnet-4-6"),
];

/// Long enough to be judged by its beginning.
pub(crate) const PROSE: &str = "The tide comes in twice a day because the Moon pulls on the water \
    and the Earth turns below it, so that every coast passes two bulges, one towards the Moon and one \
    away from it, in a little more than a day.";

/// What every answer of the upstream says it used.
pub(crate) const INPUT: u64 = 100;
pub(crate) const OUTPUT: u64 = 50;

pub(crate) fn cheap(row: usize) -> &'static str {
    MODELS[row].1
}

pub(crate) fn dear(row: usize) -> &'static str {
    MODELS[row].2
}

/// A request for the dear target, with these members besides.
pub(crate) fn request(row: usize, extras: &Value) -> String {
    let mut body = json!({"model": dear(row), "max_tokens": 400,
        "messages": [{"role": "user", "content": "why does the tide come in twice a day?"}]});
    for (key, value) in extras.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string()
}

/// The same as a stream whose usage is shown.
pub(crate) fn streamed(row: usize, extras: &Value) -> String {
    let mut extras = extras.clone();
    extras["stream"] = json!(true);
    if row == OPENAI {
        extras["stream_options"] = json!({"include_usage": true});
    }
    request(row, &extras)
}

/// A whole answer with this text, or with this call of a tool, and this reason to stop.
pub(crate) fn answer(row: usize, model: &str, says: &Says<'_>) -> String {
    let stop = says.stop(row);
    let (text, call) = (says.text, says.call);
    if row == OPENAI {
        let mut message = json!({"role": "assistant", "content": text});
        if let Some((name, arguments)) = call {
            message["tool_calls"] = json!([{"id": "c", "type": "function",
                "function": {"name": name, "arguments": arguments}}]);
        }
        let mut choice = json!({"index": 0, "message": message, "finish_reason": stop});
        if let Some(logprob) = says.logprob {
            let token = json!({"token": "t", "logprob": logprob});
            choice["logprobs"] = json!({"content": [token, token, token]});
        }
        return json!({"id": "a", "object": "chat.completion", "model": model,
            "choices": [choice], "usage": {"prompt_tokens": INPUT, "completion_tokens": OUTPUT,
            "total_tokens": INPUT + OUTPUT}})
        .to_string();
    }
    let mut content = vec![json!({"type": "text", "text": text})];
    if let Some((name, arguments)) = call {
        let input: Value = serde_json::from_str(arguments).unwrap();
        content.push(json!({"type": "tool_use", "id": "c", "name": name, "input": input}));
    }
    json!({"id": "a", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}})
    .to_string()
}

/// The events of a stream that says the same.
pub(crate) fn events(row: usize, model: &str, says: &Says<'_>) -> Vec<String> {
    let stop = says.stop(row);
    let words = says.text.split_inclusive(' ');
    let mut events = Vec::new();
    if row == OPENAI {
        let mut chunk = |choices: Value, usage: Value| {
            let data = json!({"id": "a", "object": "chat.completion.chunk", "model": model,
                "choices": choices, "usage": usage});
            events.push(format!("data: {data}\n\n"));
        };
        let delta = |delta: Value, stop: Value| json!([{"index": 0, "delta": delta, "finish_reason": stop}]);
        for word in words {
            chunk(delta(json!({"content": word}), json!(null)), json!(null));
        }
        if let Some((name, arguments)) = says.call {
            let call = json!({"tool_calls": [{"index": 0, "id": "c", "type": "function",
                "function": {"name": name, "arguments": arguments}}]});
            chunk(delta(call, json!(null)), json!(null));
        }
        chunk(delta(json!({}), json!(stop)), json!(null));
        let usage = json!({"prompt_tokens": INPUT, "completion_tokens": OUTPUT,
            "total_tokens": INPUT + OUTPUT});
        chunk(json!([]), usage);
        events.push("data: [DONE]\n\n".to_owned());
        return events;
    }
    let mut event = |name: &str, mut data: Value| {
        data["type"] = json!(name);
        events.push(format!("event: {name}\ndata: {data}\n\n"));
    };
    event(
        "message_start",
        json!({"message": {"id": "a", "type": "message", "role": "assistant", "model": model,
            "content": [], "usage": {"input_tokens": INPUT, "output_tokens": 1}}}),
    );
    let text = json!({"type": "text", "text": ""});
    event(
        "content_block_start",
        json!({"index": 0, "content_block": text}),
    );
    for word in words {
        let delta = json!({"type": "text_delta", "text": word});
        event("content_block_delta", json!({"index": 0, "delta": delta}));
    }
    event("content_block_stop", json!({"index": 0}));
    if let Some((name, arguments)) = says.call {
        let block = json!({"type": "tool_use", "id": "c", "name": name, "input": {}});
        event(
            "content_block_start",
            json!({"index": 1, "content_block": block}),
        );
        let delta = json!({"type": "input_json_delta", "partial_json": arguments});
        event("content_block_delta", json!({"index": 1, "delta": delta}));
        event("content_block_stop", json!({"index": 1}));
    }
    event(
        "message_delta",
        json!({"delta": {"stop_reason": stop}, "usage": {"output_tokens": OUTPUT}}),
    );
    event("message_stop", json!({}));
    events
}

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says<'t> {
    pub(crate) text: &'t str,
    pub(crate) call: Option<(&'t str, &'t str)>,
    pub(crate) is_cut: bool,
    pub(crate) logprob: Option<f64>,
}

impl<'t> Says<'t> {
    pub(crate) const fn text(text: &'t str) -> Self {
        Self {
            text,
            call: None,
            is_cut: false,
            logprob: None,
        }
    }

    pub(crate) const fn calling(name: &'t str, arguments: &'t str) -> Self {
        Self {
            call: Some((name, arguments)),
            ..Self::text("")
        }
    }

    fn stop(&self, row: usize) -> &'static str {
        match (row, self.is_cut, self.call) {
            (OPENAI, true, _) => "length",
            (OPENAI, false, None) => "stop",
            (OPENAI, false, Some(_)) => "tool_calls",
            (_, true, _) => "max_tokens",
            (_, false, None) => "end_turn",
            (_, false, Some(_)) => "tool_use",
        }
    }
}

/// A tool that takes a path, for requests of a row.
pub(crate) fn tools(row: usize) -> Value {
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}},
        "required": ["path"]});
    if row == OPENAI {
        return json!([{"type": "function", "function": {"name": "read", "parameters": schema}}]);
    }
    json!([{"name": "read", "input_schema": schema}])
}

/// An upstream whose two targets play these scripts.
pub(crate) async fn upstream(row: usize, cheaply: Vec<Step>, dearly: Vec<Step>) -> Upstream {
    Upstream::playing(move |request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if body["model"] == cheap(row) {
            cheaply.clone()
        } else {
            dearly.clone()
        }
    })
    .await
}

/// The script of a stream, an event a chunk.
pub(crate) fn stream_of(events: &[String]) -> Vec<Step> {
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    Step::events(&events)
}

/// The cascade of a row, on.
pub(crate) fn cascade(row: usize) -> Cascade {
    Cascade {
        target: Target {
            provider: MODELS[row].0.to_owned(),
            model: cheap(row).to_owned(),
        },
        mode: LeverMode::On,
        quality: None,
        trust: TRUST,
        accept_from: None,
        verifiers: Vec::new(),
        agree: None,
        hold_back: HoldBack::default(),
    }
}

/// With these verifiers.
pub(crate) fn verified(row: usize, verifiers: Vec<Verifier>) -> Cascade {
    Cascade {
        verifiers,
        ..cascade(row)
    }
}

/// The plain setup with a route that cascades.
pub(crate) fn setup(url: &str, cascade: Cascade) -> Setup {
    let rule = Rule {
        cascade: Some(Arc::new(cascade)),
        ..rule(LeverMode::Off)
    };
    Setup {
        rules: vec![rule],
        ..plain(url)
    }
}

/// The last of so many calls, and its notes about the cascade.
pub(crate) async fn last(stage: &Stage, calls: usize) -> (CallSettled, Value) {
    let rows = stage.books.settled(calls).await;
    let settled = rows.last().and_then(|row| row.settled.clone()).unwrap();
    let notes: Value = serde_json::from_str(&settled.notes).unwrap();
    (settled, notes["cascade"].clone())
}

pub(crate) fn models(legs: &[Leg]) -> Vec<&str> {
    legs.iter().map(|leg| leg.model.as_str()).collect()
}

/// What an answer of the upstream costs at a model.
pub(crate) fn cost(row: usize, model: &str) -> PicoUsd {
    let usage = Usage {
        uncached: Tokens(INPUT),
        output: Tokens(OUTPUT),
        ..Usage::default()
    };
    let book = PriceBook::built_in();
    let bill = book.cost(MODELS[row].0, model, &usage, TODAY);
    bill.expect("a price").total()
}
