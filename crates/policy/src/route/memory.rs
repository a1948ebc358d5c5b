//! What the route lever remembers of live conversations: where each is, how large it has become, and
//! how such conversations go on.
//!
//! **Invariant**: what is remembered is bounded, and forgetting only makes forecasts worse (test
//! `a_conversation_is_warm_where_it_was`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::route::economics::{Load, Track};
use policy::route::sessions::{Kind, Outlook, Sessions};
use wire::usage::{Tokens, Usage};

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
    /// When heads were last seen.
    heads: Lately<Moment>,
    /// How the calls at each target came out, by its place among the healths.
    tracks: HashMap<usize, Track>,
}

/// The part of a prompt that conversations share: tools and instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is told by.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
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
    /// Its input, as estimated.
    pub input: Tokens,
    /// What follows it.
    pub outlook: Outlook,
    /// What the target that answered last has warm.
    pub warm: Tokens,
    /// What every target has warm that conversations like this one go to.
    pub head: Tokens,
}

impl Turned {
    /// The call's load at a target.
    pub fn load(&self, is_home: bool) -> Load {
        Load {
            input: self.input,
            warm: if is_home {
                self.warm.max(self.head)
            } else {
                self.head
            },
        }
    }
}

impl RouteMemory {
    /// A conversation comes with another call, of so many bytes.
    pub fn comes(
        &self,
        conversation: u64,
        kind: Kind,
        bytes: u64,
        head: Option<Head>,
        at: Moment,
    ) -> Turned {
        let mut known = self.lock();
        let head = head.map_or(Tokens(0), |head| {
            let before = known.heads.get(head.number);
            known.heads.put(head.number, at);
            let is_warm = before.is_some_and(|before| at.since(before) < WARM_MS);
            let size = known.sessions.size(kind, head.bytes);
            if is_warm { size } else { Tokens(0) }
        });
        let input = known.sessions.size(kind, bytes);
        let before = known.open.get(conversation);
        let calls = before.map_or(1, |open| open.calls.saturating_add(1));
        let grown = before.map(|open| Tokens(input.0.saturating_sub(open.input.0)));
        known.sessions.came_to(kind, calls, grown);
        let is_warm = |open: &Open| at.since(open.at) < WARM_MS;
        let warm = before.filter(is_warm).map(|open| open.input.min(input));
        known.open.put(conversation, Open { calls, input, at });
        Turned {
            input,
            outlook: known.sessions.outlook(kind, calls),
            warm: warm.unwrap_or_default(),
            head,
        }
    }

    /// How the calls at a target came out.
    pub fn track(&self, place: usize) -> Track {
        let known = self.lock();
        known.tracks.get(&place).copied().unwrap_or_default()
    }

    /// A call at a target was forecast at one amount and cost another.
    pub fn came_out(&self, place: usize, forecast: PicoUsd, actual: PicoUsd) {
        let mut known = self.lock();
        known.tracks.entry(place).or_default().add(forecast, actual);
    }

    /// A call of so many bytes was counted and answered.
    pub fn settled(&self, kind: Kind, bytes: u64, usage: &Usage) {
        let input = usage.input();
        if input == Tokens(0) {
            return;
        }
        let mut known = self.lock();
        known.sessions.sized(kind, bytes, input);
        known.sessions.answered(kind, usage.output);
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
            let turned = memory.comes(1, Kind::Agent, input * 4, None, Moment(at));
            assert_eq!(turned.input, Tokens(input));
            let load = |is_home| turned.load(is_home).warm.0;
            (load(true), load(false))
        };
        assert_eq!(comes(1_000, 0), (0, 0));
        assert_eq!(comes(1_500, 1_000), (1_000, 0));
        assert_eq!(comes(1_200, 2_000), (1_200, 0));
        assert_eq!(comes(2_000, 2_000 + WARM_MS), (0, 0));
    }

    #[test]
    fn a_shared_head_is_warm_everywhere() {
        let memory = RouteMemory::default();
        let head = Some(Head {
            number: 9,
            bytes: 2_000,
        });
        let comes = |conversation: u64, at: u64| {
            let turned = memory.comes(conversation, Kind::Agent, 4_000, head, Moment(at));
            (turned.load(true).warm.0, turned.load(false).warm.0)
        };
        assert_eq!(comes(1, 0), (0, 0));
        assert_eq!(comes(2, 1_000), (500, 500));
        assert_eq!(comes(1, 2_000), (1_000, 500));
        assert_eq!(comes(3, 2_000 + WARM_MS), (0, 0));
    }
}
