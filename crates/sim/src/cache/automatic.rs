//! Caches that work by themselves: OpenAI up to GPT-5.5, Gemini's implicit one, xAI and the like.
//!
//! Every prompt leaves its prefixes behind; the longest one that is still there is read, in whole
//! blocks. Sources are named in `policy::shape::cache::rules`.
//!
//! **Invariant**: nothing is written at a price, and what is read is a whole number of blocks (rows in
//! `rules_hold`).

use policy::moment::Moment;
use wire::usage::Tokens;

use super::entries::{Entries, Entry};
use super::routes::Routes;
use super::{Cache, InputSplit, Sent};

/// Whether requests are spread over machines with caches of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// By the request's key and first tokens.
    ByKeyOrPrefix,
    /// One cache for all.
    Nowhere,
}

/// How such a cache behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The shortest prefix that it reads.
    pub minimum: Tokens,
    /// It reads whole blocks of so many tokens.
    pub block: Tokens,
    /// How long an unused prefix stays, in milliseconds.
    pub idle_ms: u64,
    /// How requests are spread.
    pub routed: Routed,
}

/// One organisation's cache.
#[derive(Debug)]
pub struct Automatic {
    manner: Manner,
    entries: Entries,
    routes: Routes,
}

impl Automatic {
    /// An empty cache.
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            entries: Entries::default(),
            routes: Routes::default(),
        }
    }
}

impl Cache for Automatic {
    fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit {
        let Manner {
            minimum,
            block,
            idle_ms,
            routed,
        } = self.manner;
        let place = match routed {
            Routed::ByKeyOrPrefix => self.routes.place(sent, at),
            Routed::Nowhere => sent.place,
        };
        let pieces = sent.pieces.iter().zip(sent.through()).rev();
        let found = pieces
            .clone()
            .find(|(piece, _)| self.entries.is_live(place, piece.chain, at))
            .map_or(0, |(_, tokens)| tokens);
        let whole = found - found % block.0.max(1);
        let read = if Tokens(whole) >= minimum { whole } else { 0 };
        for (piece, _) in pieces {
            let entry = Entry {
                ready: first_token_at,
                until: at.after(idle_ms),
                lifetime_ms: idle_ms,
            };
            self.entries.keep(place, piece.chain, at, entry);
        }
        let uncached = Tokens(sent.input().0 - read);
        InputSplit {
            uncached,
            read: Tokens(read),
            ..InputSplit::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::prices::model::CacheFamily;
    use wire::prompt::Chain;
    use wire::usage::Tokens;

    use super::super::{Piece, ProviderCache, Sent};

    fn sent(sizes: &[u64], key: Option<u64>) -> Sent {
        let piece = |(position, tokens): (u32, &u64)| Piece {
            bytes: 0,
            chain: Chain(u128::from(position) * 100_000 + u128::from(*tokens)),
            tokens: Tokens(*tokens),
            position,
            marker: None,
        };
        Sent {
            pieces: (0..).zip(sizes).map(piece).collect(),
            key,
            ..Sent::default()
        }
    }

    /// Requests as (seconds, sizes); what the last one reads.
    fn check(family: CacheFamily, minimum: u64, requests: &[(u64, &[u64])], read: u64) {
        let mut cache = ProviderCache::new(family, Tokens(minimum));
        let mut last = 0;
        for (seconds, sizes) in requests {
            let at = Moment(seconds * 1_000);
            let split = cache.serve(&sent(sizes, None), at, at.after(1_000));
            assert_eq!(split.input().0, sizes.iter().sum::<u64>());
            assert_eq!(split.written.total(), Tokens(0));
            last = split.read.0;
        }
        assert_eq!(last, read, "{family:?} {requests:?}");
    }

    #[test]
    fn rules_hold() {
        let openai = CacheFamily::OpenaiAuto;
        check(
            openai,
            1_024,
            &[(0, &[1_000, 300]), (9, &[1_000, 300])],
            1_280,
        );
        check(openai, 1_024, &[(0, &[1_000, 300]), (9, &[1_000])], 0);
        check(
            openai,
            1_024,
            &[(0, &[1_000, 300]), (301, &[1_000, 300])],
            0,
        );
        check(
            CacheFamily::GeminiImplicit,
            4_096,
            &[(0, &[4_000]), (9, &[4_000, 500])],
            0,
        );
        check(
            CacheFamily::GeminiImplicit,
            4_096,
            &[(0, &[4_100]), (9, &[4_100, 500])],
            4_100,
        );
        check(CacheFamily::Xai, 128, &[(0, &[300]), (9, &[300, 50])], 256);
        check(CacheFamily::None, 0, &[(0, &[3_000]), (9, &[3_000])], 0);
        let deepseek = CacheFamily::Deepseek;
        check(deepseek, 64, &[(0, &[500]), (9, &[500, 100])], 500);
        check(deepseek, 64, &[(0, &[500, 1]), (9, &[500])], 0); // no unit ends there yet
        check(
            deepseek,
            64,
            &[(0, &[500, 1]), (9, &[500]), (18, &[500, 2])],
            500,
        );
    }

    #[test]
    fn overflow_goes_to_a_cold_machine() {
        let mut cache = ProviderCache::new(CacheFamily::OpenaiAuto, Tokens(1_024));
        let mut serve = |seconds: u64, key| {
            let at = Moment(seconds * 1_000);
            cache.serve(&sent(&[2_048], key), at, at).read.0
        };
        let reads: Vec<u64> = (0..17).map(|second| serve(second, None)).collect();
        assert_eq!(reads[1..15], [2_048; 14]);
        assert_eq!(reads[15..], [0, 2_048]);
        assert_eq!(serve(18, Some(7)), 0, "a key has machines of its own");
    }
}
