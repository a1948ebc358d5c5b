//! OpenAI from GPT-5.6 on: breakpoints and a write fee.
//!
//! Source: <https://developers.openai.com/api/docs/guides/prompt-caching>, read 2026-11-23.
//!
//! **Invariant**: `explicit` without a breakpoint reads and writes nothing (rows in `rules_hold`).

use policy::moment::Moment;
use policy::shape::cache::{Mode, rules};
use wire::usage::{Tokens, Ttl};

use super::entries::{Entries, Entry};
use super::routes::Routes;
use super::{Cache, InputSplit, Sent};

/// One organisation's cache.
#[derive(Debug)]
pub struct OpenaiBreakpoints {
    minimum: Tokens,
    entries: Entries,
    routes: Routes,
}

impl OpenaiBreakpoints {
    /// An empty cache, for a model that keeps prefixes of at least `minimum`.
    pub fn new(minimum: Tokens) -> Self {
        Self {
            minimum,
            entries: Entries::default(),
            routes: Routes::default(),
        }
    }
}

impl Cache for OpenaiBreakpoints {
    fn serve(&mut self, sent: &Sent, at: Moment, first_token_at: Moment) -> InputSplit {
        let place = self.routes.place(sent, at);
        let through = sent.through();
        let tokens = |index: usize| through.get(index).copied().unwrap_or_default();
        let implicit = match sent.mode {
            Mode::Default => sent
                .pieces
                .len()
                .checked_sub(1)
                .map(|last| (last, Ttl::Minutes30)),
            Mode::Explicit => None,
        };
        let marked = sent.pieces.iter().enumerate();
        let named = marked.filter_map(|(index, piece)| Some((index, piece.marker?)));
        // At most four are written; the latest ones count.
        let mut breakpoints: Vec<(usize, Ttl)> = named.chain(implicit).collect();
        breakpoints.drain(..breakpoints.len().saturating_sub(rules::BREAKPOINTS_MAX));
        breakpoints.retain(|(index, _)| Tokens(tokens(*index)) >= self.minimum);
        let Some((deepest, _)) = breakpoints.last().copied() else {
            return InputSplit::plain(sent.input());
        };

        let within = sent.pieces.get(..=deepest).unwrap_or_default();
        let found = within
            .iter()
            .rposition(|piece| self.entries.is_live(place, piece.chain, at));
        let read = found.map_or(0, tokens);
        let mut split = InputSplit {
            read: Tokens(read),
            ..InputSplit::default()
        };
        let mut paid = read;
        for ttl in [Ttl::Hours12, Ttl::Minutes30] {
            let reach = breakpoints
                .iter()
                .filter(|it| it.1 == ttl)
                .map(|it| tokens(it.0))
                .max();
            let reach = reach.unwrap_or(0).max(paid);
            *split.written.of_mut(ttl) = Tokens(reach - paid);
            paid = reach;
        }
        split.uncached = Tokens(sent.input().0 - paid);

        if let Some(piece) = found.and_then(|index| sent.pieces.get(index)) {
            self.entries.refresh(place, piece.chain, at);
        }
        for (index, ttl) in breakpoints {
            let Some(piece) = sent.pieces.get(index) else {
                continue;
            };
            let lifetime_ms = ttl.millis();
            let entry = Entry {
                ready: first_token_at,
                until: at.after(lifetime_ms),
                lifetime_ms,
            };
            self.entries.keep(place, piece.chain, at, entry);
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::shape::cache::Mode;
    use wire::prompt::Chain;
    use wire::usage::{Tokens, Ttl};

    use super::super::{Cache, Piece, Sent};
    use super::OpenaiBreakpoints;

    const M: Option<Ttl> = Some(Ttl::Minutes30);
    const H: Option<Ttl> = Some(Ttl::Hours12);

    /// Requests as (minutes, mode, markers on pieces of 1 000 tokens); what the last one reads,
    /// writes for 30 m, for 12 h.
    fn check(requests: &[(u64, Mode, &[Option<Ttl>])], expect: (u64, u64, u64)) {
        let mut cache = OpenaiBreakpoints::new(Tokens(1_024));
        let mut last = (0, 0, 0);
        for (minutes, mode, markers) in requests {
            let piece = |(position, marker): (u32, &Option<Ttl>)| Piece {
                bytes: 0,
                chain: Chain(u128::from(position)),
                tokens: Tokens(1_000),
                position,
                marker: *marker,
            };
            let pieces = (0..).zip(*markers).map(piece).collect();
            let sent = Sent {
                pieces,
                mode: *mode,
                ..Sent::default()
            };
            let at = Moment(minutes * 60_000);
            let split = cache.serve(&sent, at, at.after(2_000));
            assert_eq!(split.input(), sent.input());
            last = (
                split.read.0,
                split.written.minutes_30.0,
                split.written.hours_12.0,
            );
        }
        assert_eq!(last, expect, "{requests:?}");
    }

    #[test]
    fn rules_hold() {
        use Mode::{Default, Explicit};
        check(&[(0, Default, &[None])], (0, 0, 0)); // below the minimum
        check(&[(0, Default, &[None, None])], (0, 2_000, 0));
        check(&[(0, Explicit, &[None, None])], (0, 0, 0));
        check(&[(0, Explicit, &[None, M, None])], (0, 2_000, 0));
        check(&[(0, Default, &[None, H, None])], (0, 1_000, 2_000));
        check(
            &[(0, Default, &[None, None]), (1, Default, &[None; 30])],
            (2_000, 28_000, 0),
        );
        check(
            &[(0, Default, &[None, None]), (1, Explicit, &[None; 3])],
            (0, 0, 0),
        );
        check(
            &[
                (0, Default, &[None, None, None]),
                (1, Default, &[None, None]),
            ],
            (0, 2_000, 0),
        );
        check(
            &[(0, Default, &[None, None]), (31, Default, &[None, None])],
            (0, 2_000, 0),
        );
        check(
            &[(0, Explicit, &[None, H]), (300, Explicit, &[None, H])],
            (2_000, 0, 0),
        );
    }
}
