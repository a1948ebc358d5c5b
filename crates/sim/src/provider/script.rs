//! What the simulated model says: a small language inside the last user text, so that a test
//! chooses the answer with the request and needs no other channel.
//!
//! `tool:NAME` and `tools:NAME,NAME` call tools (if any are offered), `error:STATUS` fails,
//! `words:N` answers with N words, anything else is repeated as `You said: …`.
//!
//! **Invariant**: a reply depends on nothing but the request (test `wishes_are_read_in_order`).

use serde_json::{Value, json};

use crate::provider::list;

/// Characters of the user's text that are repeated.
const ECHO_CHARS: usize = 40;

/// Longest answer of `words:N`: 100 000 words are half a megabyte, larger than any real answer.
const WORDS_MAX: usize = 100_000;

/// The arguments of every simulated tool call, cut as they are streamed.
const ARGUMENTS: [&str; 2] = ["{\"city\":", "\"Paris\"}"];

/// What a request asks for, read from either dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompted {
    /// The last text that the user wrote.
    pub text: String,
    /// Whether the model may call a tool now.
    pub tools: Tools,
    /// Whether it thinks before it answers.
    pub thinking: Thinking,
    /// The most tokens that it may generate.
    pub tokens_max: Option<u64>,
}

/// Whether tools may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tools {
    /// Offered, and the request does not end with the result of a call.
    Callable,
    /// Not offered, forbidden, or just answered.
    Closed,
}

/// Whether the model thinks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// What the model says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Thinking, in the pieces in which it is streamed; empty if it does not think.
    pub thinking: Vec<String>,
    /// Text, in the pieces in which it is streamed.
    pub text: Vec<String>,
    /// Names of the tools that are called.
    pub calls: Vec<String>,
    /// Why it stopped.
    pub stop: Stop,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It had said everything.
    #[default]
    Done,
    /// It wants the results of its calls.
    Calls,
    /// It reached the request's limit.
    Limit,
}

impl Reply {
    /// The reply to a request, or the status that it asked to fail with.
    pub fn to(prompted: &Prompted, count: fn(&str) -> u64) -> Result<Self, u16> {
        if let Some(status) = wished_status(&prompted.text) {
            return Err(status);
        }
        let mut reply = Self::default();
        if prompted.thinking == Thinking::On {
            reply.thinking = pieces(&format!("The user wrote: {}", echo(&prompted.text)));
        }
        if prompted.tools == Tools::Callable {
            reply.calls = wished_calls(&prompted.text);
        }
        if reply.calls.is_empty() {
            reply.text = wished_text(&prompted.text);
        } else {
            reply.stop = Stop::Calls;
        }
        if let Some(tokens_max) = prompted.tokens_max {
            reply.stop_at(tokens_max, count);
        }
        Ok(reply)
    }

    /// Drops what no longer fits, last piece first.
    fn stop_at(&mut self, tokens_max: u64, count: fn(&str) -> u64) {
        while self.tokens(count) > tokens_max {
            self.stop = Stop::Limit;
            if self.calls.pop().is_none() && self.text.pop().is_none() {
                self.thinking.pop();
            }
        }
    }

    /// Tokens generated, thinking included.
    pub fn tokens(&self, count: fn(&str) -> u64) -> u64 {
        let calls: u64 = self
            .calls
            .iter()
            .map(|name| count(name) + count(&arguments()))
            .sum();
        self.thinking_tokens(count) + count(&self.text.concat()) + calls
    }

    /// Tokens generated as thinking.
    pub fn thinking_tokens(&self, count: fn(&str) -> u64) -> u64 {
        count(&self.thinking.concat())
    }
}

/// The last text that the user wrote; both dialects keep it in the same places.
pub fn last_user_text(messages: &[Value]) -> String {
    let users = messages
        .iter()
        .rev()
        .filter(|message| message["role"] == "user");
    let texts = users.filter_map(|message| {
        let content = &message["content"];
        let mut blocks = list(content)
            .iter()
            .rev()
            .filter(|block| block["type"] == "text");
        content
            .as_str()
            .or_else(|| blocks.find_map(|block| block["text"].as_str()))
    });
    texts.take(1).collect()
}

/// The arguments of a simulated call, as JSON text.
pub fn arguments() -> String {
    ARGUMENTS.concat()
}

/// The same arguments as they are cut in a stream.
pub const fn argument_pieces() -> [&'static str; 2] {
    ARGUMENTS
}

/// The same arguments as a value.
pub fn arguments_value() -> Value {
    json!({"city": "Paris"})
}

/// The signature that the simulated Anthropic puts under a thinking text; an echoed block whose
/// text or signature was altered no longer fits.
pub fn signature_of(thinking: &str) -> String {
    format!("SimSig{:032x}", digest(&[thinking]))
}

/// A stable identity of a few texts (FNV-1a, 128 bits): ids must not change between runs.
pub fn digest(parts: &[&str]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0)));
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

/// What follows the word `marker` in a text.
fn wish<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    let (before, after) = text.split_once(marker)?;
    let starts_a_word = !before.ends_with(|letter: char| letter.is_alphanumeric());
    starts_a_word.then_some(after)
}

fn number(text: &str) -> Option<usize> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn wished_status(text: &str) -> Option<u16> {
    let status = u16::try_from(number(wish(text, "error:")?)?).ok()?;
    (400..600).contains(&status).then_some(status)
}

fn wished_calls(text: &str) -> Vec<String> {
    let Some(names) = wish(text, "tools:").or_else(|| wish(text, "tool:")) else {
        return Vec::new();
    };
    let part_of_names = |letter: char| letter.is_alphanumeric() || "_-,".contains(letter);
    let end = names
        .find(|letter| !part_of_names(letter))
        .unwrap_or(names.len());
    let names = names.get(..end).unwrap_or_default().split(',');
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn wished_text(text: &str) -> Vec<String> {
    match wish(text, "words:").and_then(number) {
        Some(words) => {
            let words = words.min(WORDS_MAX);
            (1..=words)
                .map(|word| format!("word{word}{}", space_before(word, words)))
                .collect()
        }
        None => pieces(&format!("You said: {}", echo(text))),
    }
}

const fn space_before(word: usize, words: usize) -> &'static str {
    if word < words { " " } else { "" }
}

fn echo(text: &str) -> String {
    text.chars().take(ECHO_CHARS).collect()
}

/// A text as it is streamed: word by word.
fn pieces(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::meter::quarter_of_bytes;

    fn check(text: &str, tools: Tools, expect: &Result<(&str, &[&str], Stop), u16>) {
        let prompted = Prompted {
            text: text.into(),
            tools,
            thinking: Thinking::Off,
            tokens_max: None,
        };
        let reply = Reply::to(&prompted, quarter_of_bytes);
        let said = reply.map(|reply| (reply.text.concat(), reply.calls, reply.stop));
        let expect = expect
            .as_ref()
            .map_err(|status| *status)
            .map(|(text, calls, stop)| {
                (
                    String::from(*text),
                    calls.iter().map(|call| (*call).to_owned()).collect(),
                    *stop,
                )
            });
        assert_eq!(said, expect, "{text}");
    }

    #[test]
    fn wishes_are_read_in_order() {
        let forty = "a".repeat(40);
        let said = format!("You said: {forty}");
        check(
            "hello",
            Tools::Closed,
            &Ok(("You said: hello", &[], Stop::Done)),
        );
        check(
            &"a".repeat(60),
            Tools::Closed,
            &Ok((&said, &[], Stop::Done)),
        );
        check(
            "words:3 please",
            Tools::Closed,
            &Ok(("word1 word2 word3", &[], Stop::Done)),
        );
        check("words:0", Tools::Closed, &Ok(("", &[], Stop::Done)));
        check(
            "call tool:weather.",
            Tools::Callable,
            &Ok(("", &["weather"], Stop::Calls)),
        );
        check(
            "tools:a_1,b-2 now",
            Tools::Callable,
            &Ok(("", &["a_1", "b-2"], Stop::Calls)),
        );
        check(
            "tool:x",
            Tools::Closed,
            &Ok(("You said: tool:x", &[], Stop::Done)),
        );
        check(
            "a stool:x",
            Tools::Callable,
            &Ok(("You said: a stool:x", &[], Stop::Done)),
        );
        check("error:529 tool:x", Tools::Callable, &Err(529));
        check(
            "error:99",
            Tools::Closed,
            &Ok(("You said: error:99", &[], Stop::Done)),
        );
    }

    #[test]
    fn the_limit_cuts_the_reply_and_says_so() {
        for tokens_max in 0..20 {
            let prompted = Prompted {
                text: "words:30".into(),
                tools: Tools::Closed,
                thinking: Thinking::On,
                tokens_max: Some(tokens_max),
            };
            let reply = Reply::to(&prompted, quarter_of_bytes);
            let reply = reply.expect("no failure was asked for");
            assert!(reply.tokens(quarter_of_bytes) <= tokens_max);
            assert_eq!(reply.stop, Stop::Limit);
        }
    }
}
