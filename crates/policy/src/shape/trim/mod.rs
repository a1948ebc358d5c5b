//! The trim lever: results of tools say the same in fewer tokens, from the first time that they are sent.
//!
//! What becomes of a text depends on nothing but that text and the texts before it in the same
//! request. So no state is kept: a replica, or a process that has just started, gives the same bytes;
//! and what a longer conversation repeats of a shorter one is trimmed to the same prefix.
//!
//! **Invariant**: the trimmed prompt of a call is a prefix of the trimmed prompt of a call that
//! continues it, a body stays JSON, and no text has more tokens than before (properties
//! `a_longer_conversation_begins_with_the_shorter_one` and `nothing_grows_and_json_stays_json`).

mod blob;
mod columns;
mod failure;
mod fold;
mod heading;
mod page;
mod repeat;
mod screen;
pub mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use wire::dialect::passages::Passage;
use wire::dialect::request::Request;
use wire::prompt::{Part, Role};
use wire::splice::Splice;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use repeat::Earlier;

/// Changes whenever the same content would be trimmed to other bytes: a conversation that began under
/// one version is not continued under another.
pub const VERSION: u32 = 2;

/// 300 bytes are some 80 tokens: of shorter texts there is nothing to gain.
const TEXT_BYTES_MIN: usize = 300;

/// 1 kB: what a person types is shorter, what is pasted or written by a program is longer.
const PASTED_BYTES_MIN: usize = 1_000;

/// 6 kB, some 1 500 tokens: most models cache nothing below 1 024, and a prompt that is kept below that is
/// paid in full again and again. With 5 kB one trajectory of terminal-bench came to cost 1.09 % more than
/// without trimming, with 6 kB none more than 0.76 %.
const PROMPT_BYTES_MIN: usize = 6_000;

/// A change that saves fewer tokens is not worth that the model reads something unusual.
const TOKENS_SAVED_MIN: u64 = 12;

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
        }
    }
}

/// Counts the tokens of a text; the same count for the same text, always and everywhere.
pub trait Count {
    /// Tokens of a text.
    fn tokens(&mut self, text: &str) -> Tokens;
}

/// What trimming does to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// The edits.
    pub splice: Splice,
    /// Tokens saved, by what was done.
    pub saved: BTreeMap<Technique, Tokens>,
}

/// What is known of a conversation so far: kept, it spares the next call of the conversation the work on
/// what both have; lost, it changes nothing.
#[derive(Debug)]
pub struct Progress {
    level: Level,
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
}

/// A passage, and what it is sent as.
#[derive(Debug)]
struct Seen {
    passage: u64,
    shorter: Option<String>,
    saved: BTreeMap<Technique, Tokens>,
}

impl Progress {
    /// Of a conversation that begins.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            head: 0,
            sent: 0,
            seen: Vec::new(),
            earlier: Earlier::default(),
            asked: HashSet::new(),
            answered: false,
        }
    }

    /// How much is left out.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Whether a prompt with this text at its end is large enough to be cached.
    const fn is_large_with(&self, text: &str) -> bool {
        self.sent + text.len() >= PROMPT_BYTES_MIN
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
pub fn trim(request: &Request<'_>, level: Level, count: &mut dyn Count) -> Trimmed {
    trim_on(request, &mut Progress::new(level), count)
}

/// The same, going on from an earlier call of the conversation, if it is one.
pub fn trim_on(request: &Request<'_>, progress: &mut Progress, count: &mut dyn Count) -> Trimmed {
    let passages = request.passages();
    let segments = request.prompt.segments.iter();
    let head = segments.filter(|it| it.part != Part::Messages);
    let head = head.map(|segment| segment.span.len()).sum();
    if !progress.is_of(head, &passages) {
        *progress = Progress::new(progress.level);
        progress.head = head;
        progress.sent = head;
    }
    let mut trimmed = Trimmed::default();
    for (place, passage) in passages.iter().enumerate() {
        if place == progress.seen.len() {
            let seen = Session {
                progress: &mut *progress,
                count: &mut *count,
            }
            .see(passage);
            progress.seen.push(seen);
        }
        let Some(seen) = progress.seen.get(place) else {
            continue;
        };
        if let Some(shorter) = &seen.shorter {
            request.set_passage(passage, shorter, &mut trimmed.splice);
        }
        for (technique, tokens) in &seen.saved {
            *trimmed.saved.entry(*technique).or_default() += *tokens;
        }
    }
    trimmed
}

/// A conversation that goes on.
struct Session<'c> {
    progress: &'c mut Progress,
    count: &'c mut dyn Count,
}

impl Session<'_> {
    fn see(&mut self, passage: &Passage) -> Seen {
        let mut saved = BTreeMap::new();
        self.progress.answered |= passage.role == Role::Assistant;
        let shorter = if self.may_change(passage) {
            self.shorten(&passage.text, &mut saved)
        } else {
            self.progress.earlier.note(&passage.text);
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
        }
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
        original: &str,
        saved: &mut BTreeMap<Technique, Tokens>,
    ) -> Option<String> {
        let mut best = Best {
            text: None,
            tokens: None,
            count: &mut *self.count,
            saved,
        };
        if let Some(json) = columns::written(original) {
            best.offer(original, Technique::Columns, Some(json));
            let text = best.text.take();
            let sent = text.as_deref().unwrap_or(original);
            if !self.progress.is_large_with(sent) {
                saved.clear();
                self.progress.earlier.note_whole(original);
                return None;
            }
            let again = self
                .progress
                .earlier
                .note_whole(sent)
                .then(|| columns::hint(sent));
            best.text.clone_from(&text);
            best.offer(original, Technique::Repeat, again.flatten());
            return best.text;
        }
        best.step(original, Technique::Screen, screen::carried_out);
        if self.progress.level == Level::Folded {
            best.step(original, Technique::Page, page::text);
            best.step(original, Technique::Blob, blob::left_out);
            let asked = &self.progress.asked;
            best.step(original, Technique::Fold, |text| fold::folded(text, asked));
        }
        best.step(original, Technique::Heading, heading::grouped);
        let text = best.text.take();
        let sent = text.as_deref().unwrap_or(original);
        if !self.progress.is_large_with(sent) {
            saved.clear();
            self.progress.earlier.note(original);
            return None;
        }
        let reference = self
            .progress
            .earlier
            .refer(sent, |shorter| best.gain(sent, shorter));
        if let Some((_, tokens)) = &reference {
            best.add(Technique::Repeat, *tokens);
        }
        reference.map(|(shorter, _)| shorter).or(text)
    }
}

/// The shortest text so far.
struct Best<'s> {
    /// None while it is the original.
    text: Option<String>,
    /// Its tokens, once they were counted.
    tokens: Option<Tokens>,
    count: &'s mut dyn Count,
    saved: &'s mut BTreeMap<Technique, Tokens>,
}

impl Best<'_> {
    fn step(
        &mut self,
        original: &str,
        technique: Technique,
        change: impl FnOnce(&str) -> Option<String>,
    ) {
        let offered = change(self.text.as_deref().unwrap_or(original));
        self.offer(original, technique, offered);
    }

    fn offer(&mut self, original: &str, technique: Technique, offered: Option<String>) {
        let Some(offered) = offered else { return };
        let current = self.text.take();
        match self.gain(current.as_deref().unwrap_or(original), &offered) {
            Some(gain) => {
                self.add(technique, gain);
                self.text = Some(offered);
            }
            None => self.text = current,
        }
    }

    /// What is gained by the shorter one of two texts, if it is worth it; then it is the best.
    fn gain(&mut self, longer: &str, shorter: &str) -> Option<Tokens> {
        let before = match self.tokens {
            Some(tokens) => tokens,
            None => self.count.tokens(longer),
        };
        let after = self.count.tokens(shorter);
        let gain = before.0.saturating_sub(after.0);
        let is_shorter = gain >= TOKENS_SAVED_MIN && shorter.len() < longer.len();
        self.tokens = Some(if is_shorter { after } else { before });
        is_shorter.then_some(Tokens(gain))
    }

    fn add(&mut self, technique: Technique, gain: Tokens) {
        self.saved.entry(technique).or_default().0 += gain.0;
    }
}
