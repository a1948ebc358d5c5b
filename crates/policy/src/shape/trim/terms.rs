//! What may be done with a conversation's results of tools, and from which size on.
//!
//! **Invariant**: a level alone means that level from the beginning and nothing else (test
//! `a_level_is_all_that_it_says`).

use wire::usage::Tokens;

use super::Level;
use super::prune::Prune;

/// 6 kB, some 1 500 tokens, where a model caches from 1 024 on or it is not known from where: a prompt that
/// is kept below that is paid in full again and again. With 5 kB one trajectory of terminal-bench came to
/// cost 1.09 % more than without trimming, with 6 kB none more than 0.76 %.
pub(super) const PROMPT_BYTES_MIN: usize = 6_000;

/// From where most models cache.
const CACHED_FROM: Tokens = Tokens(1_024);

/// What may be done; the same terms do the same to the same request, always and everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// From the beginning; none leaves results as they are.
    pub level: Option<Level>,
    /// Results that come when there are more than so many tokens of them are folded.
    pub folded_beyond: Option<Tokens>,
    /// When old results are left out.
    pub prune: Option<Prune>,
    /// The shortest prompt that the model caches: nothing is shortened before there is as much.
    pub cached_from: Tokens,
    /// The most tokens of documents that a question comes with; those that it needs least are left out.
    pub focus: Option<Tokens>,
}

impl From<Level> for Terms {
    fn from(level: Level) -> Self {
        Self {
            level: Some(level),
            ..Self::default()
        }
    }
}

impl Terms {
    /// The same for a model that caches prompts of so many tokens and more, if that is known.
    #[must_use]
    pub fn cached_from(self, minimum: Option<Tokens>) -> Self {
        Self {
            cached_from: minimum.filter(|_| self.trims()).unwrap_or_default(),
            ..self
        }
    }

    /// Whether nothing is done at all.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes that a prompt must have before anything is shortened.
    pub(super) const fn least_bytes(&self) -> u64 {
        let scaled = (PROMPT_BYTES_MIN as u64).saturating_mul(self.cached_from.0) / CACHED_FROM.0;
        if scaled > PROMPT_BYTES_MIN as u64 {
            scaled
        } else {
            PROMPT_BYTES_MIN as u64
        }
    }

    /// Whether anything is done with single texts.
    pub const fn trims(&self) -> bool {
        self.level.is_some() || self.counts()
    }

    /// Whether results have to be counted.
    pub(super) const fn counts(&self) -> bool {
        self.folded_beyond.is_some() || self.prune.is_some()
    }

    /// How much of a result is left out with which there are so many tokens of them.
    pub(super) fn level_at(&self, results: Tokens) -> Option<Level> {
        let is_beyond = self.folded_beyond.is_some_and(|most| results > most);
        if is_beyond {
            Some(Level::Folded)
        } else {
            self.level
        }
    }

    /// In words, for notes.
    pub fn name(&self) -> String {
        let mut words = Vec::new();
        if let Some(level) = self.level {
            words.push(level.name().to_owned());
        }
        if let Some(most) = self.folded_beyond {
            words.push(format!("folded beyond {most}"));
        }
        if let Some(prune) = &self.prune {
            words.push(format!("pruned beyond {}", prune.beyond));
        }
        if let Some(most) = self.focus {
            words.push(format!("focused to {most}"));
        }
        if words.is_empty() {
            return "in full".to_owned();
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Level, Terms, Tokens};

    #[test]
    fn a_level_is_all_that_it_says() {
        let exact = Terms::from(Level::Exact);
        assert_eq!(exact.level_at(Tokens(u64::MAX)), Some(Level::Exact));
        assert_eq!((exact.name().as_str(), exact.counts()), ("exact", false));
        for (minimum, bytes) in [
            (None, 6_000),
            (Some(512), 6_000),
            (Some(1_024), 6_000),
            (Some(4_096), 24_000),
        ] {
            let terms = exact.cached_from(minimum.map(Tokens));
            assert_eq!(terms.least_bytes(), bytes, "{minimum:?}");
        }
        let none = Terms::default().cached_from(Some(Tokens(4_096)));
        assert!(none.is_nothing() && none.level_at(Tokens(9)).is_none());
        let both = Terms {
            folded_beyond: Some(Tokens(10)),
            ..exact
        };
        assert_eq!(both.level_at(Tokens(10)), Some(Level::Exact));
        assert_eq!(both.level_at(Tokens(11)), Some(Level::Folded));
    }
}
