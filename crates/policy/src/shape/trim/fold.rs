//! Runs of lines that say the same with other figures: the first and the last stay.
//!
//! A run is of one kind of line, or of kinds that the text has shown several times before it: a log
//! that goes round in the same few lines, or progress bars that take turns.
//!
//! **Invariant**: reports of failures and lines with a word that was asked about are kept, and a run
//! keeps its first and last lines (tests `the_middle_of_a_run_is_left_out` and
//! `rounds_of_known_lines_are_left_out`).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::{failure, lines};

/// Of eight lines, two at each end stay and a note takes the place of four.
const RUN_MIN: usize = 8;

/// Lines that stay at each end of a run.
const ENDS: usize = 2;

/// A note is longer than two lines.
const OMITTED_MIN: usize = 3;

/// A kind of line is known when the text has shown it so often.
const KNOWN_AFTER: u32 = 3;

/// What a run of one kind has beyond those after which the kind is known; rounds have more.
const REPEATED_MIN: usize = RUN_MIN - KNOWN_AFTER as usize;

/// Fewer lines of known kinds may be a table or a list that somebody reads.
const ROUNDS_MIN: usize = 12;

/// A word and the sign between it and the next one: what a list repeats.
const REPEATED_WITHIN: usize = 2;

/// What progress of package managers and compilers begins with: names and versions follow.
const PROGRESS: [&str; 17] = [
    "Collecting ",
    "Compiling ",
    "Downloaded ",
    "Downloading ",
    "Fetched ",
    "Get:",
    "Hit:",
    "Ign:",
    "Installing ",
    "Preparing to unpack ",
    "Progress (",
    "Requirement already satisfied",
    "Selecting previously ",
    "Setting up ",
    "Unpacking ",
    "Using cached ",
    "[INFO] Download",
];

/// What a passed test ends with, figures and brackets aside.
const PASSED: [&str; 4] = ["PASSED", "... ok", "✓", "passed"];

/// Notes the names and figures of a text as asked about.
pub(super) fn ask(text: &str, asked: &mut HashSet<u64>) {
    asked.extend(names(text).map(|word| xxh3_64(word.as_bytes())));
}

/// Words that name one thing: with a digit, an underscore or a dot inside.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part =
        |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '/' | '#' | '-');
    let tells = |byte| matches!(byte, b'_' | b'.' | b'/' | b'#' | b'0'..=b'9');
    let is_name = move |word: &&str| word.len() >= 4 && word.bytes().any(tells);
    let words = text.split(move |letter| !is_part(letter));
    // Most words are none, and need not be cut first.
    let words = words.filter(is_name);
    let words = words.map(|word| word.trim_matches(['.', '-', '/', '#']));
    words.filter(is_name)
}

/// The text with a note in the middle of each run; none if there is none.
pub(super) fn folded(text: &str, asked: &HashSet<u64>) -> Option<String> {
    let lines: Vec<&str> = lines(text);
    if lines.len() < RUN_MIN {
        return None;
    }
    let mut shape = Shape::default();
    let kinds: Vec<Option<u64>> = lines.iter().map(|line| shape.kind(line)).collect();
    if repeated(&kinds) < REPEATED_MIN {
        return None;
    }
    let known = known(&kinds, &lines);
    let mut out: Vec<Cow<'_, str>> = Vec::with_capacity(lines.len());
    let (mut at, mut is_folded) = (0, false);
    while at < lines.len() {
        let mut length = run(&kinds, &lines, at);
        if length < RUN_MIN {
            length = rounds(&known, at).max(length);
        }
        let run = lines.get(at..at + length).unwrap_or_default();
        if length >= RUN_MIN {
            is_folded |= fold(run, asked, &mut out);
        } else {
            out.extend(run.iter().map(|line| Cow::Borrowed(*line)));
        }
        at += length;
    }
    is_folded.then(|| out.join("\n"))
}

/// Lines of kinds that the text has shown often enough before to be known.
fn repeated(kinds: &[Option<u64>]) -> usize {
    let mut sorted: Vec<u64> = kinds.iter().filter_map(|kind| *kind).collect();
    sorted.sort_unstable();
    let again = sorted.iter().zip(sorted.iter().skip(KNOWN_AFTER as usize));
    again.filter(|(first, later)| first == later).count()
}

/// Lines of one kind from a line on, empty ones between them included; at least one.
fn run(kinds: &[Option<u64>], lines: &[&str], at: usize) -> usize {
    let Some(Some(first)) = kinds.get(at) else {
        return 1;
    };
    let mut length = 1;
    for (index, (kind, line)) in kinds.iter().zip(lines).enumerate().skip(at + 1) {
        if *kind == Some(*first) {
            length = index + 1 - at;
        } else if !line.trim().is_empty() {
            break;
        }
    }
    length
}

/// What is known of a line: none if it is empty.
fn known(kinds: &[Option<u64>], lines: &[&str]) -> Vec<Option<bool>> {
    let mut shown: HashMap<u64, u32> = HashMap::new();
    let of_line = |(kind, line): (&Option<u64>, &&str)| {
        if line.trim().is_empty() {
            return None;
        }
        let shown = kind.map(|kind| shown.entry(kind).or_default());
        Some(shown.is_some_and(|shown| {
            *shown += 1;
            *shown > KNOWN_AFTER && (progress(line.trim()).is_some() || !is_written(line))
        }))
    };
    kinds.iter().zip(lines).map(of_line).collect()
}

/// What a line of progress begins with.
fn progress(trimmed: &str) -> Option<&'static str> {
    let first = trimmed.as_bytes().first()?;
    let may_be = |word: &&&str| word.as_bytes().first() == Some(first);
    let mut words = PROGRESS.iter().filter(may_be);
    words.find(|word| trimmed.starts_with(**word)).copied()
}

/// Whether a line looks like a part of a program or of data: it is read as it is written.
fn is_written(line: &str) -> bool {
    let is_sign = |byte: &u8| matches!(byte, b'"' | b';' | b'=' | b'{');
    // All bytes are looked at, since that is done many at a time.
    line.bytes().filter(is_sign).count() > 0 || line.trim_end().ends_with([',', ':', '}'])
}

/// How many lines from one on are of known kinds, or empty between such; none if they are few.
fn rounds(known: &[Option<bool>], at: usize) -> usize {
    let rest = known.get(at..).unwrap_or_default();
    let (mut length, mut count) = (0, 0);
    for (index, known) in rest.iter().enumerate() {
        match known {
            Some(true) => {
                count += 1;
                length = index + 1;
            }
            Some(false) => break,
            None => {}
        }
    }
    if count >= ROUNDS_MIN { length } else { 0 }
}

fn fold<'t>(run: &[&'t str], asked: &HashSet<u64>, out: &mut Vec<Cow<'t, str>>) -> bool {
    let mut omitted: Vec<&str> = Vec::new();
    let mut is_folded = false;
    for (index, line) in run.iter().enumerate() {
        let is_end = index < ENDS || index + ENDS >= run.len();
        let is_asked = || names(line).any(|word| asked.contains(&xxh3_64(word.as_bytes())));
        if is_end || failure::is_reported(line) || is_asked() {
            is_folded |= close(&mut omitted, out);
            out.push(Cow::Borrowed(*line));
        } else {
            omitted.push(line);
        }
    }
    is_folded
}

/// Writes a note for what was left out, or the lines themselves if they are few.
fn close<'t>(omitted: &mut Vec<&'t str>, out: &mut Vec<Cow<'t, str>>) -> bool {
    let lines = std::mem::take(omitted);
    let is_folded = lines.len() >= OMITTED_MIN;
    if is_folded {
        let note = format!("[{} similar lines left out]", lines.len());
        out.push(Cow::Owned(note));
    } else {
        out.extend(lines.into_iter().map(Cow::Borrowed));
    }
    is_folded
}

/// Whether a word of one letter ends with it: a direction, a choice, a name of a column.
fn is_end(next: Option<&char>) -> bool {
    next.is_none_or(|next| !next.is_alphanumeric())
}

/// Room for what lines look like.
#[derive(Debug, Default)]
struct Shape {
    whole: Vec<u8>,
    short: Vec<u8>,
}

impl Shape {
    /// What a line says, its figures aside; none for lines that are mostly figures, or say nothing.
    fn kind(&mut self, line: &str) -> Option<u64> {
        let trimmed = line.trim();
        if let Some(word) = progress(trimmed) {
            return Some(xxh3_64(word.as_bytes()));
        }
        let said = trimmed.trim_end_matches(|letter| {
            matches!(
                letter,
                ' ' | '[' | ']' | '(' | ')' | '%' | '.' | 's' | '0'..='9'
            )
        });
        if let Some(word) = PASSED.iter().find(|word| said.ends_with(*word)) {
            return Some(xxh3_64(word.as_bytes()));
        }
        let is_said = !is_written(trimmed);
        let (letters, figures) = if trimmed.is_ascii() {
            self.read(trimmed.bytes().map(char::from), is_said)
        } else {
            self.read(trimmed.chars(), is_said)
        };
        // A line that ends with a percentage is progress, whatever is said of sizes and versions.
        let says = letters >= 4 && (letters >= figures || trimmed.ends_with('%'));
        says.then(|| {
            self.without_repeats();
            xxh3_64(&self.short)
        })
    }

    /// Reads what a line looks like; gives its letters and figures.
    fn read(&mut self, line: impl Iterator<Item = char>, is_said: bool) -> (usize, usize) {
        let (mut letters, mut figures) = (0, 0);
        self.whole.clear();
        let (mut is_inside, mut last) = (false, 'x');
        let mut line = line.peekable();
        while let Some(letter) = line.next() {
            let is_letter = letter.is_alphabetic();
            let class = match letter {
                '0'..='9' => {
                    figures += 1;
                    '0'
                }
                '#' | '=' | '>' | '█' | '━' | '─' | ' ' | '.' => ' ',
                _ if is_letter && is_said && !is_inside && is_end(line.peek()) => '0',
                _ => {
                    letters += usize::from(is_letter);
                    letter
                }
            };
            if class != last || !matches!(class, '0' | ' ') {
                match u8::try_from(class) {
                    Ok(byte @ ..=0x7f) => self.whole.push(byte),
                    _ => self.whole.extend(class.encode_utf8(&mut [0; 4]).bytes()),
                }
                last = class;
            }
            is_inside = is_letter || letter.is_numeric();
        }
        (letters, figures)
    }

    /// A list of one kind of thing is of one kind, however long it is.
    fn without_repeats(&mut self) {
        self.short.clear();
        let mut lately: [Option<&[u8]>; REPEATED_WITHIN] = [None; REPEATED_WITHIN];
        for word in self.whole.split(|byte| *byte == b' ') {
            if lately.contains(&Some(word)) {
                continue;
            }
            if lately.last() != Some(&None) {
                self.short.push(b' ');
            }
            self.short.extend(word);
            lately.rotate_left(1);
            if let Some(last) = lately.last_mut() {
                *last = Some(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{ask, folded};

    fn check(asked: &str, text: &str, expect: Option<&str>) {
        let mut words = HashSet::new();
        ask(asked, &mut words);
        assert_eq!(folded(text, &words).as_deref(), expect, "{text}");
    }

    fn episodes(range: std::ops::Range<u32>) -> String {
        let lines = range.map(|number| format!("Episode {number}/100, reward: {}", number * 7));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_middle_of_a_run_is_left_out() {
        let ends = |middle: &str| {
            let (first, last) = (episodes(0..2), episodes(18..20));
            format!("start\n{first}\n{middle}\n{last}\nend")
        };
        let whole = format!("start\n{}\nend", episodes(0..20));
        check("", &whole, Some(&ends("[16 similar lines left out]")));
        check("", &episodes(0..7), None);
        // What was asked about, and what failed, stays.
        let kept = |line: &str| {
            ends(&format!(
                "[7 similar lines left out]\n{line}\n[8 similar lines left out]"
            ))
        };
        check(
            "and episode 9/100?",
            &whole,
            Some(&kept("Episode 9/100, reward: 63")),
        );
        let failing = whole.replace("Episode 9/100,", "Episode 9/100, ERROR");
        let halves = [
            episodes(0..2),
            episodes(7..9),
            episodes(10..12),
            episodes(18..20),
        ];
        let [one, two, three, four] = halves;
        check(
            "",
            &failing,
            Some(&format!(
                "start\n{one}\n[5 similar lines left out]\n{two}\nEpisode 9/100, ERROR reward: 63\n\
                 {three}\n[6 similar lines left out]\n{four}\nend"
            )),
        );
        // Rows of figures are data.
        let data: Vec<String> = (0..20).map(|row| format!("{row}.5,{row}3.25,a")).collect();
        check("", &data.join("\n"), None);
        // Passed tests differ in their names.
        let passed: Vec<String> = (0..9)
            .map(|test| format!("test_a.py::test_{} PASSED [ {test} %]", "x".repeat(test)))
            .collect();
        let (first, last) = (passed[..2].join("\n"), passed[7..].join("\n"));
        check(
            "",
            &passed.join("\n"),
            Some(&format!("{first}\n[5 similar lines left out]\n{last}")),
        );
    }

    #[test]
    fn rounds_of_known_lines_are_left_out() {
        let round = |at: u32| format!("try north: {at} steps\n\n  the wall is hit\nback at {at}");
        let rounds = |range: std::ops::Range<u32>| range.map(round).collect::<Vec<_>>().join("\n");
        let text = format!("start\n{}\nend", rounds(0..9));
        let expect = format!(
            "start\n{}\ntry north: 3 steps\n\n[20 similar lines left out]\n  the wall is hit\n\
             back at 8\nend",
            rounds(0..3)
        );
        check("", &text, Some(&expect));
        // Names with versions are no programs, where progress is told of them.
        let package = |at: u32| format!("Collecting p{at}>=1\n  Downloading p{at}=={at}.whl");
        let packages =
            |range: std::ops::Range<u32>| range.map(package).collect::<Vec<_>>().join("\n");
        let expect = format!(
            "{}\n{}\n[16 similar lines left out]\n{}",
            packages(0..3),
            packages(3..4),
            packages(12..13)
        );
        check("", &packages(0..13), Some(&expect));
        // Too few to know, and too few to leave out.
        check("", &rounds(0..6), None);
        // Programs and data stay.
        check(
            "",
            &text
                .replace("steps", "steps;")
                .replace("hit", "hit,")
                .replace("back", "\"back"),
            None,
        );
    }
}
