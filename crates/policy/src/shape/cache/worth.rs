//! How likely a prefix is to be read again before it would expire: an online posterior.
//!
//! Calls are sorted into classes (turn, pause, size, agent or chat, and the head that they share).
//! A class inherits from the coarser one above it until it has evidence of its own, so that the
//! first calls of a new client are judged by its kind and later ones by its own record.
//! Every call is followed up, written or not: seen again within the horizon is a success.
//!
//! **Invariant**: a probability stays within 0 and 1, and memory is bounded (test
//! `learns_from_what_happens`).

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::recent::Recent;
use crate::moment::Moment;

/// Classes that are remembered: 64 classes for each of a thousand heads.
const CELLS_MAX: usize = 65_536;

/// Calls that are being followed up: half an hour at 70 calls a second.
const OPEN_MAX: usize = 131_072;

/// Before any evidence, a conversation without tools that has just begun is read again this often.
/// Measured on the Mooncake conversation trace (20 % of first turns, five minutes).
const PRIOR_CHAT_FIRST: f64 = 0.20;

/// The same for later turns of a conversation without tools.
const PRIOR_CHAT_LATER: f64 = 0.45;

/// The same for calls with tools: recorded agents made 10 to 32 calls a task, so 90 % and more of
/// their calls were followed by another.
const PRIOR_AGENT: f64 = 0.90;

/// How many observations the prior is worth to a group.
const GROUP_WEIGHT: f64 = 20.0;

/// How many observations the group is worth to a class within it.
const CLASS_WEIGHT: f64 = 3.0;

/// How many observations the class is worth to one head's part of it.
const HEAD_WEIGHT: f64 = 3.0;

/// How many observations the class is worth to a single prefix.
const PREFIX_WEIGHT: f64 = 3.0;

/// Each new observation makes the older ones this much lighter, so that what was true last month
/// does not outvote today.
const FORGET: f64 = 0.998;

/// What is known of a call when it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Prompts of this conversation that came before.
    pub turn: u32,
    /// Tools are defined, called or answered.
    pub agent: bool,
    /// Since the previous prompt of this conversation.
    pub pause_ms: Option<u64>,
    /// Tokens of the whole prompt.
    pub input: u64,
    /// Tokens that were never seen before.
    pub new: u64,
    /// The head that the call shares with others; 0 if it has none.
    pub head: u64,
    /// How long an entry lives, in milliseconds.
    pub horizon_ms: u64,
}

/// Turns above which all turns are one class.
const TURNS_TOLD_APART: u32 = 4;

/// Pauses up to this are one class: a program is at work, not a person.
const PAUSE_SHORT_MS: u64 = 60_000;

/// The classes of a call, coarse to fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    group: u64,
    class: u64,
    head: u64,
    prior: Prior,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prior {
    Agent,
    ChatFirst,
    ChatLater,
}

impl Prior {
    const fn probability(self) -> f64 {
        match self {
            Self::Agent => PRIOR_AGENT,
            Self::ChatFirst => PRIOR_CHAT_FIRST,
            Self::ChatLater => PRIOR_CHAT_LATER,
        }
    }
}

impl Classes {
    /// The classes that a call with these features belongs to.
    pub fn of(features: &Features) -> Self {
        let Features { turn, agent, pause_ms, input, new, head, horizon_ms } = *features;
        let prior = match (agent, turn) {
            (true, _) => Prior::Agent,
            (false, 0) => Prior::ChatFirst,
            (false, _) => Prior::ChatLater,
        };
        let depth = turn.min(TURNS_TOLD_APART);
        let size = if turn == 0 {
            u64::from(input.max(1).ilog2().clamp(11, 15))
        } else {
            u64::from(new.max(1).ilog2().clamp(10, 13))
        };
        let pause = match pause_ms {
            None => 0,
            Some(ms) if ms <= PAUSE_SHORT_MS => 1,
            Some(ms) if ms <= horizon_ms => 2,
            Some(_) => 3,
        };
        let group = hash(&[u64::from(agent), u64::from(depth), horizon_ms]);
        let class = hash(&[group, size, pause, 1]);
        Self { group, class, head: hash(&[class, head, 2]), prior }
    }

    /// The class of prefixes at which conversations part, which do not end a prompt.
    pub fn branch(horizon_ms: u64) -> Self {
        let group = hash(&[horizon_ms, 3]);
        Self { group, class: group, head: group, prior: Prior::ChatFirst }
    }
}

/// Mixes numbers into one.
pub(super) fn hash(numbers: &[u64]) -> u64 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    again: f64,
    gone: f64,
}

impl Cell {
    fn learn(&mut self, again: bool) {
        self.again *= FORGET;
        self.gone *= FORGET;
        if again {
            self.again += 1.0;
        } else {
            self.gone += 1.0;
        }
    }

    fn probability(self, prior: f64, weight: f64) -> f64 {
        (self.again + weight * prior) / (self.again + self.gone + weight)
    }
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    until: Moment,
    classes: Classes,
    again: bool,
}

/// A call that is being followed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow(u64);

/// What the traffic has taught about re-reading.
#[derive(Clone, Debug)]
pub struct Worth {
    cells: Recent<u64, Cell>,
    open: VecDeque<Followed>,
    /// The number of the first open follow-up.
    first: u64,
}

impl Default for Worth {
    fn default() -> Self {
        Self { cells: Recent::new(CELLS_MAX), open: VecDeque::new(), first: 0 }
    }
}

impl Worth {
    /// The probability that a prompt of these classes is read again in time.
    pub fn probability(&self, classes: &Classes) -> f64 {
        let cell = |key| self.cells.peek(key).copied().unwrap_or_default();
        let group = cell(classes.group).probability(classes.prior.probability(), GROUP_WEIGHT);
        if classes.class == classes.group {
            return group;
        }
        let class = cell(classes.class).probability(group, CLASS_WEIGHT);
        cell(classes.head).probability(class, HEAD_WEIGHT)
    }

    /// The probability for one prefix that was seen before, `again` times of `seen` in time.
    pub fn of_prefix(seen: u32, again: u32, base: f64) -> f64 {
        let chances = f64::from(seen.saturating_sub(1));
        (f64::from(again) + PREFIX_WEIGHT * base) / (chances + PREFIX_WEIGHT)
    }

    /// Follows a call up until its horizon.
    pub fn follow(&mut self, classes: Classes, until: Moment) -> Follow {
        if self.open.len() >= OPEN_MAX {
            self.close_first();
        }
        self.open.push_back(Followed { until, classes, again: false });
        Follow(self.first + self.open.len() as u64 - 1)
    }

    /// A followed call's prompt was read again in time.
    pub fn seen_again(&mut self, follow: Follow) {
        let index = follow.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(followed) = index.and_then(|index| self.open.get_mut(index)) {
            followed.again = true;
        }
    }

    /// Learns from every follow-up whose horizon has passed.
    ///
    /// Horizons of several lengths share one queue, so a short one may be learned a little late.
    pub fn advance(&mut self, now: Moment) {
        while self.open.front().is_some_and(|followed| followed.until < now) {
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        let Some(Followed { classes, again, .. }) = self.open.pop_front() else { return };
        self.first += 1;
        let mut keys = vec![classes.group, classes.class, classes.head];
        keys.dedup();
        for key in keys {
            self.cells.entry(key, Cell::default).learn(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Classes, Features, Worth};
    use crate::moment::Moment;

    /// After `again` re-reads and `gone` losses of one class, its probability lies in `expect`.
    fn check(agent: bool, again: u32, gone: u32, expect: std::ops::Range<f64>) {
        let features = Features { agent, horizon_ms: 300_000, ..Features::default() };
        let classes = Classes::of(&features);
        let mut worth = Worth::default();
        for at in 0..again + gone {
            let follow = worth.follow(classes, Moment(u64::from(at)));
            if at < again {
                worth.seen_again(follow);
            }
        }
        worth.advance(Moment(u64::MAX));
        let probability = worth.probability(&classes);
        assert!(expect.contains(&probability), "{agent} {again}/{gone}: {probability}");
    }

    #[test]
    fn learns_from_what_happens() {
        check(false, 0, 0, 0.19..0.21);
        check(false, 1, 0, 0.35..0.60);
        check(false, 50, 0, 0.95..1.0);
        check(true, 0, 0, 0.89..0.91);
        check(true, 0, 4, 0.10..0.40);
        check(true, 0, 100, 0.0..0.05);
    }
}
