//! What holds whatever is asked of whatever text.
//!
//! **Invariant**: ranking and keeping are functions of what they are given (properties
//! `what_is_kept_fits_the_budget` and `ranking_is_a_function_of_the_text`).

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use wire::usage::Tokens;

use super::{Chunk, keep, rank};

fn texts() -> impl Strategy<Value = Vec<(String, u32)>> {
    let text = "([a-d]{1,3}(s|ing|ed)? |é |7 |\\? ){0,9}";
    prop::collection::vec((text, 0..40_u32), 0..12)
}

fn chunks(texts: &[(String, u32)]) -> Vec<Chunk<'_>> {
    let of = texts.iter().map(|(text, number)| Chunk {
        text,
        speaker: ["Ann", "Bob", ""][*number as usize % 3],
        date: ["7 May", ""][*number as usize % 2],
        group: number / 8,
        tokens: Tokens(u64::from(*number)),
    });
    of.collect()
}

proptest! {
    #[test]
    fn what_is_kept_fits_the_budget(texts in texts(), budget in 0..300_u64) {
        let chunks = chunks(&texts);
        let kept = keep(&rank("what did Ann abc on 7 May?", &chunks), &chunks, Tokens(budget));
        prop_assert_eq!(kept.len(), chunks.len());
        let tokens = |is_kept: bool| {
            let pairs = chunks.iter().zip(&kept).filter(move |(_, kept)| **kept == is_kept);
            pairs.map(|(chunk, _)| chunk.tokens.0)
        };
        let used: u64 = tokens(true).sum();
        prop_assert!(used <= budget);
        // Nothing that would still fit is left out.
        prop_assert!(tokens(false).all(|tokens| used + tokens > budget));
    }

    #[test]
    fn ranking_is_a_function_of_the_text(texts in texts(), question in "[a-d ?7é]{0,20}") {
        let chunks = chunks(&texts);
        let worth = rank(&question, &chunks);
        prop_assert!(worth.iter().all(|worth| worth.is_finite()));
        prop_assert_eq!(worth, rank(&question, &chunks));
    }
}
