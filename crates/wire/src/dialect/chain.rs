//! Builds a prompt's segments and their chain of hashes, for either dialect.
//!
//! A link is hashed over the chain so far, the part, and every member of the segment in order:
//! raw names and raw values, so that no string is decoded and no number read. Whitespace between
//! members does not count, cache markers do not count, and a bare string counts as the text block
//! that it stands for.
//!
//! **Invariant**: equal chains mean equal rendered prefixes, and markers do not change a chain
//! (properties `markers_do_not_change_chains` and `every_turn_extends_the_chain`).

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use crate::json::{Key, Node};
use crate::prompt::{Chain, Kind, Part, Prompt, Role, Segment, Slot};
use crate::usage::Ttl;

/// Members that are markers, wherever they stand in a block: Anthropic's and OpenAI's.
const MARKERS: [&str; 2] = ["cache_control", "prompt_cache_breakpoint"];

/// 64 bytes: longer values go into a link as their own hash, so that no text is copied; most names,
/// roles and types are shorter, and one hash over all of them is less work than one for each.
const INLINE_BYTES_MAX: usize = 64;

/// A string without text.
const EMPTY: &str = r#""""#;

/// First bytes in a link that are no length: a value given by its hash, the ends of a list, of one
/// of its items, and of a message's members.
const HASHED: u8 = 0xff;
const LIST_START: u8 = 0xfe;
const LIST_END: u8 = 0xfd;
const ITEM_END: u8 = 0xfc;
const MESSAGE_END: u8 = 0xfb;

/// What a segment is, apart from what the builder finds out itself.
pub(super) struct Place {
    pub(super) part: Part,
    pub(super) role: Role,
    pub(super) kind: Kind,
    pub(super) index: usize,
    pub(super) block: usize,
}

/// Collects segments in rendered order.
#[derive(Default)]
pub(super) struct Builder {
    segments: Vec<Segment>,
    markers: usize,
    chain: Chain,
    position: u32,
    /// What the next link is made of.
    link: Vec<u8>,
    /// Settings that invalidate from the system part on, until a segment has taken them.
    system_settings: Vec<u8>,
    /// The same for the messages part.
    message_settings: Vec<u8>,
}

impl Builder {
    /// Mixes a setting into everything.
    pub(super) fn root_setting(&mut self, key: &str, value: Node<'_>) {
        member(&mut self.link, key, value.raw());
    }

    /// Mixes a setting into the first segment after the tools.
    pub(super) fn system_setting(&mut self, key: &str, value: Node<'_>) {
        member(&mut self.system_settings, key, value.raw());
    }

    /// Mixes a setting into the first segment of the conversation.
    pub(super) fn message_setting(&mut self, key: &str, value: Node<'_>) {
        member(&mut self.message_settings, key, value.raw());
    }

    /// Mixes the members of a message, but its content, into its first segment.
    pub(super) fn message_members(&mut self, message: Node<'_>) {
        for (key, value) in message.members() {
            // Some clients put a marker on the message itself.
            if !key.is("content") && !is_marker(key) {
                member(&mut self.link, key.raw(), value.raw());
            }
        }
        self.link.push(MESSAGE_END);
    }

    /// Adds a tool definition.
    pub(super) fn tool(&mut self, index: usize, tool: Node<'_>, slot: Slot) {
        let (part, role, kind) = (Part::Tools, Role::System, Kind::ToolDefinition);
        self.value(
            &Place {
                part,
                role,
                kind,
                index,
                block: 0,
            },
            tool,
            slot,
        );
    }

    /// Adds a block, or any other value that is one segment.
    pub(super) fn value(&mut self, place: &Place, node: Node<'_>, slot: Slot) {
        let marker = block_members(&mut self.link, node, &mut self.markers);
        self.push(place, node.span(), marker, slot);
    }

    /// Adds a bare string that stands for one text block.
    pub(super) fn bare_text(&mut self, place: &Place, node: Node<'_>) {
        member(&mut self.link, "type", r#""text""#);
        member(&mut self.link, "text", node.raw());
        let slot = if node.raw() == EMPTY {
            Slot::Closed
        } else {
            Slot::BareText { span: node.span() }
        };
        self.push(place, node.span(), None, slot);
    }

    /// Adds a message without any content block.
    pub(super) fn empty_message(&mut self, place: &Place, message: Node<'_>) {
        member(&mut self.link, "content", "");
        self.push(place, message.span(), None, Slot::Closed);
    }

    pub(super) fn finish(self) -> (Prompt, usize) {
        (
            Prompt {
                segments: self.segments,
            },
            self.markers,
        )
    }

    fn push(&mut self, place: &Place, span: Range<usize>, marker: Option<Ttl>, slot: Slot) {
        let &Place {
            part,
            role,
            kind,
            index,
            block,
        } = place;
        if part != Part::Tools {
            self.link.append(&mut self.system_settings);
        }
        if part == Part::Messages {
            self.link.append(&mut self.message_settings);
        }
        self.link.push(part as u8);
        self.link.extend_from_slice(&self.chain.0.to_le_bytes());
        self.chain = Chain(xxh3_128(&self.link));
        self.link.clear();

        if let Some(last) = self.segments.last() {
            let joins = last.kind == kind && matches!(kind, Kind::ToolUse | Kind::ToolResult);
            self.position += u32::from(!joins);
        }
        let [index, block] = [index, block].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        let (chain, position) = (self.chain, self.position);
        let segment = Segment {
            part,
            role,
            kind,
            index,
            block,
            span,
            chain,
            position,
            marker,
            slot,
        };
        self.segments.push(segment);
    }
}

/// Adds one member to a link, so that no two lists of members look alike.
fn member(link: &mut Vec<u8>, key: &str, value: &str) {
    bytes(link, key.as_bytes());
    bytes(link, value.as_bytes());
}

fn bytes(link: &mut Vec<u8>, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) if value.len() <= INLINE_BYTES_MAX => {
            link.push(length);
            link.extend_from_slice(value);
        }
        _ => {
            link.push(HASHED);
            link.extend_from_slice(&xxh3_128(value).to_le_bytes());
        }
    }
}

/// Adds a block's members but its markers; nested lists of blocks are read the same way, since they
/// may carry markers too. Returns the lifetime of the client's marker, the block's own before a
/// nested one, and counts all of them.
fn block_members(link: &mut Vec<u8>, node: Node<'_>, markers: &mut usize) -> Option<Ttl> {
    if !node.is_object() {
        bytes(link, node.raw().as_bytes());
        return None;
    }
    let (mut own, mut nested) = (None, None);
    for (key, value) in node.members() {
        if is_marker(key) {
            own = marker_ttl(value);
            continue;
        }
        if key.is("content") && value.is_array() {
            bytes(link, b"content");
            link.push(LIST_START);
            for item in value.items() {
                nested = block_members(link, item, markers).or(nested);
                link.push(ITEM_END);
            }
            link.push(LIST_END);
        } else {
            member(link, key.raw(), value.raw());
        }
    }
    *markers += usize::from(own.is_some());
    own.or(nested)
}

fn is_marker(key: Key<'_>) -> bool {
    MARKERS.iter().any(|name| key.is(name))
}

/// Whether a block carries a marker's member, be it `null`: a second one would contradict it.
pub(super) fn has_marker_member(block: Node<'_>) -> bool {
    MARKERS.iter().any(|name| block.get(name).is_some())
}

/// Where a marker of ours may go in a block: just after its brace, if it is of a type that takes
/// markers, has text if it is text (the providers refuse to mark none), and has no marker.
pub(super) fn block_slot(block: Node<'_>, markable: &[&str]) -> Slot {
    let Some(kind) = block.get("type").and_then(|kind| kind.as_str()) else {
        return Slot::Closed;
    };
    let is_empty = kind == "text" && block.get("text").is_none_or(|text| text.raw() == EMPTY);
    if is_empty || !markable.contains(&kind.as_ref()) || has_marker_member(block) {
        return Slot::Closed;
    }
    Slot::Member {
        at: block.span().start + 1,
    }
}

/// The lifetime that a marker's value asks for; `null` is no marker.
pub(super) fn marker_ttl(value: Node<'_>) -> Option<Ttl> {
    if !value.is_object() {
        return None;
    }
    let ttl = value.get("ttl").and_then(|ttl| ttl.as_str());
    let is_openai = value.get("mode").is_some();
    Some(match ttl.as_deref() {
        Some("1h") => Ttl::Hour1,
        Some("12h") => Ttl::Hours12,
        Some("30m") => Ttl::Minutes30,
        _ if is_openai => Ttl::Minutes30,
        _ => Ttl::Minutes5,
    })
}

/// A segment in one line, for the tables of the dialects' tests: part, role, kind, place, position,
/// slot, and the client's marker.
#[cfg(test)]
pub(super) fn row(segment: &Segment) -> String {
    let Segment {
        part,
        role,
        kind,
        index,
        block,
        position,
        ..
    } = segment;
    let slot = match &segment.slot {
        Slot::Closed => "closed",
        Slot::Member { at } => {
            assert_eq!(*at, segment.span.start + 1, "just after the brace");
            "member"
        }
        Slot::BareText { span } => {
            assert_eq!(*span, segment.span);
            "bare"
        }
    };
    let marker = segment
        .marker
        .map_or(String::new(), |ttl| format!(" {}", ttl.name()));
    format!("{part:?} {role:?} {kind:?} {index}.{block} @{position} {slot}{marker}")
}
