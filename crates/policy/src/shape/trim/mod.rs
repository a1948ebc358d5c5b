//! The trim lever: results of tools say the same in fewer tokens, from the first time that they are sent.
//!
//! What becomes of a text depends on nothing but that text and the texts before it in the same
//! request. So no state is kept: a replica, or a process that has just started, gives the same bytes;
//! and what a longer conversation repeats of a shorter one is trimmed to the same prefix.
//!
//! **Invariant**: the trimmed prompt of a call is a prefix of the trimmed prompt of a call that
//! continues it, but for old results that [`prune`] leaves out, which stay left out; a body stays JSON,
//! and no text has more tokens than before (properties
//! `a_longer_conversation_begins_with_the_shorter_one`, `what_was_left_out_stays_left_out` and
//! `nothing_grows_and_json_stays_json`).

mod best;
mod blob;
mod columns;
mod failure;
mod fold;
mod heading;
mod kind;
mod lined;
mod page;
pub mod prune;
mod repeat;
mod screen;
pub mod session;
pub mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use foldhash::HashSet;
use wire::dialect::passages::Passage;
use wire::dialect::request::Request;
use wire::prompt::{Kind, Part, Role};
use wire::splice::Splice;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::edited::Edited;
use best::Best;
use lined::Lined;
use prune::{Sent, Weighed, candidates, stub};
use repeat::{Earlier, Referring};
use terms::Terms;

/// Changes whenever the same content would be trimmed to other bytes: a conversation that began under
/// one version is not continued under another.
pub const VERSION: u32 = 4;

/// 300 bytes are some 80 tokens: of shorter texts there is nothing to gain.
const TEXT_BYTES_MIN: usize = 300;

/// 1 kB: what a person types is shorter, what is pasted or written by a program is longer.
const PASTED_BYTES_MIN: usize = 1_000;

/// 1 200 tokens: an image of 1280 × 720 on Anthropic's models (`../shared/facts/providers.md` D).
const MEDIA_TOKENS: Tokens = Tokens(1_200);

/// What may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Only what the request still says elsewhere, or what a reader can put back together.
    Exact,
    /// Also the middle of runs of lines that differ only in figures, encoded data, and markup.
    Folded,
}

impl Level {
    /// The name in configuration and notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Folded => "folded",
        }
    }
}

/// What was done to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Technique {
    /// Control sequences of terminals were carried out.
    Screen,
    /// HTML became text.
    Page,
    /// JSON was written without blanks, and objects of one kind as rows.
    Columns,
    /// Encoded data was left out.
    Blob,
    /// The middle of runs of similar lines was left out.
    Fold,
    /// What neighbouring lines begin with was written once.
    Heading,
    /// What the conversation says already was left out.
    Repeat,
    /// An old result was left out whole.
    Prune,
}

impl Technique {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Page => "page",
            Self::Columns => "columns",
            Self::Blob => "blob",
            Self::Fold => "fold",
            Self::Heading => "heading",
            Self::Repeat => "repeat",
            Self::Prune => "prune",
        }
    }
}

/// Counts the tokens of a text; the same count for the same text, always and everywhere.
pub trait Count {
    /// Tokens of a text, at most as many as it has bytes.
    fn tokens(&mut self, text: &str) -> Tokens;

    /// Tokens that a text has more than another one that was made of it; below zero if it has fewer.
    fn more(&mut self, text: &str, edited: &Edited) -> i64 {
        let (before, after) = (self.tokens(text), self.tokens(&edited.text));
        before.0.cast_signed() - after.0.cast_signed()
    }
}

/// What trimming does to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// The edits.
    pub splice: Splice,
    /// Tokens saved, by what was done.
    pub saved: BTreeMap<Technique, Tokens>,
    /// Tokens of results as they are sent, where the terms have them counted.
    pub results: Option<Tokens>,
    /// The segments of results that were left out whole, in order.
    pub pruned: Vec<usize>,
    /// Whether some of them were still sent with the call before.
    pub edits: bool,
}

/// What is known of a conversation so far: kept, it spares the next call of the conversation the work on
/// what both have; lost, it changes nothing.
#[derive(Debug)]
pub struct Progress {
    terms: Terms,
    /// Bytes of tools and system text.
    head: usize,
    /// Bytes of the prompt so far, as they are sent.
    sent: usize,
    seen: Vec<Seen>,
    earlier: Earlier,
    /// Hashes of words that the user or the model has named.
    asked: HashSet<u64>,
    /// Whether the model has said something.
    answered: bool,
    tally: Tally,
}

/// What is counted where the terms ask for it.
#[derive(Debug, Default)]
struct Tally {
    results: Vec<Sent>,
    /// Tokens of results that are sent.
    sent: Tokens,
    /// Estimated tokens of the whole prompt before each passage.
    before: Vec<Tokens>,
    /// The same, all that was read included.
    prompt: Tokens,
    /// Calls that were answered.
    calls: u64,
    /// Whether the passage before was the model's.
    is_said: bool,
    /// Segments that were read.
    segments: usize,
    /// The passage after which results were left out last.
    edited: Option<usize>,
}

/// A passage, and what it is sent as.
#[derive(Debug)]
struct Seen {
    passage: u64,
    shorter: Option<String>,
    saved: BTreeMap<Technique, Tokens>,
    /// Passages that have what was left out of it.
    refers: Vec<usize>,
}

impl Progress {
    /// Of a conversation that begins.
    pub fn new(terms: impl Into<Terms>) -> Self {
        Self {
            terms: terms.into(),
            head: 0,
            sent: 0,
            seen: Vec::new(),
            earlier: Earlier::default(),
            asked: HashSet::default(),
            answered: false,
            tally: Tally::default(),
        }
    }

    /// What may be done.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Whether a prompt with this text at its end is large enough to be cached.
    const fn is_large_with(&self, text: &str) -> bool {
        (self.sent + text.len()) as u64 >= self.terms.least_bytes()
    }

    /// Whether these passages begin with those that were seen.
    fn is_of(&self, head: usize, passages: &[Passage]) -> bool {
        let mut passages = passages.iter();
        let mut seen = self.seen.iter();
        head == self.head && seen.all(|seen| passages.next().map(hash) == Some(seen.passage))
    }
}

fn hash(passage: &Passage) -> u64 {
    let seed = u64::from(passage.is_error) | u64::from(passage.span.is_some()) << 1;
    xxh3_64_with_seed(passage.text.as_bytes(), seed | (passage.role as u64) << 2)
}

/// Trims a request; `count` decides whether a text has become shorter.
///
/// Changed are results of tools, and long texts of the user after the model's first word. Results that
/// the client marks as errors stay as they are.
pub fn trim(request: &Request<'_>, terms: impl Into<Terms>, count: &mut dyn Count) -> Trimmed {
    trim_on(request, &mut Progress::new(terms), count)
}

/// The same, going on from an earlier call of the conversation, if it is one.
pub fn trim_on(request: &Request<'_>, progress: &mut Progress, count: &mut dyn Count) -> Trimmed {
    let passages = request.passages();
    let segments = request.prompt.segments.iter();
    let head = segments.filter(|it| it.part != Part::Messages);
    let head = head.map(|segment| segment.span.len()).sum();
    if !progress.is_of(head, &passages) {
        *progress = Progress::new(progress.terms);
        progress.head = head;
        progress.sent = head;
        progress.tally.prompt = estimated(head);
    }
    for (place, passage) in passages.iter().enumerate().skip(progress.seen.len()) {
        let mut session = Session {
            progress: &mut *progress,
            count: &mut *count,
        };
        let before = session.count_to(request, passage);
        let seen = session.see(passage, place);
        session.progress.seen.push(seen);
        session.count_in(passage, place, before);
        if passage.role == Role::Tool {
            session.prune(&passages);
        }
    }
    let mut trimmed = Trimmed::default();
    for (passage, seen) in passages.iter().zip(&progress.seen) {
        if let Some(shorter) = &seen.shorter {
            request.set_passage(passage, shorter, &mut trimmed.splice);
        }
        for (technique, tokens) in &seen.saved {
            *trimmed.saved.entry(*technique).or_default() += *tokens;
        }
        if seen.saved.contains_key(&Technique::Prune) {
            trimmed.pruned.push(passage.segment);
        }
    }
    let said = passages.iter().rposition(|it| it.role == Role::Assistant);
    trimmed.edits = progress
        .tally
        .edited
        .is_some_and(|edited| Some(edited) > said);
    trimmed.results = progress.terms.counts().then_some(progress.tally.sent);
    trimmed
}

/// 4 bytes a token: texts that are never changed are not counted.
const fn estimated(bytes: usize) -> Tokens {
    Tokens(bytes as u64 / 4)
}

/// A text that may become shorter.
struct Text<'t> {
    original: &'t str,
    place: usize,
    level: Level,
}

/// A conversation that goes on.
struct Session<'c> {
    progress: &'c mut Progress,
    count: &'c mut dyn Count,
}

impl Session<'_> {
    fn see(&mut self, passage: &Passage, place: usize) -> Seen {
        let (mut saved, mut refers) = (BTreeMap::new(), Vec::new());
        self.progress.answered |= passage.role == Role::Assistant;
        let level = self.level(passage).filter(|_| self.may_change(passage));
        let shorter = if let Some(level) = level {
            let text = Text {
                original: &passage.text,
                place,
                level,
            };
            self.shorten(&text, &mut saved, &mut refers)
        } else {
            self.progress.earlier.note(&passage.text, place);
            if passage.role != Role::Tool {
                fold::ask(&passage.text, &mut self.progress.asked);
            }
            None
        };
        self.progress.sent += shorter.as_ref().unwrap_or(&passage.text).len();
        Seen {
            passage: hash(passage),
            shorter,
            saved,
            refers,
        }
    }

    /// Counts what stands before a passage that is none: thinking and media.
    fn count_to(&mut self, request: &Request<'_>, passage: &Passage) -> Tokens {
        let Progress { terms, tally, .. } = &mut *self.progress;
        if !terms.counts() {
            return Tokens(0);
        }
        let segments = request.prompt.segments.get(tally.segments..passage.segment);
        for segment in segments.into_iter().flatten() {
            tally.prompt += match segment.kind {
                // Nobody puts a marker there, so that these bytes stay the same.
                Kind::Thinking | Kind::Document => estimated(segment.span.len()),
                Kind::Media => MEDIA_TOKENS,
                Kind::Text
                | Kind::ToolUse
                | Kind::ToolResult
                | Kind::ToolDefinition
                | Kind::Other => Tokens(0),
            };
        }
        tally.segments = tally.segments.max(passage.segment + 1);
        let is_said = passage.role == Role::Assistant;
        tally.calls += u64::from(is_said && !tally.is_said);
        tally.is_said = is_said;
        tally.prompt
    }

    /// Counts a passage as it is sent.
    fn count_in(&mut self, passage: &Passage, place: usize, before: Tokens) {
        if !self.progress.terms.counts() {
            return;
        }
        let shorter = self
            .progress
            .seen
            .last()
            .and_then(|it| it.shorter.as_deref());
        let text = shorter.unwrap_or(&passage.text);
        let is_result = passage.role == Role::Tool;
        let tokens = if is_result {
            self.count.tokens(text)
        } else {
            estimated(text.len())
        };
        let tally = &mut self.progress.tally;
        tally.before.push(before);
        tally.prompt += tokens;
        if is_result {
            tally.sent += tokens;
            tally.results.push(Sent {
                passage: place,
                tokens,
                is_error: passage.is_error || passage.span.is_none(),
                is_pruned: false,
            });
        }
    }

    /// Leaves old results out, if that is due after the passage that was read last.
    fn prune(&mut self, passages: &[Passage]) {
        let Progress {
            terms,
            seen,
            earlier,
            tally,
            ..
        } = &mut *self.progress;
        let Some(prune) = terms.prune.filter(|it| tally.sent > it.beyond) else {
            return;
        };
        let refers = |passage: usize| seen.get(passage).map_or(&[][..], |it| &it.refers);
        let gone = candidates(&tally.results, refers, seen.len());
        let Some(first) = gone.first() else { return };
        let mut stubs = BTreeMap::new();
        let mut omitted = Tokens(0);
        for result in tally.results.iter().filter(|it| gone.contains(&it.passage)) {
            let Some(passage) = passages.get(result.passage) else {
                continue;
            };
            let stub = stub(&passage.text, result.tokens);
            let left = self.count.tokens(&stub);
            let less = Tokens(result.tokens.0.saturating_sub(left.0));
            omitted += less;
            stubs.insert(result.passage, (stub, left, less));
        }
        let before = tally.before.get(*first).copied().unwrap_or_default();
        let weighed = Weighed {
            omitted,
            behind: Tokens(tally.prompt.0.saturating_sub(before.0)),
            prompt: tally.prompt,
            calls: tally.calls + 1,
        };
        if !prune.is_due(&weighed) {
            return;
        }
        let mut less_so_far = 0;
        for (place, seen) in seen.iter_mut().enumerate() {
            if let Some(before) = tally.before.get_mut(place) {
                before.0 = before.0.saturating_sub(less_so_far);
            }
            if let Some((stub, _, less)) = stubs.get(&place) {
                seen.shorter = Some(stub.clone());
                *seen.saved.entry(Technique::Prune).or_default() += *less;
                less_so_far += less.0;
            }
        }
        for result in &mut tally.results {
            if let Some((_, left, _)) = stubs.get(&result.passage) {
                result.tokens = *left;
                result.is_pruned = true;
            }
        }
        tally.sent = Tokens(tally.sent.0.saturating_sub(omitted.0));
        tally.prompt = Tokens(tally.prompt.0.saturating_sub(omitted.0));
        tally.edited = seen.len().checked_sub(1);
        earlier.forget(&gone);
    }

    /// How much of a passage may be left out.
    fn level(&mut self, passage: &Passage) -> Option<Level> {
        let terms = self.progress.terms;
        if terms.folded_beyond.is_none() || passage.role != Role::Tool {
            return terms.level;
        }
        let sent = self.progress.tally.sent;
        let most = sent + Tokens(passage.text.len() as u64);
        // Counted is only what decides.
        if terms.level_at(sent) == terms.level_at(most) {
            return terms.level_at(sent);
        }
        terms.level_at(sent + self.count.tokens(&passage.text))
    }

    fn may_change(&self, passage: &Passage) -> bool {
        let length = passage.text.len();
        let is_result = match passage.role {
            Role::Tool => length >= TEXT_BYTES_MIN,
            Role::User => self.progress.answered && length >= PASTED_BYTES_MIN,
            Role::Assistant | Role::System => false,
        };
        is_result && passage.span.is_some() && !passage.is_error
    }

    /// The shorter text, if there is one; what is sent of it is remembered.
    fn shorten(
        &mut self,
        text: &Text<'_>,
        saved: &mut BTreeMap<Technique, Tokens>,
        refers: &mut Vec<usize>,
    ) -> Option<String> {
        let Text {
            original,
            place,
            level,
        } = *text;
        let mut best = Best {
            text: None,
            count: &mut *self.count,
            saved,
        };
        if let Some(json) = columns::written(original) {
            best.offer(original, Technique::Columns, Some(json));
            let text = best.text.take();
            let sent = text.as_deref().unwrap_or(original);
            if !self.progress.is_large_with(sent) {
                saved.clear();
                self.progress.earlier.note_whole(original, place);
                return None;
            }
            let before = self.progress.earlier.note_whole(sent, place);
            let again = before.and_then(|_| columns::hint(sent));
            best.text.clone_from(&text);
            best.offer(original, Technique::Repeat, again.map(Edited::from));
            if best.text != text {
                refers.extend(before);
            }
            return best.text;
        }
        let original = &Lined::of(original);
        best.step(original, Technique::Screen, |text| {
            screen::carried_out(text.text).map(Edited::from)
        });
        if level == Level::Folded {
            best.step(original, Technique::Page, |text| {
                page::text(text.text).map(Edited::from)
            });
            best.step(original, Technique::Blob, |text| {
                blob::left_out(text).map(Edited::from)
            });
            let asked = &self.progress.asked;
            best.step(original, Technique::Fold, |text| fold::folded(text, asked));
        }
        best.step(original, Technique::Heading, heading::grouped);
        let text = best.text.take();
        let shorter = text.as_deref().map(Lined::of);
        let lined = shorter.as_ref().unwrap_or(original);
        let (original, sent) = (original.text, lined.text);
        if !self.progress.is_large_with(sent) {
            saved.clear();
            self.progress.earlier.note(original, place);
            return None;
        }
        let reference = self
            .progress
            .earlier
            .refer(lined, place, |shorter| best.gain(sent, shorter));
        let Some(Referring { text, gained, to }) = reference else {
            return text;
        };
        best.add(Technique::Repeat, gained);
        refers.extend(to);
        Some(text)
    }
}
