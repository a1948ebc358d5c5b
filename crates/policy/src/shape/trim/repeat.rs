//! What the conversation says already is not said again: runs of lines that stand in an earlier text
//! become a note between their first and their last line.
//!
//! Listings with line numbers are compared without them, since an edit moves all that follows it; the
//! numbers of a run go up by one from its first line, so that none is lost.
//!
//! **Invariant**: every line that is left out stands, written out, earlier in the same request (test
//! `what_is_left_out_stands_earlier`).

use std::cell::Cell;
use std::collections::BTreeSet;

use foldhash::HashMap;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64;

use super::super::edited::{Edited, Writer};
use super::failure;
use super::lined::Lined;

/// A note is some 10 tokens, 45 bytes; half as much again must be left out for it.
const OMITTED_BYTES_MIN: usize = 70;

/// Where a line stands more often, the latest places are looked at: a file is shown again as it was
/// shown last.
const PLACES_MAX: usize = 16;

/// Of a long line that stands earlier, so much of its beginning is written to know it by.
const LINE_HEAD_BYTES: usize = 80;

/// A line of a text that was sent.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Hash of the whole line.
    whole: u64,
    /// Hash of what follows its number.
    rest: u64,
    number: Option<u64>,
    /// Whether it stands there written out.
    written: bool,
    /// Too short to begin a run with.
    weak: bool,
    /// Where a line with the same rest stands before it.
    before: Option<Place>,
}

/// A text, and a line of it.
type Place = (u32, u32);

impl Line {
    fn of(line: &str) -> Self {
        let (number, rest) = numbered(line);
        let whole = xxh3_64(line.as_bytes());
        Self {
            whole,
            rest: match number {
                Some(_) => xxh3_64(rest.as_bytes()),
                None => whole,
            },
            number,
            written: true,
            weak: rest.trim().len() < 3,
            before: None,
        }
    }
}

/// A line of a text that is looked at.
#[derive(Debug)]
struct Read<'t> {
    words: &'t str,
    line: Line,
    /// Whether it reports a failure, once that was asked.
    reports: Cell<Option<bool>>,
}

impl<'t> Read<'t> {
    fn of(words: &'t str) -> Self {
        Self {
            words,
            line: Line::of(words),
            reports: Cell::new(None),
        }
    }

    fn reports(&self) -> bool {
        let known = self.reports.get();
        let reports = known.unwrap_or_else(|| failure::is_reported(self.words));
        self.reports.set(Some(reports));
        reports
    }
}

/// A line number and what follows it, as `cat -n`, `nl`, `grep -n` and file viewers print it.
fn numbered(line: &str) -> (Option<u64>, &str) {
    let trimmed = line.trim_start_matches(' ');
    let figures = trimmed.bytes().take_while(u8::is_ascii_digit);
    let digits = figures.take(7).count();
    if digits == 0 {
        return (None, line);
    }
    let (number, rest) = trimmed.split_at(digits);
    let rest = rest.strip_prefix([':', '\t', ' ', '|']);
    match (number.parse().ok(), rest) {
        (Some(number), Some(rest)) => (Some(number), rest),
        _ => (None, line),
    }
}

/// A run of lines that stands earlier.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    length: usize,
    /// Whether line numbers differ.
    renumbered: bool,
    /// The passage that it stands in.
    owner: usize,
}

/// The texts of a conversation so far.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    texts: Vec<Vec<Line>>,
    /// The passage that each text is.
    owners: Vec<usize>,
    /// Where each rest of a line stands last.
    places: HashMap<u64, Place>,
    /// The passages that texts noted as a whole are.
    whole: HashMap<u64, usize>,
}

/// A text with notes in place of what stands earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Referring {
    pub(super) text: String,
    pub(super) gained: Tokens,
    /// The passages that have what was left out.
    pub(super) to: Vec<usize>,
}

impl Earlier {
    /// Notes a text that is sent as it is.
    pub(super) fn note(&mut self, text: &str, owner: usize) {
        let Lined { lines, .. } = Lined::of(text);
        self.begin(owner, lines.len());
        for line in lines {
            self.push(Line::of(line));
        }
    }

    fn begin(&mut self, owner: usize, lines: usize) {
        self.texts.push(Vec::with_capacity(lines));
        self.owners.push(owner);
    }

    /// Notes a text as a whole, and gives the passage that said it before.
    pub(super) fn note_whole(&mut self, text: &str, owner: usize) -> Option<usize> {
        let hash = xxh3_64(text.as_bytes());
        let before = self.whole.get(&hash).copied();
        if before.is_none() {
            self.whole.insert(hash, owner);
            self.note(text, owner);
        }
        before
    }

    /// What these passages say does not stand there any more.
    pub(super) fn forget(&mut self, passages: &BTreeSet<usize>) {
        self.whole.retain(|_, owner| !passages.contains(owner));
        for (lines, owner) in self.texts.iter_mut().zip(&self.owners) {
            if passages.contains(owner) {
                for line in lines {
                    line.written = false;
                }
            }
        }
    }

    fn push(&mut self, mut line: Line) {
        let text = self.texts.len().saturating_sub(1);
        let Some(lines) = self.texts.last_mut() else {
            return;
        };
        let place = (u32::try_from(text), u32::try_from(lines.len()));
        if let (true, false, (Ok(text), Ok(at))) = (line.written, line.weak, place) {
            line.before = self.places.insert(line.rest, (text, at));
        }
        lines.push(line);
    }

    /// The text with notes where it repeats what was sent, and what `gain` says of it; notes what is
    /// sent of it. None if there is nothing to gain.
    pub(super) fn refer(
        &mut self,
        text: &Lined<'_>,
        owner: usize,
        gain: impl FnOnce(&Edited) -> Option<Tokens>,
    ) -> Option<Referring> {
        let mut to = Vec::new();
        let Lined { text, lines } = text;
        let read: Vec<Read<'_>> = lines.iter().map(|line| Read::of(line)).collect();
        self.begin(owner, read.len());
        let mut out = Writer::of(text);
        let (mut at, mut from) = (0, 0);
        while let Some(first) = read.get(at) {
            let words = first.words;
            let end = from + words.len();
            let run = self.longest(&read, at);
            let inner = read.get(at + 1..(at + run.length).saturating_sub(1));
            let inner = inner.into_iter().flatten();
            let bytes: usize = inner.map(|line| line.words.len() + 1).sum();
            if bytes >= OMITTED_BYTES_MIN {
                let last = at + run.length - 1;
                out.keep(from..end + 1);
                out.say(&note(run));
                from = end + bytes;
                for (index, line) in read.iter().enumerate().take(last + 1).skip(at) {
                    let written = index == at || index == last;
                    let line = line.line;
                    self.push(Line { written, ..line });
                }
                // The end of the line before the last one is kept, and that one's own if it has one.
                let words = read.get(last).map_or("", |line| line.words);
                let end = from + 1 + words.len();
                out.keep(from..text.len().min(end + 1));
                from = end + 1;
                at = last + 1;
                to.push(run.owner);
                continue;
            }
            let head = (run.length > 0 && words.len() > LINE_HEAD_BYTES + OMITTED_BYTES_MIN)
                .then(|| beginning(words, LINE_HEAD_BYTES));
            let mut kept = from;
            if let Some(head) = head {
                out.keep(from..from + head.len());
                out.say("[… the rest of this line is identical to earlier output]");
                to.push(run.owner);
                kept = end;
            }
            out.keep(kept..text.len().min(end + 1));
            let written = head.is_none();
            self.push(Line {
                written,
                ..first.line
            });
            from = end + 1;
            at += 1;
        }
        if to.is_empty() {
            return None;
        }
        let edited = out.finish();
        let Some(gained) = gain(&edited) else {
            self.write_out();
            return None;
        };
        Some(Referring {
            text: edited.text,
            gained,
            to,
        })
    }

    /// The text that was noted last is sent as it is.
    fn write_out(&mut self) {
        let text = u32::try_from(self.texts.len().saturating_sub(1));
        let lines = self.texts.last_mut().into_iter().flatten();
        for (line, at) in lines.zip(0..).filter(|(line, _)| !line.written) {
            line.written = true;
            if let (false, Ok(text)) = (line.weak, text) {
                line.before = self.places.insert(line.rest, (text, at));
            }
        }
    }

    /// The longest run from a line on that stands earlier.
    fn longest(&self, read: &[Read<'_>], at: usize) -> Run {
        let mut longest = Run::default();
        let Some(first) = read.get(at).filter(|read| !read.line.weak) else {
            return longest;
        };
        // The latest place first: of equal runs it is the one that a reader meets first, going back.
        let mut place = self.places.get(&first.line.rest).copied();
        for _ in 0..PLACES_MAX {
            let Some((text, from)) = place else { break };
            let source = self.texts.get(text as usize);
            let source = source.and_then(|lines| lines.get(from as usize..));
            let source = source.unwrap_or_default();
            let run = common(source, read.get(at..).unwrap_or_default());
            if run.length > longest.length {
                let owner = self.owners.get(text as usize).copied();
                longest = Run {
                    owner: owner.unwrap_or_default(),
                    ..run
                };
            }
            place = source.first().and_then(|line| line.before);
        }
        longest
    }
}

/// How long two texts go on alike.
fn common(source: &[Line], read: &[Read<'_>]) -> Run {
    let mut run = Run::default();
    let mut last = None;
    for (source, read) in source.iter().zip(read) {
        let line = &read.line;
        let is_next = last.is_none() || line.number == last.map(|number: u64| number + 1);
        let is_same = source.whole == line.whole;
        let goes_on = source.rest == line.rest && (line.number.is_none() || is_next);
        if !source.written || !(is_same || goes_on) || read.reports() {
            break;
        }
        run.length += 1;
        run.renumbered |= !is_same;
        last = line.number;
    }
    run
}

/// What stands for the inner lines of a run.
fn note(run: Run) -> String {
    let inner = run.length - 2;
    let renumbered = if run.renumbered {
        " but for line numbers"
    } else {
        ""
    };
    format!("[{inner} lines identical to earlier output{renumbered}]")
}

/// The beginning of a text, cut between letters.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wire::usage::Tokens;

    use super::super::lined::Lined;
    use super::Earlier;

    fn check(earlier: &[&str], text: &str, expect: Option<&str>) {
        let mut session = Earlier::default();
        for earlier in earlier {
            session.note(earlier, 0);
        }
        let shorter = session.refer(&Lined::of(text), 1, |_| Some(Tokens(1)));
        assert_eq!(shorter.map(|it| it.text).as_deref(), expect, "{text}");
    }

    fn lines(prefix: &str, range: std::ops::Range<u32>) -> String {
        let lines = range.map(|number| prefix.replace('#', &number.to_string()));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_left_out_stands_earlier() {
        let shown = lines("the line of number #", 0..20);
        check(&[], &shown, None);
        check(
            &[&shown],
            &format!("again:\n{shown}\nend"),
            Some(
                "again:\nthe line of number 0\n[18 lines identical to earlier output]\n\
                 the line of number 19\nend",
            ),
        );
        // Too little to leave out.
        check(&[&shown], &lines("the line of number #", 0..4), None);
        // The same lines further down, and the first of two views that is itself a note.
        let code = |first: u32| {
            let lines = (0..9).map(|line| format!("{}:    let x{line} = {line};", first + line));
            lines.collect::<Vec<_>>().join("\n")
        };
        check(
            &[&code(5)],
            &code(7),
            Some(
                "7:    let x0 = 0;\n[7 lines identical to earlier output but for line numbers]\n\
                 15:    let x8 = 8;",
            ),
        );
        // Numbers that do not go up by one are figures, not line numbers.
        check(
            &[
                "1 the first of them here\n2 the second of them here\n3 the third\n4 the fourth\n5 fifth",
            ],
            "9 the first of them here\n7 the second of them here\n5 the third\n4 the fourth\n5 fifth",
            None,
        );
        // Reports of failures are said again.
        let failing = shown.replace("number 9", "number 9 FAILED");
        check(
            &[&failing],
            &failing,
            Some(
                "the line of number 0\n[7 lines identical to earlier output]\nthe line of number 8\n\
                 the line of number 9 FAILED\nthe line of number 10\n\
                 [8 lines identical to earlier output]\nthe line of number 19",
            ),
        );
    }

    /// A listing is found again though its first line stands in twelve later texts, which say nothing
    /// else again.
    #[test]
    fn each_place_is_looked_at_once() {
        let mut session = Earlier::default();
        let shown = lines("the line of number #", 0..20);
        let mut refer =
            |text: &str, owner| session.refer(&Lined::of(text), owner, |_| Some(Tokens(1)));
        assert_eq!(refer(&shown, 0), None);
        for owner in 1..13 {
            assert_eq!(
                refer(&format!("the line of number 0\nby {owner}"), owner),
                None
            );
        }
        let referring = refer(&shown, 13).expect("it stands in the first text");
        assert_eq!(referring.to, [0]);
        // What was not worth a note is sent, and found as any other text.
        let mut session = Earlier::default();
        assert_eq!(
            session.refer(&Lined::of(&shown), 0, |_| Some(Tokens(1))),
            None
        );
        assert_eq!(session.refer(&Lined::of(&shown), 1, |_| None), None);
        let referring = session.refer(&Lined::of(&shown), 2, |_| Some(Tokens(1)));
        assert_eq!(referring.map(|it| it.to), Some(vec![1]));
    }

    #[test]
    fn a_text_repeats_itself() {
        let shown = lines("the line of number #", 0..20);
        check(
            &[],
            &format!("{shown}\n--\n{shown}"),
            Some(&format!(
                "{shown}\n--\nthe line of number 0\n[18 lines identical to earlier output]\n\
                 the line of number 19"
            )),
        );
    }
}
