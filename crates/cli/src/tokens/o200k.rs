//! The `o200k` vocabulary, unpacked when it is first asked for.
//!
//! **Invariant**: it counts as the crate that it was packed from (test
//! `counts_are_those_of_the_crate`).

use std::cell::RefCell;
use std::sync::LazyLock;

use bpe_openai::Tokenizer;
use flate2::read::DeflateDecoder;
use policy::shape::edited::Edited;
use policy::shape::vocabulary::{Pieces, Vocabulary};

/// What the build script has packed: half the bytes, for a sixth of a second at the first use.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/o200k.deflate"));

/// How a text is cut before its pieces are encoded; the first pattern that matches takes its piece.
/// Source: `o200k_base` of <https://github.com/openai/tiktoken>, `tiktoken_ext/openai_public.py`.
const WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);

/// Blanks before a word leave their last one to it: what is looked ahead at is no part of the piece.
const PATTERNS: [(&str, bool); 3] = [(WORDS, false), (r"\s+\s", true), (r"\s+", false)];

/// The vocabulary. `bpe_openai::o200k_base` is the same, and its 32 MB are linked if it is named.
static O200K: LazyLock<Tokenizer> = LazyLock::new(|| {
    let unpacked = rmp_serde::from_read(DeflateDecoder::new(PACKED));
    let vocabulary = unpacked.expect("the build script has packed a vocabulary");
    Tokenizer::new_lookahead(vocabulary, &PATTERNS, false).expect("the patterns are constant")
});

struct Unpacked;

impl Vocabulary for Unpacked {
    fn first_piece(&self, text: &str) -> usize {
        let pattern = O200K.pre.as_ref();
        let first = pattern.and_then(|pattern| pattern.split(text).next());
        first.map_or(text.len(), str::len)
    }

    fn piece_tokens(&self, piece: &str) -> u64 {
        O200K.bpe.count(piece.as_bytes()) as u64
    }
}

thread_local! {
    static PIECES: RefCell<Pieces> = RefCell::default();
}

/// Tokens of a text.
pub(super) fn count(text: &str) -> u64 {
    PIECES.with_borrow_mut(|pieces| pieces.tokens(text, &Unpacked).0)
}

/// Tokens that a text has more than another one that was made of it.
pub(super) fn more(text: &str, edited: &Edited) -> i64 {
    PIECES.with_borrow_mut(|pieces| pieces.more(text, edited, &Unpacked))
}

#[cfg(test)]
mod tests {
    use policy::shape::edited::Writer;
    use policy::shape::vocabulary::next;
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::{Unpacked, count, more};

    fn expected(text: &str) -> u64 {
        bpe_openai::o200k_base().count(text) as u64
    }

    fn check(text: &str) {
        assert_eq!(count(text), expected(text), "{text:?}");
    }

    #[test]
    fn counts_are_those_of_the_crate() {
        for text in [
            "",
            " ",
            " \t \n\n  x",
            "hello  world",
            "I'LL don't O'Neil's we'd",
            "fn main() {\n    println!(\"{}\", 1_234_567.89);\n}\n",
            "https://example.com/a/b?c=d//\r\n\r\n",
            "Ünïcödé ǅ ʰ 漢字かな交じり文 한국어 हिन्दी العربية",
            "👩‍👩‍👧‍👦🏳️‍🌈 \u{200b}\u{feff}",
            "٣٤٥٦ 12345 Ⅷ ½",
            "<|endoftext|>",
        ] {
            check(text);
        }
        check(include_str!("o200k.rs"));
        check(&"aB3 ,\n".repeat(10_000));
    }

    /// Texts in which every class of the pattern stands beside every other one.
    fn mixed() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[A-Z]{1,2}",
            "[a-z]{1,3}",
            "[0-9]{1,4}",
            "[ \t]{1,3}",
            "[\r\n\x0b\x0c]{1,2}",
            "[!-/:-@\\[-`{-~\x00-\x08\x1b]{1,2}",
            "'([sStTmMdDſ]|re|VE|ll|[a-z])",
            // Letters, marks, figures, blanks and signs that are not ASCII.
            "[éÉǅʰ漢ſK\u{301}\u{a0}\u{2003}\u{85}\u{2028}Ⅷ½٣✓─👩\u{200b}]{1,2}",
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_text_counts_as_in_the_crate(
            text in any::<String>(), words in "[a-zA-Z' \n\t/.0-9]{0,400}", mixed in mixed(),
        ) {
            for text in [text, words, mixed] {
                prop_assert_eq!(count(&text), expected(&text));
            }
        }

        #[test]
        fn differences_are_those_of_the_counts(
            parts in prop::collection::vec((mixed(), any::<bool>(), "[ -~\n]{0,3}"), 0..6),
        ) {
            let text: String = parts.iter().map(|(part, ..)| part.as_str()).collect();
            let mut writer = Writer::of(&text);
            let mut from = 0;
            for (part, is_kept, said) in &parts {
                writer.say(said);
                if *is_kept {
                    writer.keep(from..from + part.len());
                }
                from += part.len();
            }
            let edited = writer.finish();
            let expect = count(&text).cast_signed() - count(&edited.text).cast_signed();
            prop_assert_eq!(more(&text, &edited), expect, "{:?} {:?}", text, edited);
        }

        #[test]
        fn pieces_are_those_of_the_pattern(text in any::<String>(), mixed in mixed()) {
            for text in [text, mixed] {
                let (mut at, mut pieces) = (0, Vec::new());
                while let Some(length) = next(&text, at, &Unpacked) {
                    pieces.push(&text[at..at + length]);
                    at += length;
                }
                let expect: Vec<&str> = bpe_openai::o200k_base().split(&text).collect();
                prop_assert_eq!(pieces, expect);
            }
        }
    }
}
