//! Neighbours: the plainest learned router, to compare with: what happened to similar queries.
//!
//! **Invariant**: words that stand everywhere do not make neighbours (test `like_answers_like`).
#![expect(clippy::cast_precision_loss, reason = "counts of rows are small")]

use policy::route::features::LETTERS;
use policy::route::predictor::{self, damped};

use crate::corpus::Corpus;

/// 40 neighbours.
const NEIGHBOURS: usize = 40;

/// For each row of `of`, the mean of `values` over its nearest rows among `among`, by cosine of
/// words and pairs of words.
pub fn means(
    corpus: &Corpus,
    among: &[usize],
    of: &[usize],
    rarity: &[u8],
    values: &[[f64; 2]],
) -> Vec<[f64; 2]> {
    let limit = among.len() / 20 + 50;
    let mut lists: Vec<Vec<(u32, f32)>> = vec![Vec::new(); LETTERS];
    for (local, row) in among.iter().enumerate() {
        for (bucket, value) in words(corpus, *row, rarity) {
            #[expect(clippy::cast_possible_truncation, reason = "fewer rows than 2^32")]
            lists[bucket].push((local as u32, value));
        }
    }
    let mut likeness = vec![0.0f32; among.len()];
    let each = of.iter().map(|row| {
        likeness.fill(0.0);
        for (bucket, value) in words(corpus, *row, rarity) {
            if lists[bucket].len() <= limit {
                for (local, other) in &lists[bucket] {
                    likeness[*local as usize] += value * other;
                }
            }
        }
        let mut order: Vec<usize> = (0..among.len()).collect();
        let count = NEIGHBOURS.min(order.len());
        if count < order.len() {
            order.select_nth_unstable_by(count, |left, right| {
                likeness[*right].total_cmp(&likeness[*left])
            });
        }
        let mut mean = [0.0; 2];
        for local in &order[..count] {
            mean[0] += values[*local][0] / count as f64;
            mean[1] += values[*local][1] / count as f64;
        }
        mean
    });
    each.collect()
}

/// A row's words, at unit length.
fn words(corpus: &Corpus, row: usize, rarity: &[u8]) -> Vec<(usize, f32)> {
    let grams = corpus
        .grams(row)
        .iter()
        .filter(|(bucket, _)| usize::from(*bucket) < LETTERS);
    let value = |(bucket, count): &(u16, u16)| {
        let bucket = usize::from(*bucket);
        (bucket, damped(*count) * predictor::rarity(rarity[bucket]))
    };
    let mut words: Vec<(usize, f32)> = grams.map(value).collect();
    let length = words
        .iter()
        .map(|(_, value)| value * value)
        .sum::<f32>()
        .sqrt()
        .max(1e-6);
    for (_, value) in &mut words {
        *value /= length;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::means;
    use crate::corpus::Corpus;
    use crate::linear::rarity;
    use crate::outcome::Row;

    #[test]
    fn like_answers_like() {
        let word = |index: usize| {
            if index.is_multiple_of(2) {
                "alpha"
            } else {
                "omega"
            }
        };
        let row = |index| Row {
            text: format!("{} {index}", word(index)),
            ..Row::default()
        };
        let corpus = Corpus::new(&(0..82).map(row).collect::<Vec<_>>());
        let among: Vec<usize> = (0..80).collect();
        let values: Vec<[f64; 2]> = among
            .iter()
            .map(|it| if it % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] })
            .collect();
        let rarity = rarity(&corpus, &among);
        let found = means(&corpus, &among, &[80, 81], &rarity, &values);
        assert!(found[0][0] > 0.9 && found[1][1] > 0.9, "{found:?}");
    }
}
