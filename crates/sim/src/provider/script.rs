//! What the simulated model says: a small language inside the last user text, so that a test
//! chooses the answer with the request and needs no other channel.
//!
//! `tool:NAME` and `tools:NAME,NAME` call tools (if any are offered), with the arguments of a JSON
//! object that follows (`tool:NAME {"path": "a"}`), if one does; `error:STATUS` fails, `words:N` answers with N words, anything else is repeated as `You said: …`.
//!
//! **Invariant**: a reply depends on nothing but the request (test `wishes_are_read_in_order`).

use serde_json::Value;

use wire::prompt::Chain;

use crate::provider::list;

/// Characters of the user's text that are repeated.
const ECHO_CHARS: usize = 40;

/// Longest answer of `words:N`: 100 000 words are half a megabyte, larger than any real answer.
const WORDS_MAX: usize = 100_000;

/// The arguments of a simulated tool call that is not told any.
const ARGUMENTS: &str = "{\"city\":\"Paris\"}";

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
    /// The tools that are called.
    pub calls: Vec<Call>,
    /// Why it stopped.
    pub stop: Stop,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments, as JSON text of an object.
    pub arguments: String,
}

impl Call {
    /// The arguments as they are cut in a stream.
    pub fn pieces(&self) -> [&str; 2] {
        let middle = self.arguments.len() / 2;
        let at = (middle..=self.arguments.len()).find(|at| self.arguments.is_char_boundary(*at));
        let (first, second) = self.arguments.split_at(at.unwrap_or_default());
        [first, second]
    }

    /// The arguments as a value.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.arguments).unwrap_or_default()
    }
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
            .map(|call| count(&call.name) + count(&call.arguments))
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

/// The signature that the simulated Anthropic puts under a thinking text; an echoed block whose
/// text or signature was altered no longer fits.
pub fn signature_of(thinking: &str) -> String {
    format!("SimSig{:032x}", digest(&[thinking]))
}

/// The same under thinking that is bound to what stands before it.
pub fn bound_signature_of(thinking: &str, prefix: Chain) -> String {
    format!("{}-{:032x}", signature_of(thinking), prefix.0)
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

fn wished_calls(text: &str) -> Vec<Call> {
    let Some(names) = wish(text, "tools:").or_else(|| wish(text, "tool:")) else {
        return Vec::new();
    };
    let part_of_names = |letter: char| letter.is_alphanumeric() || "_-,".contains(letter);
    let end = names
        .find(|letter| !part_of_names(letter))
        .unwrap_or(names.len());
    let (names, rest) = names.split_at(end);
    let arguments = wished_arguments(rest).unwrap_or_else(|| ARGUMENTS.to_owned());
    let names = names.split(',').filter(|name| !name.is_empty());
    let call = |name: &str| Call {
        name: name.to_owned(),
        arguments: arguments.clone(),
    };
    names.map(call).collect()
}

/// The object that a text begins with, as it is written.
fn wished_arguments(text: &str) -> Option<String> {
    let text = text.trim_start();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let first = values.next()?.ok()?;
    let written = text.get(..values.byte_offset())?;
    first.is_object().then(|| written.to_owned())
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
        let said = reply.map(|reply| {
            let calls: Vec<String> = reply.calls.into_iter().map(|call| call.name).collect();
            (reply.text.concat(), calls, reply.stop)
        });
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
    fn calls_carry_the_arguments_that_follow() {
        for (text, expect) in [
            ("tool:Bash", ARGUMENTS),
            ("tool:Bash now", ARGUMENTS),
            ("tool:Bash [1]", ARGUMENTS),
            ("tool:Bash {\"a\": ", ARGUMENTS),
            ("tool:Bash {\"a\": \"ä }\"} and go on", "{\"a\": \"ä }\"}"),
        ] {
            let calls = wished_calls(text);
            assert_eq!(calls.len(), 1, "{text}");
            assert_eq!(calls[0].arguments, expect, "{text}");
            assert_eq!(calls[0].pieces().concat(), expect, "{text}");
        }
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
