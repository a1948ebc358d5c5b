//! Thinking that is bound to what stands before it, and the levers that must not touch that.

use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::shape::cache::decide::decide;
use policy::shape::cache::memory::Memory;
use policy::shape::cache::{self, Sight};
use policy::shape::trim::prune::{Prune, Ratios};
use policy::shape::trim::terms::Terms;
use policy::shape::trim::{Count, Level, trim};
use proptest::prelude::{Strategy, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};
use sim::binding::Bindings;

use sim::provider::meter::{Uncached, quarter_of_bytes};
use sim::provider::{Answer, Ask, Provider};
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::splice::Splice;
use wire::usage::Tokens;

const AT: Moment = Moment(1_795_000_000_000);
const BINDING: &str = "claude-opus-5-5";

/// Counts runs of letters, and every other sign.
struct Runs;

impl Count for Runs {
    fn tokens(&mut self, text: &str) -> Tokens {
        let runs = text.split_inclusive(|letter: char| !letter.is_alphanumeric());
        Tokens(runs.count() as u64)
    }
}

fn provider() -> Provider {
    Provider::new(quarter_of_bytes, Box::new(Uncached))
}

fn ask(provider: &mut Provider, body: &[u8]) -> (u16, Value) {
    let Answer { status, body, .. } = provider.answer(&Ask {
        method: "POST",
        path: "/v1/messages",
        authorization: None,
        x_api_key: Some("key"),
        anthropic_version: Some("2023-06-01"),
        body,
        at: AT,
    });
    let answer = serde_json::from_slice(&body.bytes());
    (status, answer.expect("a whole answer"))
}

fn body(model: &str, messages: &[Value]) -> Value {
    json!({"model": model, "max_tokens": 1_000, "thinking": {"type": "adaptive"},
        "system": "Be careful. ".repeat(600), "tools": [{"name": "read", "input_schema": {}}],
        "messages": messages})
}

/// A question, the answer to it, and a second question.
fn begun(provider: &mut Provider, model: &str) -> Vec<Value> {
    let mut messages = vec![json!({"role": "user", "content": "one"})];
    let (status, answer) = ask(provider, body(model, &messages).to_string().as_bytes());
    assert_eq!(status, 200, "{answer}");
    messages.push(json!({"role": "assistant", "content": answer["content"]}));
    messages.push(json!({"role": "user", "content": "two"}));
    messages
}

#[test]
fn a_changed_prefix_is_refused() {
    for (model, binds) in [(BINDING, true), ("claude-sonnet-4-6", false)] {
        let mut provider = provider();
        let messages = begun(&mut provider, model);
        let whole = body(model, &messages);
        assert_eq!(ask(&mut provider, whole.to_string().as_bytes()).0, 200);
        let changes: [fn(&mut Value); 3] = [
            |body| body["messages"][0]["content"] = "One".into(),
            |body| body["system"] = "Be quick.".into(),
            |body| body["tools"][0]["name"] = "write".into(),
        ];
        for (change, refused) in changes.iter().zip(1_u64..) {
            let mut body = whole.clone();
            change(&mut body);
            let (status, answer) = ask(&mut provider, body.to_string().as_bytes());
            assert_eq!(status, if binds { 400 } else { 200 }, "{answer}");
            assert_eq!(provider.unbound(), if binds { refused } else { 0 });
            let says_so = answer
                .to_string()
                .contains("bound to a different conversation");
            assert_eq!(says_so, binds, "{answer}");
        }
    }
}

#[test]
fn markers_bind_nothing() {
    let mut provider = provider();
    let mut messages = begun(&mut provider, BINDING);
    messages[0]["content"] = json!([{"type": "text", "text": "one",
        "cache_control": {"type": "ephemeral"}}]);
    let marked = body(BINDING, &messages).to_string();
    assert_eq!(ask(&mut provider, marked.as_bytes()).0, 200);
    assert_eq!(provider.unbound(), 0);
}

#[test]
fn replays_count_what_they_break() {
    let mut provider = provider();
    let mut messages = begun(&mut provider, "claude-sonnet-4-6");
    let mut bindings = Bindings::default();
    let mut look = |messages: &[Value]| {
        let body = body("claude-sonnet-4-6", messages).to_string();
        let request = Dialect::AnthropicMessages.read(body.as_bytes());
        bindings.broken(&request.expect("a request"))
    };
    assert_eq!(look(&messages), 0);
    messages[2]["content"] = "three".into();
    assert_eq!(look(&messages), 0);
    messages[0]["content"] = "four".into();
    assert_eq!(look(&messages), 1);
}

/// A result of a tool: its kind, and two numbers that it is made from.
type Result = (u8, u32, u32);

fn results() -> impl Strategy<Value = Vec<(Result, bool)>> {
    let result = (0..6_u8, 0..4_u32, 0..40_u32);
    prop::collection::vec((result, prop::bool::ANY), 1..7)
}

fn text((kind, from, length): Result) -> String {
    let line = |n: u32| match kind {
        0 => format!("    let value_{n} = compute_the_value({n}, other);"),
        1 => format!("/repo/source/package/module/file_{}.rs:{n}: found", n % 4),
        2 => format!("Step {n}, loss: {}", n % 7),
        3 => format!("test case_{n} ... ok\nERROR in case {n}: \"quoted\""),
        4 => format!("{{\"id\": {n}, \"name\": \"näme {n}\"}}"),
        _ => format!("\u{1b}[32m{n} %\r\u{1b}[0m{} done ✓", n + 1),
    };
    let lines: Vec<String> = (from * 7..from * 7 + length).map(line).collect();
    match kind {
        4 => format!("[{}]", lines.join(", ")),
        _ => lines.join("\n"),
    }
}

/// The edits of the cache lever.
fn mark(request: &Request<'_>, memory: &mut Memory, splice: &mut Splice) {
    let model = PriceBook::built_in().find("anthropic", BINDING);
    let model = model.expect("the book has it");
    let rates = model.rates(AT, Tokens(1), None).expect("it has a price");
    let sizes = memory.sizes("tenant", BINDING, &request.prompt, request.body);
    let decision = decide(
        memory,
        &Sight {
            at: AT,
            tenant: "tenant",
            target: BINDING,
            terms: cache::Terms::of(model, rates),
            prompt: &request.prompt,
            sizes: &sizes,
            rest: Tokens(0),
            body: request.body,
            session: None,
            client: &request.cache,
        },
    );
    for marked in &decision.marks {
        request.mark(marked.segment, marked.ttl, splice).ok();
    }
}

/// Plays a conversation through two gateways, of which either may have just started; gives the calls
/// that were trimmed, and the provider's count of what no longer fits.
fn played(results: &[(Result, bool)], terms: Terms) -> (usize, u64) {
    let mut provider = provider();
    let mut replicas = [Memory::default(), Memory::default()];
    let mut messages = vec![json!({"role": "user", "content": "tool:read"})];
    let mut trimmed = 0;
    for (turn, (result, restarts)) in results.iter().enumerate() {
        let memory = &mut replicas[turn % 2];
        if *restarts {
            *memory = Memory::default();
        }
        let body = body(BINDING, &messages).to_string();
        let request = Dialect::AnthropicMessages.read(body.as_bytes());
        let request = request.expect("a request");
        let mut splice = trim(&request, terms, &mut Runs).splice;
        trimmed += usize::from(!splice.is_empty());
        mark(&request, memory, &mut splice);
        let (status, answer) = ask(&mut provider, &splice.apply(body.as_bytes()));
        if status != 200 {
            break;
        }
        messages.push(json!({"role": "assistant", "content": answer["content"]}));
        let content = json!([{"type": "tool_result", "tool_use_id": format!("t{turn}"),
            "content": text(*result)}]);
        messages.push(json!({"role": "user", "content": content}));
    }
    (trimmed, provider.unbound())
}

proptest! {
    #[test]
    fn trimmed_thinking_stays_bound(results in results(), folded in prop::bool::ANY) {
        let level = if folded { Level::Folded } else { Level::Exact };
        let (_, unbound) = played(&results, level.into());
        prop_assert_eq!(unbound, 0);
    }
}

/// Whoever edits history breaks what is bound to it: that is why the gateway never does so there.
#[test]
fn edited_history_unbinds_thinking() {
    let results: Vec<(Result, bool)> = (0..12).map(|turn| ((0, turn, 40), true)).collect();
    let (trimmed, unbound) = played(&results, Level::Exact.into());
    assert!(trimmed > 0 && unbound == 0, "{trimmed} {unbound}");
    let pruned = Terms {
        prune: Some(Prune {
            beyond: Tokens(1_000),
            ratios: Ratios {
                read: 1_000,
                write: 1_000,
            },
            full: None,
            cliff: None,
        }),
        ..Terms::default()
    };
    assert!(played(&results, pruned).1 > 0);
}
