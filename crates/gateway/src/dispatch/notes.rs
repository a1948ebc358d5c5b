//! Notes: why a call was shaped as it was, as the JSON that the ledger keeps and `explain` prints.
//!
//! **Invariant**: notes name places, numbers and tools, never the client's text (test
//! `notes_do_not_quote_the_prompt`).

use policy::shape::cache::explain::Miss;
use policy::shape::cache::{Decision, Mode};
use policy::shape::context::classes::Classes;
use policy::shape::context::tools::Share;
use serde::Serialize;
use wire::dialect::request::Request;
use wire::prompt::{Part, Segment};
use wire::splice::{Reason, Splice};

use crate::setup::LeverMode;

/// Everything that is written down about the shaping of one call.
#[derive(Clone, Debug, Serialize)]
pub struct Notes {
    cache: CacheNotes,
    /// Estimated input tokens by what they are for.
    input: Classes,
    /// The same by tool, for what belongs to one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Share>,
    edits: Vec<EditNote>,
}

#[derive(Clone, Debug, Serialize)]
struct CacheNotes {
    lever: &'static str,
    turn: u32,
    estimated_input: u64,
    expected_read: u64,
    client_markers: usize,
    marks: Vec<MarkNote>,
    explicit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    miss: Option<MissNote>,
}

#[derive(Clone, Debug, Serialize)]
struct MarkNote {
    at: String,
    ttl: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct MissNote {
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    tokens: u64,
    cost_usd: String,
}

#[derive(Clone, Debug, Serialize)]
struct EditNote {
    at: usize,
    removed: usize,
    added: usize,
    reason: String,
}

impl Notes {
    /// Of a decision, before the call is sent.
    pub fn of(
        mode: LeverMode,
        decision: &Decision,
        request: &Request<'_>,
        splice: &Splice,
        (input, tools): (Classes, Vec<Share>),
    ) -> Self {
        let marks = decision.marks.iter().filter_map(|mark| {
            let segment = request.prompt.segments.get(mark.segment)?;
            Some(MarkNote {
                at: place(segment),
                ttl: mark.ttl.name(),
            })
        });
        // What was trimmed has notes of its own, and would be here again with each call.
        let edits = splice.edits().iter();
        let edits = edits.filter(|edit| edit.reason != Reason::Trimmed);
        let edits = edits.map(|edit| EditNote {
            at: edit.range.start,
            removed: edit.range.len(),
            added: edit.text.len(),
            reason: format!("{:?}", edit.reason),
        });
        Self {
            cache: CacheNotes {
                lever: mode.name(),
                turn: decision.turn,
                estimated_input: decision.ticket.estimated_input.0,
                expected_read: decision.ticket.expected_read.0,
                client_markers: request.cache.markers,
                marks: marks.collect(),
                explicit: decision.mode == Mode::Explicit,
                key: decision.cache_key.clone(),
                reasons: decision.reasons.iter().map(ToString::to_string).collect(),
                miss: decision.miss.as_ref().map(MissNote::of),
            },
            input,
            tools,
            edits: edits.collect(),
        }
    }

    /// The notes as JSON; a miss that the usage has shown replaces one that was expected.
    pub fn text(&mut self, miss: Option<&Miss>) -> String {
        if let Some(miss) = miss {
            self.cache.miss = Some(MissNote::of(miss));
        }
        // Strings and integers only: this cannot fail, and an empty note would not be a wrong one.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl MissNote {
    fn of(miss: &Miss) -> Self {
        Self {
            why: miss.to_string(),
            at: miss.difference.as_ref().map(ToString::to_string),
            tokens: miss.tokens.0,
            cost_usd: miss.cost.exact(),
        }
    }
}

/// Where a segment stands in the client's own request.
fn place(segment: &Segment) -> String {
    let Segment {
        part, index, block, ..
    } = segment;
    match part {
        Part::Tools => format!("tools[{index}]"),
        Part::System => format!("system[{index}]"),
        Part::Messages => format!("messages[{index}].content[{block}]"),
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::prices::PriceBook;
    use policy::shape::cache::decide::decide;
    use policy::shape::cache::memory::Memory;
    use policy::shape::cache::{Sight, Terms};
    use policy::shape::context::tools::shares;
    use wire::dialect::Dialect;
    use wire::usage::{Tokens, Ttl};

    use super::*;

    #[test]
    fn notes_do_not_quote_the_prompt() {
        let secret = "planted secret ".repeat(400);
        let body = format!(
            r#"{{"model":"claude-sonnet-4-6","system":"{secret}","tools":[{{"name":"read",
            "description":"{secret}"}}],"messages":[{{"role":"user","content":"{secret}"}}]}}"#
        );
        let request = Dialect::AnthropicMessages
            .read(body.as_bytes())
            .expect("a request");
        let at = Moment(1_795_478_400_000);
        let model = PriceBook::built_in().find("anthropic", "claude-sonnet-4-6");
        let model = model.expect("a known model");
        let rates = model.rates(at, Tokens(1), None).expect("a price");
        let sight = Sight {
            at,
            tenant: "key_1",
            target: "anthropic/claude-sonnet-4-6",
            terms: Terms::of(model, rates),
            prompt: &request.prompt,
            sizes: &vec![Tokens(1_500); request.prompt.segments.len()],
            rest: Tokens(0),
            body: request.body,
            session: None,
            client: &request.cache,
        };
        let decision = decide(&mut Memory::default(), &sight);
        let mut splice = Splice::default();
        request
            .mark(0, Ttl::Minutes5, &mut splice)
            .expect("text can be marked");
        let input = (Classes::default(), shares(&request, sight.sizes));
        let mut notes = Notes::of(LeverMode::On, &decision, &request, &splice, input);
        let text = notes.text(None);
        assert!(text.contains(r#""tools":[{"name":"read""#), "{text}");
        assert!(text.contains(r#""reason":"CacheMarker""#), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }
}
