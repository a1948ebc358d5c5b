//! Made-up text of any length: prose, code and records that look like an agent's, from a seed.
//!
//! **Invariant**: the same seed gives the same text on every machine (test `a_seed_is_a_text`).

/// 4 bytes: about one token of English or code.
const BYTES_PER_TOKEN: usize = 4;

const SUBJECTS: [&str; 12] = [
    "The customer",
    "An order",
    "The invoice",
    "A refund",
    "The shipment",
    "Our policy",
    "The account",
    "This release",
    "The service",
    "A retry",
    "The index",
    "The caller",
];

const VERBS: [&str; 12] = [
    "must confirm",
    "returns",
    "keeps",
    "has changed",
    "waits for",
    "depends on",
    "may skip",
    "reports",
    "moves to",
    "is checked against",
    "replaces",
    "falls back to",
];

const OBJECTS: [&str; 14] = [
    "the delivery address",
    "the second warehouse",
    "a signed receipt",
    "the previous balance",
    "an open case",
    "the loyalty tier",
    "the retry queue",
    "its parent module",
    "the cached result",
    "a partial answer",
    "the audit trail",
    "the payment window",
    "an expired token",
    "the shared schema",
];

const ENDS: [&str; 8] = [
    "before anything else",
    "within two working days",
    "unless a manager agrees",
    "when the total is above the limit",
    "for every region",
    "after the nightly run",
    "without asking again",
    "and writes it down",
];

const NAMES: [&str; 16] = [
    "order", "account", "invoice", "refund", "address", "ticket", "parcel", "branch", "module",
    "schema", "report", "search", "lookup", "update", "review", "summary",
];

/// Random draws that repeat (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// Draws from a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to below `high`.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        let width = high.saturating_sub(low).max(1) as u64;
        low + usize::try_from(self.next() % width).unwrap_or_default()
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words
            .get(self.between(0, words.len()))
            .copied()
            .unwrap_or_default()
    }

    /// A name, as of a tool or a field.
    pub(super) fn name(&mut self) -> &'static str {
        self.of(&NAMES)
    }

    /// Prose of about so many tokens.
    pub(super) fn prose(&mut self, tokens: usize) -> String {
        self.fill(tokens, |draw| {
            let (subject, verb) = (draw.of(&SUBJECTS), draw.of(&VERBS));
            let (object, end) = (draw.of(&OBJECTS), draw.of(&ENDS));
            format!("{subject} {verb} {object} {end}. ")
        })
    }

    /// Code of about so many tokens.
    pub(super) fn code(&mut self, tokens: usize) -> String {
        self.fill(tokens, |draw| {
            let (name, value, limit) = (draw.name(), draw.name(), draw.between(2, 900));
            format!("def {name}_{limit}({value}):\n    if len({value}) > {limit}:\n        return None\n    return {value}[:{limit}]\n\n")
        })
    }

    /// Records of one kind, as a service answers a search, of about so many tokens.
    pub(super) fn records(&mut self, tokens: usize) -> String {
        let name = self.name();
        let rows = self.fill(tokens, |draw| {
            let number = draw.between(100_000, 999_999);
            let (object, cents) = (draw.of(&OBJECTS), draw.between(99, 99_999));
            format!("{{\"{name}_id\": {number}, \"about\": \"{object}\", \"cents\": {cents}}}, ")
        });
        format!("[{}]", rows.trim_end_matches(", "))
    }

    fn fill(&mut self, tokens: usize, mut piece: impl FnMut(&mut Self) -> String) -> String {
        let bytes = tokens * BYTES_PER_TOKEN;
        let mut text = String::with_capacity(bytes + 200);
        while text.len() < bytes {
            text.push_str(&piece(self));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_text() {
        for kind in [Draw::prose, Draw::code, Draw::records] {
            let text = kind(&mut Draw::new(7), 500);
            assert_eq!(text, kind(&mut Draw::new(7), 500));
            assert_ne!(text, kind(&mut Draw::new(8), 500));
            assert!((2_000..2_200).contains(&text.len()), "{}", text.len());
        }
        assert_eq!(Draw::new(0).between(3, 4), 3);
    }
}
