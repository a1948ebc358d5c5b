//! What holds for whole conversations, whatever is in them.
//!
//! **Invariant**: a conversation is trimmed as the rules say, whatever its texts are (properties
//! `a_longer_conversation_begins_with_the_shorter_one` and `only_results_and_pasted_texts_change`).

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::dialect::passages::Passage;
use wire::json::Tape;
use wire::prompt::Role;
use wire::usage::Tokens;

use super::super::edited::{Edited, Kept};
use super::prune::{Prune, Ratios};
use super::terms::{PROMPT_BYTES_MIN, Terms};
use super::{Count, Level, Progress, Technique, trim, trim_on};

/// Counts runs of letters, and every other sign.
struct Runs;

impl Count for Runs {
    fn tokens(&mut self, text: &str) -> Tokens {
        let runs = text.split_inclusive(|letter: char| !letter.is_alphanumeric());
        Tokens(runs.count() as u64)
    }

    fn more(&mut self, text: &str, edited: &Edited) -> i64 {
        let mut ends = (0, 0);
        for Kept { from, at, bytes } in edited.kept.iter().copied() {
            let kept = text.get(from..from + bytes);
            assert_eq!(kept, edited.text.get(at..at + bytes), "{edited:?}");
            assert!(kept.is_some() && ends.0 <= from && ends.1 <= at);
            ends = (from + bytes, at + bytes);
        }
        let [before, after] = [text, &edited.text].map(|text| self.tokens(text).0.cast_signed());
        before - after
    }
}

/// A message: who says it, what kind of text, and two numbers that it is made from.
type Said = (u8, u8, u32, u32);

fn said() -> impl Strategy<Value = Vec<Said>> {
    prop::collection::vec((0..4_u8, 0..11_u8, 0..4_u32, 0..30_u32), 1..9)
}

/// A conversation that is long enough for old results.
fn long() -> impl Strategy<Value = Vec<Said>> {
    prop::collection::vec((1..4_u8, 0..11_u8, 0..4_u32, 0..30_u32), 8..18)
}

/// A text of a kind; equal numbers make equal texts, near numbers overlapping ones.
fn text(kind: u8, from: u32, length: u32) -> String {
    let lines = |line: &dyn Fn(u32) -> String| {
        let lines: Vec<String> = (from * 7..from * 7 + length).map(line).collect();
        lines.join("\n")
    };
    match kind {
        0 => lines(&|n| format!("    let value_{n} = compute_the_value({n}, other);")),
        1 => lines(&|n| format!("{n}:    return self.handler.dispatch(event_{});", n % 9)),
        2 => lines(&|n| format!("/repo/source/package/module/file_{}.rs:{n}: found", n % 4)),
        3 => lines(&|n| format!("Step {n}/100, loss: {}", 100 - n)),
        4 => {
            let rows = (0..length).map(|n| json!({"id": n + from, "name": "näme", "at": null}));
            rows.collect::<Value>().to_string()
        }
        5 => {
            let rows =
                (0..length).map(|n| (format!("k{n}"), json!({"id": n + from, "b": [1.5, true]})));
            serde_json::to_string_pretty(&json!({"rows": rows.collect::<Value>()})).unwrap()
        }
        6 => format!("icon {}", "QUJDRDEyMzQ1Njc4OTA5".repeat(length as usize)),
        7 => lines(&|n| format!("\u{1b}[32m{n} %\r\u{1b}[0m{} done ✓", n + 1)),
        8 => {
            let items = lines(&|n| format!("<li><a href=\"/item/{n}\">item &amp; {n}</a></li>"));
            format!("<!DOCTYPE html><html><body><ul>{items}</ul></body></html>")
        }
        9 => lines(&|n| format!("test case_{n} ... ok\nERROR in case {n}: \"quoted\" \\ {n}")),
        _ => format!("{} \u{1F600} short", "wörd ".repeat(length as usize)),
    }
}

/// The messages of a conversation, each as JSON.
fn messages(dialect: Dialect, said: &[Said]) -> Vec<String> {
    let message = |(who, kind, from, length): &Said| {
        let text = text(*kind, *from, *length);
        let message = match (who, dialect) {
            (0, _) => json!({"role": "user", "content": text}),
            (1, _) => json!({"role": "assistant", "content": text}),
            (_, Dialect::OpenAiChat) => {
                json!({"role": "tool", "tool_call_id": "c", "content": text})
            }
            (2, Dialect::AnthropicMessages) => json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": text, "is_error": from % 4 == 3},
            ]}),
            (_, Dialect::AnthropicMessages) => json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c",
                    "content": [{"type": "text", "text": text}]},
                {"type": "text", "text": "go on"},
            ]}),
        };
        message.to_string()
    };
    said.iter().map(message).collect()
}

/// A body whose head alone is large enough to be cached.
fn body(dialect: Dialect, messages: &[String]) -> String {
    let rules = "Be careful. ".repeat(PROMPT_BYTES_MIN / 12 + 1);
    let messages = messages.join(",");
    match dialect {
        Dialect::OpenAiChat => format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{rules}"}},{messages}]}}"#
        ),
        Dialect::AnthropicMessages => {
            format!(r#"{{"model":"m","max_tokens":1,"system":"{rules}","messages":[{messages}]}}"#)
        }
    }
}

fn trimmed(dialect: Dialect, body: &str, terms: impl Into<Terms>) -> Vec<u8> {
    let request = dialect.read(body.as_bytes()).unwrap();
    trim(&request, terms, &mut Runs)
        .splice
        .apply(body.as_bytes())
}

fn passages(dialect: Dialect, body: &[u8]) -> Vec<Passage> {
    dialect.read(body).unwrap().passages()
}

fn is_json(text: &str) -> bool {
    text.starts_with(['{', '[']) && Tape::read(text.as_bytes()).is_ok()
}

#[test]
fn a_prompt_is_not_kept_below_what_is_cached() {
    for dialect in Dialect::ALL {
        let long = messages(dialect, &[(0, 10, 0, 1), (1, 10, 0, 1), (2, 3, 0, 60)]);
        let large = body(dialect, &long);
        let small = large.replace("Be careful. ", "");
        assert!(trimmed(dialect, &large, Level::Folded).len() < large.len());
        assert_eq!(trimmed(dialect, &small, Level::Folded), small.as_bytes());
        // Nor below what a model caches that caches less than others.
        let terms = |minimum| Terms::from(Level::Folded).cached_from(Some(Tokens(minimum)));
        assert_eq!(trimmed(dialect, &large, terms(4_096)), large.as_bytes());
        assert!(trimmed(dialect, &large, terms(1_024)).len() < large.len());
    }
}

#[test]
fn results_beyond_a_budget_are_folded() {
    let dialect = Dialect::OpenAiChat;
    // Steps of a log, which folding shortens and nothing else does.
    let log = |from: u32| -> String {
        let lines = (from..from + 80).map(|n| format!("Step {n}, loss: {}", n * 7 % 90));
        lines.collect::<Vec<_>>().join("\n")
    };
    let results: Vec<String> = (0..4).map(|place| log(place * 1_000)).collect();
    let result =
        |text: &String| json!({"role": "tool", "tool_call_id": "c", "content": text}).to_string();
    let messages: Vec<String> = results.iter().map(result).collect();
    let body = body(dialect, &messages);
    let one = Runs.tokens(&results[0]);
    let terms = Terms {
        folded_beyond: Some(one + one),
        ..Terms::default()
    };
    let sent = passages(dialect, &trimmed(dialect, &body, terms));
    let sent = sent.iter().filter(|it| it.role == Role::Tool);
    let whole: Vec<bool> = sent
        .zip(&results)
        .map(|(sent, whole)| sent.text == *whole)
        .collect();
    assert_eq!(whole, [true, true, false, false]);
}

#[test]
fn nothing_refers_to_what_was_left_out() {
    let dialect = Dialect::OpenAiChat;
    let listing = text(0, 100, 60);
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "c", "content": text});
    let said = json!({"role": "assistant", "content": "go on"});
    let terms = Terms {
        level: Some(Level::Exact),
        prune: Some(Prune {
            beyond: Tokens(400),
            ratios: Ratios {
                read: 1_000,
                write: 1_000,
            },
            full: None,
            cliff: None,
        }),
        ..Terms::default()
    };
    let sent = |first: &[Value]| {
        let others = (0..6).flat_map(|place| {
            let other = text(0, place * 10, 60);
            [said.clone(), result(&other)]
        });
        let messages = first.iter().cloned().chain(others);
        let messages = messages.chain([said.clone(), result(&listing)]);
        let messages: Vec<String> = messages.map(|message| message.to_string()).collect();
        let body = body(dialect, &messages);
        let sent = passages(dialect, &trimmed(dialect, &body, terms));
        let results = sent.into_iter().filter(|it| it.role == Role::Tool);
        results.map(|it| it.text).collect::<Vec<String>>()
    };
    let is_left_out = |text: &String| text.contains("were left out here");
    // The listing is gone, so that it is said in full when it comes again.
    let results = sent(&[result(&listing)]);
    assert!(is_left_out(&results[0]), "{}", results[0]);
    assert_eq!(results.last(), Some(&listing));
    // A second one that refers to it is too short to be left out, and keeps it.
    let results = sent(&[result(&listing), said.clone(), result(&listing)]);
    let left_out: Vec<bool> = results[..3].iter().map(is_left_out).collect();
    assert_eq!(left_out, [false, false, true]);
    assert!(results[1].contains("identical to earlier output"));
}

proptest! {
    /// Every body is trimmed by a process that knows nothing but it, as after a restart or at another
    /// replica: what was sent before is sent again, byte for byte.
    #[test]
    fn a_longer_conversation_begins_with_the_shorter_one(said in said()) {
        for dialect in Dialect::ALL {
            let messages = messages(dialect, &said);
            for level in [Level::Exact, Level::Folded] {
                let mut before = Vec::new();
                for length in 1..=messages.len() {
                    let body = body(dialect, &messages[..length]);
                    let mut sent = trimmed(dialect, &body, level);
                    prop_assert_eq!(sent.last_chunk(), Some(b"]}"));
                    sent.truncate(sent.len() - 2);
                    prop_assert!(sent.starts_with(&before));
                    before = sent;
                }
                before.extend(b"]}");
                prop_assert_eq!(trimmed(dialect, &body(dialect, &messages), level), before);
            }
        }
    }

    /// Going on from what another call has left is the same as beginning anew, whatever that call was.
    #[test]
    fn what_is_remembered_changes_nothing(said in said(), other in said()) {
        for dialect in Dialect::ALL {
            let (messages, other) = (messages(dialect, &said), messages(dialect, &other));
            let mut progress = Progress::new(Level::Folded);
            let calls = (1..=messages.len()).map(|length| &messages[..length]);
            for messages in calls.chain([&other[..], &messages[..1]]) {
                let body = body(dialect, messages);
                let request = dialect.read(body.as_bytes()).unwrap();
                let going_on = trim_on(&request, &mut progress, &mut Runs);
                prop_assert_eq!(going_on, trim(&request, Level::Folded, &mut Runs));
            }
        }
    }

    /// A result that was left out whole is left out of every later call, in the same words; whatever else
    /// was sent is sent again, byte for byte, until an edit. The newest results and errors stay.
    #[test]
    fn what_was_left_out_stays_left_out(
        said in long(), beyond in 0..2_000_u64, read in 1..11_u64, dialect in 0..2_usize,
    ) {
        let terms = Terms {
            level: Some(Level::Exact),
            folded_beyond: Some(Tokens(beyond / 2)),
            prune: Some(Prune {
                beyond: Tokens(beyond),
                ratios: Ratios { read: read * 100, write: 1_250 },
                full: Some(Tokens(4_000)),
                cliff: Some(Tokens(3_000)),
            }),
            ..Terms::default()
        };
        let dialect = Dialect::ALL[dialect];
        let messages = messages(dialect, &said);
        let mut before: Vec<Passage> = Vec::new();
        let mut progress = Progress::new(terms);
        for length in 1..=messages.len() {
            let body = body(dialect, &messages[..length]);
            let request = dialect.read(body.as_bytes()).unwrap();
            let going_on = trim_on(&request, &mut progress, &mut Runs);
            if length % 2 == 0 {
                prop_assert_eq!(&going_on, &trim(&request, terms, &mut Runs));
            }
            let sent = going_on.splice.apply(body.as_bytes());
            let whole = passages(dialect, body.as_bytes());
            let after = passages(dialect, &sent);
            let mut pruned = 0;
            for (place, (whole, after)) in whole.iter().zip(&after).enumerate() {
                let is_pruned = after.text.contains("were left out here to save room");
                pruned += usize::from(is_pruned);
                prop_assert!(!is_pruned || whole.role == Role::Tool && !whole.is_error);
                prop_assert!(!is_json(&whole.text) || is_json(&after.text));
                let is_same = before.get(place).is_none_or(|before| before.text == after.text);
                prop_assert!(is_same || is_pruned);
            }
            prop_assert_eq!(pruned, going_on.pruned.len());
            prop_assert_eq!(pruned > 0, going_on.saved.contains_key(&Technique::Prune));
            let results = after.iter().filter(|it| it.role == Role::Tool);
            let newest = results.rev().take(5);
            prop_assert!(newest.clone().all(|it| !it.text.contains("were left out here")));
            before = after;
        }
    }

    #[test]
    fn nothing_grows_and_json_stays_json(said in said()) {
        for dialect in Dialect::ALL {
            let body = body(dialect, &messages(dialect, &said));
            let before = passages(dialect, body.as_bytes());
            for level in [Level::Exact, Level::Folded] {
                let sent = trimmed(dialect, &body, level);
                prop_assert!(serde_json::from_slice::<Value>(&sent).is_ok());
                prop_assert!(sent.len() <= body.len());
                let after = passages(dialect, &sent);
                prop_assert_eq!(before.len(), after.len());
                for (before, after) in before.iter().zip(&after) {
                    prop_assert!(Runs.tokens(&after.text) <= Runs.tokens(&before.text));
                    prop_assert!(!is_json(&before.text) || is_json(&after.text));
                }
            }
        }
    }

    #[test]
    fn only_results_and_pasted_texts_change(said in said()) {
        for dialect in Dialect::ALL {
            let body = body(dialect, &messages(dialect, &said));
            let before = passages(dialect, body.as_bytes());
            let after = passages(dialect, &trimmed(dialect, &body, Level::Folded));
            let mut answered = false;
            for (before, after) in before.iter().zip(&after) {
                answered |= before.role == Role::Assistant;
                let may_change = match before.role {
                    Role::Tool => !before.is_error,
                    Role::User => answered,
                    Role::Assistant | Role::System => false,
                };
                prop_assert!(may_change || before.text == after.text);
                for line in before.text.lines().filter(|line| line.contains("ERROR")) {
                    prop_assert!(after.text.contains(line));
                }
            }
        }
    }
}
