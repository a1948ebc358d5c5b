//! How likely a prefix is to be read again before it would expire: an online posterior.
//!
//! Calls are sorted into classes by what tells the most about them: whether tools are used, whether
//! the conversation has begun before, how long it is, how much of it is new, how long the pause
//! before it was, and the head that it shares with others. Every call is followed up, written or
//! not: the part of it that is sent again within the horizon is its outcome. A head's own record
//! outweighs its class once it has one.
//!
//! The classes and weights were chosen on the Mooncake conversation trace (human chat; Apache-2.0):
//! without length classes the saving there halves, without the new part's size it falls by a sixth,
//! without the pauses by less than a hundredth.
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

/// How many observations a class is worth to one length of pause within it.
const PAUSE_WEIGHT: f64 = 10.0;

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

/// Pauses, as parts of a lifetime, between which later prompts are told apart: whoever answers at once
/// goes on, and whoever took longer than two lifetimes has mostly done.
const PAUSES: [(u64, u64); 3] = [(1, 5), (1, 1), (2, 1)];

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
    /// Time since the conversation's call before; none for a first one.
    pub pause_ms: Option<u64>,
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
    /// The class within one head; none where there is no head.
    head: Option<u64>,
    /// One of these after pauses of this length; none where pauses tell nothing.
    paused: Option<u64>,
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
            pause_ms,
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
        let mut classes = Self::with(kind, head, horizon_ms);
        let pause_ms = pause_ms.filter(|_| matches!(kind, Kind::Later(_)));
        classes.paused = pause_ms.map(|pause_ms| {
            let longer = PAUSES.iter().filter(|part| {
                let (of, parts) = **part;
                pause_ms * parts > horizon_ms * of
            });
            let length = 1 + longer.map(|_| 1).sum::<u64>();
            hash(&[classes.head.unwrap_or(classes.class), length])
        });
        classes
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
        let head = (head != 0).then(|| hash(&[head, first, horizon_ms]));
        Self {
            kind,
            class,
            head,
            paused: None,
            late,
        }
    }

    /// What a call of these classes teaches.
    fn keys(&self) -> impl Iterator<Item = u64> {
        let finer = [self.head, self.paused];
        std::iter::once(self.class).chain(finer.into_iter().flatten())
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
        let within = |key: Option<u64>, coarser: f64, weight: f64| {
            key.map_or(coarser, |key| self.cell(key).probability(coarser, weight))
        };
        let prior = classes.kind.prior();
        let class = self.cell(classes.class).probability(prior, CLASS_WEIGHT);
        let head = within(classes.head, class, HEAD_WEIGHT);
        within(classes.paused, head, PAUSE_WEIGHT)
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
        let Some(open) = self.open.peek(number) else {
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
        // Of what was new, the part that was sent again: a document may come back with another
        // question behind it.
        let outcome = if length > matched {
            float(reached.saturating_sub(matched).min(length - matched)) / float(length - matched)
        } else {
            f64::from(u8::from(reached >= length))
        };
        for key in classes.keys() {
            self.learn(key, outcome);
        }
        if is_branch {
            let branch = Classes::branch(followed.horizon_ms);
            self.learn(branch.class, f64::from(u8::from(reached >= matched)));
        }
    }

    fn learn_late(&mut self, number: u64) {
        let Some(open) = self.open.remove(number) else {
            return;
        };
        // What came in time is learned no sooner than what came late, or it would outrun it.
        let came_late = f64::from(u8::from(open.came_late));
        self.learn(open.followed.classes.late, came_late);
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
    fn pauses_tell_prompts_apart() {
        let of = |pause_ms| {
            Classes::of(&Features {
                turn: 1,
                new: 100,
                pause_ms: Some(pause_ms),
                horizon_ms: 300_000,
                ..Features::default()
            })
        };
        let mut worth = Worth::default();
        for call in 0..100 {
            let at = Moment(call);
            for (pause_ms, returns) in [(20_000, true), (700_000, false)] {
                let follow = worth.follow(Followed {
                    at,
                    horizon_ms: 300_000,
                    classes: of(pause_ms),
                    matched: 0,
                    length: 100,
                    is_branch: false,
                });
                if returns {
                    worth.reached(follow, 100, at.after(60_000));
                }
            }
        }
        worth.advance(Moment(u64::MAX));
        let [quick, unseen, slow] =
            [20_000, 400_000, 700_000].map(|pause_ms| worth.probability(&of(pause_ms)));
        assert!(quick > 0.9 && slow < 0.1, "{quick} {slow}");
        assert!((0.4..0.6).contains(&unseen), "as all together: {unseen}");
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
