//! Follows a prompt along the prefixes that are known, and notes it there afterwards.
//!
//! **Invariant**: `through` never decreases, and a prompt that was noted is matched whole
//! (property `a_noted_prompt_is_matched_whole`).

use wire::prompt::{Part, Role};
use wire::usage::{Tokens, Ttl};

use super::memory::{Memory, low, scope, within};
use super::worth::{Classes, Features, Followed};
use super::{Sight, rules};

/// Known prefixes, deepest first, whose latest senders learn that they came again: calls that part
/// later than that were told by their own continuations.
const OWNERS_TOLD: usize = 9;

/// A prefix that was not sent for this many horizons is as good as unknown.
const FORGOTTEN_HORIZONS: u64 = 2;

/// But for entries that may still live: the longest lifetime that is ever chosen from pauses.
const LONGEST_PAUSE_MS: u64 = 3_600_000;

/// Known prefixes of a prompt that have the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Index of the run's last segment.
    pub(super) last: usize,
    pub(super) seen: u32,
    pub(super) again: u32,
}

/// How far a prompt is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) tenant: u128,
    /// Tokens through each segment.
    pub(super) through: Vec<u64>,
    /// Leading segments that were sent before.
    pub(super) matched: usize,
    /// Leading segments through the deepest earlier prompt that this one continues.
    pub(super) previous_end: usize,
    /// Earlier prompts of this conversation, as far as its path tells.
    pub(super) turn: u32,
    pub(super) runs: Vec<Run>,
    /// The deepest segment that several sessions sent.
    pub(super) shared: Option<usize>,
    /// Segments up to the first word of the model: tools, system, and what the user opened with.
    pub(super) opening: usize,
    /// Identifies what comes before the conversation; 0 if nothing does.
    pub(super) head: u64,
}

impl Path {
    /// Tokens through a segment.
    pub(super) fn tokens(&self, segment: usize) -> u64 {
        self.through.get(segment).copied().unwrap_or_default()
    }

    /// Tokens through a segment, or 0 without one.
    pub(super) fn tokens_or_zero(&self, segment: Option<usize>) -> u64 {
        segment.map_or(0, |segment| self.tokens(segment))
    }

    /// Tokens through the last segment.
    pub(super) fn total(&self) -> u64 {
        self.through.last().copied().unwrap_or_default()
    }
}

/// How long what this sight would write lives by default, in milliseconds.
pub(super) fn horizon_ms(sight: &Sight<'_>) -> u64 {
    let rules = rules::of(sight.terms.family);
    rules
        .lifetimes
        .first()
        .map_or(rules.idle_ms, |ttl| ttl.millis())
}

/// Follows the prompt.
pub(super) fn walk(memory: &Memory, sight: &Sight<'_>) -> Path {
    let segments = &sight.prompt.segments;
    let mut path = Path {
        tenant: scope(sight.tenant),
        ..Path::default()
    };
    let mut sum = 0;
    for index in 0..segments.len() {
        sum += sight.sizes.get(index).copied().unwrap_or_default().0;
        path.through.push(sum);
    }
    let speaks = |role| matches!(role, Role::Assistant | Role::Tool);
    let first_word = segments
        .iter()
        .position(|segment| segment.part == Part::Messages && speaks(segment.role));
    path.opening = first_word.unwrap_or(segments.len());
    let head_end = sight.prompt.head_end().and_then(|end| segments.get(end));
    path.head = head_end.map_or(0, |segment| low(segment.chain.0));

    for (index, segment) in segments.iter().enumerate() {
        let Some(node) = memory.nodes.peek(within(path.tenant, segment.chain)) else {
            break;
        };
        let unused_ms = sight.at.since(node.last);
        if unused_ms > horizon_ms(sight) * FORGOTTEN_HORIZONS && unused_ms > LONGEST_PAUSE_MS {
            break;
        }
        path.matched = index + 1;
        if let Some(turn) = node.end_turn.filter(|_| index > 0) {
            path.previous_end = index + 1;
            path.turn = turn + 1;
        }
        if node.sessions > 1 {
            path.shared = Some(index);
        }
        let run = Run {
            last: index,
            seen: node.seen,
            again: node.again,
        };
        match path.runs.last_mut() {
            Some(last) if (last.seen, last.again) == (run.seen, run.again) => last.last = index,
            _ => path.runs.push(run),
        }
    }
    path
}

/// What was found about a call, to be noted along its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) session: u64,
    /// It is the session's first call.
    pub(super) begins: bool,
    pub(super) turn: u32,
    pub(super) features: Features,
    /// Leading segments that are expected to stay as they are.
    pub(super) stable: usize,
}

/// Tells the calls that sent the deepest known prefixes last that they were sent again.
fn came_again(memory: &mut Memory, sight: &Sight<'_>, path: &Path) {
    let known = sight
        .prompt
        .segments
        .get(..path.matched)
        .unwrap_or_default();
    for (index, segment) in known.iter().enumerate().rev().take(OWNERS_TOLD) {
        let node = memory.nodes.peek(within(path.tenant, segment.chain));
        if let Some(follow) = node.and_then(|node| node.follow) {
            memory.worth.reached(follow, path.tokens(index), sight.at);
        }
    }
}

/// Notes a prompt along its path: every segment was seen, and its stable end is followed up.
pub(super) fn note(memory: &mut Memory, sight: &Sight<'_>, path: &Path, noted: &Noted) {
    let segments = &sight.prompt.segments;
    let horizon = noted.features.horizon_ms;
    let (short, long) = lifetimes(sight);
    came_again(memory, sight, path);
    let follow = memory.worth.follow(Followed {
        at: sight.at,
        horizon_ms: horizon,
        classes: Classes::of(&noted.features),
        matched: path.tokens_or_zero(path.matched.checked_sub(1)),
        length: path.tokens_or_zero(noted.stable.checked_sub(1)),
        is_branch: path.turn == 0 && path.matched > 1 && !noted.features.agent,
    });
    for (index, segment) in segments.iter().enumerate() {
        let node = memory
            .nodes
            .entry(within(path.tenant, segment.chain), Default::default);
        if node.seen > 0 {
            let pause = sight.at.since(node.last);
            node.again += u32::from(pause <= horizon);
            node.pauses.note(pause, short, long);
        } else if !sight.body.is_empty() {
            // Once: a prefix that is sent again has the same text.
            let bytes = sight.body.get(segment.span.clone());
            node.size = super::estimate::scan(bytes.unwrap_or_default());
        }
        node.follow = Some(follow);
        if node.owner != noted.session {
            node.owner = noted.session;
            node.sessions += 1;
        }
        node.seen = node.seen.saturating_add(1);
        node.last = sight.at;
        if index + 1 == segments.len() {
            node.end_turn = Some(node.end_turn.unwrap_or(0).max(noted.turn));
            node.ended = node.ended.saturating_add(1);
        } else {
            node.passed = node.passed.saturating_add(u32::from(noted.begins));
        }
    }
}

/// The short and the long lifetime that pauses are sorted by.
pub(super) fn lifetimes(sight: &Sight<'_>) -> (Ttl, Ttl) {
    match *rules::of(sight.terms.family).lifetimes {
        [short, long, ..] => (short, long),
        _ => (Ttl::Minutes5, Ttl::Hour1),
    }
}

/// Whether a prefix of so many tokens is kept at all.
pub(super) fn reaches_minimum(sight: &Sight<'_>, tokens: u64) -> bool {
    Tokens(tokens) >= sight.terms.minimum
}
