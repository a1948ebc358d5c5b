//! What a conversation is sent as: it keeps what it began with while anybody may still hold its prefix.
//!
//! Trimming itself needs no memory, so a replica or a process that has just started goes on as the one
//! before. Only a change of the configuration needs one: what was sent in full stays in full, and what
//! was trimmed stays trimmed, until no cache can have it and no thinking is bound to it.
//!
//! **Invariant**: a conversation that is known changes its terms only when it is cold (test
//! `a_conversation_keeps_what_it_began_with`).

use super::terms::Terms;
use crate::moment::Moment;

/// 12 h: the longest lifetime of a cache entry that a provider offers (`wire::usage::Ttl::Hours12`).
pub const COLD_AFTER_MS: u64 = 12 * 60 * 60 * 1_000;

/// How a conversation was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What was done to it.
    pub terms: Terms,
    /// When.
    pub at: Moment,
}

/// Whether something in the conversation is valid only behind the very bytes that were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Nothing is.
    Free,
    /// Thinking blocks of a model that binds them to their prefix.
    Bound,
}

/// Why a conversation is sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// As the configuration says.
    Told,
    /// As it began, which is not what the configuration says now.
    Began,
}

/// How to send a conversation of which the configuration wants this.
pub fn decide(wanted: Terms, held: Option<Held>, thinking: Thinking, now: Moment) -> (Terms, Why) {
    let warm =
        held.filter(|held| thinking == Thinking::Bound || now.since(held.at) < COLD_AFTER_MS);
    match warm {
        Some(held) if held.terms != wanted => (held.terms, Why::Began),
        Some(_) | None => (wanted, Why::Told),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::{COLD_AFTER_MS, Held, Terms, Thinking, Why, decide};
    use crate::moment::Moment;

    #[test]
    fn a_conversation_keeps_what_it_began_with() {
        let (exact, none) = (Terms::from(Level::Exact), Terms::default());
        let check = |wanted, held: Option<Terms>, idle, thinking, expect| {
            let at = Moment(1_000);
            let held = held.map(|terms| Held { terms, at });
            assert_eq!(decide(wanted, held, thinking, at.after(idle)), expect);
        };
        let (free, bound) = (Thinking::Free, Thinking::Bound);
        check(exact, None, 0, free, (exact, Why::Told));
        check(exact, Some(exact), 9, bound, (exact, Why::Told));
        check(exact, Some(none), 9, free, (none, Why::Began));
        check(none, Some(exact), 9, free, (exact, Why::Began));
        check(exact, Some(none), COLD_AFTER_MS, free, (exact, Why::Told));
        check(exact, Some(none), COLD_AFTER_MS, bound, (none, Why::Began));
    }
}
