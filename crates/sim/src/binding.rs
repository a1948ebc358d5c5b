//! Thinking that is bound to what stands before it: which models do so, and where a prefix was changed.
//!
//! A model that binds signs each thinking block over the bytes of its prefix: tools, system and all
//! earlier messages. A later request in which they differ is refused, or its thinking dropped
//! (`../shared/facts/providers.md` A.1).
//!
//! **Invariant**: cache markers change no prefix, and everything else does (tests
//! `markers_bind_nothing` and `a_changed_prefix_is_refused` in `tests/it/binding.rs`).

use std::collections::HashMap;

use policy::think::capability::Table;
use wire::dialect::request::Request;
use wire::prompt::{Chain, Kind, Segment};

use crate::replay::number;

/// Whether a model of this provider binds its thinking.
pub fn binds(provider: &str, model: &str) -> bool {
    let known = Table::built_in().find(provider, model);
    known.is_some_and(|capability| capability.binds_prefix)
}

/// What stands before a message.
pub fn prefix(request: &Request<'_>, message: u32) -> Chain {
    let message = usize::try_from(message).unwrap_or(usize::MAX);
    request.prompt.chain_before(message)
}

/// The thinking blocks of replayed calls, and what stood before each when it was first sent.
#[derive(Debug, Default)]
pub struct Bindings {
    known: HashMap<u64, Chain>,
}

impl Bindings {
    /// Looks at a request as it is sent; gives how many of its thinking blocks stand behind another
    /// prefix than before.
    pub fn broken(&mut self, request: &Request<'_>) -> u64 {
        let is_thinking = |segment: &&Segment| segment.kind == Kind::Thinking;
        let blocks = request.prompt.segments.iter().filter(is_thinking);
        let broken = blocks.filter(|segment| {
            let bytes = request.body.get(segment.span.clone()).unwrap_or_default();
            let block = number(&String::from_utf8_lossy(bytes));
            let prefix = prefix(request, segment.index);
            *self.known.entry(block).or_insert(prefix) != prefix
        });
        u64::try_from(broken.count()).unwrap_or(u64::MAX)
    }
}
