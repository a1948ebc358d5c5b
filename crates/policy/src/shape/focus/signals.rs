//! What speaks for a chunk: words that it shares with the question, its neighbourhood, who says it, and
//! when.
//!
//! **Invariant**: a signal lies between -1 and 1, the length aside, and does not depend on what a chunk
//! costs (test `signals_are_read_from_the_text`).

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::Chunk;
use super::counts::{Counts, PIECES, WORDS};
use super::pieces::{self, Pieces};
use super::words;

/// The signals, in order.
pub const SIGNALS: [&str; 9] = [
    // Stems that it shares with the question, rare ones first (BM25).
    "words",
    // The same of it and its neighbours together.
    "neighbourhood",
    // The same of its whole group.
    "group",
    // Pieces of words that it shares with the question.
    "pieces",
    // 1 if the question names who says it, and not everybody.
    "speaker",
    // How much of a date in the question is in its date.
    "date",
    // 1 if the question asks for a time and it tells one.
    "time",
    // 1 if it ends with a question: answers do not.
    "asks",
    // The logarithm of its length in words: what is longer says more.
    "length",
];

/// The values of the signals for one chunk.
pub type Signals = [f64; SIGNALS.len()];

/// So many chunks before and after belong to the neighbourhood: a question, its answer, and a remark on
/// each side.
const NEIGHBOURS: usize = 2;

/// Months, as dates name them.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Words that tell a time, besides months and years; sorted.
const TIMES: [&str; 22] = [
    "ago",
    "friday",
    "last",
    "monday",
    "month",
    "morning",
    "next",
    "night",
    "recently",
    "saturday",
    "since",
    "sunday",
    "thursday",
    "today",
    "tomorrow",
    "tuesday",
    "wednesday",
    "week",
    "weekend",
    "year",
    "years",
    "yesterday",
];

/// How a question asks for a time.
const ASKS_TIME: [&str; 6] = [
    "when ",
    "what year",
    "what month",
    "what date",
    "what day",
    "how long",
];

/// What is looked for.
struct Asked {
    stems: HashMap<String, usize>,
    pieces: Pieces,
    /// Whoever the question names; nobody if it names everybody.
    speakers: BTreeSet<String>,
    /// Months, days and years.
    dates: BTreeSet<String>,
    asks_time: bool,
}

impl Asked {
    fn of(question: &str, chunks: &[Chunk<'_>]) -> Self {
        let speakers: BTreeSet<&str> = chunks.iter().map(|it| it.speaker).collect();
        let names: BTreeSet<String> = speakers.into_iter().flat_map(lowered).collect();
        let (mut stems, mut parts, mut dates) = (HashMap::new(), Vec::new(), BTreeSet::new());
        let mut named = BTreeSet::new();
        let mut stem = String::new();
        words::each(question, |word| {
            if is_date(word) {
                dates.insert(word.to_owned());
            }
            if names.contains(word) {
                named.insert(word.to_owned());
            } else if !words::is_common(word) {
                words::stem(word, &mut stem);
                let place = stems.len();
                stems.entry(stem.clone()).or_insert(place);
                pieces::each(word, |piece| parts.push(piece));
            }
        });
        if named.len() == names.len() {
            named.clear();
        }
        let question = question.to_lowercase();
        Self {
            stems,
            pieces: Pieces::new(parts),
            speakers: named,
            dates,
            asks_time: ASKS_TIME.iter().any(|words| question.contains(words)),
        }
    }

    /// The share of the question's dates that a date has.
    fn date(&self, date: &str) -> f64 {
        if self.dates.is_empty() {
            return 0.0;
        }
        let words = lowered(date);
        let met = self.dates.intersection(&words).count();
        ratio(met, self.dates.len())
    }
}

/// Reads the signals of each chunk.
pub fn signals(question: &str, chunks: &[Chunk<'_>]) -> Vec<Signals> {
    let asked = Asked::of(question, chunks);
    let mut stems = Counts::new(asked.stems.len());
    let mut parts = Counts::new(asked.pieces.count());
    let mut stem = String::new();
    let mut plain = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        stems.begin();
        parts.begin();
        let (mut length, mut tells_time) = (0_u32, false);
        words::each(chunk.text, |word| {
            length += 1;
            tells_time |= asked.asks_time && is_time(word);
            if words::is_common(word) {
                return;
            }
            words::stem(word, &mut stem);
            stems.note(asked.stems.get(&stem).copied());
            pieces::each(word, |piece| parts.note(asked.pieces.place(piece)));
        });
        let is_named = || lowered(chunk.speaker).is_subset(&asked.speakers);
        let speaks = !chunk.speaker.is_empty() && is_named();
        plain.push([
            flag(speaks),
            asked.date(chunk.date),
            flag(tells_time),
            flag(chunk.text.trim_end().ends_with('?')),
            f64::from(length + 1).ln(),
        ]);
    }
    let last = chunks.len().saturating_sub(1);
    let around = |at: usize| at.saturating_sub(NEIGHBOURS)..=(at + NEIGHBOURS).min(last);
    let neighbourhood = stems.joined((0..chunks.len()).map(around)).worth(WORDS);
    let ranges = groups(chunks);
    let of_groups = stems.joined(ranges.iter().cloned()).worth(WORDS);
    let group = ranges.into_iter().zip(of_groups);
    let group = group.flat_map(|(range, worth)| range.map(move |_| worth));
    let words = stems.worth(WORDS).into_iter().zip(neighbourhood);
    let words = words.zip(group).zip(parts.worth(PIECES));
    let all = words.zip(plain);
    all.map(|((((words, neighbourhood), group), pieces), plain)| {
        let [speaker, date, time, asks, length] = plain;
        [
            words,
            neighbourhood,
            group,
            pieces,
            speaker,
            date,
            time,
            asks,
            length,
        ]
    })
    .collect()
}

/// Neighbouring chunks with one number.
fn groups(chunks: &[Chunk<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut at = 0;
    let runs = chunks.chunk_by(|one, other| one.group == other.group);
    runs.map(|run| {
        let range = at..=at + run.len() - 1;
        at += run.len();
        range
    })
    .collect()
}

fn lowered(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    words::each(text, |word| {
        words.insert(word.to_owned());
    });
    words
}

fn is_date(word: &str) -> bool {
    MONTHS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_time(word: &str) -> bool {
    let is_year = word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    is_year || TIMES.binary_search(&word).is_ok() || MONTHS.contains(&word)
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn ratio(part: usize, whole: usize) -> f64 {
    let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(part) / float(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::Chunk;
    use super::{SIGNALS, TIMES, signals};

    #[test]
    fn signals_are_read_from_the_text() {
        let chunk = |speaker, text, date, group| Chunk {
            text,
            speaker,
            date,
            group,
            tokens: wire::usage::Tokens(1),
        };
        let chunks = [
            chunk("Ann Lee", "Shall we go?", "3 May 2023", 1),
            chunk("Bob", "I adopted two dogs last week", "3 May 2023", 1),
            chunk("Ann Lee", "Nice weather.", "9 June 2023", 2),
            chunk("Bob", "The dog sleeps", "9 June 2023", 2),
        ];
        let check = |question: &str, signal: &str, expect: [f64; 4]| {
            let at = SIGNALS.iter().position(|it| *it == signal).unwrap();
            let found: Vec<f64> = signals(question, &chunks).iter().map(|it| it[at]).collect();
            let is_same = found
                .iter()
                .zip(expect)
                .all(|(it, expect)| (it - expect).abs() < 1e-9);
            assert!(is_same, "{question} {signal} {found:?}");
        };
        check("When did Bob adopt it?", "words", [0.0, 1.0, 0.0, 0.0]);
        check("When did Bob adopt it?", "speaker", [0.0, 1.0, 0.0, 1.0]);
        check("When did Bob adopt it?", "time", [0.0, 1.0, 0.0, 0.0]);
        check("Did Ann Lee meet Bob?", "speaker", [0.0; 4]);
        check(
            "On 9 May 2023?",
            "date",
            [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
        );
        check("in June?", "date", [0.0, 0.0, 1.0, 1.0]);
        check("Who adopts?", "group", [1.0, 1.0, 0.0, 0.0]);
        check("Who adopts?", "asks", [1.0, 0.0, 0.0, 0.0]);
        check("???", "pieces", [0.0; 4]);
        check("adoption?", "pieces", [0.0, 1.0, 0.0, 0.0]);
        assert!(signals("x", &[]).is_empty());
        assert!(TIMES.is_sorted());
    }
}
