//! Anthropic: breakpoints, lookback, lifetimes from the start of the request.
//!
//! Source: <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>, read 2026-11-23.
//!
//! **Invariant**: only what stood before a breakpoint is written, and only entries within the
//! lookback of a breakpoint are read (rows in `rules_hold`).

use policy::moment::Moment;
use policy::shape::cache::{Grain, rules};
use wire::usage::{Tokens, Ttl};

use super::entries::{Entries, Entry};
use super::{Cache, InputSplit, Piece, Sent};

/// One workspace's cache.
#[derive(Debug)]
pub struct Anthropic {
    minimum: Tokens,
    grain: Grain,
    entries: Entries,
}

impl Anthropic {
    /// An empty cache, for a model that keeps prefixes of at least `minimum`.
    pub fn new(minimum: Tokens, grain: Grain) -> Self {
        Self {
            minimum,
            grain,
            entries: Entries::default(),
        }
    }

    /// The deepest piece that can be read where every segment's end can.
    fn readable_anywhere(&self, sent: &Sent, through: &[u64], at: Moment) -> Option<usize> {
        let live = |piece: &Piece| self.entries.is_live(sent.place, piece.chain, at);
        let deepest = sent.pieces.iter().rposition(live)?;
        (Tokens(*through.get(deepest)?) >= self.minimum).then_some(deepest)
    }

    /// Leaves an entry at the end of every segment that was read or written.
    fn keep_everything(
        &mut self,
        sent: &Sent,
        at: Moment,
        ready: Moment,
        reach: usize,
        marks: &[(usize, Ttl)],
    ) {
        for (index, piece) in sent.pieces.iter().enumerate().take(reach + 1) {
            let behind = marks.iter().find(|(mark, _)| *mark >= index);
            let ttl = behind.or(marks.last()).map_or(Ttl::Minutes5, |mark| mark.1);
            let lifetime_ms = ttl.millis();
            let entry = Entry {
                ready,
                until: at.after(lifetime_ms),
                lifetime_ms,
            };
            self.entries.keep(sent.place, piece.chain, at, entry);
        }
    }

    /// The deepest piece that can be read: on a breakpoint or within its lookback.
    fn readable(&self, sent: &Sent, marks: &[(usize, Ttl)], at: Moment) -> Option<usize> {
        let found = marks.iter().rev().filter_map(|(mark, _)| {
            let position = sent.pieces.get(*mark)?.position;
            let reached = |piece: &Piece| position - piece.position < rules::LOOKBACK_POSITIONS;
            let pieces = sent.pieces.get(..=*mark)?.iter().enumerate().rev();
            pieces
                .take_while(|(_, piece)| reached(piece))
                .find(|(_, piece)| self.entries.is_live(sent.place, piece.chain, at))
                .map(|(index, _)| index)
        });
        found.max()
    }
}

impl Cache for Anthropic {
    fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit {
        let through = sent.through();
        let tokens = |index: usize| through.get(index).copied().unwrap_or_default();
        let last = sent.pieces.len().checked_sub(1);
        let own = sent.automatic.zip(last).map(|(ttl, last)| (last, ttl));
        let marked = sent.pieces.iter().enumerate();
        let marks: Vec<(usize, Ttl)> = marked
            .filter_map(|(index, piece)| Some((index, piece.marker?)))
            .chain(own)
            .filter(|(index, _)| Tokens(tokens(*index)) >= self.minimum)
            .collect();

        let read_through = match self.grain {
            Grain::Breakpoints => self.readable(sent, &marks, at),
            Grain::Segments => self.readable_anywhere(sent, &through, at),
        };
        let read = read_through.map_or(0, tokens);
        let mut split = InputSplit {
            read: Tokens(read),
            ..InputSplit::default()
        };
        // What stands before a longer-lived breakpoint is written for the longer time.
        let mut paid = read;
        for ttl in [Ttl::Hour1, Ttl::Minutes5] {
            let reach = marks
                .iter()
                .filter(|mark| mark.1 == ttl)
                .map(|mark| tokens(mark.0))
                .max();
            let reach = reach.unwrap_or(0).max(paid);
            *split.written.of_mut(ttl) = Tokens(reach - paid);
            paid = reach;
        }
        split.uncached = Tokens(sent.input().0 - paid);

        if self.grain == Grain::Segments {
            if let Some(reach) = read_through.max(marks.last().map(|mark| mark.0)) {
                self.keep_everything(sent, at, first_token_at, reach, &marks);
            }
            return split;
        }
        let read_chain = read_through.and_then(|index| sent.pieces.get(index));
        if let Some(piece) = read_chain {
            self.entries.refresh(sent.place, piece.chain, at);
        }
        for (index, ttl) in marks {
            let Some(piece) = sent.pieces.get(index) else {
                continue;
            };
            let lifetime_ms = ttl.millis();
            let entry = Entry {
                ready: first_token_at,
                until: at.after(lifetime_ms),
                lifetime_ms,
            };
            if tokens(index) > read {
                self.entries.keep(sent.place, piece.chain, at, entry);
            } else {
                self.entries.refresh(sent.place, piece.chain, at);
            }
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use wire::prompt::Chain;
    use wire::usage::{Tokens, Ttl};

    use super::super::{Cache, Piece, Sent};
    use super::Anthropic;

    const M: Option<Ttl> = Some(Ttl::Minutes5);
    const H: Option<Ttl> = Some(Ttl::Hour1);

    /// Pieces of 1 000 tokens, one position each; chains are numbered.
    fn sent(markers: &[Option<Ttl>]) -> Sent {
        let piece = |(position, marker): (u32, &Option<Ttl>)| Piece {
            bytes: 0,
            chain: Chain(u128::from(position)),
            tokens: Tokens(1_000),
            position,
            marker: *marker,
        };
        Sent {
            pieces: (0..).zip(markers).map(piece).collect(),
            ..Sent::default()
        }
    }

    /// Requests as (seconds, markers), and what the last one reads, writes for 5 m, for 1 h.
    fn check(requests: &[(u64, &[Option<Ttl>])], expect: (u64, u64, u64)) {
        let mut cache = Anthropic::new(Tokens(1_024), policy::shape::cache::Grain::Breakpoints);
        let mut last = (0, 0, 0);
        for (seconds, markers) in requests {
            let (sent, at) = (sent(markers), Moment(seconds * 1_000));
            let split = cache.serve(&sent, at, at.after(2_000));
            assert_eq!(split.input(), sent.input());
            last = (
                split.read.0,
                split.written.minutes_5.0,
                split.written.hour_1.0,
            );
        }
        assert_eq!(last, expect, "{requests:?}");
    }

    #[test]
    fn rules_hold() {
        check(&[(0, &[None, None])], (0, 0, 0));
        check(&[(0, &[M])], (0, 0, 0)); // below the minimum: no error, no write
        check(&[(0, &[None, M, None])], (0, 2_000, 0));
        check(&[(0, &[None, M]), (1, &[None, M, M])], (0, 3_000, 0)); // not begun to answer
        check(&[(0, &[None, M]), (2, &[None, M, M])], (2_000, 1_000, 0));
        check(&[(0, &[None, M]), (2, &[None, None, M])], (2_000, 1_000, 0));
        check(
            &[(0, &[None, M]), (300, &[None, None, M])],
            (2_000, 1_000, 0),
        );
        check(&[(0, &[None, M]), (301, &[None, None, M])], (0, 3_000, 0));
        check(
            &[(0, &[None, M]), (299, &[None, M]), (598, &[None, M])],
            (2_000, 0, 0),
        );
        check(&[(0, &[None, H, M])], (0, 1_000, 2_000));
        check(
            &[(0, &[None, H, M]), (1_800, &[None, H, M])],
            (2_000, 1_000, 0),
        );
        check(&[(0, &[None, None, M]), (2, &[None, M])], (0, 2_000, 0)); // no entry in between
    }

    #[test]
    fn lookback_reaches_twenty_positions() {
        let long = |length: usize| {
            let mut markers = vec![None; length];
            markers.push(M);
            markers
        };
        check(&[(0, &[None, M]), (2, &long(20))], (2_000, 19_000, 0));
        check(&[(0, &[None, M]), (2, &long(21))], (0, 22_000, 0));
    }
}
