//! Reads the events of an Anthropic stream.
//!
//! **Invariant**: counts in `message_delta` are totals, not increments: nothing is added twice
//! (test `usage_identities_hold`). Source:
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>, read 2026-11-23.

use super::super::fields;
use super::super::stream::{Tally, Verdict};
use super::response::{Meter, visible_bytes};
use crate::json::Node;
use crate::usage::Usage;

#[derive(Clone, Debug, Default)]
pub(in crate::dialect) struct Reader {
    /// Empty until an event has carried usage.
    meter: Option<Meter>,
}

impl Reader {
    pub(in crate::dialect) fn read(&mut self, event: Node<'_>, tally: &mut Tally) -> Verdict {
        let Some(kind) = event.get("type").and_then(|kind| kind.as_str()) else {
            return Verdict::Unreadable;
        };
        match kind.as_ref() {
            "content_block_delta" => {
                tally.output_bytes += event.get("delta").map_or(0, visible_bytes);
            }
            "content_block_start" => {
                tally.output_bytes += event.get("content_block").map_or(0, visible_bytes);
            }
            "message_start" => {
                if let Some(message) = event.get("message") {
                    tally.name(message);
                    self.read_usage(message);
                }
            }
            "message_delta" => {
                self.read_usage(event);
                if let Some(stop) = event
                    .get("delta")
                    .and_then(|delta| fields::text(delta, "stop_reason"))
                {
                    tally.stop = Some(stop);
                }
            }
            "message_stop" => return Verdict::Last,
            "error" => {
                let message = event
                    .get("error")
                    .and_then(|error| fields::text(error, "message"));
                tally.error = Some(message.unwrap_or_else(|| event.raw().to_owned()));
            }
            _ => {}
        }
        Verdict::Forward
    }

    fn read_usage(&mut self, holder: Node<'_>) {
        if let Some(usage) = fields::given(holder, "usage").filter(Node::is_object) {
            self.meter.get_or_insert_default().read(usage);
        }
    }

    pub(in crate::dialect) fn usage(self) -> Option<Usage> {
        self.meter.map(|meter| meter.usage())
    }
}
