//! Savings: what a call would have cost had no lever touched it, and how much of the difference is
//! whose.
//!
//! **Invariant**: the parts add up to `untouched − cost`, exactly; where that is not known, nothing
//! is claimed (test `savings_add_up`).

use std::collections::BTreeMap;

use policy::money::PicoUsd;
use policy::ports::{Leg, Lever};

/// Levers that choose targets.
const MOVERS: [Lever; 2] = [Lever::Route, Lever::Cascade];

/// The last leg of a call, as the levers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// What it cost.
    pub cost: Option<PicoUsd>,
    /// What it would have cost with its texts whole; the same as before if nothing was trimmed.
    pub untrimmed: Option<PicoUsd>,
    /// What it would have cost without the cache lever, too.
    pub uncached: Option<PicoUsd>,
    /// What the target that it was moved away from would have cost; the same as before if it was
    /// not moved.
    pub unmoved: Option<PicoUsd>,
    /// The lever that has moved it, if one has.
    pub by: Lever,
}

/// A call's savings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Savings {
    /// What it would have cost untouched.
    pub untouched: Option<PicoUsd>,
    /// `untouched − cost`, by lever.
    pub parts: BTreeMap<Lever, PicoUsd>,
}

impl Savings {
    /// Of a call with these earlier legs and this last one, if that was sent. `mover` names the lever
    /// behind a leg, by its place, that no untouched call would have had.
    pub fn of(
        earlier: &[Leg],
        mover: impl Fn(usize, &Leg) -> Option<Lever>,
        last: Option<Last>,
    ) -> Self {
        let cost = |by: Option<Lever>| -> Option<PicoUsd> {
            let legs = earlier.iter().enumerate();
            let legs = legs.filter(|(place, leg)| mover(*place, leg) == by);
            legs.map(|(_, leg)| leg.cost).sum()
        };
        let nothing = Some(PicoUsd::ZERO);
        let last = last.unwrap_or(Last {
            cost: nothing,
            untrimmed: nothing,
            uncached: nothing,
            unmoved: nothing,
            by: Lever::Route,
        });
        let known = || {
            let untouched = cost(None)? + last.unmoved?;
            let mut parts = BTreeMap::from([(Lever::Cache, last.uncached? - last.untrimmed?)]);
            let trimmed = last.untrimmed? - last.cost?;
            if trimmed != PicoUsd::ZERO {
                parts.insert(Lever::Trim, trimmed);
            }
            for lever in MOVERS {
                let gained = if last.by == lever {
                    last.unmoved? - last.uncached?
                } else {
                    PicoUsd::ZERO
                };
                let part = gained - cost(Some(lever))?;
                if part != PicoUsd::ZERO {
                    parts.insert(lever, part);
                }
            }
            Some((untouched, parts))
        };
        let Some((untouched, parts)) = known() else {
            let parts = BTreeMap::from([(Lever::Cache, PicoUsd::ZERO)]);
            return Self {
                untouched: None,
                parts,
            };
        };
        Self {
            untouched: Some(untouched),
            parts,
        }
    }

    /// With what less thinking is estimated to have saved: so much more it would have cost untouched.
    #[must_use]
    pub fn by_thinking(mut self, saved: Option<PicoUsd>) -> Self {
        if let (Some(untouched), Some(saved)) = (&mut self.untouched, saved) {
            *untouched += saved;
            self.parts.insert(Lever::Think, saved);
        }
        self
    }

    /// All parts.
    pub fn total(&self) -> PicoUsd {
        self.parts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::ports::End;
    use wire::usage::Usage;

    use super::*;

    fn leg(model: &str, cost: Option<i128>) -> Leg {
        Leg {
            provider: "p".into(),
            model: model.into(),
            sent_at: Moment(0),
            first_byte_at: None,
            ended_at: Moment(1),
            status: None,
            end: End::UpstreamBroke,
            usage: Usage::default(),
            estimated: false,
            cost: cost.map(PicoUsd),
        }
    }

    /// Legs named after the levers that chose them, the last one by `by`.
    fn check(
        earlier: &[Leg],
        by: Lever,
        last: Option<[Option<i128>; 3]>,
        expect: [Option<i128>; 4],
    ) {
        let last = last.map(|it| it.map(|pico| pico.map(PicoUsd)));
        let last = last.map(|[cost, uncached, unmoved]| Last {
            cost,
            untrimmed: cost,
            uncached,
            unmoved,
            by,
        });
        let mover = |_: usize, leg: &Leg| MOVERS.into_iter().find(|it| it.name() == leg.model);
        let savings = Savings::of(earlier, mover, last);
        let part = |lever| savings.parts.get(&lever).map(|pico| pico.0);
        let found = [
            savings.untouched.map(|pico| pico.0),
            part(Lever::Route),
            part(Lever::Cascade),
            part(Lever::Cache),
        ];
        assert_eq!(found, expect, "{earlier:?} {last:?}");
        let cost = earlier.iter().map(|leg| leg.cost).sum::<Option<PicoUsd>>();
        let cost = cost.zip(last.map_or(Some(PicoUsd::ZERO), |last| last.cost));
        if let (Some(untouched), Some((cost, last))) = (savings.untouched, cost) {
            assert_eq!(savings.total(), untouched - cost - last);
        }
    }

    #[test]
    fn savings_add_up() {
        let some = |three: [i128; 3]| Some(three.map(Some));
        let (route, cascade) = (Lever::Route, Lever::Cascade);
        check(&[], route, some([3, 3, 3]), [Some(3), None, None, Some(0)]);
        check(&[], route, some([3, 5, 5]), [Some(5), None, None, Some(2)]);
        check(
            &[],
            route,
            some([3, 5, 20]),
            [Some(20), Some(15), None, Some(2)],
        );
        check(
            &[],
            cascade,
            some([3, 5, 20]),
            [Some(20), None, Some(15), Some(2)],
        );
        // The cheap leg failed, and the call was answered where it was meant to go.
        check(
            &[leg("route", Some(4))],
            route,
            some([20, 20, 20]),
            [Some(20), Some(-4), None, Some(0)],
        );
        // The cheap leg did not convince, and the call was answered by a target that is as good.
        check(
            &[leg("cascade", Some(4))],
            route,
            some([10, 10, 20]),
            [Some(20), Some(10), Some(-4), Some(0)],
        );
        // A failure of the client's own target would have been paid for anyway.
        check(
            &[leg("dear", Some(4))],
            route,
            some([20, 20, 20]),
            [Some(24), None, None, Some(0)],
        );
        check(
            &[leg("dear", Some(4))],
            route,
            None,
            [Some(4), None, None, Some(0)],
        );
        let unknown = [None, None, None, Some(0)];
        check(&[leg("dear", None)], route, some([1, 1, 1]), unknown);
        check(&[leg("cascade", None)], route, some([1, 1, 1]), unknown);
        check(&[], route, Some([Some(1), Some(1), None]), unknown);
        check(&[], route, Some([None, None, Some(1)]), unknown);
    }

    #[test]
    fn thinking_adds_to_what_is_untouched() {
        let known = Savings {
            untouched: Some(PicoUsd(20)),
            parts: BTreeMap::from([(Lever::Cache, PicoUsd(5))]),
        };
        for saved in [7, -3] {
            let savings = known.clone().by_thinking(Some(PicoUsd(saved)));
            assert_eq!(savings.untouched, Some(PicoUsd(20 + saved)));
            assert_eq!(savings.total(), PicoUsd(5 + saved));
        }
        assert_eq!(known.clone().by_thinking(None), known);
        let unknown = Savings::default();
        assert_eq!(unknown.clone().by_thinking(Some(PicoUsd(7))), unknown);
    }

    #[test]
    fn trimming_comes_after_caching() {
        let [cost, untrimmed, uncached, unmoved] = [3, 5, 9, 10].map(|pico| Some(PicoUsd(pico)));
        let last = Last {
            cost,
            untrimmed,
            uncached,
            unmoved,
            by: Lever::Route,
        };
        let savings = Savings::of(&[], |_, _| None, Some(last));
        let expect = [(Lever::Cache, 4), (Lever::Trim, 2), (Lever::Route, 1)];
        let expect = expect.map(|(lever, pico)| (lever, PicoUsd(pico)));
        assert_eq!(savings.parts, BTreeMap::from(expect));
        assert_eq!(savings.total(), PicoUsd(7));
    }
}
