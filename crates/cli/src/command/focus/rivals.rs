//! What focus is measured against: recency, chance, BM25 over whole words, and BM25 with half of what
//! the turns before and after are worth.
//!
//! **Invariant**: a rival sees who says a turn and what it says, as focus does (test
//! `words_and_neighbours_are_counted`).

use std::collections::{BTreeSet, HashMap};

use policy::shape::focus::Chunk;

/// The usual values of BM25.
const REPEATS: f64 = 1.5;
const LENGTH: f64 = 0.75;

/// What the turns before and after add.
const NEIGHBOUR: f64 = 0.5;

/// Rankings of one conversation.
pub(super) struct Rivals {
    turns: Vec<HashMap<String, f64>>,
    lengths: Vec<f64>,
    having: HashMap<String, f64>,
}

impl Rivals {
    pub(super) fn of(chunks: &[Chunk<'_>]) -> Self {
        let mut rivals = Self {
            turns: Vec::with_capacity(chunks.len()),
            lengths: Vec::with_capacity(chunks.len()),
            having: HashMap::new(),
        };
        for chunk in chunks {
            let mut turn: HashMap<String, f64> = HashMap::new();
            let said = words(&format!("{}: {}", chunk.speaker, chunk.text));
            rivals.lengths.push(said.iter().map(|_| 1.0).sum());
            for word in said {
                *turn.entry(word).or_default() += 1.0;
            }
            for word in turn.keys() {
                *rivals.having.entry(word.clone()).or_default() += 1.0;
            }
            rivals.turns.push(turn);
        }
        rivals
    }

    pub(super) fn rank(&self, question: &str) -> [(&'static str, Vec<f64>); 4] {
        let bm25 = self.bm25(question);
        let before = std::iter::once(0.0).chain(bm25.iter().copied());
        let after = bm25.iter().copied().skip(1).chain([0.0]);
        let around = bm25.iter().zip(before).zip(after);
        let around = around.map(|((own, before), after)| own + NEIGHBOUR * (before + after));
        let places = || (0_u32..).take(self.turns.len());
        [
            ("recency", places().map(f64::from).collect()),
            ("random", places().map(|at| chance(question, at)).collect()),
            ("BM25 + neighbours", around.collect()),
            ("BM25", bm25),
        ]
    }

    fn bm25(&self, question: &str) -> Vec<f64> {
        let asked: BTreeSet<String> = words(question).into_iter().collect();
        let turns: f64 = self.turns.iter().map(|_| 1.0).sum();
        let mean = self.lengths.iter().sum::<f64>() / turns;
        let of_turn = |(turn, length): (&HashMap<String, f64>, &f64)| {
            let met = asked
                .iter()
                .filter_map(|word| Some((word, turn.get(word)?)));
            met.map(|(word, count)| {
                let having = self.having.get(word).copied().unwrap_or(0.0);
                let rarity = (1.0 + (turns - having + 0.5) / (having + 0.5)).ln();
                let held_back = REPEATS * (1.0 - LENGTH + LENGTH * length / mean);
                rarity * count * (REPEATS + 1.0) / (count + held_back)
            })
            .sum()
        };
        self.turns.iter().zip(&self.lengths).map(of_turn).collect()
    }
}

/// The same draw for a turn and a question, always.
fn chance(question: &str, at: u32) -> f64 {
    let drawn = blake3::hash(format!("{at}:{question}").as_bytes());
    let [one, two, three, four, ..] = *drawn.as_bytes();
    f64::from(u32::from_le_bytes([one, two, three, four]))
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_ascii_lowercase();
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use policy::shape::focus::Chunk;

    use super::Rivals;

    #[test]
    fn words_and_neighbours_are_counted() {
        let chunk = |text| Chunk {
            text,
            speaker: "Ann",
            ..Chunk::default()
        };
        let chunks = ["one two", "three four", "five", "three three"].map(chunk);
        let [recency, _, around, bm25] = Rivals::of(&chunks).rank("Three?");
        assert_eq!(recency.1, [0.0, 1.0, 2.0, 3.0]);
        let signs = |worth: &[f64]| worth.iter().map(|it| *it > 0.0).collect::<Vec<_>>();
        assert_eq!(signs(&bm25.1), [false, true, false, true]);
        assert_eq!(signs(&around.1), [true; 4]);
        assert!(bm25.1[3] > bm25.1[1] && around.1[2] > around.1[0]);
    }
}
