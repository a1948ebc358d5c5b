//! Recognises which session a call belongs to, without help from the client.
//!
//! The longest known prefix decides, if it covers what the user opened with: a prompt that continues
//! the latest prompt of a session belongs to it; so does one that shares the opening but rewrote
//! later segments. A shorter prompt is a new session: it may be another attempt at the same task.
//!
//! **Invariant**: a conversation that only grows stays one session, and two conversations that part
//! are two (test `conversations_that_part_are_two_sessions`).

use wire::prompt::{Chain, Part, Role, Segment};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Sight;
use super::memory::{Habit, Memory, low, within};
use super::walk::Path;
use super::worth::hash;
use crate::moment::Moment;

/// Sessions whose latest prompt is the same: more than this many are not told apart.
const SAME_END_MAX: usize = 8;

/// Where a segment stood in a prompt, and its bytes in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stood {
    pub(super) chain: Chain,
    pub(super) part: Part,
    pub(super) index: u32,
    pub(super) block: u32,
    pub(super) span: std::ops::Range<usize>,
}

impl Stood {
    fn of(segment: &Segment) -> Self {
        let Segment {
            chain,
            part,
            index,
            block,
            span,
            ..
        } = segment.clone();
        Self {
            chain,
            part,
            index,
            block,
            span,
        }
    }
}

/// A session's latest prompt.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Calls so far.
    pub(super) turns: u32,
    pub(super) last: Moment,
    pub(super) prompt: Vec<Stood>,
    pub(super) opening: usize,
    /// Tokens of the prompt.
    pub(super) tokens: u64,
    /// The shard on which it began; calls return to it whenever it has room.
    pub(super) shard: Option<u32>,
    pub(super) target: u128,
}

/// The session of a call and how its prompt relates to the one before.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) key: u64,
    pub(super) name: String,
    /// Calls before this one.
    pub(super) turn: u32,
    /// The latest prompt; none for a first call.
    pub(super) previous: Option<Session>,
    /// Leading segments that both share.
    pub(super) common: usize,
}

impl Known {
    /// Segments of the earlier prompt that this one changed.
    pub(super) fn tail(&self) -> u32 {
        let length = self
            .previous
            .as_ref()
            .map_or(0, |previous| previous.prompt.len());
        u32::try_from(length.saturating_sub(self.common)).unwrap_or(u32::MAX)
    }
}

/// Finds the call's session, or names a new one.
pub(super) fn recognise(memory: &mut Memory, sight: &Sight<'_>, path: &Path) -> Known {
    let key = match sight.session {
        Some(name) => hash(&[low(path.tenant), xxh3_64(name.as_bytes()), path.head]),
        None => continued(memory, sight, path)
            .or_else(|| rewritten(memory, sight, path))
            .or_else(|| reheaded(memory, sight, path))
            .unwrap_or_else(|| fresh(memory, sight, path)),
    };
    let previous = memory.sessions.get_mut(key).cloned();
    let name = sight
        .session
        .map_or_else(|| format!("s-{key:016x}"), str::to_owned);
    let common = previous.as_ref().map_or(0, |previous| {
        let pairs = previous.prompt.iter().zip(&sight.prompt.segments);
        pairs
            .take_while(|(before, now)| before.chain == now.chain)
            .count()
    });
    Known {
        key,
        name,
        turn: previous.as_ref().map_or(0, |previous| previous.turns),
        previous,
        common,
    }
}

/// The session whose latest prompt this one continues.
fn continued(memory: &Memory, sight: &Sight<'_>, path: &Path) -> Option<u64> {
    let segments = &sight.prompt.segments;
    let first_user = segments
        .iter()
        .position(|segment| segment.role == Role::User)
        .unwrap_or(0);
    // The same prompt once more is another session: attempts at one task begin alike.
    let shorter = path.matched.min(segments.len().saturating_sub(1));
    let known = segments.get(first_user..shorter)?;
    known.iter().rev().find_map(|segment| {
        let node = memory.nodes.peek(within(path.tenant, segment.chain))?;
        let end = node.ends.last().copied();
        end.filter(|_| !node.is_beginning())
    })
}

/// The session that sent the deepest known prefix, if this prompt can be its next.
fn rewritten(memory: &Memory, sight: &Sight<'_>, path: &Path) -> Option<u64> {
    let deepest = sight.prompt.segments.get(path.matched.checked_sub(1)?)?;
    let owner = memory.nodes.peek(within(path.tenant, deepest.chain))?.owner;
    let session = memory.sessions.peek(owner)?;
    let can_follow = session.opening <= path.matched
        && session.opening < session.prompt.len()
        && session.prompt.len() <= sight.prompt.segments.len();
    can_follow.then_some(owner)
}

/// The session that opened with the same words under another head.
fn reheaded(memory: &Memory, sight: &Sight<'_>, path: &Path) -> Option<u64> {
    let head = sight.prompt.head_end().map_or(0, |end| end + 1);
    if path.matched >= head.max(1) {
        return None;
    }
    let owner = memory.by_user.peek(opening_words(sight, path)?).copied()?;
    let session = memory.sessions.peek(owner)?;
    let messages = |parts: &mut dyn Iterator<Item = Part>| {
        parts.filter(|part| *part == Part::Messages).count()
    };
    let before = messages(&mut session.prompt.iter().map(|stood| stood.part));
    let now = messages(&mut sight.prompt.segments.iter().map(|segment| segment.part));
    (before < now).then_some(owner)
}

/// Identifies the bytes that the user opened with, whatever stands before them.
fn opening_words(sight: &Sight<'_>, path: &Path) -> Option<u64> {
    let opening = sight.prompt.segments.get(..path.opening)?;
    let words = opening
        .iter()
        .filter(|segment| segment.part == Part::Messages);
    let spans = words.filter_map(|segment| sight.body.get(segment.span.clone()));
    let hashes: Vec<u64> = spans
        .filter(|bytes| !bytes.is_empty())
        .map(xxh3_64)
        .collect();
    (!hashes.is_empty()).then(|| hash(&[low(path.tenant), hash(&hashes)]))
}

/// A key for a session that begins here.
fn fresh(memory: &Memory, sight: &Sight<'_>, path: &Path) -> u64 {
    let opening = path
        .opening
        .checked_sub(1)
        .and_then(|last| sight.prompt.segments.get(last));
    let chain = opening.map(|segment| segment.chain).unwrap_or_default();
    let earlier = memory
        .nodes
        .peek(within(path.tenant, chain))
        .map_or(0, |node| node.sessions);
    let key = xxh3_128(&within(path.tenant, chain).to_le_bytes());
    hash(&[low(key), u64::from(earlier)])
}

/// The key of what is learned about a head's conversations at one turn.
pub(super) fn habit_key(path: &Path, turn: u32) -> u64 {
    hash(&[low(path.tenant), path.head, u64::from(turn)])
}

/// Remembers the call as its session's latest prompt.
pub(super) fn remember(
    memory: &mut Memory,
    sight: &Sight<'_>,
    path: &Path,
    known: &Known,
    shard: Option<u32>,
) {
    if let Some(previous) = &known.previous {
        let habit = memory.habits.entry(
            habit_key(path, known.turn.saturating_sub(1)),
            Habit::default,
        );
        if known.tail() == 0 {
            habit.appended += 1;
        } else {
            habit.rewrote += 1;
            habit.tail = known.tail();
        }
        let end = previous
            .prompt
            .last()
            .map(|stood| stood.chain)
            .unwrap_or_default();
        if let Some(node) = memory.nodes.get_mut(within(path.tenant, end)) {
            node.ends.retain(|key| *key != known.key);
        }
    }
    if let Some(end) = sight.prompt.segments.last() {
        let ends = &mut memory
            .nodes
            .entry(within(path.tenant, end.chain), Default::default)
            .ends;
        if ends.len() >= SAME_END_MAX {
            ends.remove(0);
        }
        ends.push(known.key);
    }
    if let Some(words) = opening_words(sight, path) {
        memory.by_user.insert(words, known.key);
    }
    memory.kept.keep(known.key, sight.body);
    let session = Session {
        turns: known.turn + 1,
        last: sight.at,
        prompt: sight.prompt.segments.iter().map(Stood::of).collect(),
        opening: path.opening,
        tokens: path.total(),
        shard,
        target: super::memory::scope(sight.target),
    };
    memory.sessions.insert(known.key, session);
}
