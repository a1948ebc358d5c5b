//! What the route lever remembers of live conversations: where each is, how large it has become, and
//! how such conversations go on.
//!
//! **Invariant**: what is remembered is bounded, and forgetting only makes forecasts worse (test
//! `a_conversation_is_warm_where_it_was`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::route::economics::Load;
use policy::route::sessions::{Kind, Outlook, Sessions};
use wire::usage::Tokens;

use crate::lately::Lately;

/// 5 min: the shortest lifetime of a prompt cache that is sold; later, nothing is thought warm.
const WARM_MS: u64 = 300_000;

/// The memory.
#[derive(Debug, Default)]
pub struct RouteMemory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sessions: Sessions,
    open: Lately<Open>,
}

/// A conversation under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    calls: usize,
    input: Tokens,
    at: Moment,
}

/// A call as its conversation knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turned {
    /// What its input and those after it are expected to be.
    pub outlook: Outlook,
    /// What the target that answered last has warm.
    pub warm: Tokens,
}

impl Turned {
    /// The call's load at a target.
    pub fn load(&self, input: Tokens, is_home: bool) -> Load {
        let warm = if is_home { self.warm } else { Tokens(0) };
        Load { input, warm }
    }
}

impl RouteMemory {
    /// A conversation comes with another call.
    pub fn comes(&self, conversation: u64, kind: Kind, input: Tokens, at: Moment) -> Turned {
        let mut known = self.lock();
        let before = known.open.get(conversation);
        let calls = before.map_or(1, |open| open.calls.saturating_add(1));
        let grown = before.map(|open| Tokens(input.0.saturating_sub(open.input.0)));
        known.sessions.came_to(kind, calls, grown);
        let is_warm = |open: &Open| at.since(open.at) < WARM_MS;
        let warm = before.filter(is_warm).map(|open| open.input.min(input));
        known.open.put(conversation, Open { calls, input, at });
        Turned {
            outlook: known.sessions.outlook(kind, calls),
            warm: warm.unwrap_or_default(),
        }
    }

    /// A call was answered with so many tokens.
    pub fn answered(&self, kind: Kind, tokens: Tokens) {
        self.lock().sessions.answered(kind, tokens);
    }

    /// Also after a panic elsewhere: forecasts may be off then, money is not.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_warm_where_it_was() {
        let memory = RouteMemory::default();
        let comes = |input: u64, at: u64| {
            let turned = memory.comes(1, Kind::Agent, Tokens(input), Moment(at));
            let load = |is_home| turned.load(Tokens(input), is_home).warm.0;
            (load(true), load(false))
        };
        assert_eq!(comes(1_000, 0), (0, 0));
        assert_eq!(comes(1_500, 1_000), (1_000, 0));
        assert_eq!(comes(1_200, 2_000), (1_200, 0));
        assert_eq!(comes(2_000, 2_000 + WARM_MS), (0, 0));
    }
}
