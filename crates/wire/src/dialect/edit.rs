//! The edits that a request can take, each declared in a `Splice`.
//!
//! **Invariant**: markers only insert; nothing but a model's name, an explicit `false` or a `null`
//! is ever replaced (property `marking_only_inserts`, rows in the tests below).

use super::Dialect;
use super::fields::Presence;
use super::request::Request;
use crate::prompt::Slot;
use crate::splice::{Reason, Splice};
use crate::usage::Ttl;

/// Why a segment cannot be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMarkable {
    /// The prompt has no such segment.
    #[error("the prompt has no segment {0}")]
    NoSuchSegment(usize),
    /// The segment cannot carry a marker, or carries the client's own.
    #[error("segment {0} cannot carry a marker of ours")]
    Closed(usize),
    /// The segment was marked before.
    #[error("segment {0} is marked already")]
    Marked(usize),
    /// The dialect has no marker of that lifetime.
    #[error("{} has no cache lifetime of {}", .0.id(), .1.name())]
    Lifetime(Dialect, Ttl),
}

impl Request<'_> {
    /// Declares a cache marker on a segment.
    pub fn mark(&self, segment: usize, ttl: Ttl, splice: &mut Splice) -> Result<(), NotMarkable> {
        let member = marker(self.dialect, ttl)?;
        let slot = match self.prompt.segments.get(segment) {
            None => return Err(NotMarkable::NoSuchSegment(segment)),
            Some(segment) => &segment.slot,
        };
        let taken = |at: usize| {
            let mut edits = splice.edits().iter();
            edits.any(|edit| edit.reason == Reason::CacheMarker && edit.range == (at..at))
        };
        match slot {
            Slot::Closed => return Err(NotMarkable::Closed(segment)),
            Slot::Member { at }
            | Slot::BareText {
                span: std::ops::Range { start: at, .. },
            } if taken(*at) => {
                return Err(NotMarkable::Marked(segment));
            }
            Slot::Member { at } => {
                splice.insert(*at, format!("{member},"), Reason::CacheMarker);
            }
            Slot::BareText { span } => {
                splice.insert(
                    span.start,
                    r#"[{"type":"text","text":"#,
                    Reason::CacheMarker,
                );
                splice.insert(span.end, format!(",{member}}}]"), Reason::CacheMarker);
            }
        }
        Ok(())
    }

    /// Declares that a stream shall end with usage, where the request does not ask for it.
    pub fn ask_usage(&self, splice: &mut Splice) {
        if self.usage_asked {
            return;
        }
        let reason = Reason::AskUsage;
        match (&self.places.stream_options, &self.places.include_usage) {
            (Presence::Given(_), Presence::Given(value) | Presence::Null(value)) => {
                splice.replace(value.clone(), "true", reason);
            }
            (Presence::Given(object), Presence::Absent) => {
                let text = if self.is_empty_object(object.start) {
                    r#""include_usage":true"#
                } else {
                    r#""include_usage":true,"#
                };
                splice.insert(object.start + 1, text, reason);
            }
            (options, _) => {
                self.set_member(
                    "stream_options",
                    options,
                    r#"{"include_usage":true}"#,
                    reason,
                    splice,
                );
            }
        }
    }

    /// Declares OpenAI's `prompt_cache_key`, unless the client gave one.
    pub fn set_cache_key(&self, key: &str, splice: &mut Splice) {
        let value = json_string(key);
        let reason = Reason::CacheOption;
        self.set_member(
            "prompt_cache_key",
            &self.places.cache_key,
            &value,
            reason,
            splice,
        );
    }

    /// Declares that OpenAI shall write no cache entry but at markers, unless the client gave
    /// options of its own.
    pub fn set_cache_explicit(&self, splice: &mut Splice) {
        let options = &self.places.cache_options;
        let value = r#"{"mode":"explicit"}"#;
        self.set_member(
            "prompt_cache_options",
            options,
            value,
            Reason::CacheOption,
            splice,
        );
    }

    /// Declares the model's name as the upstream knows it.
    pub fn rename_model(&self, name: &str, splice: &mut Splice) {
        if self.model != name {
            splice.replace(
                self.model_span.clone(),
                json_string(name),
                Reason::ModelName,
            );
        }
    }

    /// Sets a member of the root that is absent or `null`. Does nothing in a dialect without it.
    fn set_member(
        &self,
        name: &str,
        presence: &Presence,
        value: &str,
        reason: Reason,
        splice: &mut Splice,
    ) {
        match (self.dialect, presence) {
            (Dialect::AnthropicMessages, _) | (_, Presence::Given(_)) => {}
            (Dialect::OpenAiChat, Presence::Null(span)) => {
                splice.replace(span.clone(), value.to_owned(), reason);
            }
            (Dialect::OpenAiChat, Presence::Absent) => {
                // The root has at least `model`, so that a comma is always right.
                let text = format!("\"{name}\":{value},");
                splice.insert(self.places.root_members, text, reason);
            }
        }
    }

    fn is_empty_object(&self, start: usize) -> bool {
        let inner = self.body.get(start + 1..).unwrap_or_default();
        inner.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}')
    }
}

/// The member that marks a block.
fn marker(dialect: Dialect, ttl: Ttl) -> Result<&'static str, NotMarkable> {
    match (dialect, ttl) {
        (Dialect::AnthropicMessages, Ttl::Minutes5) => {
            Ok(r#""cache_control":{"type":"ephemeral"}"#)
        }
        (Dialect::AnthropicMessages, Ttl::Hour1) => {
            Ok(r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#)
        }
        (Dialect::OpenAiChat, Ttl::Minutes30) => {
            Ok(r#""prompt_cache_breakpoint":{"mode":"explicit"}"#)
        }
        (Dialect::OpenAiChat, Ttl::Hours12) => {
            Ok(r#""prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}"#)
        }
        (Dialect::AnthropicMessages, Ttl::Minutes30 | Ttl::Hours12)
        | (Dialect::OpenAiChat, Ttl::Minutes5 | Ttl::Hour1) => {
            Err(NotMarkable::Lifetime(dialect, ttl))
        }
    }
}

/// `text` as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
