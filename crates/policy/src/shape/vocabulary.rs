//! Counting tokens with a vocabulary of the `o200k` kind, without asking it for every piece.
//!
//! A text is cut into pieces, and each piece is encoded by itself. Pieces of plain ASCII are cut here, and
//! what a short piece comes to is remembered; for all others the vocabulary is asked.
//!
//! Of a text that was made of another one, only what differs is looked at.
//!
//! **Invariant**: the pieces, and so the tokens, are the vocabulary's own (properties
//! `pieces_are_those_of_the_pattern` and `any_text_counts_as_in_the_crate` in `cli`, which has one), and
//! so are differences (property `differences_are_those_of_the_counts`, here and in `cli`).

use std::cmp::Ordering;

use wire::usage::Tokens;

use super::edited::{Edited, Kept};

/// Pieces of so many bytes are remembered: they fit into one number with their length and their tokens.
const PIECE_BYTES_MAX: usize = 14;

/// 32 768 pieces of 16 bytes, 512 kB: what several conversations say again and again.
const PIECES_MAX: usize = 1 << 15;

/// Spreads the bytes of a piece over a number (the golden ratio's fraction, as in Fibonacci hashing).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A vocabulary, and the pattern that cuts a text for it.
pub trait Vocabulary {
    /// Bytes of the first piece of a text that is not empty.
    fn first_piece(&self, text: &str) -> usize;
    /// Tokens of a piece.
    fn piece_tokens(&self, piece: &str) -> u64;
}

/// What short pieces of one vocabulary come to.
#[derive(Clone, Debug)]
pub struct Pieces(Box<[u128]>);

impl Default for Pieces {
    fn default() -> Self {
        Self(vec![0; PIECES_MAX].into())
    }
}

impl Pieces {
    /// Tokens of a text. All calls must be with the same vocabulary.
    pub fn tokens(&mut self, text: &str, vocabulary: &impl Vocabulary) -> Tokens {
        let (mut at, mut tokens) = (0, 0);
        while let Some(length) = next(text, at, vocabulary) {
            tokens += self.of(text, at, length, vocabulary);
            at += length;
        }
        Tokens(tokens)
    }

    /// Tokens that a text has more than another one that was made of it; below zero if it has fewer.
    ///
    /// Both are cut piece by piece where they differ, until a piece begins at the same place of a part
    /// that is kept: from there on they are cut alike, up to the last place in it that parts pieces
    /// whatever follows.
    pub fn more(&mut self, text: &str, edited: &Edited, vocabulary: &impl Vocabulary) -> i64 {
        let mut before = Side::of(text);
        let mut after = Side::of(&edited.text);
        let end = Kept {
            from: text.len(),
            at: edited.text.len(),
            bytes: 0,
        };
        for kept in edited.kept.iter().chain([&end]) {
            let ends = [kept.from + kept.bytes, kept.at + kept.bytes];
            // The one that is behind goes on, until both begin a piece at the same place.
            while let Some((side, end)) = match (before.at + kept.at).cmp(&(after.at + kept.from)) {
                Ordering::Equal if before.at >= kept.from => None,
                Ordering::Less | Ordering::Equal => Some((&mut before, ends[0])),
                Ordering::Greater => Some((&mut after, ends[1])),
            } {
                if side.at >= end || !side.step(self, vocabulary) {
                    break;
                }
            }
            if before.at + kept.at == after.at + kept.from {
                let same = text.as_bytes().get(before.at..ends[0]);
                let cut = same.and_then(last_cut).unwrap_or(0);
                before.at += cut;
                after.at += cut;
            }
        }
        before.tokens.cast_signed() - after.tokens.cast_signed()
    }

    fn of(&mut self, text: &str, at: usize, length: usize, vocabulary: &impl Vocabulary) -> u64 {
        let ask = || vocabulary.piece_tokens(text.get(at..at + length).unwrap_or_default());
        if length > PIECE_BYTES_MAX {
            return ask();
        }
        let key = key(text.as_bytes(), at, length);
        let Some(slot) = self.0.get_mut(place(key)) else {
            return ask();
        };
        let known = slot.to_le_bytes();
        if *slot & KEY == key {
            return u64::from(known[15]);
        }
        let tokens = ask();
        // A token is at least a byte, so that the number is at most the length.
        *slot = key | u128::from(tokens) << 120;
        tokens
    }
}

/// All but the tokens.
const KEY: u128 = u128::MAX >> 8;

/// A piece of at most 14 bytes and its length as one number.
fn key(text: &[u8], at: usize, length: usize) -> u128 {
    let mut bytes = [0; 16];
    if let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        bytes = *chunk;
    } else {
        let rest = text.get(at..).unwrap_or_default();
        for (to, from) in bytes.iter_mut().zip(rest) {
            *to = *from;
        }
    }
    let bits = u128::MAX >> (128 - 8 * length.clamp(1, PIECE_BYTES_MAX));
    u128::from_le_bytes(bytes) & bits | (length as u128) << 112
}

/// Where a piece is kept.
#[expect(
    clippy::cast_possible_truncation,
    reason = "halves of the number are meant"
)]
const fn place(key: u128) -> usize {
    let mixed = (key as u64 ^ ((key >> 64) as u64).rotate_left(23)).wrapping_mul(SPREAD);
    (mixed >> (64 - PIECES_MAX.trailing_zeros())) as usize
}

/// A text that is counted piece by piece.
struct Side<'t> {
    text: &'t str,
    at: usize,
    tokens: u64,
}

impl<'t> Side<'t> {
    const fn of(text: &'t str) -> Self {
        let (at, tokens) = (0, 0);
        Self { text, at, tokens }
    }

    /// Counts the next piece, if there is one.
    fn step(&mut self, pieces: &mut Pieces, vocabulary: &impl Vocabulary) -> bool {
        let Some(length) = next(self.text, self.at, vocabulary) else {
            return false;
        };
        self.tokens += pieces.of(self.text, self.at, length, vocabulary);
        self.at += length;
        true
    }
}

/// The last place in a text at which a piece begins, whatever is before and behind the text: after a word
/// or a figure, and before a blank or a sign that goes on neither.
fn last_cut(text: &[u8]) -> Option<usize> {
    let parts = |pair: &[u8]| {
        matches!(pair, [last, first] if last.is_ascii_alphanumeric()
            && first.is_ascii() && !first.is_ascii_alphanumeric() && *first != b'\'')
    };
    text.windows(2).rposition(parts).map(|place| place + 1)
}

/// Bytes of the piece that begins at a place; none at the end.
pub fn next(text: &str, at: usize, vocabulary: &impl Vocabulary) -> Option<usize> {
    let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
    let length = plain(rest.as_bytes()).unwrap_or_else(|| vocabulary.first_piece(rest));
    Some(length.max(1))
}

/// What the pattern tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
    /// Ends a line.
    Line,
    Blank,
    Sign,
    /// A part of a letter that is not ASCII: only the pattern knows of what class it is.
    Other,
    End,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => Class::Upper,
            b'a'..=b'z' => Class::Lower,
            b'0'..=b'9' => Class::Digit,
            b'\r' | b'\n' => Class::Line,
            b' ' | b'\t' | 0x0b | 0x0c => Class::Blank,
            _ => Class::Sign,
        };
        byte += 1;
    }
    classes
};

fn class(bytes: &[u8], at: usize) -> Class {
    match bytes.get(at) {
        Some(byte) => CLASSES[usize::from(*byte)],
        None => Class::End,
    }
}

/// The end of a run of one class.
fn run(bytes: &[u8], mut at: usize, of: Class) -> usize {
    while class(bytes, at) == of {
        at += 1;
    }
    at
}

/// Bytes of the first piece, by the alternatives of the pattern in their order; none if a letter that
/// is not ASCII would have to be looked at.
fn plain(bytes: &[u8]) -> Option<usize> {
    let second = class(bytes, 1);
    match class(bytes, 0) {
        Class::Upper | Class::Lower => word(bytes, 0),
        Class::Digit => {
            let end = (1..3).find(|at| class(bytes, *at) != Class::Digit);
            let end = end.unwrap_or(3);
            (end == 3 || class(bytes, end) != Class::Other).then_some(end)
        }
        Class::Blank | Class::Sign if matches!(second, Class::Upper | Class::Lower) => {
            word(bytes, 1)
        }
        Class::Blank | Class::Sign if second == Class::Other => None,
        Class::Sign => signs(bytes, 0),
        Class::Blank if second == Class::Sign && bytes.first() == Some(&b' ') => signs(bytes, 1),
        Class::Blank | Class::Line => blanks(bytes),
        Class::Other | Class::End => None,
    }
}

/// Capitals and small letters behind them, and an English ending.
fn word(bytes: &[u8], from: usize) -> Option<usize> {
    let capitals = run(bytes, from, Class::Upper);
    let end = run(bytes, capitals, Class::Lower);
    if class(bytes, end) == Class::Other {
        return None;
    }
    if bytes.get(end) != Some(&b'\'') {
        return Some(end);
    }
    let letter = |at: usize| bytes.get(at).map(u8::to_ascii_lowercase);
    let ending = match (letter(end + 1), letter(end + 2)) {
        // A long s counts as an s.
        (Some(0x80..), _) => return None,
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        _ => 0,
    };
    Some(end + ending)
}

/// Signs, and the ends of lines and the slashes behind them.
fn signs(bytes: &[u8], from: usize) -> Option<usize> {
    let mut end = run(bytes, from, Class::Sign);
    if class(bytes, end) == Class::Other {
        return None;
    }
    while class(bytes, end) == Class::Line || bytes.get(end) == Some(&b'/') {
        end += 1;
    }
    Some(end)
}

/// Blanks: up to the last end of a line among them; or all of them at the end of the text; or all but
/// the last one, which goes to what follows.
fn blanks(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    let mut line = None;
    loop {
        match class(bytes, end) {
            Class::Line => line = Some(end + 1),
            Class::Blank => {}
            Class::Other => return None,
            Class::End => return Some(line.unwrap_or(end)),
            Class::Upper | Class::Lower | Class::Digit | Class::Sign => {
                return Some(line.unwrap_or(end.saturating_sub(1).max(1)));
            }
        }
        end += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::super::edited::Writer;
    use super::{Pieces, Vocabulary, next};

    /// Every piece is a token, so that a text that is cut otherwise counts otherwise.
    struct Whole;

    impl Vocabulary for Whole {
        fn first_piece(&self, text: &str) -> usize {
            Bytes.first_piece(text)
        }
        fn piece_tokens(&self, _: &str) -> u64 {
            1
        }
    }

    proptest! {
        #[test]
        fn differences_are_those_of_the_counts(
            parts in prop::collection::vec(("[a-zA-Z0-9 .'/\n=é]{0,9}", any::<bool>()), 0..9),
            said in "[a-z0-9 .\n]{0,3}",
        ) {
            let text: String = parts.iter().map(|(part, _)| part.as_str()).collect();
            let mut writer = Writer::of(&text);
            let mut from = 0;
            for (part, is_kept) in &parts {
                if *is_kept {
                    writer.keep(from..from + part.len());
                } else {
                    writer.say(&said);
                }
                from += part.len();
            }
            let edited = writer.finish();
            let mut pieces = Pieces::default();
            let [before, after] =
                [&text, &edited.text].map(|text| pieces.tokens(text, &Whole).0.cast_signed());
            prop_assert_eq!(pieces.more(&text, &edited, &Whole), before - after, "{:?}", edited);
        }
    }

    /// Every byte is a token, and every other letter a piece.
    struct Bytes;

    impl Vocabulary for Bytes {
        fn first_piece(&self, text: &str) -> usize {
            text.chars().next().map_or(0, char::len_utf8)
        }
        fn piece_tokens(&self, piece: &str) -> u64 {
            piece.len() as u64
        }
    }

    #[test]
    fn plain_text_is_cut_as_the_pattern_says() {
        let check = |text: &str, expect: &[&str]| {
            let (mut at, mut pieces) = (0, Vec::new());
            while let Some(length) = next(text, at, &Bytes) {
                pieces.push(&text[at..at + length]);
                at += length;
            }
            assert_eq!(pieces, expect, "{text:?}");
            let mut known = Pieces::default();
            for _ in 0..2 {
                assert_eq!(known.tokens(text, &Bytes).0, text.len() as u64, "{text:?}");
            }
        };
        check("", &[]);
        check("I'LL see HTTPServer's", &["I'LL", " see", " HTTPServer's"]);
        check("getURL x'y", &["get", "URL", " x", "'y"]);
        check("a  b\t\tc   ", &["a", " ", " b", "\t", "\tc", "   "]);
        check("a \n \n  b\n", &["a", " \n \n", " ", " b", "\n"]);
        check(
            "(1234) = [x]\n//",
            &["(", "123", "4", ")", " =", " [", "x", "]\n//"],
        );
        check("$a$ 1", &["$a", "$", " ", "1"]);
        check("aé", &["a", "é"]);
        check("internationalisation", &["internationalisation"]);
    }
}
