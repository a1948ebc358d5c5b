//! The one decision about a call's prompt cache.
//!
//! Deterministic: the same calls in the same order give the same decisions, live or in a replay.
//!
//! **Invariant**: a breakpoint is placed only where the expected reads for each write reach
//! (w − 1) / (1 − r) (the simulator's test `one_shot_streams_write_nothing`).

use wire::prompt::{Chain, Kind};
use wire::usage::Tokens;

use super::memory::{Entry, Habit, Memory, low, scope, within};
use super::place::{self, Spots};
use super::session::{self, Known};
use super::walk::{self, Noted, Path, horizon_ms, lifetimes, reaches_minimum};
use super::worth::{AT_ONCE_MS, Classes, Features, Worth};
use super::{
    Decision, Grain, Lead, Mark, Reason, Sight, Ticket, bank, explain, keys, lifetime, rules,
};
use crate::prices::model::CacheFamily;

/// A call that has not answered for this long is not waited for, and not counted on.
const PENDING_MAX_MS: u64 = 60_000;

/// A session that rewrote history in its last transition does so again, but for one in ten.
const APPENDS_AFTER_REWRITE: f64 = 0.1;

/// A session of so many calls that answers at once is a program's loop, whether or not it uses tools.
const LOOP_TURNS: u32 = 3;

/// From its third call on, a session that never reached the minimum is not begun to be written just
/// beyond it: such sessions are short and about to end, and would pay more than they save.
const LATE_START_TURN: u32 = 2;

/// Such a session is written from 128 tokens beyond the minimum on. From 64 on no recorded trajectory of
/// three or more calls cost over 1 % more than untouched at Sonnet 4.6, without a margin three did; a
/// quarter of the minimum, where models cache from 4 096 tokens on, left up to 28 % of what an ideal cache
/// saves (taubench at Haiku 4.5).
const LATE_START_TOKENS: Tokens = Tokens(128);

/// From where on a session is written that grows past the minimum.
fn late_start(minimum: Tokens) -> Tokens {
    minimum + LATE_START_TOKENS
}

/// What of a prompt is expected to be sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// The probability that the conversation goes on in time.
    pub(super) again: f64,
    /// Leading segments that stay as they are.
    pub(super) stable: usize,
    /// The probability that the segments behind them stay too.
    pub(super) appends: f64,
    /// It goes on from an earlier prompt, or looks like an agent's.
    pub(super) continues: bool,
    /// The probability that it goes on only after the short lifetime.
    pub(super) late: f64,
}

/// What the provider should hold of a prompt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// The deepest segment that can be read now, or after waiting.
    pub(super) live: Option<usize>,
    /// The deepest segment up to there that is held for more than the short lifetime.
    pub(super) long: Option<usize>,
    /// The prefix that another call is writing now, if it is deeper.
    pub(super) pending: Option<Chain>,
}

/// Decides what to ask of the provider's cache for one call, and remembers the call.
///
/// To be called once for each leg's target, in the order in which calls are sent.
pub fn decide(memory: &mut Memory, sight: &Sight<'_>) -> Decision {
    memory.worth.advance(sight.at);
    let path = walk::walk(memory, sight);
    let known = session::recognise(memory, sight, &path);
    let features = features(sight, &path, &known);
    let outlook = outlook(memory, sight, &path, &known, &features);
    let held = held(memory, sight, &path);

    let mut reasons = Vec::new();
    let spots = if rules::of(sight.terms.family).lifetimes.is_empty() {
        reasons.push(Reason::ProviderDecides);
        Spots::default()
    } else {
        let top = worth_writing(memory, sight, &path, &known, &outlook, held, &mut reasons);
        let ttl = lifetime::choose(memory, sight, &path, &outlook, top, held, &mut reasons);
        place::spots(sight, &path, top, held, ttl)
    };
    let miss = explain::miss(
        memory,
        sight,
        &path,
        &known,
        readable(sight, &path, &known, held),
    );
    let shard = shard(memory, sight, &path, &known, &mut reasons);
    let ticket = enter(memory, sight, &path, &spots, held);
    bank::book(memory, sight, &path, &spots, held);
    let lead = lead(sight, &ticket, &spots, held);

    let noted = Noted {
        session: known.key,
        begins: known.previous.is_none(),
        turn: features.turn,
        features,
        stable: outlook.stable,
    };
    walk::note(memory, sight, &path, &noted);
    let home = known.previous.as_ref().and_then(|previous| previous.shard);
    session::remember(memory, sight, &path, &known, home.or(shard));
    Decision {
        session: known.name,
        turn: known.turn,
        marks: spots.marks,
        mode: spots.mode,
        cache_key: shard.map(|shard| keys::name(path.tenant, routed(sight, &path), shard)),
        lead,
        reasons,
        miss,
        ticket,
    }
}

fn features(sight: &Sight<'_>, path: &Path, known: &Known) -> Features {
    let is_tool = |kind| {
        matches!(
            kind,
            Kind::ToolDefinition | Kind::ToolUse | Kind::ToolResult
        )
    };
    let matched = path.tokens_or_zero(path.matched.checked_sub(1));
    let has_tools = sight
        .prompt
        .segments
        .iter()
        .any(|segment| is_tool(segment.kind));
    let pause_ms = known
        .previous
        .as_ref()
        .map(|previous| sight.at.since(previous.last));
    let is_loop = known.turn >= LOOP_TURNS && pause_ms.is_some_and(|ms| ms <= AT_ONCE_MS);
    Features {
        turn: path.turn.max(known.turn),
        agent: has_tools || is_loop,
        input: path.total() + sight.rest.0,
        new: path.total() + sight.rest.0 - matched,
        pause_ms,
        head: path.head,
        horizon_ms: horizon_ms(sight),
    }
}

fn outlook(
    memory: &Memory,
    sight: &Sight<'_>,
    path: &Path,
    known: &Known,
    features: &Features,
) -> Outlook {
    let length = sight.prompt.segments.len();
    let classes = Classes::of(features);
    let again = memory.worth.probability(&classes);
    let late = memory.worth.late_probability(&classes);
    let habit = memory.habits.peek(session::habit_key(path, known.turn));
    let Habit {
        appended,
        rewrote,
        tail,
        ..
    } = habit.copied().unwrap_or_default();
    let usually = f64::from(rewrote) / f64::from(appended + rewrote + 1);
    let (tail, appends) = match known.tail() {
        0 if usually > 0.5 => (tail, 1.0 - usually),
        0 => (0, 1.0),
        tail => (tail, APPENDS_AFTER_REWRITE),
    };
    let stable = length.saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
    let continues = features.turn > 0 || features.agent;
    Outlook {
        again,
        stable,
        appends,
        continues,
        late,
    }
}

/// Looks for what the provider should hold, deepest first.
fn held(memory: &Memory, sight: &Sight<'_>, path: &Path) -> Held {
    let target = scope(sight.target) ^ path.tenant;
    let known = sight
        .prompt
        .segments
        .get(..path.matched)
        .unwrap_or_default();
    let (short, _) = lifetimes(sight);
    let mut held = Held::default();
    for (index, segment) in known.iter().enumerate().rev() {
        let Some(entry) = memory.entries.peek(within(target, segment.chain)) else {
            continue;
        };
        // In a replay the first byte's moment is known before it comes.
        let is_ready = entry.ready.is_some_and(|ready| ready <= sight.at);
        let is_awaited = !is_ready && sight.at.since(entry.sent) <= PENDING_MAX_MS;
        if entry.until < sight.at || !(is_ready || is_awaited) {
            continue;
        }
        if held.live.is_none() {
            held.live = Some(index);
            held.pending = is_awaited.then_some(entry.lead);
        }
        if entry.ttl > short {
            held.long = Some(index);
            break;
        }
    }
    held
}

/// The deepest segment up to which writing pays.
///
/// Each stretch between two candidates is judged by itself: it is written if what later calls save
/// by reading it, times their probability, exceeds the surcharge of the write.
fn worth_writing(
    memory: &Memory,
    sight: &Sight<'_>,
    path: &Path,
    known: &Known,
    outlook: &Outlook,
    held: Held,
    reasons: &mut Vec<Reason>,
) -> Option<usize> {
    let (short, _) = lifetimes(sight);
    let surcharge = sight.terms.write_ratio(short)? - 1.0;
    let saving = 1.0 - sight.terms.read_ratio();
    let (mut gain, mut best_gain, mut best) = (0.0, 0.0, None);
    let mut through = path.tokens_or_zero(held.live);
    let mut shown = outlook.again;
    for (segment, probability) in candidates(memory, sight, path, outlook) {
        let tokens = path.tokens(segment);
        if tokens <= through || !reaches_minimum(sight, tokens) {
            continue;
        }
        gain += super::float(tokens - through) * (probability * saving - surcharge);
        through = tokens;
        shown = probability;
        if gain > best_gain {
            (best_gain, best) = (gain, Some(segment));
        }
    }
    let bank = bank::available(memory, sight, path);
    let premium = |top: Option<usize>| {
        surcharge
            * super::float(
                path.tokens_or_zero(top)
                    .saturating_sub(path.tokens_or_zero(held.live)),
            )
    };
    let start = late_start(sight.terms.minimum).0;
    let was_short = known
        .previous
        .as_ref()
        .is_some_and(|previous| previous.tokens < start);
    let is_late_start = sight.terms.family == CacheFamily::Anthropic
        && known.turn >= LATE_START_TURN
        && was_short
        && held.live.is_none();
    best = best.filter(|top| {
        premium(Some(*top)) <= bank && (!is_late_start || path.tokens(*top) >= start)
    });
    let percent = percent(shown);
    if !reaches_minimum(sight, path.total()) {
        reasons.push(Reason::BelowMinimum);
    } else if best.is_some() {
        reasons.push(Reason::PaysToWrite(percent));
    } else if path.tokens_or_zero(held.live) < path.total() {
        reasons.push(Reason::DoesNotPay(percent));
    }
    let behind = sight.prompt.segments.len() - outlook.stable;
    if behind > 0 {
        reasons.push(Reason::StopsBeforeRewrite(
            u32::try_from(behind).unwrap_or(u32::MAX),
        ));
    }
    best
}

/// Segments after which a breakpoint could stand, shallow to deep, with the probability that the
/// stretch before each is read again in time.
fn candidates(
    memory: &Memory,
    sight: &Sight<'_>,
    path: &Path,
    outlook: &Outlook,
) -> Vec<(usize, f64)> {
    let base = if outlook.continues {
        outlook.again
    } else {
        memory
            .worth
            .probability(&Classes::branch(horizon_ms(sight)))
    };
    let stays = |segment: usize| {
        if segment < outlook.stable {
            1.0
        } else {
            outlook.appends
        }
    };
    let mut candidates: Vec<(usize, f64)> = path
        .runs
        .iter()
        .map(|run| (run.last, Worth::of_prefix(run.seen, run.again, base)))
        .collect();
    if let Some(stable) = outlook.stable.checked_sub(1) {
        let known = candidates
            .iter()
            .position(|(segment, _)| *segment >= stable);
        let again = known
            .and_then(|at| candidates.get(at))
            .map_or(outlook.again, |at| at.1);
        candidates.insert(
            known.unwrap_or(candidates.len()),
            (stable, again.max(outlook.again)),
        );
    }
    if let Some(last) = sight.prompt.segments.len().checked_sub(1) {
        candidates.push((last, outlook.again));
    }
    for (segment, probability) in &mut candidates {
        *probability *= stays(*segment);
    }
    candidates
}

/// Tokens that the provider should read.
fn readable(sight: &Sight<'_>, path: &Path, known: &Known, held: Held) -> u64 {
    let rules = rules::of(sight.terms.family);
    let pause = known
        .previous
        .as_ref()
        .map(|previous| sight.at.since(previous.last));
    match (rules.lifetimes, pause) {
        ([], Some(pause)) if pause <= rules.idle_ms => {
            path.tokens_or_zero(known.common.checked_sub(1))
        }
        ([], _) => 0,
        _ => path.tokens_or_zero(held.live),
    }
}

/// Identifies the start of the prompt, by which the provider routes beside the key. Measured in bytes,
/// not in estimated tokens, or a session whose estimate moves would lose its key and its cache.
fn routed(sight: &Sight<'_>, path: &Path) -> u64 {
    let segments = &sight.prompt.segments;
    let start = if sight.body.is_empty() {
        let mut through = path.through.iter();
        through.position(|tokens| *tokens >= rules::ROUTED_TOKENS.0)
    } else {
        let mut through = 0;
        segments.iter().position(|segment| {
            through += segment.span.len() as u64;
            through >= rules::ROUTED_BYTES
        })
    };
    let start = start.or(segments.len().checked_sub(1));
    let segment = start.and_then(|start| segments.get(start));
    segment.map_or(0, |segment| low(segment.chain.0))
}

fn shard(
    memory: &mut Memory,
    sight: &Sight<'_>,
    path: &Path,
    known: &Known,
    reasons: &mut Vec<Reason>,
) -> Option<u32> {
    let steers = matches!(
        sight.terms.family,
        CacheFamily::OpenaiAuto | CacheFamily::OpenaiBreakpoints | CacheFamily::Xai
    );
    // An estimate that errs low costs one call its key, which only steers.
    let is_kept = reaches_minimum(sight, path.total() + sight.rest.0);
    if !steers || !is_kept || sight.client.key_given {
        return None;
    }
    let home = known.previous.as_ref().and_then(|previous| previous.shard);
    let head = super::worth::hash(&[
        low(path.tenant),
        low(scope(sight.target)),
        routed(sight, path),
    ]);
    let shard = memory.keys.shard(head, known.key, home, sight.at);
    if home.is_some_and(|home| home != shard) {
        reasons.push(Reason::NextShard(shard));
    }
    Some(shard)
}

/// Where entries are left: on breakpoints, or on every segment before the deepest.
fn left_behind(sight: &Sight<'_>, spots: &Spots, held: Held) -> Vec<Mark> {
    let deepest = spots.written.last().copied();
    let ttl_of = |segment: usize| {
        let mut behind = spots.written.iter().filter(|mark| mark.segment >= segment);
        behind.next().or(deepest.as_ref()).map(|mark| mark.ttl)
    };
    match (sight.terms.grain, deepest) {
        (Grain::Segments, Some(Mark { segment, .. })) => (0..=segment.max(held.live.unwrap_or(0)))
            .filter_map(|segment| {
                let ttl = ttl_of(segment)?;
                Some(Mark { segment, ttl })
            })
            .collect(),
        _ => spots.written.clone(),
    }
}

/// Writes down what the provider will hold if it takes the call.
fn enter(memory: &mut Memory, sight: &Sight<'_>, path: &Path, spots: &Spots, held: Held) -> Ticket {
    let target = scope(sight.target) ^ path.tenant;
    let deepest = spots.written.last();
    let deepest = deepest.and_then(|mark| sight.prompt.segments.get(mark.segment));
    let lead = deepest.map(|segment| segment.chain).unwrap_or_default();
    // Anthropic writes nothing before the end of what it reads; OpenAI, at every breakpoint.
    let only_behind_reads = sight.terms.family == CacheFamily::Anthropic;
    let mut entries = Vec::new();
    for Mark { segment, ttl } in left_behind(sight, spots, held) {
        let Some(chain) = sight
            .prompt
            .segments
            .get(segment)
            .map(|segment| segment.chain)
        else {
            continue;
        };
        let key = within(target, chain);
        let entry = memory
            .entries
            .get_mut(key)
            .filter(|entry| entry.until >= sight.at);
        if let Some(entry) = entry {
            entry.until = entry.until.max(sight.at.after(entry.ttl.millis()));
        } else if held.live.is_none_or(|live| segment > live) || !only_behind_reads {
            let until = sight.at.after(ttl.millis());
            memory.entries.insert(
                key,
                Entry {
                    ready: None,
                    sent: sight.at,
                    until,
                    lead,
                    ttl,
                },
            );
            entries.push(key);
        }
    }
    Ticket {
        at: sight.at,
        target: low(scope(sight.target)),
        entries,
        terms: sight.terms,
        expected_read: Tokens(path.tokens_or_zero(held.live)),
        estimated_input: Tokens(path.total() + sight.rest.0),
        counting: memory.counting(sight),
    }
}

fn lead(sight: &Sight<'_>, ticket: &Ticket, spots: &Spots, held: Held) -> Lead {
    if let Some(chain) = held.pending {
        return Lead::Wait(chain);
    }
    let deepest = spots
        .written
        .last()
        .and_then(|mark| sight.prompt.segments.get(mark.segment));
    match deepest {
        Some(segment) if !ticket.entries.is_empty() => Lead::First(segment.chain),
        _ => Lead::Alone,
    }
}

/// A probability as whole percent.
fn percent(probability: f64) -> u32 {
    (0..=100)
        .rev()
        .find(|percent| f64::from(*percent) <= probability * 100.0)
        .unwrap_or(0)
}
