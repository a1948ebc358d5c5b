//! A request of either dialect, read once: what routing, pricing and caching need to know, and the
//! places where an edit may stand.
//!
//! **Invariant**: reading keeps the body as it came; every edit is declared in a `Splice` (tests
//! `untouched_bodies_are_identical` and `marking_only_inserts`).

use std::ops::Range;

use super::Dialect;
use super::fields::Presence;
use crate::json::{Node, Tape};
use crate::prompt::Prompt;
use crate::usage::{Tokens, Ttl};

/// A request, read with borrowed spans.
#[derive(Debug)]
pub struct Request<'b> {
    /// The body as it came.
    pub body: &'b [u8],
    /// The dialect that it was read as.
    pub dialect: Dialect,
    /// The model asked for.
    pub model: String,
    /// The bytes of the model's string, quotes included.
    pub model_span: Range<usize>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the answer will carry usage as the request stands: always but for an OpenAI stream
    /// that does not ask for it.
    pub usage_asked: bool,
    /// The client's cap on output tokens, for one choice.
    pub max_output: Option<Tokens>,
    /// How many answers are asked for (OpenAI `n`): output is paid for each.
    pub choices: u64,
    /// The service tier asked for; the one billed is named in the answer.
    pub tier: Option<String>,
    /// What the client says about itself.
    pub client: ClientHints,
    /// The client's own use of prompt caching.
    pub cache: ClientCache,
    /// Whether tools are defined.
    pub has_tools: bool,
    /// The prompt as the provider renders it.
    pub prompt: Prompt,
    /// Where edits may stand.
    pub(super) places: Places,
    /// Where everything in the body is, so that nobody needs to read it again.
    pub(super) tape: Tape<'b>,
}

impl Request<'_> {
    /// The body as an object, for what is not read above.
    pub fn root(&self) -> Node<'_> {
        self.tape.root()
    }
}

/// Fields in which clients name users and conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHints {
    /// Anthropic `metadata.user_id`.
    pub user_id: Option<String>,
    /// OpenAI `user`.
    pub user: Option<String>,
    /// OpenAI `safety_identifier`.
    pub safety_identifier: Option<String>,
    /// OpenAI `prompt_cache_key`.
    pub prompt_cache_key: Option<String>,
}

/// What the client itself says about caching; it wins over ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCache {
    /// Anthropic top-level `cache_control` (automatic caching; it takes one of the four slots).
    pub automatic: Option<Ttl>,
    /// Markers anywhere in tools, system and messages, nested blocks included.
    pub markers: usize,
    /// Whether OpenAI `prompt_cache_key` is given.
    pub key_given: bool,
    /// Whether OpenAI `prompt_cache_options` is given.
    pub options_given: bool,
    /// Whether OpenAI `prompt_cache_retention` is given.
    pub retention_given: bool,
}

/// Offsets and presences that the edits need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Just after the root's `{`.
    pub(super) root_members: usize,
    /// OpenAI `stream_options`.
    pub(super) stream_options: Presence,
    /// OpenAI `stream_options.include_usage`.
    pub(super) include_usage: Presence,
    /// OpenAI `prompt_cache_key`.
    pub(super) cache_key: Presence,
    /// OpenAI `prompt_cache_options`.
    pub(super) cache_options: Presence,
}
