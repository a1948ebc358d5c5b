//! Reads the chunks of an OpenAI stream, and takes usage out of those whose client had not asked.
//!
//! **Invariant**: hidden usage costs a chunk the bytes of its `usage` member and no others, or the
//! chunk itself if it carries nothing else (rows `hidden_usage_is_cut_and_nothing_else`).

use std::ops::Range;

use super::super::fields;
use super::super::stream::{Tally, UsageDisplay, Verdict};
use super::response::{error_message, read_usage, visible_bytes};
use crate::json::Node;
use crate::usage::Usage;

#[derive(Clone, Debug)]
pub(in crate::dialect) struct Reader {
    display: UsageDisplay,
    usage: Option<Usage>,
    tier: Option<String>,
}

impl Reader {
    pub(in crate::dialect) fn new(display: UsageDisplay) -> Self {
        Self {
            display,
            usage: None,
            tier: None,
        }
    }

    pub(in crate::dialect) fn read(&mut self, chunk: Node<'_>, tally: &mut Tally) -> Verdict {
        if !chunk.is_object() {
            return Verdict::Unreadable;
        }
        tally.name(chunk);
        let (mut usage_members, mut usage, mut has_choices) = (0, None, false);
        for (key, value) in chunk.members() {
            match key.raw() {
                "choices" => {
                    for choice in value.items() {
                        has_choices = true;
                        read_choice(choice, tally);
                    }
                }
                "usage" => {
                    usage_members += 1;
                    usage = Some(value).filter(Node::is_object);
                }
                // Groq's own place for it, and that of events of the Responses API.
                "x_groq" | "response" if usage.is_none() => {
                    usage = fields::given(value, "usage").filter(Node::is_object);
                }
                "service_tier" if value.is_string() => {
                    self.tier = value.as_str().map(Into::into);
                }
                "error" if !value.is_null() => tally.error = Some(error_message(value)),
                _ => {}
            }
        }
        if let Some(usage) = usage {
            self.usage = Some(read_usage(usage));
        }
        match (self.display, usage_members, usage, has_choices) {
            (UsageDisplay::Shown, ..) | (UsageDisplay::Hidden, 0, ..) => Verdict::Forward,
            (UsageDisplay::Hidden, _, Some(_), false) => Verdict::Drop,
            (UsageDisplay::Hidden, ..) => Verdict::Cut(member_cuts(chunk, "usage")),
        }
    }

    pub(in crate::dialect) fn usage(self) -> Option<Usage> {
        let tier = self.tier;
        self.usage.map(|usage| Usage { tier, ..usage })
    }
}

fn read_choice(choice: Node<'_>, tally: &mut Tally) {
    for (key, value) in choice.members() {
        match key.raw() {
            "delta" => tally.output_bytes += visible_bytes(value),
            "finish_reason" if value.is_string() => {
                tally.stop = value.as_str().map(Into::into);
            }
            _ => {}
        }
    }
}

/// The bytes to take out so that the members of that name, and one comma each, are gone.
fn member_cuts(object: Node<'_>, name: &str) -> Vec<Range<usize>> {
    let mut cuts = Vec::with_capacity(1);
    let mut members = object.members().peekable();
    // Before the first member that stays the comma behind a cut goes, after it the one in front.
    let mut kept_to = None;
    while let Some((key, value)) = members.next() {
        let (start, end) = (key.span().start, value.span().end);
        let next = members.peek().map(|(key, _)| key.span().start);
        let is_cut = key.is(name);
        match kept_to {
            _ if !is_cut => {}
            Some(previous_end) => cuts.push(previous_end..end),
            None => cuts.push(start..next.unwrap_or(end)),
        }
        if !is_cut || kept_to.is_some() {
            kept_to = Some(end);
        }
    }
    cuts
}
