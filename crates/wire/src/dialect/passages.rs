//! The texts of a conversation, one by one: what each says and which bytes say it, so that a text can
//! be replaced by a declared edit.
//!
//! **Invariant**: replacing every passage by itself gives the same texts, and nothing but a string
//! between its quotes is ever replaced (test `passages_are_the_texts_of_the_conversation`).

use std::ops::Range;

use super::edit::json_string;
use super::request::Request;
use crate::json::{Node, Tape};
use crate::prompt::{Kind, Part, Role};
use crate::splice::{Reason, Splice};

/// A text of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The segment of the prompt that it stands in.
    pub segment: usize,
    /// Whose words they are; results of tools are the tool's.
    pub role: Role,
    /// The text, escapes read.
    pub text: String,
    /// The bytes of its string, quotes included; none where it stands inside another string, as the
    /// arguments of a call do, or cannot be written again as it was.
    pub span: Option<Range<usize>>,
    /// Whether the client says that a tool failed with it.
    pub is_error: bool,
}

impl Request<'_> {
    /// The texts of the conversation in order; tools, system text, thinking and media are not in it.
    pub fn passages(&self) -> Vec<Passage> {
        self.passages_in(0..self.prompt.segments.len())
    }

    /// Those of some segments of the prompt.
    pub fn passages_in(&self, segments: Range<usize>) -> Vec<Passage> {
        let mut passages = Vec::new();
        let found = self.prompt.segments.get(segments.clone());
        for (index, segment) in segments.zip(found.into_iter().flatten()) {
            if segment.part != Part::Messages || segment.role == Role::System {
                continue;
            }
            let Some(bytes) = self.body.get(segment.span.clone()) else {
                continue;
            };
            let Ok(tape) = Tape::read(bytes) else {
                continue;
            };
            let mut found = Found {
                segment: index,
                start: segment.span.start,
                role: segment.role,
                is_error: tape.root().get("is_error").and_then(|flag| flag.as_bool()) == Some(true),
                passages: &mut passages,
            };
            match segment.kind {
                Kind::Text | Kind::ToolResult => found.content(tape.root()),
                Kind::ToolUse => found.said(tape.root()),
                Kind::ToolDefinition
                | Kind::Thinking
                | Kind::Document
                | Kind::Media
                | Kind::Other => {}
            }
        }
        passages
    }

    /// Declares another text for a passage; declares nothing for one without bytes of its own.
    pub fn set_passage(&self, passage: &Passage, text: &str, splice: &mut Splice) {
        if let Some(span) = &passage.span {
            splice.replace(span.clone(), json_string(text), Reason::Trimmed);
        }
    }
}

/// Passages of one segment.
struct Found<'p> {
    segment: usize,
    /// Where the segment begins in the body.
    start: usize,
    role: Role,
    is_error: bool,
    passages: &'p mut Vec<Passage>,
}

impl Found<'_> {
    fn push(&mut self, text: String, span: Option<Range<usize>>) {
        self.passages.push(Passage {
            segment: self.segment,
            role: self.role,
            text,
            span,
            is_error: self.is_error,
        });
    }

    /// A bare string, a text block, or a result whose content is one or a list of them.
    fn content(&mut self, node: Node<'_>) {
        if let Some(text) = node.as_str() {
            // Half a surrogate pair cannot be written again.
            let is_whole = !text.contains(char::REPLACEMENT_CHARACTER);
            let span = node.span();
            let span = self.start + span.start..self.start + span.end;
            self.push(text.into_owned(), is_whole.then_some(span));
            return;
        }
        for item in node.items() {
            self.content(item);
        }
        if let Some(inner) = node.get("text").or_else(|| node.get("content")) {
            self.content(inner);
        }
    }

    /// Whatever strings the model wrote into a call.
    fn said(&mut self, node: Node<'_>) {
        if let Some(text) = node.as_str() {
            let arguments = text.starts_with('{').then(|| Tape::read(text.as_bytes()));
            match arguments {
                Some(Ok(arguments)) => self.said(arguments.root()),
                Some(Err(_)) | None => self.push(text.into_owned(), None),
            }
            return;
        }
        for item in node.items() {
            self.said(item);
        }
        for (_, value) in node.members() {
            self.said(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use crate::splice::Splice;

    fn check(dialect: Dialect, messages: &str, expect: &[(&str, bool)]) {
        let body = format!(r#"{{"model":"m","max_tokens":1,"messages":{messages}}}"#);
        let request = dialect.read(body.as_bytes()).expect("a request");
        let passages = request.passages();
        let found: Vec<_> = passages
            .iter()
            .map(|passage| (passage.text.as_str(), passage.span.is_some()))
            .collect();
        assert_eq!(found, expect, "{messages}");
        let mut splice = Splice::default();
        for passage in &passages {
            request.set_passage(passage, &passage.text, &mut splice);
        }
        let edited = splice.apply(body.as_bytes());
        let again = dialect.read(&edited).expect("still a request").passages();
        let texts = |passages: &[super::Passage]| -> Vec<String> {
            passages.iter().map(|it| it.text.clone()).collect()
        };
        assert_eq!(texts(&again), texts(&passages), "{messages}");
    }

    #[test]
    fn passages_are_the_texts_of_the_conversation() {
        check(
            Dialect::OpenAiChat,
            r#"[{"role":"system","content":"rule"},{"role":"user","content":"ask \u00e9\n"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
                "function":{"name":"f","arguments":"{\"path\":\"a\\nb\"}"}}]},
            {"role":"tool","tool_call_id":"1","content":"one"},
            {"role":"tool","tool_call_id":"2","content":[{"type":"text","text":"two"}]},
            {"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#,
            &[
                ("ask é\n", true),
                ("assistant", false),
                ("1", false),
                ("function", false),
                ("f", false),
                ("a\nb", false),
                ("one", true),
                ("two", true),
            ],
        );
        check(
            Dialect::AnthropicMessages,
            r#"[{"role":"user","content":"ask"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
                {"type":"tool_use","id":"1","name":"f","input":{"x":"y"}}]},
            {"role":"user","content":[
                {"type":"tool_result","tool_use_id":"1","content":"half \ud83d"},
                {"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"two"}]},
                {"type":"text","text":"more"}]}]"#,
            &[
                ("ask", true),
                ("tool_use", false),
                ("1", false),
                ("f", false),
                ("y", false),
                ("half \u{fffd}", false),
                ("two", true),
                ("more", true),
            ],
        );
    }
}
