//! How likely a prefix is to be read again before it would expire: an online posterior.
//!
//! Calls are sorted into classes by what tells the most about them: whether tools are used, whether
//! the conversation has begun before, how long it is, how much of it is new, and the head that it
//! shares with others. Every call is followed up, written or not: the part of it that is sent again
//! within the horizon is its outcome. A head's own record outweighs its class once it has one.
//!
//! The classes and weights were chosen on the Mooncake conversation trace (human chat; Apache-2.0):
//! without length classes the saving there halves, without the new part's size it falls by a sixth.
//!
//! **Invariant**: a probability stays within 0 and 1, and memory is bounded (test
//! `learns_from_what_happens`).

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::float;
use super::recent::Recent;
use crate::moment::Moment;

/// Classes that are remembered: about ten for each of some thousand heads.
const CELLS_MAX: usize = 65_536;

/// Calls that are being followed up: a quarter of an hour at 70 calls a second.
const OPEN_MAX: usize = 65_536;

/// How many observations a prior is worth to a class.
const CLASS_WEIGHT: f64 = 10.0;

/// How many observations the class is worth to one head's part of it.
const HEAD_WEIGHT: f64 = 3.0;

/// How many observations the class is worth to a single prefix.
const PREFIX_WEIGHT: f64 = 3.0;

/// How many observations a prior is worth to the record of late returns.
const LATE_WEIGHT: f64 = 20.0;

/// Each new observation makes the older ones this much lighter, so that the last two hundred calls
/// of a class outvote all before.
const FORGET: f64 = 0.995;

/// A return within this time is a program's, not a person's, and is learned from at once: such
/// sessions are over before their horizon.
pub(super) const AT_ONCE_MS: u64 = 4_000;

/// Late returns are looked for up to this many horizons after a call.
const LATE_HORIZONS: u64 = 3;

/// Lengths (as powers of two) between which first prompts are told apart.
const FIRST_LENGTHS: (u32, u32) = (11, 14);

/// Sizes of the new part (as powers of two) between which later prompts are told apart.
const NEW_SIZES: (u32, u32) = (10, 13);

/// What is known of a call when it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Prompts of this conversation that came before.
    pub turn: u32,
    /// Tools are defined, called or answered.
    pub agent: bool,
    /// Tokens of the whole prompt.
    pub input: u64,
    /// Tokens that were never seen before.
    pub new: u64,
    /// The head that the call shares with others; 0 if it has none.
    pub head: u64,
    /// How long an entry lives, in milliseconds.
    pub horizon_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AgentFirst,
    AgentLater,
    First(u32),
    Later(u32),
    Branch,
}

impl Kind {
    /// The probability before any evidence. Recorded agents made 10 to 32 calls a task; of chat
    /// prompts, short first ones and those with a small new part are continued the most.
    fn prior(self) -> f64 {
        match self {
            Self::AgentFirst | Self::AgentLater => 0.90,
            Self::First(length) if length < 13 => 0.25,
            Self::First(_) => 0.15,
            Self::Later(new) if new < 12 => 0.45,
            Self::Later(_) => 0.10,
            Self::Branch => 0.30,
        }
    }

    /// The probability, before any evidence, of a return that comes too late for the short lifetime.
    fn late_prior(self) -> f64 {
        match self {
            Self::AgentFirst | Self::AgentLater => 0.01,
            Self::First(_) | Self::Later(_) | Self::Branch => 0.08,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::AgentFirst => 1,
            Self::AgentLater => 2,
            Self::Branch => 3,
            Self::First(length) => 100 + u64::from(length),
            Self::Later(new) => 200 + u64::from(new),
        }
    }

    /// Kinds that share one record of late returns.
    fn late_number(self) -> u64 {
        match self {
            Self::AgentFirst | Self::AgentLater => 11,
            Self::First(_) | Self::Branch => 12,
            Self::Later(_) => 13,
        }
    }
}

/// The classes of a call, coarse to fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    kind: Kind,
    class: u64,
    /// The class within one head; the class itself where there is no head.
    head: u64,
    late: u64,
}

impl Classes {
    /// The classes that a call with these features belongs to.
    pub fn of(features: &Features) -> Self {
        let Features {
            turn,
            agent,
            input,
            new,
            head,
            horizon_ms,
        } = *features;
        let size = |tokens: u64, (low, high): (u32, u32)| tokens.max(1).ilog2().clamp(low, high);
        let kind = match (agent, turn) {
            (true, 0) => Kind::AgentFirst,
            (true, _) => Kind::AgentLater,
            (false, 0) => Kind::First(size(input, FIRST_LENGTHS)),
            (false, _) => Kind::Later(size(new, NEW_SIZES)),
        };
        Self::with(kind, head, horizon_ms)
    }

    /// The class of prefixes at which conversations part, which do not end a prompt.
    pub fn branch(horizon_ms: u64) -> Self {
        Self::with(Kind::Branch, 0, horizon_ms)
    }

    fn with(kind: Kind, head: u64, horizon_ms: u64) -> Self {
        let class = hash(&[kind.number(), horizon_ms]);
        let late = hash(&[kind.late_number(), horizon_ms]);
        // One head is one program: its turns are judged together, but for the first.
        let first = u64::from(matches!(kind, Kind::AgentFirst | Kind::First(_)));
        let head = if head == 0 {
            class
        } else {
            hash(&[head, first, horizon_ms])
        };
        Self {
            kind,
            class,
            head,
            late,
        }
    }
}

/// Mixes numbers into one.
pub(super) fn hash(numbers: &[u64]) -> u64 {
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    xxh3_64(&bytes)
}

/// Outcomes, with older ones fading.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    hits: f64,
    all: f64,
}

impl Cell {
    fn learn(&mut self, outcome: f64) {
        self.hits = self.hits * FORGET + outcome;
        self.all = self.all * FORGET + 1.0;
    }

    fn probability(self, prior: f64, weight: f64) -> f64 {
        (self.hits + weight * prior) / (self.all + weight)
    }
}

/// A call that is being followed up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) at: Moment,
    pub(super) horizon_ms: u64,
    pub(super) classes: Classes,
    /// Tokens that had been sent before.
    pub(super) matched: u64,
    /// Tokens through its stable end.
    pub(super) length: u64,
    /// It parted from an earlier conversation at `matched`.
    pub(super) is_branch: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    followed: Followed,
    /// Tokens that were sent again in time.
    reached: u64,
    came_late: bool,
    /// It was judged for late returns already.
    is_done: bool,
}

/// Names a call that is being followed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follow(u64);

/// Followed calls of one horizon, in the order in which they are due.
#[derive(Clone, Debug, Default)]
struct Due {
    horizon_ms: u64,
    in_time: VecDeque<(Moment, u64)>,
    late: VecDeque<(Moment, u64)>,
}

/// What the traffic has taught about re-reading.
#[derive(Clone, Debug)]
pub(super) struct Worth {
    cells: Recent<u64, Cell>,
    open: Recent<u64, Open>,
    /// One for each horizon: lifetimes are few.
    due: Vec<Due>,
    next: u64,
}

impl Default for Worth {
    fn default() -> Self {
        let (cells, open) = (Recent::new(CELLS_MAX), Recent::new(OPEN_MAX));
        Self {
            cells,
            open,
            due: Vec::new(),
            next: 0,
        }
    }
}

impl Worth {
    fn cell(&self, key: u64) -> Cell {
        self.cells.peek(key).copied().unwrap_or_default()
    }

    /// The probability that a prompt of these classes is read again in time.
    pub(super) fn probability(&self, classes: &Classes) -> f64 {
        let class = self
            .cell(classes.class)
            .probability(classes.kind.prior(), CLASS_WEIGHT);
        if classes.head == classes.class {
            return class;
        }
        self.cell(classes.head).probability(class, HEAD_WEIGHT)
    }

    /// The probability that it is read again only after the short lifetime.
    pub(super) fn late_probability(&self, classes: &Classes) -> f64 {
        self.cell(classes.late)
            .probability(classes.kind.late_prior(), LATE_WEIGHT)
    }

    /// The probability for one prefix that was seen before, `again` times of `seen` in time.
    pub(super) fn of_prefix(seen: u32, again: u32, base: f64) -> f64 {
        let chances = f64::from(seen.saturating_sub(1));
        (f64::from(again) + PREFIX_WEIGHT * base) / (chances + PREFIX_WEIGHT)
    }

    /// Follows a call up.
    pub(super) fn follow(&mut self, followed: Followed) -> Follow {
        let number = self.next;
        self.next += 1;
        let open = Open {
            followed,
            reached: 0,
            came_late: false,
            is_done: false,
        };
        self.open.insert(number, open);
        let horizon_ms = followed.horizon_ms;
        let known = self.due.iter().position(|due| due.horizon_ms == horizon_ms);
        let index = known.unwrap_or_else(|| {
            self.due.push(Due {
                horizon_ms,
                ..Due::default()
            });
            self.due.len() - 1
        });
        if let Some(due) = self.due.get_mut(index) {
            due.in_time
                .push_back((followed.at.after(horizon_ms), number));
            due.late
                .push_back((followed.at.after(horizon_ms * LATE_HORIZONS), number));
        }
        Follow(number)
    }

    /// A followed call's prompt was sent again up to `tokens`.
    pub(super) fn reached(&mut self, follow: Follow, tokens: u64, now: Moment) {
        let Some(open) = self.open.get_mut(follow.0) else {
            return;
        };
        let since = now.since(open.followed.at);
        if since <= open.followed.horizon_ms {
            open.reached = open.reached.max(tokens);
            if since <= AT_ONCE_MS && open.reached >= open.followed.length {
                self.learn_in_time(follow.0);
            }
        } else if since <= open.followed.horizon_ms * LATE_HORIZONS
            && open.reached < open.followed.length
        {
            open.came_late = true;
        }
    }

    /// Learns from every call whose horizon has passed.
    pub(super) fn advance(&mut self, now: Moment) {
        for index in 0..self.due.len() {
            while let Some(number) = self.pop(index, now, |due| &mut due.in_time) {
                self.learn_in_time(number);
            }
            while let Some(number) = self.pop(index, now, |due| &mut due.late) {
                self.learn_late(number);
            }
        }
    }

    fn pop(
        &mut self,
        index: usize,
        now: Moment,
        queue: fn(&mut Due) -> &mut VecDeque<(Moment, u64)>,
    ) -> Option<u64> {
        let queue = queue(self.due.get_mut(index)?);
        let is_due = queue.front().is_some_and(|(until, _)| *until < now) || queue.len() > OPEN_MAX;
        if is_due {
            queue.pop_front().map(|(_, number)| number)
        } else {
            None
        }
    }

    fn learn_in_time(&mut self, number: u64) {
        let Some(open) = self.open.get_mut(number) else {
            return;
        };
        let Open {
            followed, reached, ..
        } = *open;
        let Followed {
            classes,
            matched,
            length,
            is_branch,
            ..
        } = followed;
        let is_whole = reached >= length;
        open.is_done = is_whole;
        // Of what was new, the part that was sent again: a document may come back with another
        // question behind it.
        let outcome = if length > matched {
            float(reached.saturating_sub(matched).min(length - matched)) / float(length - matched)
        } else {
            f64::from(u8::from(is_whole))
        };
        self.learn(classes.class, outcome);
        if classes.head != classes.class {
            self.learn(classes.head, outcome);
        }
        if is_branch {
            let branch = Classes::branch(followed.horizon_ms);
            self.learn(branch.class, f64::from(u8::from(reached >= matched)));
        }
        if is_whole {
            self.learn(classes.late, 0.0);
        }
    }

    fn learn_late(&mut self, number: u64) {
        let Some(open) = self.open.remove(number) else {
            return;
        };
        if !open.is_done {
            self.learn(
                open.followed.classes.late,
                f64::from(u8::from(open.came_late)),
            );
        }
    }

    fn learn(&mut self, key: u64, outcome: f64) {
        self.cells.entry(key, Cell::default).learn(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::{Classes, Features, Followed, Worth};
    use crate::moment::Moment;

    /// After `again` re-reads and `gone` losses of one class, its probability lies in `expect`.
    fn check(agent: bool, again: u64, gone: u64, expect: std::ops::Range<f64>) {
        let features = Features {
            agent,
            horizon_ms: 300_000,
            ..Features::default()
        };
        let classes = Classes::of(&features);
        let mut worth = Worth::default();
        for at in 0..again + gone {
            let at = Moment(at);
            let follow = worth.follow(Followed {
                at,
                horizon_ms: 300_000,
                classes,
                matched: 0,
                length: 100,
                is_branch: false,
            });
            if at.0 < again {
                worth.reached(follow, 100, at.after(1));
            }
        }
        worth.advance(Moment(u64::MAX));
        let probability = worth.probability(&classes);
        assert!(
            expect.contains(&probability),
            "{agent} {again}/{gone}: {probability}"
        );
    }

    #[test]
    fn learns_from_what_happens() {
        check(false, 0, 0, 0.24..0.26);
        check(false, 1, 0, 0.28..0.40);
        check(false, 100, 0, 0.90..1.0);
        check(true, 0, 0, 0.89..0.91);
        check(true, 0, 30, 0.10..0.28);
        check(true, 0, 200, 0.0..0.1);
    }
}
