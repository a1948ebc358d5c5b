//! Corpus: the features of many rows, close together in memory.
//!
//! **Invariant**: a row's features are those that the router reads of the same text (test
//! `rows_keep_their_features`).

use policy::route::features::{BUCKETS, Features, STRUCTURE, Sight, read};

use crate::outcome::{Row, numbered};

/// The features of many rows.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Where each row's grams begin, and the end.
    starts: Vec<usize>,
    grams: Vec<(u16, u16)>,
    structure: Vec<[f32; STRUCTURE]>,
    /// Near-duplicates, by number.
    pub groups: Vec<usize>,
    /// Kinds of traffic, by number.
    pub segments: Vec<usize>,
    /// The names of the kinds.
    pub segment_names: Vec<String>,
}

impl Corpus {
    /// Reads all rows.
    pub fn new(rows: &[Row]) -> Self {
        let (segments, names) = numbered(rows.iter().map(|it| it.segment.as_str()));
        let mut corpus = Self {
            starts: vec![0],
            groups: numbered(rows.iter().map(|it| it.group.as_str())).0,
            segments,
            segment_names: names.into_iter().map(str::to_owned).collect(),
            ..Self::default()
        };
        for row in rows {
            let text = row.text.as_str();
            let features = read(Sight {
                text,
                turns: 0,
                tools: 0,
            });
            corpus.grams.extend(features.grams);
            corpus.starts.push(corpus.grams.len());
            corpus.structure.push(features.structure);
        }
        corpus
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.structure.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.structure.is_empty()
    }

    /// A row's text.
    pub fn grams(&self, row: usize) -> &[(u16, u16)] {
        &self.grams[self.starts[row]..self.starts[row + 1]]
    }

    /// A row's structure.
    pub fn structure(&self, row: usize) -> &[f32; STRUCTURE] {
        &self.structure[row]
    }

    /// A row as the router sees it.
    pub fn features(&self, row: usize) -> Features {
        Features {
            grams: self.grams(row).to_vec(),
            structure: self.structure[row],
        }
    }

    /// In how many of the rows each bucket was met.
    pub fn met(&self, rows: &[usize]) -> Vec<u32> {
        let mut met = vec![0; BUCKETS];
        for row in rows {
            for (bucket, _) in self.grams(*row) {
                met[usize::from(*bucket)] += 1;
            }
        }
        met
    }

    /// The segment's name.
    pub fn segment(&self, row: usize) -> &str {
        &self.segment_names[self.segments[row]]
    }
}

#[cfg(test)]
mod tests {
    use policy::route::features::{Sight, read};

    use super::Corpus;
    use crate::outcome::Row;

    #[test]
    fn rows_keep_their_features() {
        let texts = ["", "one two", "2 + 2 = ?"];
        let row = |text: &&str| Row {
            text: (*text).to_owned(),
            ..Row::default()
        };
        let corpus = Corpus::new(&texts.iter().map(row).collect::<Vec<_>>());
        assert_eq!(corpus.len(), texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            assert_eq!(
                corpus.features(index),
                read(Sight {
                    text,
                    turns: 0,
                    tools: 0
                })
            );
        }
    }
}
