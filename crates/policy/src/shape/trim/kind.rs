//! What kind of line a line is: its words, its figures aside.
//!
//! **Invariant**: lines of one kind have the traits in common by which a kind is looked for at all (test
//! `lines_of_one_kind_have_their_traits_in_common`), and a list is of one kind however long it is (test
//! `a_line_says_what_it_says_without_its_figures`).

use foldhash::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::fold::KNOWN_AFTER;

/// Spreads a number over all its bits (the fraction of the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

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

/// The first letters of those.
static BEGIN_PROGRESS: [bool; 256] = {
    let mut begins = [false; 256];
    let mut word = 0;
    while word < PROGRESS.len() {
        begins[PROGRESS[word].as_bytes()[0] as usize] = true;
        word += 1;
    }
    begins
};

/// What a passed test ends with, figures and brackets aside.
const PASSED: [&str; 4] = ["PASSED", "... ok", "✓", "passed"];

/// The kind of each line: none if it says nothing, or is of a kind that is not shown often.
pub(super) fn kinds(lines: &[&str]) -> Vec<Option<u64>> {
    let traits: Vec<Traits> = lines.iter().map(|line| Traits::of(line)).collect();
    let mut shown: HashMap<u64, u32> = HashMap::default();
    for traits in &traits {
        *shown.entry(traits.hash).or_default() += 1;
    }
    let kinds = lines.iter().zip(&traits).map(|(line, traits)| {
        let shown = shown.get(&traits.hash).copied().unwrap_or_default();
        if shown <= KNOWN_AFTER {
            None
        } else if traits.is_kind {
            Some(traits.hash)
        } else {
            Shape::kind(line)
        }
    });
    kinds.collect()
}

/// What lines of one kind have in common, and is seen sooner than the kind.
#[derive(Clone, Copy, Debug)]
struct Traits {
    hash: u64,
    /// Whether that is the kind.
    is_kind: bool,
}

impl Traits {
    /// The first word of a line, and the first that is another one: a kind has both, whatever it leaves
    /// out of the line.
    fn of(line: &str) -> Self {
        let trimmed = line.trim();
        if let Some(word) = progress(trimmed).or_else(|| passed(trimmed)) {
            return Self {
                hash: xxh3_64(word.as_bytes()),
                is_kind: true,
            };
        }
        let mut hash = 0;
        if trimmed.is_ascii() {
            let words = trimmed.as_bytes();
            let words = words.split(|byte| !byte.is_ascii_alphabetic());
            let mut words = words.filter(|word| word.len() > 1);
            let first = words.next().unwrap_or_default();
            let other = words.find(|word| *word != first).unwrap_or_default();
            for word in [first, other] {
                hash = hashed(mixed(hash, 0), word);
            }
        }
        Self {
            hash,
            is_kind: false,
        }
    }
}

/// What a line of progress begins with.
pub(super) fn progress(trimmed: &str) -> Option<&'static str> {
    let first = trimmed.as_bytes().first()?;
    if !BEGIN_PROGRESS[usize::from(*first)] {
        return None;
    }
    let may_be = |word: &&&str| word.as_bytes().first() == Some(first);
    let mut words = PROGRESS.iter().filter(may_be);
    words.find(|word| trimmed.starts_with(**word)).copied()
}

/// What a line about a passed test ends with.
fn passed(trimmed: &str) -> Option<&'static str> {
    let is_aside = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'[' | b']' | b'(' | b')' | b'%' | b'.' | b's' | b'0'..=b'9'
        )
    };
    let bytes = trimmed.as_bytes();
    let end = bytes.iter().rposition(|byte| !is_aside(byte))?;
    let said = bytes.get(..=end)?;
    let mut words = PASSED
        .iter()
        .filter(|word| word.as_bytes().last() == said.last());
    words.find(|word| said.ends_with(word.as_bytes())).copied()
}

/// Whether a line looks like a part of a program or of data: it is read as it is written.
pub(super) fn is_written(line: &str) -> bool {
    let is_sign = |byte: &u8| matches!(byte, b'"' | b';' | b'=' | b'{');
    // All bytes are looked at, since that is done many at a time.
    line.bytes().filter(is_sign).count() > 0 || line.trim_end().ends_with([',', ':', '}'])
}

/// What a sign of a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Letter,
    Figure,
    /// Blanks, and what bars of progress are drawn with.
    Gap,
    Sign,
}

const fn class(letter: char) -> Class {
    match letter {
        '0'..='9' => Class::Figure,
        '#' | '=' | '>' | '█' | '━' | '─' | ' ' | '.' => Class::Gap,
        'a'..='z' | 'A'..='Z' => Class::Letter,
        _ => Class::Sign,
    }
}

static CLASSES: [Class; 128] = {
    let mut classes = [Class::Sign; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = class(byte as char);
        byte += 1;
    }
    classes
};

/// What a line looks like: its words, those left out that repeat one of the two before, so that a list
/// of one kind of thing is of one kind, however long it is.
#[derive(Debug, Default)]
struct Shape {
    /// Hash of the words so far.
    words: u64,
    /// Hash of the word that is being read.
    word: u64,
    /// Hashes of the words that were taken last.
    lately: [Option<u64>; REPEATED_WITHIN],
    last: Option<Class>,
    letters: usize,
    figures: usize,
}

impl Shape {
    /// What a line says, its figures aside; none for lines that are mostly figures, or say nothing.
    fn kind(line: &str) -> Option<u64> {
        let trimmed = line.trim();
        let is_said = !is_written(trimmed);
        let mut shape = if trimmed.is_ascii() {
            Self::plain(trimmed.as_bytes(), is_said)
        } else {
            let mut shape = Self::default();
            shape.read(trimmed, is_said);
            shape
        };
        shape.close();
        let Self {
            letters, figures, ..
        } = shape;
        // A line that ends with a percentage is progress, whatever is said of sizes and versions.
        let says = letters >= 4 && (letters >= figures || trimmed.ends_with('%'));
        says.then_some(shape.words)
    }

    fn read(&mut self, line: &str, is_said: bool) {
        let mut is_inside = false;
        let mut line = line.chars().peekable();
        while let Some(letter) = line.next() {
            let is_letter = letter.is_alphabetic();
            let is_end = |next: Option<&char>| next.is_none_or(|next| !next.is_alphanumeric());
            match class(letter) {
                Class::Figure => self.figure(1),
                Class::Gap => self.gap(),
                // A word of one letter: a direction, a choice, a name of a column.
                _ if is_letter && is_said && !is_inside && is_end(line.peek()) => self.figure(0),
                Class::Letter | Class::Sign => {
                    self.letters += usize::from(is_letter);
                    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                        self.sign(byte);
                    }
                }
            }
            is_inside = is_letter || letter.is_numeric();
        }
    }

    /// The same for ASCII: runs of letters, figures and gaps one by one.
    fn plain(line: &[u8], is_said: bool) -> Self {
        let class = |at: usize| {
            let byte = line.get(at)?;
            CLASSES.get(usize::from(*byte)).copied()
        };
        let end_of = |mut at: usize, of: Class| {
            while class(at) == Some(of) {
                at += 1;
            }
            at
        };
        let mut shape = Self::default();
        let mut at = 0;
        while let Some(of) = class(at) {
            let end = end_of(at + 1, of);
            match of {
                Class::Figure => shape.figure(end - at),
                Class::Gap => shape.gap(),
                Class::Letter
                    if end == at + 1
                        && is_said
                        && shape.last != Some(Class::Figure)
                        && class(end) != Some(Class::Figure) =>
                {
                    shape.figure(0);
                }
                Class::Letter | Class::Sign => {
                    if of == Class::Letter {
                        shape.letters += end - at;
                    }
                    shape.word = hashed(shape.word, line.get(at..end).unwrap_or_default());
                    shape.last = Some(Class::Sign);
                }
            }
            at = end;
        }
        shape
    }

    /// Takes what stands for figures, once.
    fn figure(&mut self, figures: usize) {
        self.figures += figures;
        if self.last != Some(Class::Figure) {
            self.sign(b'0');
        }
        self.last = Some(Class::Figure);
    }

    fn sign(&mut self, byte: u8) {
        self.word = mixed(self.word, u64::from(byte));
        self.last = Some(Class::Sign);
    }

    /// Ends a word, and begins the next one.
    fn gap(&mut self) {
        if self.last != Some(Class::Gap) {
            self.close();
        }
        self.last = Some(Class::Gap);
    }

    /// Ends a word, which is left out if it repeats one of those before it.
    fn close(&mut self) {
        let word = std::mem::take(&mut self.word);
        let [before, last] = self.lately;
        if before != Some(word) && last != Some(word) {
            self.words = mixed(self.words, word).rotate_left(32);
            self.lately = [last, Some(word)];
        }
    }
}

fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    let parts = bytes.iter().map(|byte| u64::from(*byte));
    parts.fold(hash, mixed)
}

/// A hash with one more part (as FNV-1a, the parts not only bytes).
const fn mixed(hash: u64, part: u64) -> u64 {
    (hash ^ part).wrapping_add(1).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Shape, Traits};

    #[test]
    fn a_line_says_what_it_says_without_its_figures() {
        let check = |one: &str, other: &str, are_alike: bool| {
            let [first, second] = [one, other].map(Shape::kind);
            assert_eq!(
                first.is_some() && first == second,
                are_alike,
                "{one} {other}"
            );
        };
        check("Step 1/9, loss: 0.5", "Step 12/99, loss: 17", true);
        check("Step 1/9, loss: 0.5", "Step 1/9, gain: 0.5", false);
        check("  gone n #### 5", "gone s > 19", true);
        check("let n = 1;", "let s = 1;", false);
        check("seen a.py, a.py, a.py", "seen a.py, a.py, a.py, a.py", true);
        check("näher 1", "näher 22", true);
        check("näher 1", "naher 1", false);
        check("1 2 3 abcd", "4 5 6 7 abcd", true);
        // Figures, and next to nothing.
        check("12345 abcd", "12345 abcd", false);
        check("12345 abcd%", "99 abcd%", true);
        check("abc", "abc", false);
    }

    proptest! {
        #[test]
        fn lines_of_one_kind_have_their_traits_in_common(
            words in proptest::collection::vec("[a-c]{1,3}|[0-9]{1,2}|[-#.:é]", 1..9),
            others in proptest::collection::vec("[a-c]{1,3}|[0-9]{1,2}|[-#.:é]", 1..9),
        ) {
            // Made alike by hand as often as by chance.
            let again = words.join(" ").replace(['0', '1'], "77");
            for [one, other] in [[words.join(" "), again], [words.join(" "), others.join(" ")]] {
                let kinds = [&one, &other].map(|line| Shape::kind(line));
                let [traits, others] = [&one, &other].map(|line| Traits::of(line).hash);
                prop_assert!(kinds[0].is_none() || kinds[0] != kinds[1] || traits == others);
            }
        }
    }
}
