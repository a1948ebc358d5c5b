//! How long entries should live: the longer lifetime costs more to write and is chosen only where
//! the pauses that were seen pay for it.
//!
//! **Invariant**: without a record of pauses the shorter lifetime is chosen (test
//! `breakpoints_keep_the_rules`, which sees no pause).

use wire::usage::Ttl;

use super::decide::{Held, Outlook};
use super::memory::{Memory, within};
use super::walk::{Path, lifetimes};
use super::{Reason, Sight};

/// Pauses that must have been seen before the longer lifetime is considered.
const PAUSES_MIN: u32 = 8;

/// The lifetime of each part: the long one where pauses pay for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// For what several sessions share.
    pub(super) shared: Ttl,
    /// For the rest.
    pub(super) own: Ttl,
}

/// Chooses the lifetimes for one call.
pub(super) fn choose(
    memory: &Memory,
    sight: &Sight<'_>,
    path: &Path,
    outlook: &Outlook,
    top: Option<usize>,
    held: Held,
    reasons: &mut Vec<Reason>,
) -> Lifetimes {
    let (short, long) = lifetimes(sight);
    let mut chosen = Lifetimes {
        shared: short,
        own: short,
    };
    let (Some(write), Some(write_long)) = (
        sight.terms.write_ratio(short),
        sight.terms.write_ratio(long),
    ) else {
        return chosen;
    };
    let read = sight.terms.read_ratio();
    let record = |segment: Option<usize>| {
        let segment = sight.prompt.segments.get(segment?)?;
        let node = memory.nodes.peek(within(path.tenant, segment.chain))?;
        let pauses = node.pauses;
        (pauses.short + pauses.middle + pauses.long >= PAUSES_MIN).then_some(pauses)
    };
    if let Some(pauses) = record(path.shared.or(sight.prompt.head_end())) {
        let [kept, middle, gone] = [pauses.short, pauses.middle, pauses.long].map(f64::from);
        let short_cost = kept * read + (middle + gone) * write;
        let long_cost = (kept + middle) * read + gone * write_long;
        if long_cost < short_cost {
            chosen.shared = long;
            reasons.push(Reason::LongPauses);
        }
    }
    let (reach, held_tokens) = (path.tokens_or_zero(top), path.tokens_or_zero(held.live));
    let saved = outlook.late * (write - read) * super::float(reach);
    let surcharge = (write_long - write) * super::float(reach.saturating_sub(held_tokens));
    if held_tokens > 0 && reach > held_tokens && saved > surcharge {
        chosen = Lifetimes {
            shared: long,
            own: long,
        };
        reasons.push(Reason::LongPauses);
    }
    chosen
}
