//! The words by which a question shows its kind, read from data once.
//!
//! **Invariant**: a cue has at most two words in lower case and means one thing (test
//! `every_cue_is_well_formed`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::class::Class;

/// The cues in the binary.
const TEXT: &str = include_str!("../../think/cues.toml");

static CUES: LazyLock<Cues> = LazyLock::new(|| {
    Cues::parse(TEXT).expect("the test `every_cue_is_well_formed` parses this file")
});

/// What a cue speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// An easy kind.
    Easy(Class),
    /// A kind that needs thought.
    Hard(Class),
    /// A fact, if it opens a short question.
    Opening,
    /// A text in which to look something up.
    Passage,
    /// A limit on the answer, and how heavily it weighs.
    Limit(u32),
}

/// All cues.
#[derive(Debug)]
pub(super) struct Cues {
    /// Cues of one or two words.
    words: BTreeMap<String, Vec<Hint>>,
    /// Cues of scripts without spaces.
    pieces: Vec<(String, Hint)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCues {
    easy: BTreeMap<Class, Vec<String>>,
    opening: RawOpening,
    hard: BTreeMap<Class, Vec<String>>,
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOpening {
    lookup: Vec<String>,
    passage: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    strong: Vec<String>,
    weak: Vec<String>,
}

impl Cues {
    /// The cues that ship in the binary.
    pub(super) fn built_in() -> &'static Self {
        &CUES
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let raw: RawCues = toml::from_str(text)?;
        let mut cues = Self {
            words: BTreeMap::new(),
            pieces: Vec::new(),
        };
        for (class, texts) in raw.easy {
            cues.add(texts, Hint::Easy(class));
        }
        for (class, texts) in raw.hard {
            cues.add(texts, Hint::Hard(class));
        }
        cues.add(raw.opening.lookup, Hint::Opening);
        cues.add(raw.opening.passage, Hint::Passage);
        cues.add(raw.limits.strong, Hint::Limit(2));
        cues.add(raw.limits.weak, Hint::Limit(1));
        Ok(cues)
    }

    fn add(&mut self, texts: Vec<String>, hint: Hint) {
        for text in texts {
            if text.chars().any(has_no_spaces) {
                self.pieces.push((text, hint));
            } else {
                self.words.entry(text).or_default().push(hint);
            }
        }
    }

    /// What a word, or two words with a space between, speaks for.
    pub(super) fn of(&self, words: &str) -> &[Hint] {
        self.words.get(words).map(Vec::as_slice).unwrap_or_default()
    }

    /// What speaks in a text of a script without spaces.
    pub(super) fn within<'c>(&'c self, text: &'c str) -> impl Iterator<Item = Hint> + 'c {
        let found = self.pieces.iter().filter(|(piece, _)| text.contains(piece));
        found.map(|(_, hint)| *hint)
    }
}

/// Whether a character belongs to Chinese or Japanese writing.
pub(super) fn has_no_spaces(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}')
}

#[cfg(test)]
mod tests {
    use super::{Cues, TEXT};

    #[test]
    fn every_cue_is_well_formed() {
        let cues = Cues::parse(TEXT).expect("cues");
        for cue in cues.words.keys() {
            assert!(cue.split(' ').count() <= 3, "{cue}");
            assert_eq!(&cue.to_lowercase(), cue);
        }
        assert!(cues.pieces.len() > 40);
    }
}
