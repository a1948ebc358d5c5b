//! The ideal prefix cache: nothing that was ever sent is paid in full again.
//!
//! It keeps every prefix of whole segments for ever and across sessions, from the model's minimum
//! on. Two bills are written: a *clairvoyant* one that pays the write fee only for what a later call
//! reads, the lower bound, and one that pays it for everything new.
//!
//! **Invariant**: no real cache with the same prices is cheaper than the clairvoyant one (property
//! `nothing_beats_the_ideal`).

use std::collections::{HashMap, HashSet};

use policy::prices::model::CacheFamily;
use policy::shape::cache::{Terms, rules};
use wire::prompt::Chain;
use wire::usage::Tokens;

use crate::cache::{InputSplit, Sent};

/// Splits of the same calls under an ideal cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ideal {
    /// Writes only what a later call reads.
    pub clairvoyant: InputSplit,
    /// Writes everything new.
    pub all_written: InputSplit,
}

/// The splits of all calls, in order.
pub fn splits(terms: &Terms, calls: &[Sent]) -> Vec<Ideal> {
    let mut last_use: HashMap<Chain, usize> = HashMap::new();
    for (index, call) in calls.iter().enumerate() {
        last_use.extend(call.pieces.iter().map(|piece| (piece.chain, index)));
    }
    let mut seen: HashSet<Chain> = HashSet::new();
    let ideals = calls.iter().enumerate().map(|(index, call)| {
        let through = call.through();
        let deepest = |wanted: &dyn Fn(Chain) -> bool| {
            let pieces = call.pieces.iter().zip(&through).rev();
            let long = pieces.filter(|(_, tokens)| Tokens(**tokens) >= terms.minimum);
            long.filter(|(piece, _)| wanted(piece.chain))
                .map(|(_, tokens)| *tokens)
                .next()
        };
        let read = in_blocks(
            terms.family,
            deepest(&|chain| seen.contains(&chain)).unwrap_or(0),
        );
        let needed = |chain| last_use.get(&chain).is_some_and(|last| *last > index);
        let write_to = deepest(&needed).unwrap_or(0);
        let all = deepest(&|_| true).unwrap_or(0);
        seen.extend(call.pieces.iter().map(|piece| piece.chain));
        Ideal {
            clairvoyant: split(terms, call.input(), read, write_to),
            all_written: split(terms, call.input(), read, all),
        }
    });
    ideals.collect()
}

/// Automatic caches read whole blocks.
fn in_blocks(family: CacheFamily, tokens: u64) -> u64 {
    match family {
        CacheFamily::OpenaiAuto | CacheFamily::Xai => tokens - tokens % rules::BLOCK.0,
        CacheFamily::Anthropic
        | CacheFamily::OpenaiBreakpoints
        | CacheFamily::GeminiImplicit
        | CacheFamily::Deepseek
        | CacheFamily::Automatic => tokens,
        CacheFamily::None => 0,
    }
}

fn split(terms: &Terms, input: Tokens, read: u64, write_to: u64) -> InputSplit {
    let mut split = InputSplit {
        read: Tokens(read),
        ..InputSplit::default()
    };
    let mut paid = read;
    if let Some(ttl) = rules::of(terms.family).lifetimes.first() {
        paid = paid.max(write_to);
        *split.written.of_mut(*ttl) = Tokens(paid - read);
    }
    split.uncached = Tokens(input.0 - paid);
    split
}
