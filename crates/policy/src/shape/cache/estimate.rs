//! Token estimates without a vocabulary: runs of byte classes, corrected by what providers report.
//!
//! What a target has reported for a call is what the segments come to that were new in it, beside those
//! that it had counted before. So a conversation's size is known but for what the next call adds, and a
//! prefix that is shared is known to all who share it.
//!
//! **Invariant**: the estimate of a text that nobody has counted does not depend on where it stands, and
//! after calibration totals follow the reported ones (test `calibration_follows_the_reports`); sizes that
//! were counted add up to the reports (test `what_was_counted_adds_up`).

use wire::usage::Tokens;

use super::recent::Recent;

/// Targets whose factor is remembered.
const TARGETS_MAX: usize = 4_096;

/// A factor of one.
const ONE: u64 = 1_024;

/// A finer one: rounding must not add up where a size is known.
const PART: u64 = 1 << 30;

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
    fn factor(&self, target: u64) -> u64 {
        self.factors.peek(target).copied().unwrap_or(ONE)
    }

    /// A scanned size as the target counts it.
    pub(super) fn scale(&self, target: u64, scanned: u64) -> Tokens {
        Tokens((scanned.saturating_mul(self.factor(target)) / ONE).max(1))
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

/// How a target counted a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) target: u64,
    /// Its tokens for each scanned one, in parts of [`PART`].
    factor: u64,
}

impl Counted {
    /// A scanned size as the target has counted it.
    pub(super) fn scale(self, scanned: u64) -> Tokens {
        // Rounded, so that what many small segments lose does not add up.
        Tokens((scaled(scanned, 2 * self.factor, PART).div_ceil(2)).max(1))
    }
}

/// What is to be learned from the report of one call's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counting {
    /// The target's factor, as 1024ths.
    factor: u64,
    /// Tokens of the segments that the target has counted before.
    known: u64,
    /// The same as they would be estimated.
    known_estimated: u64,
    /// Estimated tokens of the others.
    estimated: u64,
    /// Their keys.
    pub(super) fresh: Vec<u128>,
}

impl Counting {
    pub(super) fn of(estimator: &Estimator, target: u64) -> Self {
        Self {
            factor: estimator.factor(target),
            known: 0,
            known_estimated: 0,
            estimated: 0,
            fresh: Vec::new(),
        }
    }

    /// A segment that is believed to have this size.
    pub(super) fn add(&mut self, key: u128, size: Tokens, counted: Option<Counted>) {
        if let Some(Counted { factor, .. }) = counted {
            self.known += size.0;
            self.known_estimated += scaled(size.0, self.factor * (PART / ONE), factor);
        } else {
            self.estimated += size.0;
            self.fresh.push(key);
        }
    }

    /// Tokens of the input, had the target counted nothing before.
    pub(super) fn estimated(&self) -> Tokens {
        Tokens(self.known_estimated + self.estimated)
    }

    /// How the target has counted what was new; none if that cannot be told from its report.
    pub(super) fn counted(&self, target: u64, reported: Tokens) -> Option<Counted> {
        let counted = reported.0.checked_sub(self.known)?;
        if counted > self.estimated.saturating_mul(ODD) || counted < self.estimated / ODD {
            return None;
        }
        let factor = scaled(self.factor * (PART / ONE), counted, self.estimated);
        (factor > 0).then_some(Counted { target, factor })
    }
}

/// `number × by / of`.
fn scaled(number: u64, by: u64, of: u64) -> u64 {
    let product = u128::from(number) * u128::from(by);
    u64::try_from(product / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

/// Scales estimated sizes so that they add up to the reported total.
pub fn exact(sizes: &[Tokens], total: Tokens) -> Vec<Tokens> {
    let sum: u64 = sizes.iter().map(|size| size.0).sum();
    let scaled = |through: u64| scaled(through, total.0, sum);
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

    use super::{Counting, Estimator, exact, scan};

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
    fn what_was_counted_adds_up() {
        let estimator = Estimator::default();
        let (head, more) = (4_000, 100);
        // 4 400 for the first call, of which 4 000 were scanned.
        let mut first = Counting::of(&estimator, 1);
        first.add(7, Tokens(head), None);
        assert_eq!(first.estimated(), Tokens(head));
        let counted = first.counted(1, Tokens(4_400)).expect("it was counted");
        assert!(counted.scale(head).0.abs_diff(4_400) <= 1);
        // 4 550 for the second: what is new has 150, whatever is believed of the head.
        let mut second = Counting::of(&estimator, 1);
        second.add(7, counted.scale(head), Some(counted));
        second.add(8, Tokens(more), None);
        assert_eq!(second.fresh, [8]);
        assert!(second.estimated().0.abs_diff(head + more) <= 1);
        let new = second.counted(1, Tokens(4_550)).expect("it was counted");
        assert!(new.scale(more).0.abs_diff(150) <= 1);
        // An image, or text that the provider leaves out.
        assert_eq!(second.counted(1, Tokens(9_000)), None);
        assert_eq!(second.counted(1, Tokens(4_000)), None);
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
