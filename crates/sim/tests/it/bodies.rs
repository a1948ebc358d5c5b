//! Replays of real request bodies: what is sent is the client's body and our edits, nothing else.

use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::shape::cache::{Decision, Grain, Mode};
use serde_json::{Value, json};
use sim::provider::meter::{quarter_of_bytes, segment_tokens};
use sim::replay::{Call, Input, Outcome, Replay, Sizes, Switch};
use wire::dialect::Dialect;
use wire::prompt::Prompt;
use wire::splice::Splice;
use wire::usage::Tokens;

struct Quarter(Dialect);

impl Sizes for Quarter {
    fn sizes(&mut self, _prompt: &Prompt, body: &[u8]) -> Vec<Tokens> {
        let request = self.0.read(body).expect("it is a request");
        segment_tokens(&request, quarter_of_bytes)
    }
}

fn body(dialect: Dialect, model: &str, turns: usize) -> String {
    let text = |of: &str| format!("{of} {}", "words of some length ".repeat(100));
    let mut messages: Vec<Value> = vec![];
    for turn in 0..=turns {
        messages.push(json!({"role": "user", "content": text(&format!("question {turn}"))}));
        if turn < turns {
            messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
        }
    }
    let system = text("Be brief. \u{1f980}").repeat(3);
    let value = match dialect {
        Dialect::AnthropicMessages => json!({
            "model": model, "max_tokens": 9, "system": system,
            "tools": [{"name": "t", "input_schema": {"type": "object", "n": 1.0}}],
            "messages": messages, "unknown": 9_007_199_254_740_993_u64,
        }),
        Dialect::OpenAiChat => {
            messages.insert(0, json!({"role": "system", "content": system}));
            json!({
                "model": model, "messages": messages,
                "tools": [{"type": "function", "function": {"name": "t"}}],
            })
        }
    };
    value.to_string()
}

fn run(dialect: Dialect, model: &str) -> Vec<Outcome> {
    let model = PriceBook::built_in()
        .find_any(model)
        .expect("the book has it");
    let at = Moment(1_795_000_000_000);
    let mut replay =
        Replay::new(model, at, Switch::On, Grain::Breakpoints).expect("it has a price");
    let outcomes = (0..12).map(|turn| {
        let body = body(dialect, &model.id, turn);
        let call = Call {
            task: Some("task"),
            at: Moment(turn as u64 * 8_000),
            input: Input::Body {
                dialect,
                bytes: body.as_bytes(),
            },
            output: Tokens(10),
            session: None,
        };
        // Edits that do not undo, or that the model would see, are an error here.
        replay
            .call(&call, &mut Quarter(dialect))
            .expect("only markers are added")
    });
    outcomes.collect()
}

#[test]
fn replays_repeat() {
    let check = |dialect, model: &str, marks: bool| {
        let outcomes = run(dialect, model);
        assert_eq!(outcomes, run(dialect, model), "{model}");
        let last = outcomes.last().expect("there are twelve");
        let decision = last.decision.as_ref().expect("the lever is on");
        assert_eq!(!decision.marks.is_empty(), marks, "{model}");
        let [read, input] = [last.policy.cache_read.0, last.policy.input().0];
        assert!(read * 10 > input * 8, "{model}: {read} of {input} read");
    };
    check(Dialect::AnthropicMessages, "claude-sonnet-4-6", true);
    check(Dialect::AnthropicMessages, "claude-opus-5-5", true);
    check(Dialect::OpenAiChat, "gpt-5.4", false);
    check(Dialect::OpenAiChat, "gpt-5.6-terra", true);
}

/// What is sent with a decision's edits, and what undoing them gives.
fn marked(dialect: Dialect, body: &str, decision: &Decision) -> (Vec<u8>, Vec<u8>) {
    let request = dialect.read(body.as_bytes()).expect("it is a request");
    let mut splice = Splice::default();
    for mark in &decision.marks {
        let marked = request.mark(mark.segment, mark.ttl, &mut splice);
        marked.expect("decisions name only segments that take a marker");
    }
    if let Some(key) = &decision.cache_key {
        request.set_cache_key(key, &mut splice);
    }
    if decision.mode == Mode::Explicit {
        request.set_cache_explicit(&mut splice);
    }
    let sent = splice.apply(body.as_bytes());
    let mut undone = sent.clone();
    for (range, original) in splice.undo(body.as_bytes()).into_iter().rev() {
        undone.splice(range, original.iter().copied());
    }
    (sent, undone)
}

#[test]
fn marked_bodies_undo_to_the_original() {
    let check = |dialect, model: &str| {
        let mut previous: Option<Prompt> = None;
        for (turn, outcome) in run(dialect, model).iter().enumerate() {
            let decision = outcome.decision.as_ref().expect("the lever is on");
            let body = body(dialect, model, turn);
            let (sent, undone) = marked(dialect, &body, decision);
            assert_eq!(undone, body.as_bytes(), "{model} turn {turn}");
            assert_ne!(sent, undone, "{model} turn {turn}: something is asked for");
            let prompt = dialect.read(&sent).expect("it stays a request").prompt;
            if let Some(previous) = previous {
                let common = prompt.common_with(&previous);
                assert_eq!(common, previous.segments.len(), "{model} turn {turn}");
            }
            previous = Some(prompt);
        }
    };
    check(Dialect::AnthropicMessages, "claude-sonnet-4-6");
    check(Dialect::AnthropicMessages, "claude-opus-5-5");
    check(Dialect::OpenAiChat, "gpt-5.4");
    check(Dialect::OpenAiChat, "gpt-5.6-terra");
}
