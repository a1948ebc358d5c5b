//! Runs of lines that say the same with other figures: the first and the last stay.
//!
//! A run is of one kind of line, or of kinds that the text has shown several times before it: a log
//! that goes round in the same few lines, or progress bars that take turns.
//!
//! **Invariant**: reports of failures and lines with a word that was asked about are kept, and a run
//! keeps its first and last lines (tests `the_middle_of_a_run_is_left_out` and
//! `rounds_of_known_lines_are_left_out`).

use std::ops::Range;

use foldhash::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use super::super::edited::{Edited, Writer};
use super::failure;
use super::kind::{is_written, kinds, progress};
use super::lined::Lined;

/// Of eight lines, two at each end stay and a note takes the place of four.
const RUN_MIN: usize = 8;

/// Lines that stay at each end of a run.
const ENDS: usize = 2;

/// A note is longer than two lines.
const OMITTED_MIN: usize = 3;

/// A kind of line is known when the text has shown it so often.
pub(super) const KNOWN_AFTER: u32 = 3;

/// What a run of one kind has beyond those after which the kind is known; rounds have more.
const REPEATED_MIN: usize = RUN_MIN - KNOWN_AFTER as usize;

/// Fewer lines of known kinds may be a table or a list that somebody reads.
const ROUNDS_MIN: usize = 12;

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
pub(super) fn folded(text: &Lined<'_>, asked: &HashSet<u64>) -> Option<Edited> {
    let Lined { text, lines } = text;
    if lines.len() < RUN_MIN {
        return None;
    }
    let kinds = kinds(lines);
    if repeated(&kinds) < REPEATED_MIN {
        return None;
    }
    let known = known(&kinds, lines);
    let mut folding = Folding {
        asked,
        end: text.len(),
        from: 0,
        omitted: 0..0,
        omitted_lines: 0,
        is_folded: false,
        out: Writer::of(text),
    };
    let mut at = 0;
    while at < lines.len() {
        let mut length = run(&kinds, lines, at);
        if length < RUN_MIN {
            length = rounds(&known, at).max(length);
        }
        let run = lines.get(at..at + length).unwrap_or_default();
        if length >= RUN_MIN {
            folding.fold(run);
        } else {
            folding.keep(run);
        }
        at += length;
    }
    folding.is_folded.then(|| folding.out.finish())
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
    let mut shown: HashMap<u64, u32> = HashMap::default();
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

/// A text that is being folded.
struct Folding<'t> {
    asked: &'t HashSet<u64>,
    /// Where the text ends.
    end: usize,
    /// Where the next line begins.
    from: usize,
    /// What is left out of the run so far, if there is enough of it.
    omitted: Range<usize>,
    omitted_lines: usize,
    is_folded: bool,
    out: Writer<'t>,
}

impl Folding<'_> {
    /// Goes past a line and its end.
    fn next(&mut self, line: &str) -> Range<usize> {
        let from = self.from;
        self.from += line.len() + 1;
        from..self.from.min(self.end)
    }

    fn keep(&mut self, lines: &[&str]) {
        for line in lines {
            let line = self.next(line);
            self.out.keep(line);
        }
    }

    fn fold(&mut self, run: &[&str]) {
        for (index, line) in run.iter().enumerate() {
            let is_end = index < ENDS || index + ENDS >= run.len();
            let asked = self.asked;
            let is_asked = || names(line).any(|word| asked.contains(&xxh3_64(word.as_bytes())));
            let is_kept = is_end || failure::is_reported(line) || is_asked();
            let line = self.next(line);
            if is_kept {
                self.close();
                self.out.keep(line);
            } else {
                if self.omitted_lines == 0 {
                    self.omitted.start = line.start;
                }
                self.omitted.end = line.end;
                self.omitted_lines += 1;
            }
        }
    }

    /// Writes a note for what was left out, or the lines themselves if they are few.
    fn close(&mut self) {
        let lines = std::mem::take(&mut self.omitted_lines);
        if lines >= OMITTED_MIN {
            self.is_folded = true;
            let note = format!("[{lines} similar lines left out]\n");
            self.out.say(&note);
        } else if lines > 0 {
            self.out.keep(self.omitted.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use foldhash::HashSet;

    use super::super::lined::Lined;
    use super::{ask, folded};

    fn check(asked: &str, text: &str, expect: Option<&str>) {
        let mut words = HashSet::default();
        ask(asked, &mut words);
        assert_eq!(
            folded(&Lined::of(text), &words)
                .map(|it| it.text)
                .as_deref(),
            expect,
            "{text}"
        );
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
