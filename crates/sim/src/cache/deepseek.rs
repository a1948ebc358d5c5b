//! DeepSeek: a disk cache of whole units.
//!
//! A unit ends where a prompt ended, or where a second prompt was seen to part from an earlier one.
//! Units at fixed distances exist too, but their distance is not documented; they are left out.
//! Source: <https://api-docs.deepseek.com/guides/kv_cache>, read 2026-11-23.
//!
//! **Invariant**: only whole units are read (rows in `automatic::tests::rules_hold`).

use policy::moment::Moment;
use wire::usage::Tokens;

use super::entries::{Entries, Entry};
use super::{Cache, InputSplit, Sent};

/// One account's cache.
#[derive(Debug)]
pub struct Deepseek {
    minimum: Tokens,
    idle_ms: u64,
    units: Entries,
    seen: Entries,
}

impl Deepseek {
    /// An empty cache.
    pub fn new(minimum: Tokens, idle_ms: u64) -> Self {
        Self {
            minimum,
            idle_ms,
            units: Entries::default(),
            seen: Entries::default(),
        }
    }
}

impl Cache for Deepseek {
    fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit {
        let (place, lifetime_ms) = (sent.place, self.idle_ms);
        let entry = Entry {
            ready: first_token_at,
            until: at.after(lifetime_ms),
            lifetime_ms,
        };
        let through = sent.through();
        let deepest = |held: &Entries| {
            sent.pieces
                .iter()
                .rposition(|piece| held.is_live(place, piece.chain, at))
        };
        let read = deepest(&self.units)
            .and_then(|index| through.get(index))
            .copied();
        let read = read
            .filter(|tokens| Tokens(*tokens) >= self.minimum)
            .unwrap_or(0);
        let parted = deepest(&self.seen).and_then(|index| sent.pieces.get(index));
        for piece in parted.into_iter().chain(sent.pieces.last()) {
            self.units.keep(place, piece.chain, at, entry);
        }
        for piece in &sent.pieces {
            self.seen.keep(place, piece.chain, at, entry);
        }
        let uncached = Tokens(sent.input().0 - read);
        InputSplit {
            uncached,
            read: Tokens(read),
            ..InputSplit::default()
        }
    }
}
