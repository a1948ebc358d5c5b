//! Runs of lines that say the same with other figures: the first and the last stay.
//!
//! **Invariant**: reports of failures and lines with a word that was asked about are kept, and a run
//! keeps its first and last lines (test `the_middle_of_a_run_is_left_out`).

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::failure;

/// Of eight lines, two at each end stay and a note takes the place of four.
const RUN_MIN: usize = 8;

/// Lines that stay at each end of a run.
const ENDS: usize = 2;

/// A note is longer than two lines.
const OMITTED_MIN: usize = 3;

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
    let mut out: Vec<String> = Vec::with_capacity(lines.len());
    let (mut at, mut is_folded) = (0, false);
    while at < lines.len() {
        let length = run(&kinds, &lines, at);
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
    if let Some(word) = PROGRESS.iter().find(|word| trimmed.starts_with(*word)) {
        return Some(xxh3_64(word.as_bytes()));
    }
    let said = trimmed
        .trim_end_matches(|letter: char| " []()%.s".contains(letter) || letter.is_ascii_digit());
    if let Some(word) = PASSED.iter().find(|word| said.ends_with(*word)) {
        return Some(xxh3_64(word.as_bytes()));
    }
    let (mut letters, mut figures) = (0_usize, 0_usize);
    let mut shape = String::with_capacity(trimmed.len());
    for letter in trimmed.chars() {
        let class = if letter.is_ascii_digit() {
            figures += 1;
            '0'
        } else if "#=>█━─ .".contains(letter) {
            ' '
        } else {
            letters += usize::from(letter.is_alphabetic());
            letter
        };
        if class != shape.chars().next_back().unwrap_or('x') || !matches!(class, '0' | ' ') {
            shape.push(class);
        }
    }
    (letters >= 4 && letters >= figures).then(|| xxh3_64(shape.as_bytes()))
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
}
