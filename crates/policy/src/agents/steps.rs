//! Reads the steps of a task from the messages of a request, as hashes.
//!
//! **Invariant**: formatting and the order of keys and of parallel calls do not matter (test
//! `formatting_does_not_matter`).

use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Tools that are called again and again on purpose: they wait for somebody else.
pub const POLLING: [&str; 8] = [
    "await",
    "check_status",
    "get_status",
    "poll",
    "sleep",
    "status",
    "tail",
    "wait",
];

/// Arguments by which tools name the file that they work on.
const FILE_ARGUMENTS: [&str; 5] = ["file", "file_name", "file_path", "filename", "path"];

/// Words by which results say that something went wrong.
const ERROR_CUES: [&str; 12] = [
    "cannot",
    "command not found",
    "could not",
    "error",
    "exception",
    "failed",
    "failure",
    "fatal:",
    "invalid",
    "no such",
    "not found",
    "traceback",
];

/// Phrases by which providers and tools say that a prompt was too long.
const CONTEXT_CUES: [&str; 5] = [
    "context_length_exceeded",
    "context window exceeded",
    "exceeds the context window",
    "maximum context length",
    "prompt is too long",
];

/// 240 bytes: an error says so in its first lines; later in a result such words may be found text.
const CUE_BYTES: usize = 240;

/// 2 kB: what tells two errors apart stands before this.
const ERROR_BYTES: usize = 2_048;

/// One turn of an agent: what it said or did, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It called tools.
    Acted(Vec<Act>),
    /// It only spoke.
    Spoke {
        /// What it said.
        text: u64,
        /// What it was told, if anything.
        answer: Option<u64>,
    },
    /// Its prompt was too long.
    ContextError,
}

/// One call of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// Name and canonical arguments.
    pub call: u64,
    /// What came back, if it did.
    pub result: Option<u64>,
    /// The result without its figures and paths, if it is an error.
    pub error: Option<u64>,
    /// The file that it works on, if it names one.
    pub file: Option<u64>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To get on.
    Work,
    /// To wait; repeating it means nothing.
    Wait,
}

/// The steps of a whole transcript, in either dialect's message form; `polling` names the tools that
/// may repeat. Agents without tool calls act by fenced code, and are answered by the next message.
pub fn steps(messages: &[Value], polling: &[&str]) -> Vec<Step> {
    let located = located(messages, polling).into_iter();
    located.map(|located| located.step).collect()
}

/// A step and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The step.
    pub step: Step,
    /// The assistant's message.
    pub message: usize,
    /// The last message that answered it, if one did.
    pub answered: Option<usize>,
}

/// The same, each with its place.
pub fn located(messages: &[Value], polling: &[&str]) -> Vec<Located> {
    let mut steps = Vec::new();
    let mut rest = messages;
    while let Some(at) = rest
        .iter()
        .position(|message| message["role"] == "assistant")
    {
        let after = rest.get(at + 1..).unwrap_or_default();
        let told = after
            .iter()
            .take_while(|message| message["role"] != "assistant");
        let count = told.count();
        let (told, next) = after.split_at(count);
        if let Some(message) = rest.get(at) {
            steps.push(Located {
                step: step(message, told, polling),
                message: messages.len() - rest.len() + at,
                answered: (count > 0).then(|| messages.len() - next.len() - 1),
            });
        }
        rest = next;
    }
    steps
}

/// One step: an assistant's message and all messages up to its next one.
pub fn step(message: &Value, told: &[Value], polling: &[&str]) -> Step {
    let results: Vec<(Option<&str>, String)> = told.iter().flat_map(results).collect();
    if results.iter().any(|(_, text)| is_context_error(text)) {
        return Step::ContextError;
    }
    let calls = calls(message);
    if calls.is_empty() {
        let answer =
            (!results.is_empty()).then(|| hash(results.iter().map(|(_, text)| text.trim())));
        return Step::Spoke {
            text: hash([text_of(&message["content"]).trim()]),
            answer,
        };
    }
    let only_one = calls.len() == 1;
    let mut acts: Vec<Act> = calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            let own = |(id, _): &&(Option<&str>, String)| call.id.is_some() && *id == call.id;
            let result = if only_one {
                results.first()
            } else {
                results.iter().find(own).or_else(|| results.get(index))
            };
            call.act(result.map(|(_, text)| text.as_str()), polling)
        })
        .collect();
    acts.sort_unstable_by_key(|act| (act.call, act.result));
    Step::Acted(acts)
}

/// A call as it stands in a message.
struct Call<'message> {
    id: Option<&'message str>,
    name: &'message str,
    arguments: Value,
}

impl Call<'_> {
    fn act(&self, result: Option<&str>, polling: &[&str]) -> Act {
        let first_word = self
            .arguments
            .as_str()
            .and_then(|text| text.split_whitespace().next());
        let waits =
            polling.contains(&self.name) || first_word.is_some_and(|word| polling.contains(&word));
        let mut hasher = Xxh3::new();
        hasher.update(self.name.as_bytes());
        canonical(&self.arguments, &mut hasher);
        Act {
            call: hasher.digest(),
            result: result.map(|text| hash([text.trim()])),
            error: result.and_then(error),
            file: file(&self.arguments).map(|name| hash([name])),
            purpose: if waits { Purpose::Wait } else { Purpose::Work },
        }
    }
}

/// The calls of a message: of either dialect, or its fenced code.
fn calls(message: &Value) -> Vec<Call<'_>> {
    if let Some(calls) = message["tool_calls"].as_array().filter(|it| !it.is_empty()) {
        let call = |call: &'_ Value| {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments.trim()))
        };
        return calls
            .iter()
            .map(|it| Call {
                id: it["id"].as_str().filter(|id| !id.is_empty()),
                name: it["function"]["name"].as_str().unwrap_or_default(),
                arguments: call(it),
            })
            .collect();
    }
    let blocks = message["content"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let used: Vec<Call<'_>> = blocks
        .iter()
        .filter(|block| block["type"] == "tool_use")
        .map(|block| Call {
            id: block["id"].as_str(),
            name: block["name"].as_str().unwrap_or_default(),
            arguments: block["input"].clone(),
        })
        .collect();
    if !used.is_empty() {
        return used;
    }
    let fenced = fenced(&text_of(&message["content"]));
    fenced
        .map(|code| Call {
            id: None,
            name: "",
            arguments: Value::from(code),
        })
        .into_iter()
        .collect()
}

/// The code between fences, or after the tag that some agents use instead; lines without their ends.
fn fenced(text: &str) -> Option<String> {
    let code: Vec<&str> = if let Some((_, after)) = text.split_once("<execute_tool>") {
        vec![after.split("</execute_tool>").next().unwrap_or(after)]
    } else {
        let parts: Vec<&str> = text.split("```").collect();
        if parts.len() < 3 {
            return None;
        }
        parts.into_iter().skip(1).step_by(2).map(untagged).collect()
    };
    let lines = code
        .iter()
        .flat_map(|part| part.trim().lines())
        .map(str::trim_end);
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Code without the language that stands behind the fence.
fn untagged(code: &str) -> &str {
    match code.split_once('\n') {
        Some((tag, code)) if !tag.trim().contains(char::is_whitespace) => code,
        Some(_) | None => code,
    }
}

/// What a message told the agent: text, with the id of the call that it answers.
fn results(message: &Value) -> Vec<(Option<&str>, String)> {
    let blocks = message["content"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let answers: Vec<_> = blocks
        .iter()
        .filter(|block| block["type"] == "tool_result")
        .map(|block| (block["tool_use_id"].as_str(), text_of(&block["content"])))
        .collect();
    if answers.is_empty() {
        let id = message["tool_call_id"].as_str().filter(|id| !id.is_empty());
        return vec![(id, text_of(&message["content"]))];
    }
    answers
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter_map(|block| block["text"].as_str());
            texts.collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn hash<'text>(texts: impl IntoIterator<Item = &'text str>) -> u64 {
    let mut hasher = Xxh3::new();
    for text in texts {
        hasher.update(text.as_bytes());
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

/// Hashes a value so that the order of keys does not matter. Text counts as it stands, but for its
/// ends: an indentation may be the very thing that an agent corrects.
fn canonical(value: &Value, hasher: &mut Xxh3) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<_> = members.iter().collect();
            names.sort_unstable_by_key(|(name, _)| *name);
            hasher.update(b"{");
            for (name, value) in names {
                hasher.update(&xxh3_64(name.as_bytes()).to_le_bytes());
                canonical(value, hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                canonical(item, hasher);
            }
            hasher.update(b"]");
        }
        Value::String(text) => hasher.update(&xxh3_64(text.trim().as_bytes()).to_le_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            hasher.update(value.to_string().as_bytes());
            hasher.update(b",");
        }
    }
}

/// The file that arguments name.
fn file(arguments: &Value) -> Option<&str> {
    let named = FILE_ARGUMENTS
        .iter()
        .find_map(|name| arguments[*name].as_str());
    named.or_else(|| {
        let line = arguments.as_str()?.lines().next()?;
        let mut words = line.split_whitespace();
        words.find(|word| word.contains('/') || has_suffix(word))
    })
}

/// Whether a word ends like the name of a file: `main.rs`.
fn has_suffix(word: &str) -> bool {
    word.rsplit_once('.').is_some_and(|(stem, suffix)| {
        !stem.is_empty()
            && (1..=5).contains(&suffix.len())
            && suffix.chars().all(char::is_alphanumeric)
    })
}

/// The first bytes of a text, lowercase.
fn head(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_lowercase()
}

/// What kind of error a result is: letters alone, so that line numbers and times do not matter.
fn error(result: &str) -> Option<u64> {
    let result = result.trim();
    let start = head(result, CUE_BYTES);
    if !ERROR_CUES.iter().any(|cue| start.contains(cue)) {
        return None;
    }
    let letters = head(result, ERROR_BYTES).replace(|letter: char| !letter.is_alphabetic(), "");
    Some(xxh3_64(letters.as_bytes()))
}

fn is_context_error(result: &str) -> bool {
    let start = head(result, CUE_BYTES);
    CONTEXT_CUES.iter().any(|cue| start.contains(cue))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{POLLING, Purpose, Step, steps};

    fn check(one: &[Value], other: &[Value], expect: bool) {
        let (one, other) = (steps(one, &POLLING), steps(other, &POLLING));
        assert_eq!(one == other, expect, "{one:?} / {other:?}");
    }

    fn called(arguments: &str) -> Vec<Value> {
        vec![
            json!({"role": "assistant", "tool_calls": [
                {"id": "a", "function": {"name": "read", "arguments": arguments}},
            ]}),
            json!({"role": "tool", "tool_call_id": "a", "content": "text"}),
        ]
    }

    #[test]
    fn formatting_does_not_matter() {
        let plain = called(r#"{"path":"a.rs","from":1}"#);
        check(
            &plain,
            &called("{ \"from\" : 1,\n\"path\": \"a.rs\" }"),
            true,
        );
        check(&plain, &called(r#"{"path":"a.rs","from":2}"#), false);
        check(&plain, &called(r#"{"path":"b.rs","from":1}"#), false);
        let used = json!({"role": "assistant", "content": [
            {"type": "text", "text": "I read it again."},
            {"type": "tool_use", "id": "b", "name": "read", "input": {"from": 1, "path": "a.rs"}},
        ]});
        let result = json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "text"}]},
        ]});
        check(&plain, &[used, result], true);
    }

    #[test]
    fn parallel_calls_have_no_order() {
        let turn = |order: [&str; 2]| {
            let call = |id: &str| json!({"id": id, "function": {"name": id, "arguments": "{}"}});
            let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": id});
            vec![
                json!({"role": "assistant", "tool_calls": [call(order[0]), call(order[1])]}),
                result(order[1]),
                result(order[0]),
            ]
        };
        check(&turn(["a", "b"]), &turn(["b", "a"]), true);
    }

    #[test]
    fn fenced_code_is_a_call() {
        let said = |text: &str| {
            [
                json!({"role": "assistant", "content": text}),
                json!({"role": "user", "content": "bash: foo: command not found"}),
            ]
        };
        let one = said("First I try.\n```bash\nfoo a.rs\n```");
        check(&one, &said("Again:\n```\nfoo a.rs \n```\n"), true);
        let [Step::Acted(acts)] = &steps(&one, &POLLING)[..] else {
            panic!("it acted");
        };
        assert!(acts[0].error.is_some() && acts[0].file.is_some());
        let waits = steps(&said("```\nsleep 10\n```"), &POLLING);
        let [Step::Acted(acts)] = &waits[..] else {
            panic!("it acted");
        };
        assert_eq!(acts[0].purpose, Purpose::Wait);
    }
}
