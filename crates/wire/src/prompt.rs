//! A request's prompt as the provider renders it: segments in order, each with the hash of all
//! that stands before and in it.
//!
//! **Invariant**: a chain value does not depend on cache markers, and equal chains mean equal
//! rendered prefixes (property `markers_do_not_change_chains`).

use std::ops::Range;

use crate::usage::Ttl;

/// Identity of a rendered prefix: a 128-bit hash over everything up to and including a segment.
///
/// Not cryptographic: it is only ever compared within one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub u128);

/// The three parts of a prompt, in the order in which providers render them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Tool definitions.
    Tools,
    /// System text.
    System,
    /// The conversation.
    Messages,
}

/// Who speaks in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions (system text, tool definitions, developer messages).
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// What a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A tool definition.
    ToolDefinition,
    /// Text.
    Text,
    /// A call of a tool.
    ToolUse,
    /// The result of a call.
    ToolResult,
    /// Thinking, redacted or not: never parsed, never altered, never marked.
    Thinking,
    /// A document or a search result that is given as text, to be cited.
    Document,
    /// An image, a document in encoded form, or sound.
    Media,
    /// A block that this version does not know; it travels as it came.
    Other,
}

/// Where a cache marker could be added to a segment without touching a byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// This segment cannot carry a marker.
    Closed,
    /// The segment is an object: a member may be inserted at this offset (just after its `{`).
    Member {
        /// Byte offset in the body.
        at: usize,
    },
    /// The segment is a bare JSON string in a place that also takes a list of blocks: the marker
    /// comes with a wrapping block around it.
    BareText {
        /// The string, quotes included, as bytes of the body.
        span: Range<usize>,
    },
}

/// One cacheable step of the rendered prompt: a tool definition, or one content block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The part it belongs to.
    pub part: Part,
    /// Who speaks.
    pub role: Role,
    /// What it carries.
    pub kind: Kind,
    /// Index within its part's list (`tools[i]`, `system[i]`, `messages[i]`).
    pub index: u32,
    /// Index of the content block within its message; 0 for bare strings and tools.
    pub block: u32,
    /// The bytes of the body that it was read from.
    pub span: Range<usize>,
    /// Identity of the prefix that ends with it.
    pub chain: Chain,
    /// Lookback position: consecutive `tool_use` blocks share one, so do consecutive
    /// `tool_result` blocks (the way Anthropic counts its 20).
    pub position: u32,
    /// The client's own marker on it.
    pub marker: Option<Ttl>,
    /// Where a marker of ours could go.
    pub slot: Slot,
}

/// The rendered prompt of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Segments in rendered order.
    pub segments: Vec<Segment>,
}

impl Prompt {
    /// The segment that ends the shared head (tools and system), if there is one.
    pub fn head_end(&self) -> Option<usize> {
        self.segments
            .iter()
            .rposition(|segment| segment.part != Part::Messages)
    }

    /// What tells everything before `messages[message]`; the same for all prompts without messages there.
    pub fn chain_before(&self, message: usize) -> Chain {
        let before = self.segments.iter().rev().find(|segment| {
            segment.part == Part::Messages
                && usize::try_from(segment.index).is_ok_and(|index| index < message)
        });
        before.map(|segment| segment.chain).unwrap_or_default()
    }

    /// How many markers the client placed on segments.
    pub fn client_markers(&self) -> usize {
        self.segments
            .iter()
            .filter(|segment| segment.marker.is_some())
            .count()
    }

    /// Number of leading segments that both prompts share.
    pub fn common_with(&self, other: &Self) -> usize {
        let pairs = self.segments.iter().zip(&other.segments);
        pairs
            .take_while(|(mine, theirs)| mine.chain == theirs.chain)
            .count()
    }
}
