//! The untouched world beside the real one: what a live call would have used had it gone through
//! as the client sent it.
//!
//! **Invariant**: where both worlds meter a call alike, the counterfactual is the actual usage, to
//! the token (test `equal_worlds_change_nothing`).

use std::collections::HashMap;

use policy::moment::Moment;
use policy::shape::cache::Terms;
use wire::usage::Usage;

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
    /// When it was sent.
    pub at: Moment,
    /// When the first byte of the answer arrived.
    pub first_token_at: Moment,
    /// What the provider reported.
    pub actual: &'a Usage,
}

/// Two caches for each place: one that never saw our markers, one that did.
#[derive(Debug, Default)]
pub struct Shadow {
    places: HashMap<u64, Worlds>,
}

#[derive(Debug)]
struct Worlds {
    untouched: ProviderCache,
    sent: ProviderCache,
}

impl Shadow {
    /// The usage that the call would have had untouched.
    ///
    /// To be called when a call is over, in any order; `at` says when it was sent.
    pub fn observe(&mut self, seen: &Seen<'_>) -> Usage {
        let Terms {
            family, minimum, ..
        } = *seen.terms;
        let place = seen.untouched.place;
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            return seen.actual.clone();
        }
        let worlds = self.places.entry(place).or_insert_with(|| Worlds {
            untouched: ProviderCache::new(family, minimum),
            sent: ProviderCache::new(family, minimum),
        });
        let untouched = worlds
            .untouched
            .serve(seen.untouched, seen.at, seen.first_token_at);
        let sent = worlds.sent.serve(seen.sent, seen.at, seen.first_token_at);
        if untouched == sent {
            return seen.actual.clone();
        }
        let Usage {
            uncached,
            cache_read,
            cache_write,
            ..
        } = seen.actual;
        let InputSplit {
            uncached,
            read,
            written,
        } = untouched.scaled_to(*uncached + *cache_read + cache_write.total());
        Usage {
            uncached,
            cache_read: read,
            cache_write: written,
            ..seen.actual.clone()
        }
    }
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
    /// What the provider that served it reported.
    pub actual: &'a Usage,
}

impl Shadow {
    /// The usage that the call would have had at a target that did not serve it: as many tokens, by
    /// the state of that target's cache had it served all of the session.
    pub fn imagine(&mut self, elsewhere: &Elsewhere<'_>) -> Usage {
        let Terms {
            family, minimum, ..
        } = *elsewhere.terms;
        let Usage {
            uncached,
            cache_read,
            cache_write,
            ..
        } = elsewhere.actual;
        let total = *uncached + *cache_read + cache_write.total();
        let place = elsewhere.untouched.place;
        let split = if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            InputSplit {
                uncached: total,
                ..InputSplit::default()
            }
        } else {
            let worlds = self.places.entry(place).or_insert_with(|| Worlds {
                untouched: ProviderCache::new(family, minimum),
                sent: ProviderCache::new(family, minimum),
            });
            let Elsewhere {
                untouched,
                at,
                first_token_at,
                ..
            } = *elsewhere;
            worlds
                .untouched
                .serve(untouched, at, first_token_at)
                .scaled_to(total)
        };
        Usage {
            uncached: split.uncached,
            cache_read: split.read,
            cache_write: split.written,
            ..elsewhere.actual.clone()
        }
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
                at,
                first_token_at: at.after(500),
                actual: &usage(actual),
            };
            last = shadow.observe(&seen);
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
}
