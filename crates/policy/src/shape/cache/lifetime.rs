//! How long entries should live: the longer lifetime costs more to write and is chosen only where
//! the pauses that were seen pay for it.
//!
//! **Invariant**: without a record of a prefix's pauses the longer lifetime is written only for the first
//! segment behind what is held (test `the_longer_lifetime_ends_behind_what_is_held`).

use wire::prompt::Slot;
use wire::usage::Ttl;

use super::decide::{Held, Outlook};
use super::memory::{Memory, within};
use super::walk::{Path, lifetimes, reaches_minimum};
use super::{Mark, Reason, Sight};
use crate::prices::model::CacheFamily;

/// Pauses that must have been seen before the longer lifetime is considered.
const PAUSES_MIN: u32 = 8;

/// The lifetime of each part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// For what several sessions share: the long one where pauses pay for it.
    pub(super) shared: Ttl,
    /// For the rest.
    pub(super) own: Ttl,
    /// A breakpoint of the long lifetime among the rest.
    pub(super) long: Option<Mark>,
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
        long: None,
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
    // What is held already lives on with whatever longer-lived entry begins with it, and only what that
    // entry adds is paid for: so it ends as early as it can.
    // Measured at Anthropic alone; elsewhere the lifetimes are so long that late returns are hardly seen.
    if sight.terms.family != CacheFamily::Anthropic {
        return chosen;
    }
    let next = next_after(sight, path, top, held, long);
    let pays = |next: &usize| {
        let gained = path.tokens(*next) - path.tokens_or_zero(held.long);
        let added = path.tokens(*next) - path.tokens_or_zero(held.live);
        let saved = outlook.late * (write - read) * super::float(gained);
        saved > (write_long - write) * super::float(added)
    };
    let segment = next.filter(pays);
    if segment.is_some() {
        reasons.push(Reason::LongPauses);
    }
    // To read an entry keeps it, but only where a breakpoint stands.
    chosen.long = segment
        .or(held.long)
        .map(|segment| Mark { segment, ttl: long });
    chosen
}

/// The first segment that is written behind what is held and can end an entry of the long lifetime.
fn next_after(
    sight: &Sight<'_>,
    path: &Path,
    top: Option<usize>,
    held: Held,
    long: Ttl,
) -> Option<usize> {
    let segments = &sight.prompt.segments;
    let (live, top) = (held.live?, top?);
    let next = (live + 1..=top).find(|index| {
        let is_open = segments
            .get(*index)
            .is_some_and(|it| it.slot != Slot::Closed);
        is_open && reaches_minimum(sight, path.tokens(*index))
    })?;
    // The provider takes no longer lifetime behind a shorter one, such as the client's.
    let before = segments.get(..next).unwrap_or_default();
    let is_taken = before
        .iter()
        .all(|it| it.marker.is_none_or(|ttl| ttl >= long));
    is_taken.then_some(next)
}
