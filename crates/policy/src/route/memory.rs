//! What the route lever remembers of live conversations: where each is, how large it has become, and
//! how such conversations go on.
//!
//! **Invariant**: what is remembered is bounded, and forgetting only makes forecasts worse (test
//! `a_conversation_is_warm_where_it_was`).

use wire::prompt::Prompt;
use wire::usage::{Tokens, Usage};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::lately::Lately;
use crate::moment::Moment;
use crate::route::economics::Load;
use crate::route::sessions::{Kind, Outlook, Sessions};

/// 5 min: the shortest lifetime of a prompt cache that is sold; later, nothing is thought warm.
const WARM_MS: u64 = 300_000;

/// The memory.
#[derive(Debug, Default)]
pub struct Memory {
    sessions: Sessions,
    open: Lately<Open>,
    /// When heads were last seen.
    heads: Lately<Moment>,
}

/// The part of a prompt that conversations share: tools and instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is told by.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
}

impl Head {
    /// Of a prompt, apart from other tenants' by a seed; none of a prompt without instructions.
    pub fn of(prompt: &Prompt, seed: u64) -> Option<Self> {
        let head = prompt.segments.get(..=prompt.head_end()?)?;
        let chain = head.last()?.chain;
        Some(Self {
            number: xxh3_64_with_seed(&chain.0.to_le_bytes(), seed),
            bytes: head.iter().map(|segment| segment.span.len() as u64).sum(),
        })
    }
}

/// A conversation under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    calls: usize,
    began: Tokens,
    input: Tokens,
    at: Moment,
}

/// A call as its conversation knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turned {
    /// Its input, as estimated.
    pub input: Tokens,
    /// The input that its conversation began with.
    pub began: Tokens,
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
            began: self.began,
            warm: if is_home {
                self.warm.max(self.head)
            } else {
                self.head
            },
        }
    }
}

impl Memory {
    /// A conversation comes with another call, of so many bytes.
    pub fn comes(
        &mut self,
        conversation: u64,
        kind: Kind,
        bytes: u64,
        head: Option<Head>,
        at: Moment,
    ) -> Turned {
        let head = head.map_or(Tokens(0), |head| {
            let before = self.heads.get(head.number);
            self.heads.put(head.number, at);
            let is_warm = before.is_some_and(|before| at.since(before) < WARM_MS);
            let size = self.sessions.size(kind, head.bytes);
            if is_warm { size } else { Tokens(0) }
        });
        let input = self.sessions.size(kind, bytes);
        let before = self.open.get(conversation);
        let calls = before.map_or(1, |open| open.calls.saturating_add(1));
        let grown = before.map(|open| Tokens(input.0.saturating_sub(open.input.0)));
        self.sessions.came_to(kind, calls, grown);
        let is_warm = |open: &Open| at.since(open.at) < WARM_MS;
        let warm = before.filter(is_warm).map(|open| open.input.min(input));
        let began = before.map_or(input, |open| open.began);
        let open = Open {
            calls,
            began,
            input,
            at,
        };
        self.open.put(conversation, open);
        Turned {
            input,
            began,
            outlook: self.sessions.outlook(kind, calls),
            warm: warm.unwrap_or_default(),
            head,
        }
    }

    /// A call of so many bytes was counted and answered.
    pub fn settled(&mut self, kind: Kind, bytes: u64, usage: &Usage) {
        let input = usage.input();
        if input == Tokens(0) {
            return;
        }
        self.sessions.sized(kind, bytes, input);
        self.sessions.answered(kind, usage.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_warm_where_it_was() {
        let mut memory = Memory::default();
        let mut comes = |input: u64, at: u64| {
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
        let mut memory = Memory::default();
        let head = Some(Head {
            number: 9,
            bytes: 2_000,
        });
        let mut comes = |conversation: u64, at: u64| {
            let turned = memory.comes(conversation, Kind::Agent, 4_000, head, Moment(at));
            (turned.load(true).warm.0, turned.load(false).warm.0)
        };
        assert_eq!(comes(1, 0), (0, 0));
        assert_eq!(comes(2, 1_000), (500, 500));
        assert_eq!(comes(1, 2_000), (1_000, 500));
        assert_eq!(comes(3, 2_000 + WARM_MS), (0, 0));
    }
}
