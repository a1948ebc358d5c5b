//! Savings: what a call would have cost had no lever touched it, and how much of the difference is
//! whose.
//!
//! **Invariant**: the parts add up to `untouched − cost`, exactly; where that is not known, nothing
//! is claimed (test `savings_add_up`).

use std::collections::BTreeMap;

use policy::money::PicoUsd;
use policy::ports::{Leg, Lever};

/// The last leg of a call, as the levers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// What it cost.
    pub cost: Option<PicoUsd>,
    /// What it would have cost without the cache lever.
    pub uncached: Option<PicoUsd>,
    /// What the target that it was moved away from would have cost; the same as before if it was
    /// not moved.
    pub unmoved: Option<PicoUsd>,
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
    /// Of a call with these earlier legs and this last one, if that was sent. `is_moved` tells legs
    /// that no untouched call would have had.
    pub fn of(earlier: &[Leg], is_moved: impl Fn(&Leg) -> bool, last: Option<Last>) -> Self {
        let (moved, own): (Vec<&Leg>, Vec<&Leg>) = earlier.iter().partition(|leg| is_moved(leg));
        let cost = |legs: &[&Leg]| -> Option<PicoUsd> { legs.iter().map(|leg| leg.cost).sum() };
        let known = || {
            let nothing = Some(PicoUsd::ZERO);
            let last = last.unwrap_or(Last {
                cost: nothing,
                uncached: nothing,
                unmoved: nothing,
            });
            let (wasted, own) = (cost(&moved)?, cost(&own)?);
            let untouched = own + last.unmoved?;
            let route = last.unmoved? - last.uncached? - wasted;
            let cache = last.uncached? - last.cost?;
            Some((untouched, route, cache))
        };
        let Some((untouched, route, cache)) = known() else {
            let parts = BTreeMap::from([(Lever::Cache, PicoUsd::ZERO)]);
            return Self {
                untouched: None,
                parts,
            };
        };
        let mut parts = BTreeMap::from([(Lever::Cache, cache)]);
        if route != PicoUsd::ZERO {
            parts.insert(Lever::Route, route);
        }
        Self {
            untouched: Some(untouched),
            parts,
        }
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

    #[test]
    fn savings_add_up() {
        let check =
            |earlier: &[Leg], last: Option<[Option<i128>; 3]>, expect: [Option<i128>; 3]| {
                let last = last.map(|it| it.map(|pico| pico.map(PicoUsd)));
                let last = last.map(|[cost, uncached, unmoved]| Last {
                    cost,
                    uncached,
                    unmoved,
                });
                let savings = Savings::of(earlier, |leg| leg.model == "cheap", last);
                let part = |lever| savings.parts.get(&lever).map(|pico| pico.0);
                let found = [
                    savings.untouched.map(|pico| pico.0),
                    part(Lever::Route),
                    part(Lever::Cache),
                ];
                assert_eq!(found, expect, "{earlier:?} {last:?}");
                let cost = earlier.iter().map(|leg| leg.cost).sum::<Option<PicoUsd>>();
                let cost = cost.zip(last.map_or(Some(PicoUsd::ZERO), |last| last.cost));
                if let (Some(untouched), Some((cost, last))) = (savings.untouched, cost) {
                    assert_eq!(savings.total(), untouched - cost - last);
                }
            };
        check(
            &[],
            Some([Some(3), Some(3), Some(3)]),
            [Some(3), None, Some(0)],
        );
        check(
            &[],
            Some([Some(3), Some(5), Some(5)]),
            [Some(5), None, Some(2)],
        );
        check(
            &[],
            Some([Some(3), Some(5), Some(20)]),
            [Some(20), Some(15), Some(2)],
        );
        // The cheap leg failed, and the call was answered where it was meant to go.
        check(
            &[leg("cheap", Some(4))],
            Some([Some(20), Some(20), Some(20)]),
            [Some(20), Some(-4), Some(0)],
        );
        // A failure of the client's own target would have been paid for anyway.
        check(
            &[leg("dear", Some(4))],
            Some([Some(20), Some(20), Some(20)]),
            [Some(24), None, Some(0)],
        );
        check(&[leg("dear", Some(4))], None, [Some(4), None, Some(0)]);
        check(
            &[leg("dear", None)],
            Some([Some(1), Some(1), Some(1)]),
            [None, None, Some(0)],
        );
        check(&[], Some([Some(1), Some(1), None]), [None, None, Some(0)]);
        check(&[], Some([None, None, Some(1)]), [None, None, Some(0)]);
    }
}
