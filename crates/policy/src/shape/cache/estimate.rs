//! Token estimates without a vocabulary: runs of byte classes, corrected by what providers report.
//!
//! **Invariant**: the estimate of a text does not depend on where it stands, and after calibration
//! totals follow the reported ones (test `calibration_follows_the_reports`).

use wire::usage::Tokens;

use super::recent::Recent;

/// Targets whose factor is remembered.
const TARGETS_MAX: usize = 4_096;

/// A factor of one.
const ONE: u64 = 1_024;

/// Each report moves the factor by a sixteenth: a single odd call moves it little, and sixteen calls
/// most of the way.
const STEPS: u64 = 16;

/// A report beyond this many times the estimate, or below that part of it, is not a matter of
/// tokenisers (images, hidden system text) and is not learned from.
const ODD: u64 = 4;

/// Bytes of a word that make one token: English and code have 4 to 5 a token, spaces included.
const WORD_BYTES: u64 = 6;

/// Digits that make one token, in every current vocabulary.
const DIGITS: u64 = 3;

/// Bytes beyond ASCII that make one token: two letters of most alphabets, or one of Chinese.
const FOREIGN_BYTES: u64 = 3;

/// Tokens that frame a message or block.
const FRAME: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    Word,
    Digit,
    Space,
    Sign,
    Foreign,
}

const fn class(byte: u8) -> ByteClass {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => ByteClass::Word,
        b'0'..=b'9' => ByteClass::Digit,
        b' ' | b'\n' | b'\t' | b'\r' => ByteClass::Space,
        0x80.. => ByteClass::Foreign,
        _ => ByteClass::Sign,
    }
}

/// Tokens of a run of one class.
const fn run_tokens(class: ByteClass, length: u64) -> u64 {
    match class {
        ByteClass::Word => length.div_ceil(WORD_BYTES),
        ByteClass::Digit => length.div_ceil(DIGITS),
        // One space belongs to the word after it.
        ByteClass::Space => (length > 1) as u64,
        ByteClass::Sign => length.div_ceil(2),
        ByteClass::Foreign => length.div_ceil(FOREIGN_BYTES),
    }
}

/// Tokens of a segment's bytes before calibration; at least one.
pub(super) fn scan(bytes: &[u8]) -> u64 {
    let mut tokens = FRAME;
    let (mut last, mut length) = (ByteClass::Space, 0);
    for byte in bytes {
        let class = class(*byte);
        if class == last {
            length += 1;
        } else {
            tokens += run_tokens(last, length);
            (last, length) = (class, 1);
        }
    }
    tokens + run_tokens(last, length)
}

/// Factors by target, as 1024ths.
#[derive(Clone, Debug)]
pub(super) struct Estimator {
    factors: Recent<u64, u64>,
}

impl Default for Estimator {
    fn default() -> Self {
        Self {
            factors: Recent::new(TARGETS_MAX),
        }
    }
}

impl Estimator {
    /// A scanned size as the target counts it.
    pub(super) fn scale(&self, target: u64, scanned: u64) -> Tokens {
        let factor = self.factors.peek(target).copied().unwrap_or(ONE);
        Tokens((scanned.saturating_mul(factor) / ONE).max(1))
    }

    /// Learns from a call whose input was estimated and then reported.
    pub(super) fn learn(&mut self, target: u64, estimated: Tokens, reported: Tokens) {
        let (estimated, reported) = (estimated.0.max(1), reported.0);
        if reported > estimated.saturating_mul(ODD) || reported < estimated / ODD || reported == 0 {
            return;
        }
        let factor = self.factors.entry(target, || ONE);
        let wanted = (*factor).saturating_mul(reported) / estimated;
        *factor = (*factor * (STEPS - 1) + wanted) / STEPS;
    }
}

/// Scales estimated sizes so that they add up to the reported total.
pub fn exact(sizes: &[Tokens], total: Tokens) -> Vec<Tokens> {
    let sum: u64 = sizes.iter().map(|size| size.0).sum();
    let scaled = |through: u64| {
        let product = u128::from(through) * u128::from(total.0);
        u64::try_from(product / u128::from(sum.max(1))).unwrap_or(u64::MAX)
    };
    let (mut through, mut given) = (0, 0);
    let parts = sizes.iter().map(|size| {
        through += size.0;
        let upto = scaled(through);
        let part = upto - given;
        given = upto;
        Tokens(part)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use wire::usage::Tokens;

    use super::{Estimator, exact, scan};

    fn check(text: &str, low: u64, high: u64) {
        let tokens = scan(text.as_bytes());
        assert!((low..=high).contains(&tokens), "{text}: {tokens}");
    }

    #[test]
    fn scans_within_reason() {
        check("", 4, 4);
        check("The quick brown fox jumps over the lazy dog.", 12, 16);
        check("{\"id\": 12345678, \"ok\": true}", 14, 20);
        check("\u{65e5}\u{672c}\u{8a9e}", 7, 7);
    }

    #[test]
    fn calibration_follows_the_reports() {
        let mut estimator = Estimator::default();
        for _ in 0..100 {
            let estimated = estimator.scale(1, 1_000);
            estimator.learn(1, estimated, Tokens(1_300));
        }
        assert!(estimator.scale(1, 1_000).0.abs_diff(1_300) < 30);
        assert_eq!(estimator.scale(2, 1_000), Tokens(1_000));
    }

    #[test]
    fn exact_sizes_add_up() {
        let sizes = [3, 5, 7, 1].map(Tokens);
        for total in [0, 1, 15, 16, 17, 1_000_003] {
            assert_eq!(
                exact(&sizes, Tokens(total)).into_iter().sum::<Tokens>(),
                Tokens(total)
            );
        }
    }
}
