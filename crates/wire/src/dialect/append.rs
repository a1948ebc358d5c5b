//! Text that is added at the end of a message: behind its last words, whatever they are.
//!
//! **Invariant**: a text is only ever added to a string that is there, and everything before it stays
//! (test `a_text_is_added_to_the_last_words`).

use std::ops::Range;

use super::edit::json_string;
use super::request::Request;
use crate::json::{Node, Tape};
use crate::prompt::{Kind, Part};
use crate::splice::{Reason, Splice};

impl Request<'_> {
    /// Declares `text` at the end of the last text or tool result of `messages[index]`, and says whether
    /// there is one.
    pub fn append(&self, index: usize, text: &str, splice: &mut Splice) -> bool {
        let Some(end) = self.end_of_words(index) else {
            return false;
        };
        let quoted = json_string(text);
        let escaped = quoted.trim_start_matches('"');
        let escaped = escaped.strip_suffix('"').unwrap_or(escaped);
        splice.append_to_string(end, escaped, Reason::Nudge);
        true
    }

    /// Behind the closing quote of a message's last words.
    fn end_of_words(&self, index: usize) -> Option<usize> {
        let segments = self.prompt.segments.iter().rev();
        let mut words = segments.filter(|segment| {
            segment.part == Part::Messages
                && usize::try_from(segment.index) == Ok(index)
                && matches!(segment.kind, Kind::Text | Kind::ToolResult)
        });
        words.find_map(|segment| {
            let tape = Tape::read(self.body.get(segment.span.clone())?).ok()?;
            Some(segment.span.start + last_string(tape.root())?.end)
        })
    }
}

/// The last words of a string, a text block, or a result whose content is one or a list of them.
fn last_string(node: Node<'_>) -> Option<Range<usize>> {
    if node.is_string() {
        return Some(node.span());
    }
    if node.is_array() {
        return node.items().filter_map(last_string).last();
    }
    last_string(node.get("text").or_else(|| node.get("content"))?)
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use crate::splice::{Reason, Splice};

    fn check(dialect: Dialect, messages: &str, index: usize, expect: Option<&str>) {
        let body = format!(r#"{{"model":"m","max_tokens":1,"messages":{messages}}}"#);
        let request = dialect.read(body.as_bytes()).expect("a request");
        let mut splice = Splice::default();
        let is_added = request.append(index, "\n\"x\"", &mut splice);
        assert_eq!(is_added, expect.is_some(), "{messages}");
        let edited = String::from_utf8(splice.apply(body.as_bytes())).expect("text");
        let expect = format!(
            r#"{{"model":"m","max_tokens":1,"messages":{}}}"#,
            expect.unwrap_or(messages)
        );
        assert_eq!(edited, expect);
    }

    #[test]
    fn a_text_is_added_to_the_last_words() {
        let openai = r#"[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]}]"#;
        let added = openai.replace(r#""a""#, r#""a\n\"x\"""#);
        check(Dialect::OpenAiChat, openai, 1, Some(&added));
        let added = openai.replace(r#""c""#, r#""c\n\"x\"""#);
        check(Dialect::OpenAiChat, openai, 2, Some(&added));
        check(Dialect::OpenAiChat, openai, 3, None);
        let anthropic = r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"a"},{"type":"tool_result","tool_use_id":"2","content":[{"type":"text","text":"b"},{"type":"image","source":{}}]}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"3"}]}]"#;
        let added = anthropic.replace(r#""b""#, r#""b\n\"x\"""#);
        check(Dialect::AnthropicMessages, anthropic, 0, Some(&added));
        check(Dialect::AnthropicMessages, anthropic, 1, None);
    }

    #[test]
    fn it_is_added_to_what_stands_in_its_place() {
        let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"long"}]}"#;
        let request = Dialect::AnthropicMessages
            .read(body.as_bytes())
            .expect("a request");
        let mut splice = Splice::default();
        let passages = request.passages();
        request.set_passage(&passages[0], "short", &mut splice);
        assert!(request.append(0, " x", &mut splice));
        let edited = String::from_utf8(splice.apply(body.as_bytes())).expect("text");
        assert_eq!(edited, body.replace("long", "short x"));
        assert!(
            splice
                .edits()
                .iter()
                .all(|edit| edit.reason == Reason::Trimmed)
        );
    }
}
