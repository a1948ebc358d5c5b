//! The choice among equal deployments: power of two choices on time to the first token, calls under
//! way and errors, by weight, around open breakers.
//!
//! **Invariant**: a barred target is never chosen while another one is not, and while there is any
//! target at all one is chosen (property `the_barred_are_last`). Nothing is allocated.

use std::num::NonZeroU16;

use crate::dispatch::breaker::{Breaker, Rules, Standing};
use crate::moment::Moment;

/// 30 s: what was observed earlier is no reason to pass a target over, or it would never be
/// observed again.
const FRESH_MS: u64 = 30_000;

/// An observation moves an average by one part in four: a few calls are enough to follow a change.
const AVERAGE_PARTS: u64 = 4;

/// A share of 1, as it is kept.
const ONE: u64 = 1 << 16;

/// A target of which every call fails counts as nine times as slow.
const ERROR_COST: u64 = 8;

/// Above one failure in four a session leaves the target that holds its cache.
const SICK: u64 = ONE / 4;

/// The second choice must be cheaper by an eighth: noise alone moves nobody, and weights keep their
/// meaning among targets that are about as fast.
const CLEARLY: (u64, u64) = (7, 8);

/// What the calls to one target have shown lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Calls under way.
    in_flight: u32,
    /// Average time to the first token in 16ths of a millisecond; 0 if there was none.
    first_token: u64,
    /// Average share of failures, in parts of [`ONE`].
    errors: u64,
    /// When the last of these was observed.
    seen: Moment,
}

/// One target as the dispatcher knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it may be asked.
    pub breaker: Breaker,
    /// How well it answers.
    pub gauge: Gauge,
}

/// One of several targets that would serve a call equally well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equal {
    /// Its place in the lineup.
    pub candidate: usize,
    /// Its place among the healths.
    pub target: usize,
    /// How much of the load it shall bear, relative to the others.
    pub weight: NonZeroU16,
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A target that may be asked.
    Open(Equal),
    /// Every target is barred; this one opens first.
    Barred(Equal, Moment),
}

impl Gauge {
    /// A call is on its way.
    pub fn sent(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A call is over, however it ended.
    pub fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The first token came after so many milliseconds.
    pub fn answered(&mut self, first_token_ms: u64, now: Moment) {
        let sample = first_token_ms.saturating_mul(16);
        self.first_token = match self.first_token_ms(now) {
            Some(_) => average(self.first_token, sample),
            None => sample,
        }
        .max(1);
        self.observe(0, now);
    }

    /// The first token had not come after so many milliseconds, when nobody waited any longer.
    pub fn kept_silent(&mut self, silent_ms: u64, now: Moment) {
        if self
            .first_token_ms(now)
            .is_none_or(|usual| usual < silent_ms)
        {
            self.answered(silent_ms, now);
        }
    }

    /// The target failed.
    pub fn failed(&mut self, now: Moment) {
        self.observe(ONE, now);
    }

    fn observe(&mut self, sample: u64, now: Moment) {
        self.errors = average(self.errors(now), sample);
        self.seen = self.seen.max(now);
    }

    /// The usual time to the first token, if there is a fresh one.
    pub fn first_token_ms(&self, now: Moment) -> Option<u64> {
        (self.first_token > 0 && self.is_fresh(now)).then_some(self.first_token / 16)
    }

    /// Calls under way.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn errors(&self, now: Moment) -> u64 {
        if self.is_fresh(now) { self.errors } else { 0 }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.seen) <= FRESH_MS
    }
}

/// Moves an average towards a sample, never standing still before it is reached.
fn average(old: u64, sample: u64) -> u64 {
    let step = old.abs_diff(sample).div_ceil(AVERAGE_PARTS);
    if sample < old { old - step } else { old + step }
}

/// Chooses among equals.
///
/// A session goes back to its `sticky` target, whose cache is warm, while that is healthy. A target
/// whose breaker waits for a probe gets this call. Otherwise two are drawn by weight, and the
/// second is taken if it is clearly cheaper.
pub fn choose(
    rules: &Rules,
    health: &[Health],
    equals: impl Iterator<Item = Equal> + Clone,
    sticky: Option<usize>,
    now: Moment,
    draw: u64,
) -> Option<Choice> {
    let mut due = None;
    let mut barred: Option<(Equal, Moment)> = None;
    let mut total = 0;
    for equal in equals.clone() {
        let Some(health) = health.get(equal.target) else {
            continue;
        };
        match health.breaker.standing(rules, now) {
            Standing::Normal => {
                if sticky == Some(equal.target) && health.gauge.errors(now) <= SICK {
                    return Some(Choice::Open(equal));
                }
                total += u64::from(equal.weight.get());
            }
            Standing::Due => _ = due.get_or_insert(equal),
            Standing::Barred { until } => {
                if barred.is_none_or(|(_, earliest)| until < earliest) {
                    barred = Some((equal, until));
                }
            }
        }
    }
    if let Some(equal) = due {
        return Some(Choice::Open(equal));
    }
    let open = equals.filter(|equal| {
        let health = health.get(equal.target);
        health.is_some_and(|it| it.breaker.standing(rules, now) == Standing::Normal)
    });
    match two(health, open, total, now, draw) {
        Some(equal) => Some(Choice::Open(equal)),
        None => barred.map(|(equal, until)| Choice::Barred(equal, until)),
    }
}

/// Power of two choices among targets whose weights add up to `total`.
fn two(
    health: &[Health],
    open: impl Iterator<Item = Equal> + Clone,
    total: u64,
    now: Moment,
    draw: u64,
) -> Option<Equal> {
    let (low, high) = (draw & 0xffff_ffff, draw >> 32);
    let first = at_weight(open.clone(), low.checked_rem(total)?)?;
    let rest = total - u64::from(first.weight.get());
    let Some(place) = high.checked_rem(rest) else {
        return Some(first);
    };
    let second = at_weight(
        open.filter(|equal| equal.candidate != first.candidate),
        place,
    )?;
    let gauge = |equal: &Equal| health.get(equal.target).map(|health| health.gauge);
    let gauges = (gauge(&first)?, gauge(&second)?);
    Some(if is_cheaper((second, gauges.1), (first, gauges.0), now) {
        second
    } else {
        first
    })
}

/// The target at a place on the line of all weights.
fn at_weight(mut equals: impl Iterator<Item = Equal>, mut place: u64) -> Option<Equal> {
    equals.find(|equal| {
        let weight = u64::from(equal.weight.get());
        let is_here = place < weight;
        place = place.saturating_sub(weight);
        is_here
    })
}

/// Whether one target is clearly cheaper to wait for than the other.
fn is_cheaper(one: (Equal, Gauge), other: (Equal, Gauge), now: Moment) -> bool {
    // One that is not known is taken to be as fast as the other.
    let times = (one.1.first_token_ms(now), other.1.first_token_ms(now));
    let times = (
        times.0.or(times.1).unwrap_or_default(),
        times.1.or(times.0).unwrap_or_default(),
    );
    let cost = |(equal, gauge): (Equal, Gauge), first_token_ms: u64| {
        let weight = u64::from(equal.weight.get());
        let load = weight + u64::from(gauge.in_flight);
        let errors = ONE + ERROR_COST * gauge.errors(now);
        u128::from(first_token_ms.max(1)) * u128::from(load) * u128::from(errors)
    };
    // Load is relative to weight; multiplied out, so that nothing is rounded.
    let weight = |equal: Equal| u128::from(equal.weight.get());
    let one_cost = cost(one, times.0) * weight(other.0);
    let other_cost = cost(other, times.1) * weight(one.0);
    one_cost * u128::from(CLEARLY.1) < other_cost * u128::from(CLEARLY.0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::{Choice, Equal, Gauge, Health, choose};
    use crate::dispatch::breaker::{Outcome, Rules};
    use crate::moment::Moment;

    const NOW: Moment = Moment(1_000_000);

    fn equal(target: usize, weight: u16) -> Equal {
        Equal {
            candidate: target,
            target,
            weight: NonZeroU16::new(weight).expect("the test gives weights"),
        }
    }

    fn broken(mut health: Health, now: Moment) -> Health {
        for _ in 0..Rules::default().streak {
            let permit = health.breaker.admit(&Rules::default(), now);
            let breaker = &mut health.breaker;
            breaker.record(&Rules::default(), permit, Outcome::Bad, now, u64::MAX);
        }
        health
    }

    fn gauge(first_token_ms: u64, in_flight: u32) -> Health {
        let mut health = Health::default();
        health.gauge.answered(first_token_ms, NOW);
        (0..in_flight).for_each(|_| health.gauge.sent());
        health
    }

    /// How often each target is chosen in 1 000 draws.
    fn shares(health: &[Health], weights: &[u16], sticky: Option<usize>) -> Vec<usize> {
        let mut counts = vec![0; health.len()];
        for number in 0..1_000_u64 {
            let draw = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let equals = weights.iter().enumerate();
            let equals = equals.map(|(target, weight)| equal(target, *weight));
            match choose(&Rules::default(), health, equals, sticky, NOW, draw) {
                Some(Choice::Open(equal) | Choice::Barred(equal, _)) => counts[equal.target] += 1,
                None => {}
            }
        }
        counts
    }

    #[test]
    fn idle_equals_share_by_weight() {
        let health = [Health::default(); 2];
        let counts = shares(&health, &[3, 1], None);
        assert!(counts[0].abs_diff(750) < 30, "{counts:?}");
    }

    #[test]
    fn the_faster_less_busy_and_healthier_wins() {
        let mut failing = gauge(500, 0);
        failing.gauge.failed(NOW);
        for (one, other) in [
            (gauge(500, 0), gauge(900, 0)),
            (gauge(500, 0), gauge(500, 3)),
            (gauge(500, 0), failing),
            (gauge(500, 2), gauge(5_000, 0)),
        ] {
            assert_eq!(shares(&[one, other], &[1, 1], None), [1_000, 0]);
            assert_eq!(shares(&[other, one], &[1, 1], None), [0, 1_000]);
        }
        // One that is not known is as fast as the other, and nearly as fast is as fast.
        let counts = shares(&[gauge(900, 0), Health::default()], &[1, 1], None);
        assert!(counts[0].abs_diff(500) < 30, "{counts:?}");
        let counts = shares(&[gauge(500, 0), gauge(510, 0)], &[1, 1], None);
        assert!(counts[0].abs_diff(500) < 30, "{counts:?}");
    }

    #[test]
    fn the_slowest_of_three_is_never_drawn() {
        let health = [gauge(500, 0), gauge(9_000, 0), gauge(500, 0)];
        let counts = shares(&health, &[1, 1, 1], None);
        assert_eq!(counts[1], 0, "{counts:?}");
    }

    #[test]
    fn sessions_stay_where_their_cache_is() {
        let health = [gauge(500, 0), gauge(900, 3)];
        assert_eq!(shares(&health, &[1, 1], Some(1)), [0, 1_000]);
        let mut sick = health[1];
        sick.gauge.failed(NOW);
        sick.gauge.failed(NOW);
        assert_eq!(shares(&[health[0], sick], &[1, 1], Some(1)), [1_000, 0]);
        let open = broken(health[1], NOW);
        assert_eq!(shares(&[health[0], open], &[1, 1], Some(1)), [1_000, 0]);
    }

    #[test]
    fn the_one_that_opens_first_is_taken_when_all_are_barred() {
        let early = Moment(NOW.0 - 500);
        let health = [
            broken(Health::default(), NOW),
            broken(Health::default(), early),
        ];
        assert_eq!(shares(&health, &[9, 1], None), [0, 1_000]);
        assert_eq!(shares(&[], &[], None), [0_usize; 0]);
    }

    #[test]
    fn a_probe_that_is_due_gets_the_call() {
        let health = [
            gauge(500, 0),
            broken(Health::default(), Moment(NOW.0 - 60_000)),
        ];
        assert_eq!(shares(&health, &[1, 1], None), [0, 1_000]);
        assert_eq!(shares(&health, &[1, 1], Some(0)), [1_000, 0], "sticky");
    }

    #[test]
    fn averages_follow_and_grow_stale() {
        let mut gauge = Gauge::default();
        gauge.answered(1_000, NOW);
        assert_eq!(gauge.first_token_ms(NOW), Some(1_000));
        gauge.answered(2_000, NOW);
        assert_eq!(gauge.first_token_ms(NOW), Some(1_250));
        assert_eq!(gauge.first_token_ms(NOW.after(30_001)), None);
        gauge.answered(400, NOW.after(30_001));
        assert_eq!(gauge.first_token_ms(NOW.after(30_001)), Some(400));
    }
}
