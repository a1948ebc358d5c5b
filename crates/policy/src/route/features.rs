//! Features: what the learned router reads off a call, as hashed pieces of the user's text and as
//! its structure.
//!
//! **Invariant**: reading is a function of the call alone and bounded by [`READ_BYTES_MAX`] (test
//! `the_same_call_reads_the_same`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "buckets are taken from hashes and measures are scores, both by design"
)]

/// 4 KiB: half from the start, half from the end, where questions stand. Bounds a decision's time.
pub const READ_BYTES_MAX: usize = 4096;

/// Buckets of all sections: 2^14 for words, 2^14 for pairs of words, 2^15 for runs of letters.
pub const BUCKETS: usize = 1 << 16;

/// Where the buckets for runs of letters begin; below are words and pairs.
pub const LETTERS: usize = 1 << 15;

/// How many structure features there are; the order is that of [`structure`].
pub const STRUCTURE: usize = 30;

/// What a router may look at before it decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight<'call> {
    /// What the user wrote; not the system prompt, not results of tools.
    pub text: &'call str,
    /// Messages before this one.
    pub turns: usize,
    /// Tools that the call offers.
    pub tools: usize,
}

/// A call as the router sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Bucket and how often it was met, ascending by bucket.
    pub grams: Vec<(u16, u16)>,
    /// Lengths, shares and counts.
    pub structure: [f32; STRUCTURE],
}

/// Reads a call. Allocates about 150 kB for a moment.
pub fn read(sight: Sight<'_>) -> Features {
    let (head, tail) = ends(sight.text);
    let mut counts = Counts::new();
    for part in [head, tail] {
        counts.words(part);
        counts.letters(part);
    }
    Features {
        grams: counts.sorted(),
        structure: structure(sight, head, tail),
    }
}

/// The start and the end of a long text; all and nothing of a short one.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= READ_BYTES_MAX {
        return (text, "");
    }
    let head = text.floor_boundary(READ_BYTES_MAX / 2);
    let tail = text.floor_boundary(text.len() - READ_BYTES_MAX / 2);
    (&text[..head], &text[tail..])
}

/// Finds a place where a text may be cut.
trait FloorBoundary {
    /// The last boundary between characters at or before `at`.
    fn floor_boundary(&self, at: usize) -> usize;
}

impl FloorBoundary for str {
    fn floor_boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// One step of the hash over characters; 2^64 divided by the golden ratio spreads the high bits.
fn step(hash: u64, character: u64) -> u64 {
    (hash ^ character)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(23)
}

/// The top bits of a hash, after a last mix.
fn top(hash: u64, bits: u32) -> usize {
    (hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> (64 - bits)) as usize
}

/// Lowercase for the letters that are most of a text.
fn lower(character: char) -> char {
    if character.is_ascii() {
        character.to_ascii_lowercase()
    } else {
        character.to_lowercase().next().unwrap_or(character)
    }
}

/// How often each bucket was met.
struct Counts {
    counts: Vec<u16>,
    met: Vec<u16>,
}

impl Counts {
    fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            met: Vec::with_capacity(2048),
        }
    }

    fn add(&mut self, bucket: usize) {
        let count = &mut self.counts[bucket];
        if *count == 0 {
            self.met.push(bucket as u16);
        }
        *count = count.saturating_add(1);
    }

    /// Words, single signs, and pairs of neighbours.
    fn words(&mut self, text: &str) {
        let (mut word, mut last) = (0u64, 1u64);
        let mut close = |counts: &mut Self, word: u64| {
            counts.add(top(word, 14));
            counts.add((1 << 14) + top(step(last, word), 14));
            last = word;
        };
        for character in text.chars() {
            if character.is_alphanumeric() || character == '_' {
                word = step(word | 1, u64::from(lower(character)));
                continue;
            }
            if word != 0 {
                close(self, word);
                word = 0;
            }
            if !character.is_whitespace() {
                close(self, step(2, u64::from(character)));
            }
        }
        if word != 0 {
            close(self, word);
        }
    }

    /// Runs of three to five letters within what whitespace separates, its edges included.
    fn letters(&mut self, text: &str) {
        let mut run: Vec<u64> = Vec::with_capacity(64);
        for chunk in text.split_whitespace() {
            run.clear();
            run.push(u64::from(' '));
            run.extend(chunk.chars().map(|it| u64::from(lower(it))));
            run.push(u64::from(' '));
            for start in 0..run.len() {
                let mut hash = 3;
                for (index, character) in run[start..].iter().take(5).enumerate() {
                    hash = step(hash, *character);
                    if index >= 2 {
                        self.add(LETTERS + top(hash, 15));
                    }
                }
            }
        }
    }

    fn sorted(mut self) -> Vec<(u16, u16)> {
        self.met.sort_unstable();
        let count = |bucket: u16| (bucket, self.counts[usize::from(bucket)]);
        self.met.iter().map(|bucket| count(*bucket)).collect()
    }
}

/// The structure of a call; `head` and `tail` are what is read of its text.
fn structure(sight: Sight<'_>, head: &str, tail: &str) -> [f32; STRUCTURE] {
    let signs = Signs::of([head, tail]);
    let read = signs.characters.max(1.0);
    let share = |count: f32| count / read;
    let count = |what: &str| (head.matches(what).count() + tail.matches(what).count()) as f32;
    let words = signs.words.max(1.0);
    [
        (sight.text.len() as f32).ln_1p(),
        signs.words.ln_1p(),
        signs.lines,
        signs.options,
        share(signs.digits),
        signs.numbers,
        signs.largest.ln_1p(),
        share(signs.maths),
        count("$"),
        count("\\"),
        count("def ") + count("return ") + count("fn ") + count("function "),
        count("{"),
        count("("),
        share(signs.capitals),
        share(signs.foreign),
        count("?"),
        read / words,
        read / signs.lines.max(1.0),
        count(","),
        share(signs.spaces),
        count(" not ") + count(" except") + count("false") + count("incorrect") + count(" least"),
        count(" if ") + count(" then ") + count(" each ") + count(" every ") + count(" per "),
        count("how many") + count("How many") + count(" total"),
        count("\"name\""),
        count("Q:") + count("Question:") + count("\nA:"),
        share(count(".")),
        count("%"),
        count("'"),
        sight.turns as f32,
        sight.tools as f32,
    ]
}

/// Counts of one pass over the characters.
#[derive(Default)]
struct Signs {
    characters: f32,
    words: f32,
    lines: f32,
    options: f32,
    digits: f32,
    numbers: f32,
    largest: f32,
    maths: f32,
    capitals: f32,
    foreign: f32,
    spaces: f32,
}

impl Signs {
    fn of(parts: [&str; 2]) -> Self {
        let mut signs = Self::default();
        for part in parts {
            signs.characters(part);
            for line in part.lines() {
                signs.lines += 1.0;
                signs.options += f32::from(u8::from(is_option(line)));
            }
            signs.words += part.split_whitespace().count() as f32;
        }
        signs
    }

    fn characters(&mut self, text: &str) {
        let mut number: Option<f32> = None;
        for character in text.chars() {
            self.characters += 1.0;
            if let Some(digit) = character.to_digit(10) {
                self.digits += 1.0;
                number = Some((number.unwrap_or(0.0) * 10.0 + digit as f32).min(1e12));
                continue;
            }
            self.close(number.take());
            match character {
                '+' | '-' | '*' | '/' | '=' | '^' | '<' | '>' => self.maths += 1.0,
                ' ' | '\n' | '\t' => self.spaces += 1.0,
                'A'..='Z' => self.capitals += 1.0,
                _ if !character.is_ascii() => self.foreign += 1.0,
                _ => {}
            }
        }
        self.close(number);
    }

    fn close(&mut self, number: Option<f32>) {
        if let Some(number) = number {
            self.numbers += 1.0;
            self.largest = self.largest.max(number);
        }
    }
}

/// Whether a line offers an answer to choose, as `B. yes` or `(C) no`.
fn is_option(line: &str) -> bool {
    let line = line.strip_prefix('(').unwrap_or(line).as_bytes();
    matches!(line, [b'A'..=b'J', b'.' | b')', ..])
}

#[cfg(test)]
mod tests {
    use super::{LETTERS, READ_BYTES_MAX, Sight, is_option, read};

    fn sight(text: &str) -> Sight<'_> {
        Sight {
            text,
            turns: 0,
            tools: 0,
        }
    }

    #[test]
    fn the_same_call_reads_the_same() {
        let long = "größe 12 + x^2? ".repeat(2 * READ_BYTES_MAX / 16);
        for text in [
            "",
            "a",
            "How many apples?",
            "日本語のテキスト",
            long.as_str(),
        ] {
            let features = read(sight(text));
            assert_eq!(features, read(sight(text)));
            assert!(features.grams.is_sorted(), "{text}");
            assert!(features.structure.iter().all(|it| it.is_finite()), "{text}");
        }
    }

    #[test]
    fn texts_are_cut_into_words_pairs_and_letters() {
        let check = |text: &str, words: usize, letters: usize| {
            let grams = read(sight(text)).grams;
            let below = grams.iter().filter(|(it, _)| usize::from(*it) < LETTERS);
            let words_met: usize = below.map(|(_, count)| usize::from(*count)).sum();
            let all: usize = grams.iter().map(|(_, count)| usize::from(*count)).sum();
            assert_eq!((words_met, all - words_met), (words, letters), "{text}");
        };
        check("", 0, 0);
        check("ab", 2, 2 + 1);
        check("ab ab", 4, 2 * (2 + 1));
        check("a+b", 6, 3 + 2 + 1);
    }

    #[test]
    fn options_are_told_from_prose() {
        for (line, expect) in [
            ("A. yes", true),
            ("(C) no", true),
            ("An apple", false),
            ("", false),
            ("K. no", false),
        ] {
            assert_eq!(is_option(line), expect, "{line}");
        }
    }
}
