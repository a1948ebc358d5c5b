//! Runs of lines that say the same with other figures: the first and the last stay.
//!
//! A run is of one kind of line, or of kinds that the text has shown several times before it: a log
//! that goes round in the same few lines, or progress bars that take turns.
//!
//! **Invariant**: reports of failures and lines with a word that was asked about are kept, and a run
//! keeps its first and last lines (tests `the_middle_of_a_run_is_left_out` and
//! `rounds_of_known_lines_are_left_out`).

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::failure;

/// Of eight lines, two at each end stay and a note takes the place of four.
const RUN_MIN: usize = 8;

/// Lines that stay at each end of a run.
const ENDS: usize = 2;

/// A note is longer than two lines.
const OMITTED_MIN: usize = 3;

/// A kind of line is known when the text has shown it so often.
const KNOWN_AFTER: u32 = 3;

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
    let is_part = |letter: char| letter.is_alphanumeric() || "_./#-".contains(letter);
    let words = text.split(move |letter| !is_part(letter));
    let words = words.map(|word| word.trim_matches(['.', '-', '/', '#']));
    words.filter(|word| {
        word.len() >= 4
            && word.contains(|letter: char| "_./#".contains(letter) || letter.is_ascii_digit())
    })
}

/// The text with a note in the middle of each run; none if there is none.
pub(super) fn folded(text: &str, asked: &HashSet<u64>) -> Option<String> {
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() < RUN_MIN {
        return None;
    }
    let kinds: Vec<Option<u64>> = lines.iter().map(|line| kind(line)).collect();
    let known = known(&kinds, &lines);
    let mut out: Vec<String> = Vec::with_capacity(lines.len());
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
            out.extend(run.iter().map(|line| (*line).to_owned()));
        }
        at += length;
    }
    is_folded.then(|| out.join("\n"))
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
    let word = PROGRESS.iter().find(|word| trimmed.starts_with(*word));
    word.copied()
}

/// Whether a line looks like a part of a program or of data: it is read as it is written.
fn is_written(line: &str) -> bool {
    line.contains(['"', ';', '=', '{']) || line.trim_end().ends_with([',', ':', '}'])
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

fn fold(run: &[&str], asked: &HashSet<u64>, out: &mut Vec<String>) -> bool {
    let mut omitted: Vec<&str> = Vec::new();
    let mut is_folded = false;
    for (index, line) in run.iter().enumerate() {
        let is_end = index < ENDS || index + ENDS >= run.len();
        let is_asked = || names(line).any(|word| asked.contains(&xxh3_64(word.as_bytes())));
        if is_end || failure::is_reported(line) || is_asked() {
            is_folded |= close(&mut omitted, out);
            out.push((*line).to_owned());
        } else {
            omitted.push(line);
        }
    }
    is_folded
}

/// Writes a note for what was left out, or the lines themselves if they are few.
fn close(omitted: &mut Vec<&str>, out: &mut Vec<String>) -> bool {
    let lines = std::mem::take(omitted);
    let is_folded = lines.len() >= OMITTED_MIN;
    if is_folded {
        out.push(format!("[{} similar lines left out]", lines.len()));
    } else {
        out.extend(lines.into_iter().map(str::to_owned));
    }
    is_folded
}

/// What a line says, its figures aside; none for lines that are mostly figures, or say nothing.
fn kind(line: &str) -> Option<u64> {
    let trimmed = line.trim();
    if let Some(word) = progress(trimmed) {
        return Some(xxh3_64(word.as_bytes()));
    }
    let said = trimmed
        .trim_end_matches(|letter: char| " []()%.s".contains(letter) || letter.is_ascii_digit());
    if let Some(word) = PASSED.iter().find(|word| said.ends_with(*word)) {
        return Some(xxh3_64(word.as_bytes()));
    }
    let is_said = !is_written(trimmed);
    let (mut letters, mut figures) = (0_usize, 0_usize);
    let mut shape = String::with_capacity(trimmed.len());
    let mut before = ' ';
    let mut rest = trimmed.chars().peekable();
    while let Some(letter) = rest.next() {
        let next = rest.peek().copied().unwrap_or(' ');
        // A direction, a choice, a name of a column.
        let is_single = is_said && !before.is_alphanumeric() && !next.is_alphanumeric();
        let class = if letter.is_ascii_digit() {
            figures += 1;
            '0'
        } else if "#=>█━─ .".contains(letter) {
            ' '
        } else if letter.is_alphabetic() && is_single {
            '0'
        } else {
            letters += usize::from(letter.is_alphabetic());
            letter
        };
        if class != shape.chars().next_back().unwrap_or('x') || !matches!(class, '0' | ' ') {
            shape.push(class);
        }
        before = letter;
    }
    let shape = without_repeats(&shape);
    // A line that ends with a percentage is progress, whatever is said of sizes and versions.
    (letters >= 4 && (letters >= figures || trimmed.ends_with('%')))
        .then(|| xxh3_64(shape.as_bytes()))
}

/// A list of one kind of thing is of one kind, however long it is.
fn without_repeats(shape: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in shape.split(' ') {
        let is_repeat = words
            .iter()
            .rev()
            .take(REPEATED_WITHIN)
            .any(|last| *last == word);
        if !is_repeat {
            words.push(word);
        }
    }
    words.join(" ")
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
