//! What the user asked: the text of the last message that a person (or the program in its place)
//! wrote, without instructions, tool results or the model's own words.
//!
//! **Invariant**: nothing but the user's own text is given (test `only_the_users_words_are_given`).

use std::ops::Range;

use super::request::Request;
use crate::json::Tape;
use crate::prompt::{Kind, Part, Role, Segment};

impl Request<'_> {
    /// The user's last message as text, blocks on lines of their own; empty if there is none.
    pub fn asked(&self) -> String {
        let is_text = |it: &&Segment| {
            it.part == Part::Messages && it.role == Role::User && it.kind == Kind::Text
        };
        let texts = self.prompt.segments.iter().filter(is_text);
        let Some(last) = texts.clone().map(|segment| segment.index).max() else {
            return String::new();
        };
        let texts = texts.filter(|segment| segment.index == last);
        let texts: Vec<String> = texts
            .filter_map(|segment| self.text(segment.span.clone()))
            .collect();
        texts.join("\n")
    }

    /// Whether images, documents or sound are part of the conversation.
    pub fn has_media(&self) -> bool {
        let mut segments = self.prompt.segments.iter();
        segments.any(|segment| segment.kind == Kind::Media)
    }

    /// The text of a segment: the string itself, or what its block calls `text`.
    fn text(&self, span: Range<usize>) -> Option<String> {
        let tape = Tape::read(self.body.get(span)?).ok()?;
        let root = tape.root();
        let text = root
            .as_str()
            .or_else(|| root.get("text")?.as_str())
            .or_else(|| root.get("content")?.as_str());
        text.map(std::borrow::Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;

    #[test]
    fn only_the_users_words_are_given() {
        let check = |dialect: Dialect, messages: &str, expect: (&str, bool)| {
            let body = format!(r#"{{"model":"m","system":"s","messages":{messages}}}"#);
            let request = dialect.read(body.as_bytes()).expect("a request");
            let found = (request.asked(), request.has_media());
            assert_eq!((found.0.as_str(), found.1), expect, "{messages}");
        };
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for dialect in [openai, anthropic] {
            check(
                dialect,
                r#"[{"role":"user","content":"a \"b\" \u00e9"}]"#,
                ("a \"b\" é", false),
            );
            check(
                dialect,
                r#"[{"role":"user","content":"first"},{"role":"assistant","content":"x"},
                {"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}]"#,
                ("one\ntwo", false),
            );
            check(
                dialect,
                r#"[{"role":"assistant","content":"x"}]"#,
                ("", false),
            );
        }
        check(
            openai,
            r#"[{"role":"system","content":"be good"},{"role":"user","content":"ask"},
            {"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"1","content":"result"}]"#,
            ("ask", false),
        );
        check(
            anthropic,
            r#"[{"role":"user","content":"ask"},
            {"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"result"}]}]"#,
            ("ask", false),
        );
        check(
            openai,
            r#"[{"role":"user","content":[{"type":"text","text":"what is this"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]"#,
            ("what is this", true),
        );
    }
}
