//! The untouched world beside the real one: what a live call would have used had it gone through
//! as the client sent it, or as we sent it but untrimmed.
//!
//! **Invariant**: where both worlds meter a call alike, the counterfactual is the actual usage, to
//! the token (test `equal_worlds_change_nothing`).

use std::collections::HashMap;

use policy::moment::Moment;
use policy::shape::cache::Terms;
use wire::usage::{CacheWrites, Tokens, Ttl, Usage};

use crate::cache::{InputSplit, ProviderCache, Sent};

/// Places (provider, account, model) that are followed; beyond, calls count as untouched.
const PLACES_MAX: usize = 4_096;

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The model's cache and prices.
    pub terms: &'a Terms,
    /// As the client sent it.
    pub untouched: &'a Sent,
    /// As it was sent.
    pub sent: &'a Sent,
    /// As it would have been sent with its texts whole, if they were trimmed: larger by `more`.
    pub untrimmed: Option<&'a Sent>,
    /// Tokens that were not sent because they were trimmed.
    pub more: Tokens,
    /// When it was sent.
    pub at: Moment,
    /// When the first byte of the answer arrived.
    pub first_token_at: Moment,
    /// What the provider reported.
    pub actual: &'a Usage,
}

/// What a call would have used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imagined {
    /// As the client sent it.
    pub untouched: Usage,
    /// With its texts whole, but with our markers.
    pub untrimmed: Usage,
}

/// Three caches for each place: one that never saw our markers, one that did, and one that saw them on
/// texts that were never trimmed.
#[derive(Debug, Default)]
pub struct Shadow {
    places: HashMap<u64, Worlds>,
}

#[derive(Debug)]
struct Worlds {
    untouched: ProviderCache,
    sent: ProviderCache,
    untrimmed: ProviderCache,
}

impl Worlds {
    fn of(terms: &Terms) -> Self {
        let cache = || ProviderCache::new(terms.family, terms.minimum);
        Self {
            untouched: cache(),
            sent: cache(),
            untrimmed: cache(),
        }
    }
}

impl Shadow {
    /// The usage that the call would have had untouched, and untrimmed.
    ///
    /// To be called when a call is over, in any order; `at` says when it was sent.
    pub fn observe(&mut self, seen: &Seen<'_>) -> Imagined {
        let place = seen.untouched.place;
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            return Imagined {
                untouched: seen.actual.clone(),
                untrimmed: seen.actual.clone(),
            };
        }
        let worlds = self.places.entry(place);
        let worlds = worlds.or_insert_with(|| Worlds::of(seen.terms));
        let (at, first) = (seen.at, seen.first_token_at);
        let untouched = worlds.untouched.serve(seen.untouched, at, first);
        let sent = worlds.sent.serve(seen.sent, at, first);
        let whole = seen.untrimmed.unwrap_or(seen.sent);
        let whole = worlds.untrimmed.serve(whole, at, first);
        let total = total(seen.actual);
        let untrimmed = if whole == sent && seen.more == Tokens(0) {
            seen.actual.clone()
        } else {
            moved(seen.actual, &sent, &whole, total + seen.more)
        };
        let untouched = if untouched == whole {
            untrimmed.clone()
        } else {
            split(seen.actual, &untouched.scaled_to(total + seen.more))
        };
        Imagined {
            untouched,
            untrimmed,
        }
    }
}

/// Input that a prompt cache can hold.
fn total(usage: &Usage) -> Tokens {
    usage.uncached + usage.cache_read + usage.cache_write.total()
}

/// A usage with its input split otherwise.
fn split(actual: &Usage, split: &InputSplit) -> Usage {
    Usage {
        uncached: split.uncached,
        cache_read: split.read,
        cache_write: split.written,
        ..actual.clone()
    }
}

/// A usage moved by what one simulated world differs from another: the tokens that were left out, each
/// where it would have been paid. What the simulator does not know of the provider cancels out.
fn moved(actual: &Usage, from: &InputSplit, to: &InputSplit, total: Tokens) -> Usage {
    let change =
        |actual: Tokens, from: Tokens, to: Tokens| Tokens((actual.0 + to.0).saturating_sub(from.0));
    let read = change(actual.cache_read, from.read, to.read);
    let mut written = CacheWrites::default();
    for ttl in Ttl::ALL {
        let now = actual.cache_write.of(ttl);
        *written.of_mut(ttl) = change(now, from.written.of(ttl), to.written.of(ttl));
    }
    let cached = read + written.total();
    let input = InputSplit {
        uncached: Tokens(total.0.saturating_sub(cached.0)),
        read,
        written,
    };
    split(actual, &input)
}

/// A call that is over, at a target that did not serve it.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere<'a> {
    /// The other model's cache and prices.
    pub terms: &'a Terms,
    /// As the client would have sent it there.
    pub untouched: &'a Sent,
    /// When it was sent.
    pub at: Moment,
    /// When the first byte of the answer arrived.
    pub first_token_at: Moment,
    /// Tokens that were not sent because they were trimmed.
    pub more: Tokens,
    /// What the provider that served it reported.
    pub actual: &'a Usage,
}

impl Shadow {
    /// The usage that the call would have had at a target that did not serve it: as many tokens, by
    /// the state of that target's cache had it served all of the session.
    pub fn imagine(&mut self, elsewhere: &Elsewhere<'_>) -> Usage {
        let total = total(elsewhere.actual) + elsewhere.more;
        let place = elsewhere.untouched.place;
        let imagined = if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            InputSplit {
                uncached: total,
                ..InputSplit::default()
            }
        } else {
            let worlds = self.places.entry(place);
            let worlds = worlds.or_insert_with(|| Worlds::of(elsewhere.terms));
            let Elsewhere {
                untouched,
                at,
                first_token_at,
                ..
            } = *elsewhere;
            let served = worlds.untouched.serve(untouched, at, first_token_at);
            served.scaled_to(total)
        };
        split(elsewhere.actual, &imagined)
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::prices::model::{CacheFamily, Rates};
    use policy::shape::cache::{Grain, Terms};
    use wire::prompt::Chain;
    use wire::usage::{CacheWrites, Tokens, Ttl, Usage};

    use super::{Seen, Shadow};
    use crate::cache::{Piece, Sent};

    fn sent(marker: Option<Ttl>) -> Sent {
        let piece = Piece {
            bytes: 0,
            chain: Chain(1),
            tokens: Tokens(2_000),
            position: 0,
            marker,
        };
        Sent {
            pieces: vec![piece],
            ..Sent::default()
        }
    }

    /// The counterfactual of the last of some calls, marked by us or not.
    fn check(marked: &[bool], actual: (u64, u64, u64), expect: (u64, u64, u64)) {
        let terms = Terms {
            family: CacheFamily::Anthropic,
            minimum: Tokens(1_024),
            rates: Rates::default(),
            grain: Grain::Breakpoints,
        };
        let usage = |(uncached, read, written): (u64, u64, u64)| Usage {
            uncached: Tokens(uncached),
            cache_read: Tokens(read),
            cache_write: CacheWrites {
                minutes_5: Tokens(written),
                ..CacheWrites::default()
            },
            output: Tokens(9),
            ..Usage::default()
        };
        let mut shadow = Shadow::default();
        let mut last = Usage::default();
        for (second, marked) in (0..).zip(marked) {
            let at = Moment(second * 1_000);
            let seen = Seen {
                terms: &terms,
                untouched: &sent(None),
                sent: &sent(marked.then_some(Ttl::Minutes5)),
                untrimmed: None,
                more: Tokens(0),
                at,
                first_token_at: at.after(500),
                actual: &usage(actual),
            };
            let imagined = shadow.observe(&seen);
            assert_eq!(imagined.untrimmed, usage(actual));
            last = imagined.untouched;
        }
        assert_eq!(last, usage(expect), "{marked:?}");
    }

    #[test]
    fn equal_worlds_change_nothing() {
        check(&[false], (2_100, 0, 0), (2_100, 0, 0));
        check(&[false, false], (1_000, 1_100, 0), (1_000, 1_100, 0));
    }

    #[test]
    fn our_markers_are_undone() {
        check(&[true], (100, 0, 2_000), (2_100, 0, 0));
        check(&[true, true], (100, 2_000, 0), (2_100, 0, 0));
    }

    #[test]
    fn what_was_trimmed_is_paid_as_its_place_in_the_prompt_is() {
        let terms = Terms {
            family: CacheFamily::Anthropic,
            minimum: Tokens(1_024),
            rates: Rates::default(),
            grain: Grain::Breakpoints,
        };
        let marked = Some(Ttl::Minutes5);
        let with_size = |tokens: u64, marker| {
            let mut sent = sent(marker);
            sent.pieces[0].tokens = Tokens(tokens);
            sent
        };
        let usage = |(uncached, read, written): (u64, u64, u64)| Usage {
            uncached: Tokens(uncached),
            cache_read: Tokens(read),
            cache_write: CacheWrites {
                minutes_5: Tokens(written),
                ..CacheWrites::default()
            },
            ..Usage::default()
        };
        let mut shadow = Shadow::default();
        // 1 000 of 3 000 tokens are left out: written less at first, read less afterwards. The provider
        // counts ten more than the simulator, which stay where they are.
        for (second, actual, untrimmed) in [
            (0, (10, 0, 2_000), (10, 0, 3_000)),
            (9, (10, 2_000, 0), (10, 3_000, 0)),
        ] {
            let at = Moment(second * 1_000);
            let imagined = shadow.observe(&Seen {
                terms: &terms,
                untouched: &with_size(3_000, None),
                sent: &with_size(2_000, marked),
                untrimmed: Some(&with_size(3_000, marked)),
                more: Tokens(1_000),
                at,
                first_token_at: at.after(500),
                actual: &usage(actual),
            });
            assert_eq!(imagined.untouched, usage((3_010, 0, 0)));
            assert_eq!(imagined.untrimmed, usage(untrimmed));
        }
    }
}
