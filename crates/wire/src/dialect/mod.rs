//! The languages that clients and upstreams speak, behind one face.
//!
//! **Invariant**: reading never changes a byte, and what a dialect does not know travels as it came
//! (test `untouched_bodies_are_identical`).

pub mod answer;
pub mod anthropic_messages;
mod append;
mod asked;
mod chain;
mod edit;
pub mod effort;
pub mod fields;
pub mod openai_chat;
pub mod passages;
pub mod request;
pub mod stream;
mod tools;

use std::collections::BTreeMap;

use crate::json::Tape;
use crate::problem::Problem;
use answer::Answer;
use fields::ReadError;
use request::Request;
use stream::{Stream, UsageDisplay};

/// A dialect: how requests, answers, streams and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Anthropic `POST /v1/messages`.
    AnthropicMessages,
    /// OpenAI `POST /v1/chat/completions`.
    OpenAiChat,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 2] = [Self::AnthropicMessages, Self::OpenAiChat];

    /// The name used in config, ledger and metrics.
    pub const fn id(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic_messages",
            Self::OpenAiChat => "openai_chat",
        }
    }

    /// Reads a request (for Anthropic, `count_tokens` too) without copying its content.
    ///
    /// Lenient: only what cannot be understood is refused; unknown roles, block types and fields
    /// travel untouched.
    pub fn read(self, body: &[u8]) -> Result<Request<'_>, ReadError> {
        match self {
            Self::AnthropicMessages => anthropic_messages::request::read(body),
            Self::OpenAiChat => openai_chat::request::read(body),
        }
    }

    /// Reads a whole answer that is not a stream; what cannot be read is absent.
    pub fn read_answer(self, body: &[u8]) -> Answer {
        match self {
            Self::AnthropicMessages => anthropic_messages::response::read(body),
            Self::OpenAiChat => openai_chat::response::read(body),
        }
    }

    /// The body of an error answer.
    pub fn render(self, problem: &Problem, call_id: &str) -> Vec<u8> {
        match self {
            Self::AnthropicMessages => anthropic_messages::error::render(problem, call_id),
            Self::OpenAiChat => openai_chat::error::render(problem),
        }
    }

    /// An error as the last event of a stream that began well.
    pub fn render_event(self, problem: &Problem, call_id: &str) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::AnthropicMessages => b"event: error\ndata: ",
            Self::OpenAiChat => b"data: ",
        };
        [prefix, &self.render(problem, call_id), b"\n\n"].concat()
    }

    /// A reader for one streamed answer.
    pub fn stream(self, usage: UsageDisplay) -> Stream {
        Stream::new(self, usage)
    }
}

/// The model named in any body, if there is one: for passthrough routes, where it is no error that
/// there is none.
pub fn read_model(body: &[u8]) -> Option<String> {
    fields::text(Tape::read(body).ok()?.root(), "model")
}

/// The user that any JSON body names, in either dialect's field.
pub fn read_user(body: &[u8]) -> Option<String> {
    let tape = Tape::read(body).ok()?;
    let metadata = fields::given(tape.root(), "metadata");
    let named = || fields::text(metadata?, "user_id");
    fields::text(tape.root(), "user").or_else(named)
}

/// A member of a body's `metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadatum {
    /// A text.
    Text(String),
    /// Something else, null aside.
    Other,
}

/// The members of any JSON body's `metadata`; none where it has none, or is no JSON.
pub fn read_metadata(body: &[u8]) -> BTreeMap<String, Metadatum> {
    let Ok(tape) = Tape::read(body) else {
        return BTreeMap::new();
    };
    let metadata = fields::given(tape.root(), "metadata");
    let members = metadata.into_iter().flat_map(|metadata| metadata.members());
    let given = members.filter(|(_, value)| !value.is_null());
    given
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map(|text| Metadatum::Text(text.into_owned()));
            (name.name().into_owned(), text.unwrap_or(Metadatum::Other))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Metadatum, read_metadata, read_model, read_user};

    #[test]
    fn dialects_are_sorted_by_id() {
        assert!(Dialect::ALL.is_sorted_by_key(|dialect| dialect.id()));
    }

    #[test]
    fn a_model_is_read_from_any_body() {
        assert_eq!(
            read_model(br#"{"model":"m","input":1}"#).as_deref(),
            Some("m")
        );
        assert_eq!(read_model(br#"{"model":1}"#), None);
        assert_eq!(read_model(b"--boundary"), None);
    }

    #[test]
    fn metadata_is_read_from_any_body() {
        let body = br#"{"metadata":{"task":"a\u0062","step":3,"none":null}}"#;
        let expect = [
            ("step".to_owned(), Metadatum::Other),
            ("task".to_owned(), Metadatum::Text("ab".to_owned())),
        ];
        assert_eq!(read_metadata(body), expect.into());
        for body in [
            "{}",
            r#"{"metadata":[1]}"#,
            r#"{"metadata":null}"#,
            "--boundary",
        ] {
            assert!(read_metadata(body.as_bytes()).is_empty(), "{body}");
        }
    }

    #[test]
    fn a_user_is_read_from_any_body() {
        for (body, expect) in [
            (
                r#"{"user":"ann","metadata":{"user_id":"bob"}}"#,
                Some("ann"),
            ),
            (r#"{"metadata":{"user_id":"bob"}}"#, Some("bob")),
            (r#"{"metadata":null}"#, None),
            ("--boundary", None),
        ] {
            assert_eq!(read_user(body.as_bytes()).as_deref(), expect, "{body}");
        }
    }
}
