//! What looking for loops adds to a call: reading the messages of a body, and the detector over all of
//! their steps.
//!
//! `look [ROUNDS]`: bodies of 20 kB, 200 kB and 1 MB, agents that read files and come to no end. Prints
//! one JSON object: nanoseconds at each size, the middle one and that of 99 in 100, for a conversation
//! that was never seen and for one that goes on.
//!
//! **Invariant**: the answer is checked: the loop at the end of each body is found.

use std::time::Instant;

use policy::agents::look::{Look, Progress, go_on, look};
use policy::agents::steps::POLLING;
use serde_json::{Value, json};
use wire::json::Tape;

const SIZES: [usize; 3] = [20_000, 200_000, 1_000_000];

/// 2 kB a result: about the mean of the recorded coding agents.
const RESULT_BYTES: usize = 2_000;

fn body(bytes: usize) -> Vec<u8> {
    let mut messages = vec![json!({"role": "user", "content": "find out what is wrong"})];
    let mut size = 0;
    let mut turn = 0;
    while size < bytes {
        // The last eight calls are the same.
        let what = if size + 8 * RESULT_BYTES >= bytes {
            0
        } else {
            turn + 1
        };
        let line = format!("line {what}: \"let value = compute({what});\"\n");
        let text = line.repeat(RESULT_BYTES / line.len());
        messages.push(json!({"role": "assistant", "content": [
            {"type": "text", "text": "I look at the next file."},
            {"type": "tool_use", "id": "c", "name": "read", "input": {"path": format!("src/{what}.rs")}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c", "content": text}]}));
        size += RESULT_BYTES;
        turn += 1;
    }
    let body = json!({"model": "claude-sonnet-4-6", "max_tokens": 1024, "messages": messages});
    body.to_string().into_bytes()
}

/// Nanoseconds of so many runs, as quantiles.
fn timed(rounds: usize, mut run: impl FnMut() -> Look) -> Value {
    let mut nanos: Vec<u128> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            let seen = run();
            let nanos = begin.elapsed().as_nanos();
            assert!(seen.found.is_some_and(|it| it.repeats >= 8), "{seen:?}");
            nanos
        })
        .collect();
    nanos.sort_unstable();
    let at = |permille: usize| {
        u64::try_from(nanos[(nanos.len() - 1) * permille / 1_000]).expect("small")
    };
    json!({"p50_ns": at(500), "p99_ns": at(990)})
}

/// The messages of a body behind so many.
fn messages(body: &[u8], read: usize) -> Vec<Value> {
    let tape = Tape::read(body).expect("a body");
    let messages = tape.root().get("messages").expect("messages");
    let rest = messages.items().skip(read);
    rest.map(|it| serde_json::from_str(it.raw()).expect("a message"))
        .collect()
}

fn main() {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(2_000, |text| text.parse().expect("a count"));
    let mut found = serde_json::Map::new();
    for size in SIZES {
        let body = body(size);
        let whole = timed(rounds, || look(&messages(&body, 0), &POLLING));
        // The call before had one step less.
        let all = messages(&body, 0);
        let known = go_on(Progress::default(), &all[..all.len() - 2], &POLLING).1;
        let on = timed(rounds, || {
            let rest = messages(&body, known.read());
            go_on(known.clone(), &rest, &POLLING).0
        });
        found.insert(
            size.to_string(),
            json!({"bytes": body.len(), "whole": whole, "goes_on": on}),
        );
    }
    println!("{:#}", Value::from(found));
}
