//! The `o200k` vocabulary, unpacked when it is first asked for.
//!
//! **Invariant**: it counts as the crate that it was packed from (test
//! `counts_are_those_of_the_crate`).

use std::sync::LazyLock;

use bpe_openai::Tokenizer;
use flate2::read::DeflateDecoder;

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

/// Tokens of a text.
pub(super) fn count(text: &str) -> usize {
    O200K.count(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::count;

    fn check(text: &str) {
        assert_eq!(
            count(text),
            bpe_openai::o200k_base().count(text),
            "{text:?}"
        );
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

    proptest! {
        #[test]
        fn any_text_counts_as_in_the_crate(text in any::<String>(), words in "[a-zA-Z' \n\t/.0-9]{0,400}") {
            for text in [text, words] {
                prop_assert_eq!(count(&text), bpe_openai::o200k_base().count(text.as_str()));
            }
        }
    }
}
