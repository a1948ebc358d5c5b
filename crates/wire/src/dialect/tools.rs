//! Which tool a part of a prompt belongs to: the one that it defines, or that it is a result of.
//!
//! **Invariant**: a result is its call's, by the id that both carry; whatever cannot be told has no name
//! (test `definitions_and_results_have_names`).

use std::borrow::Cow;

use super::Dialect;
use super::request::Request;
use crate::json::Node;
use crate::prompt::{Kind, Part};

/// 128 calls: a result follows its call at once, or after those that were made beside it.
const CALLS_BACK: usize = 128;

/// The calls so far: each one's id as it is written, and the tool's name.
#[derive(Default)]
struct Calls<'t>(Vec<(&'t str, Node<'t>)>);

impl<'t> Calls<'t> {
    fn add(&mut self, call: Node<'t>, name: Option<Node<'t>>) {
        if let (Some(name), Some(id)) = (name, call.get("id")) {
            self.0.push((id.raw(), name));
        }
    }

    fn name(&self, id: Node<'t>) -> Option<Node<'t>> {
        let id = id.raw();
        let mut latest = self.0.iter().rev().take(CALLS_BACK);
        latest.find(|call| call.0 == id).map(|call| call.1)
    }
}

impl Request<'_> {
    /// The segments that belong to a tool, in order, with its name.
    pub fn tools(&self) -> Vec<(usize, Cow<'_, str>)> {
        let mut segments = self.prompt.segments.iter();
        if !segments.any(|it| it.part == Part::Tools || it.kind == Kind::ToolResult) {
            return Vec::new();
        }
        let root = self.root();
        let lists = [root.get("tools"), root.get("functions")];
        let mut definitions = lists.into_iter().flatten().flat_map(|it| it.items());
        let mut results = results(root, self.dialect).into_iter().peekable();
        let mut named = Vec::new();
        for (place, segment) in self.prompt.segments.iter().enumerate() {
            let name = match (segment.part, segment.kind) {
                (Part::Tools, _) => definitions.next().and_then(definition),
                (Part::Messages, Kind::ToolResult) => {
                    let at = (segment.index, segment.block);
                    while results.next_if(|(result, _)| *result < at).is_some() {}
                    results.peek().filter(|it| it.0 == at).map(|it| it.1)
                }
                _ => None,
            };
            named.extend(name.and_then(|it| it.as_str()).map(|name| (place, name)));
        }
        named
    }
}

/// The name in a definition.
fn definition(tool: Node<'_>) -> Option<Node<'_>> {
    tool.get("name")
        .or_else(|| tool.get("function")?.get("name"))
        .or_else(|| tool.get("custom")?.get("name"))
}

/// The names of what was called, by the message and block of its result.
fn results(root: Node<'_>, dialect: Dialect) -> Vec<((u32, u32), Node<'_>)> {
    let mut calls = Calls::default();
    let mut found = Vec::new();
    let messages = root.get("messages").into_iter().flat_map(|it| it.items());
    for (index, message) in (0..).zip(messages) {
        let blocks = message.get("content").into_iter();
        let blocks = (0..).zip(blocks.flat_map(|it| it.items()));
        match dialect {
            Dialect::AnthropicMessages => {
                for (block, node) in blocks {
                    if let Some(id) = node.get("tool_use_id") {
                        found.extend(calls.name(id).map(|name| ((index, block), name)));
                    } else {
                        calls.add(node, node.get("name"));
                    }
                }
            }
            Dialect::OpenAiChat => {
                let called = message.get("tool_calls").into_iter();
                for call in called.flat_map(|it| it.items()) {
                    calls.add(call, definition(call));
                }
                let id = message.get("tool_call_id");
                let Some(name) = id.and_then(|id| calls.name(id)) else {
                    continue;
                };
                found.push(((index, 0), name));
                found.extend(blocks.skip(1).map(|(block, _)| ((index, block), name)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;

    fn check(dialect: Dialect, body: &str, expect: &[(&str, &str)]) {
        let request = dialect.read(body.as_bytes()).expect("a request");
        let segments = &request.prompt.segments;
        let named = request.tools();
        let named = named.iter().map(|(place, name)| {
            let span = segments[*place].span.clone();
            (&body[span], &**name)
        });
        assert_eq!(named.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn definitions_and_results_have_names() {
        check(
            Dialect::AnthropicMessages,
            r#"{"model":"m","tools":[{"name":"read"},{"type":"x"},{"name":"write"}],"messages":[
            {"role":"user","content":"go"},
            {"role":"assistant","content":[{"type":"text","text":"t"},{"type":"tool_use","id":"1","name":"read","input":{}},
            {"type":"tool_use","id":"2","name":"write","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"2","content":"b"},{"type":"tool_result","tool_use_id":"9"},
            {"type":"tool_result","tool_use_id":"1","content":"a"},{"type":"text","text":"on"}]}]}"#,
            &[
                (r#"{"name":"read"}"#, "read"),
                (r#"{"name":"write"}"#, "write"),
                (
                    r#"{"type":"tool_result","tool_use_id":"2","content":"b"}"#,
                    "write",
                ),
                (
                    r#"{"type":"tool_result","tool_use_id":"1","content":"a"}"#,
                    "read",
                ),
            ],
        );
        check(
            Dialect::OpenAiChat,
            r#"{"model":"m","tools":[{"type":"function","function":{"name":"f"}}],"messages":[
            {"role":"system","content":"s"},
            {"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"a","content":"one"},
            {"role":"tool","tool_call_id":"b","content":"of nobody"},
            {"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"two"},{"type":"text","text":"three"}]}]}"#,
            &[
                (r#"{"type":"function","function":{"name":"f"}}"#, "f"),
                (r#""one""#, "f"),
                (r#"{"type":"text","text":"two"}"#, "f"),
                (r#"{"type":"text","text":"three"}"#, "f"),
            ],
        );
    }
}
