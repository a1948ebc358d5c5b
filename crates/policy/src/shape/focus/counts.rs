//! How often each of the question's keys stands in each text, and what a text is worth for it: BM25.
//!
//! **Invariant**: a key that every text has is worth next to nothing, and one that a text repeats is
//! worth less each time (test `rare_keys_are_worth_more`).

use std::ops::RangeInclusive;

/// How soon repeating a key stops counting, and how much long texts are held back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damping {
    pub(super) repeats: f64,
    pub(super) length: f64,
}

/// The usual values. Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
/// Beyond" (2009), section 3.3: between 1.2 and 2, and between 0.5 and 0.8, do well.
pub(super) const WORDS: Damping = Damping {
    repeats: 1.5,
    length: 0.75,
};

/// The same ranges at their other ends: a word has many pieces, so the length of a text says less.
pub(super) const PIECES: Damping = Damping {
    repeats: 1.2,
    length: 0.5,
};

/// Counts of keys, text by text.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Keys of the question.
    keys: usize,
    /// One row of `keys` for each text.
    met: Vec<u32>,
    /// All keys of each text, also those that the question does not have.
    lengths: Vec<u32>,
}

impl Counts {
    pub(super) const fn new(keys: usize) -> Self {
        Self {
            keys,
            met: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// Begins another text.
    pub(super) fn begin(&mut self) {
        self.met.resize(self.met.len() + self.keys, 0);
        self.lengths.push(0);
    }

    /// Notes a key of the last text; with its place in the question, if it has one.
    pub(super) fn note(&mut self, key: Option<usize>) {
        if let Some(length) = self.lengths.last_mut() {
            *length += 1;
        }
        let row = self.met.len() - self.keys;
        if let Some(count) = key.and_then(|key| self.met.get_mut(row + key)) {
            *count += 1;
        }
    }

    fn row(&self, text: usize) -> &[u32] {
        let from = text * self.keys;
        self.met.get(from..from + self.keys).unwrap_or_default()
    }

    /// Texts that are made of these ones: one for each range.
    pub(super) fn joined(&self, ranges: impl Iterator<Item = RangeInclusive<usize>>) -> Self {
        let mut joined = Self::new(self.keys);
        for range in ranges {
            joined.begin();
            let from = joined.met.len() - self.keys;
            for text in range {
                let row = joined.met.get_mut(from..).unwrap_or_default();
                for (sum, count) in row.iter_mut().zip(self.row(text)) {
                    *sum += count;
                }
                if let Some(length) = joined.lengths.last_mut() {
                    *length += self.lengths.get(text).copied().unwrap_or(0);
                }
            }
        }
        joined
    }

    /// What each text is worth, the best one 1.
    pub(super) fn worth(&self, damping: Damping) -> Vec<f64> {
        let texts = float(self.lengths.len());
        let mean = self.lengths.iter().copied().map(f64::from).sum::<f64>() / texts.max(1.0);
        let mut having = vec![0_usize; self.keys];
        for row in self.met.chunks_exact(self.keys.max(1)) {
            for (having, count) in having.iter_mut().zip(row) {
                *having += usize::from(*count > 0);
            }
        }
        let rarity: Vec<f64> = having
            .into_iter()
            .map(|having| (1.0 + (texts - float(having) + 0.5) / (float(having) + 0.5)).ln())
            .collect();
        let of_text = |(text, length): (usize, &u32)| {
            let length = f64::from(*length) / mean.max(1.0);
            let held_back = damping.repeats * (1.0 - damping.length + damping.length * length);
            let keys = self.row(text).iter().zip(&rarity);
            let keys = keys.filter(|(count, _)| **count > 0);
            keys.map(|(count, rarity)| {
                let count = f64::from(*count);
                rarity * count * (damping.repeats + 1.0) / (count + held_back)
            })
            .sum()
        };
        let worth: Vec<f64> = self.lengths.iter().enumerate().map(of_text).collect();
        let best = worth.iter().copied().fold(0.0, f64::max);
        if best > 0.0 {
            worth.into_iter().map(|worth| worth / best).collect()
        } else {
            worth
        }
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Counts, WORDS};

    fn counts(texts: &[&[usize]]) -> Counts {
        let mut counts = Counts::new(2);
        for text in texts {
            counts.begin();
            for key in *text {
                counts.note((*key < 2).then_some(*key));
            }
        }
        counts
    }

    #[test]
    fn rare_keys_are_worth_more() {
        let worth = counts(&[&[0, 9], &[0, 1], &[0, 9], &[0, 9], &[9, 9]]).worth(WORDS);
        assert!((worth[1] - 1.0).abs() < 1e-9);
        assert!(
            worth[0] > 0.0 && worth[0] < 0.3 && worth[4].abs() < 1e-9,
            "{worth:?}"
        );
        let worth = counts(&[&[0, 9, 9, 9], &[0, 0, 9, 9], &[0, 0, 0, 9], &[9; 4]]).worth(WORDS);
        assert!(worth[1] - worth[0] > worth[2] - worth[1], "{worth:?}");
        assert!(
            counts(&[&[9], &[]])
                .worth(WORDS)
                .iter()
                .all(|it| it.abs() < 1e-9)
        );
        let joined = counts(&[&[0], &[1], &[0, 9]]).joined([0..=1, 2..=2].into_iter());
        assert_eq!((joined.met, joined.lengths), (vec![1, 1, 1, 0], vec![2, 2]));
    }
}
