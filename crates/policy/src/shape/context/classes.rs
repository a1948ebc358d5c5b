//! Where the input of a call goes: tokens by what they are for.
//!
//! **Invariant**: every segment is in one class (test `a_call_is_broken_down`).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use wire::dialect::request::Request;
use wire::prompt::{Kind, Part, Role};
use wire::usage::Tokens;

use crate::shape::focus::documents;

/// Estimated input tokens by class; in JSON, classes without any are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Classes {
    /// System text, also within the conversation.
    #[serde(skip_serializing_if = "is_nothing")]
    pub system: u64,
    /// Definitions of tools.
    #[serde(skip_serializing_if = "is_nothing")]
    pub tools: u64,
    /// What was said before the last message, documents aside.
    #[serde(skip_serializing_if = "is_nothing")]
    pub history: u64,
    /// Results of tools.
    #[serde(skip_serializing_if = "is_nothing")]
    pub tool_results: u64,
    /// Thinking blocks.
    #[serde(skip_serializing_if = "is_nothing")]
    pub thinking: u64,
    /// Documents that questions come with: blocks to be cited, and what [`documents::parts`] finds in
    /// the user's words.
    #[serde(skip_serializing_if = "is_nothing")]
    pub documents: u64,
    /// Images, documents in encoded form, and sound.
    #[serde(skip_serializing_if = "is_nothing")]
    pub media: u64,
    /// The last message, results of tools and documents aside.
    #[serde(skip_serializing_if = "is_nothing")]
    pub last_message: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
pub(super) const fn is_nothing(tokens: &u64) -> bool {
    *tokens == 0
}

impl Classes {
    /// Of a request whose segments have these sizes.
    pub fn of(request: &Request<'_>, sizes: &[Tokens]) -> Self {
        let prompt = &request.prompt;
        let mut classes = Self::default();
        let messages = |part| part == Part::Messages;
        let mut last = prompt.segments.iter().rev();
        let last = last.find(|it| messages(it.part)).map(|it| it.index);
        for (segment, size) in prompt.segments.iter().zip(sizes) {
            let is_last = messages(segment.part) && Some(segment.index) == last;
            let class = match (segment.part, segment.kind, segment.role) {
                (Part::Tools, ..) => &mut classes.tools,
                (Part::System, ..) | (Part::Messages, _, Role::System) => &mut classes.system,
                (Part::Messages, Kind::Thinking, _) => &mut classes.thinking,
                (Part::Messages, Kind::Document, _) => &mut classes.documents,
                (Part::Messages, Kind::Media, _) => &mut classes.media,
                (Part::Messages, Kind::ToolResult, _) | (Part::Messages, _, Role::Tool) => {
                    &mut classes.tool_results
                }
                (Part::Messages, ..) if is_last => &mut classes.last_message,
                (Part::Messages, ..) => &mut classes.history,
            };
            *class += size.0;
        }
        for part in documents::parts(request) {
            let index = prompt.segments.get(part.segment).map(|it| it.index);
            let size = sizes.get(part.segment).map_or(0, |size| part.of(*size));
            let class = if index == last {
                &mut classes.last_message
            } else {
                &mut classes.history
            };
            *class -= size;
            classes.documents += size;
        }
        classes
    }

    /// The names in short tables, in the order of [`Classes::all`].
    pub const SHORT_NAMES: [&str; 8] = [
        "system",
        "tools",
        "history",
        "results",
        "thinking",
        "documents",
        "media",
        "last",
    ];

    /// Every class.
    pub const fn all(&self) -> [u64; 8] {
        [
            self.system,
            self.tools,
            self.history,
            self.tool_results,
            self.thinking,
            self.documents,
            self.media,
            self.last_message,
        ]
    }

    /// The whole input.
    pub fn sum(&self) -> u64 {
        self.all().iter().sum()
    }
}

impl AddAssign for Classes {
    fn add_assign(&mut self, other: Self) {
        self.system += other.system;
        self.tools += other.tools;
        self.history += other.history;
        self.tool_results += other.tool_results;
        self.thinking += other.thinking;
        self.documents += other.documents;
        self.media += other.media;
        self.last_message += other.last_message;
    }
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::*;

    #[test]
    fn a_call_is_broken_down() {
        let body = r#"{"model":"m","max_tokens":1,"system":"s","tools":[{"name":"t","input_schema":{}}],
            "messages":[{"role":"user","content":"a"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"s"},
                {"type":"tool_use","id":"1","name":"t","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"},
                {"type":"image","source":{"type":"url","url":"u"}},{"type":"text","text":"q"}]},
            {"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}},
                {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"ZA=="}},
                {"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"f"}]},
                {"type":"text","text":"w"}]}]}"#;
        let request = Dialect::AnthropicMessages.read(body.as_bytes());
        let request = request.expect("a request");
        let sizes: Vec<Tokens> = (0..request.prompt.segments.len())
            .map(|place| Tokens(1 << place))
            .collect();
        let classes = Classes::of(&request, &sizes);
        let expect = Classes {
            tools: 1,
            system: 2,
            history: 4 + 16 + 128,
            thinking: 8,
            tool_results: 32,
            documents: 256 + 1024,
            media: 64 + 512,
            last_message: 2048,
        };
        assert_eq!(classes, expect);
        let text = serde_json::to_string(&Classes::default()).expect("numbers");
        assert_eq!(text, "{}");
    }

    #[test]
    fn documents_within_a_text_are_told_apart() {
        let body = r#"{"model":"m","messages":[
            {"role":"user","content":"<doc>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</doc>\nWhich?"},
            {"role":"assistant","content":"That."},
            {"role":"user","content":"And why?"}]}"#;
        let request = Dialect::OpenAiChat.read(body.as_bytes());
        let request = request.expect("a request");
        let classes = Classes::of(&request, &[Tokens(220), Tokens(3), Tokens(4)]);
        let expect = Classes {
            history: 8 + 3,
            documents: 212,
            last_message: 4,
            ..Classes::default()
        };
        assert_eq!(classes, expect);
    }
}
