//! Properties of the dispatch decisions, for any faults, lineups and draws.
//!
//! **Invariant**: calls end within their limits, and nothing is left behind.

use std::num::NonZeroU16;

use policy::dispatch::balance::{Choice, Equal, Health, choose};
use policy::dispatch::breaker::{Breaker, Outcome, Permit, Rules, Standing};
use policy::dispatch::fault::{Credential, Fault};
use policy::dispatch::hedge::Side;
use policy::dispatch::lineup::{Candidate, Card, Lineup, Need, Tail};
use policy::dispatch::patience::{
    Elsewhere, FIRST_TOKEN_MS, FIRST_TOKEN_MS_MAX, Pace, Rules as Patient,
};
use policy::dispatch::prefill::Prefill;
use policy::dispatch::retry::{
    BACKOFF_MS_MAX, BACKOFF_MS_MIN, Next, Policy, State, Visible, WAIT_JITTER_MS, backoff_ms, next,
};
use policy::dispatch::walk::{Leg, Site, Step, Walk};
use policy::moment::Moment;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use wire::dialect::Dialect;
use wire::usage::Tokens;

const START: Moment = Moment(1_800_000_000_000);

/// A lost probe is given up after this long, and no breaker or rest here lasts longer.
const PATIENCE_MS: u64 = 60_000;

fn faults() -> impl Strategy<Value = Fault> {
    (0..Fault::ALL.len(), option::of(0..30_000_u64)).prop_map(|(index, after_ms)| {
        let fault = Fault::ALL[index];
        if let Fault::RateLimited { .. } = fault {
            Fault::RateLimited { after_ms }
        } else if let Fault::Overloaded { .. } = fault {
            Fault::Overloaded { after_ms }
        } else {
            fault
        }
    })
}

fn sights() -> impl Strategy<Value = Visible> {
    prop_oneof![2 => Just(Visible::Nothing), 1 => Just(Visible::More)]
}

fn cards() -> impl Strategy<Value = Card> {
    let prefill = prop_oneof![
        Just(Prefill::Continues),
        Just(Prefill::Ignores),
        Just(Prefill::Rejects)
    ];
    let dialect =
        prop_oneof![9 => Just(Dialect::OpenAiChat), 1 => Just(Dialect::AnthropicMessages)];
    let window = option::of((1..5_u64).prop_map(|size| Tokens(size * 100)));
    let credential = prop_oneof![9 => Just(Credential::Ours), 1 => Just(Credential::Clients)];
    (dialect, window, prefill, credential).prop_map(|(dialect, window, prefill, credential)| Card {
        dialect,
        window,
        prefill,
        credential,
    })
}

fn lineups() -> impl Strategy<Value = Lineup> {
    vec((0..3_u16, 1..5_u16, cards()), 1..6).prop_map(|candidates| {
        let candidates = candidates.into_iter().enumerate();
        let candidates = candidates.map(|(target, (rank, weight, card))| Candidate {
            target,
            rank,
            weight: NonZeroU16::new(weight).expect("at least 1"),
            card,
        });
        Lineup::new(candidates.collect()).expect("one to five")
    })
}

fn needs() -> impl Strategy<Value = Need> {
    let tail = prop_oneof![Just(Tail::Others), Just(Tail::Assistant)];
    let input = option::of((1..500_u64).prop_map(Tokens));
    (tail, input).prop_map(|(tail, input)| Need {
        dialect: Dialect::OpenAiChat,
        input,
        tail,
    })
}

/// What happens to one leg: how long it takes, how it ends, and a draw.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fails(Fault, Visible),
    Finishes,
    IsDropped,
    /// A second leg is sent; then one of the two fails, or is called off.
    IsHedged(Side, Option<Fault>),
}

fn events() -> impl Strategy<Value = (u64, Event, u64)> {
    let event = prop_oneof![
        8 => (faults(), sights()).prop_map(|(fault, visible)| Event::Fails(fault, visible)),
        1 => Just(Event::Finishes),
        1 => Just(Event::IsDropped),
        2 => (sides(), option::of(faults())).prop_map(|(side, fault)| Event::IsHedged(side, fault)),
    ];
    (0..40_000_u64, event, any::<u64>())
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::First), Just(Side::Second)]
}

fn policies() -> impl Strategy<Value = Policy> {
    (0..4_u32, 1..8_u32, 0..120_000_u64, 0..20_000_u64).prop_map(
        |(retries, legs_max, deadline_ms, wait_ms_max)| Policy {
            retries,
            legs_max,
            deadline_ms,
            wait_ms_max,
            ..Policy::default()
        },
    )
}

/// What a random call did.
struct Course {
    legs: Vec<(usize, Moment)>,
    now: Moment,
}

/// Walks one call through random events, and hands every leg to `look` with the state it was sent in.
fn walk_through(
    policy: Policy,
    need: Need,
    lineup: &Lineup,
    health: &mut [Health],
    events: &[(u64, Event, u64)],
    start: Moment,
) -> Course {
    let rules = Rules::default();
    let mut site = Site {
        lineup,
        rules: &rules,
        health,
    };
    let mut walk = Walk::new(policy, need, start);
    let mut course = Course {
        legs: Vec::new(),
        now: start,
    };
    let mut current: Option<Leg> = walk.start(&mut site, Some(1), start, 7);
    let mut events = events.iter().cycle();
    let mut is_known = false;
    while let Some(leg) = current.take() {
        if !std::mem::take(&mut is_known) {
            course.legs.push((leg.candidate, leg.at));
        }
        let (took_ms, event, draw) = *events.next().expect("a cycle");
        course.now = course.now.max(leg.at).after(took_ms);
        match event {
            Event::Finishes => leg.finished(&mut site, course.now),
            Event::IsDropped => leg.dropped(&mut site, course.now),
            Event::Fails(fault, visible) => {
                let step = walk.failed(&mut site, leg, fault, visible, course.now, draw);
                if let Step::Send(next) = step {
                    current = Some(next);
                }
            }
            Event::IsHedged(side, fault) => {
                let Some(second) = walk.hedge(&mut site, &leg, course.now, draw) else {
                    leg.finished(&mut site, course.now);
                    continue;
                };
                course.legs.push((second.candidate, second.at));
                let (lost, kept) = match side {
                    Side::First => (leg, second),
                    Side::Second => (second, leg),
                };
                if let Some(fault) = fault {
                    walk.lost(&mut site, (lost, side), fault, course.now, draw);
                    (current, is_known) = (Some(kept), true);
                } else {
                    lost.outpaced(&mut site, took_ms, course.now);
                    kept.finished(&mut site, course.now);
                }
            }
        }
        assert!(course.legs.len() <= 100, "it does not end");
    }
    course
}

proptest! {
    #[test]
    fn attempts_are_bounded(
        policy in policies(),
        need in needs(),
        lineup in lineups(),
        events in vec(events(), 1..20),
    ) {
        let mut health = vec![Health::default(); lineup.candidates().len()];
        let course = walk_through(policy, need, &lineup, &mut health, &events, START);
        prop_assert!(course.legs.len() <= policy.legs_max as usize);
        for (number, (candidate, at)) in course.legs.iter().enumerate() {
            prop_assert!(number == 0 || *at < START.after(policy.deadline_ms), "past the deadline");
            let here = course.legs.iter().filter(|(other, _)| other == candidate).count();
            prop_assert!(here <= policy.retries as usize + 1, "{here} legs to one target");
        }
    }

    #[test]
    fn fallbacks_take_what_they_get(
        policy in policies(),
        need in needs(),
        lineup in lineups(),
        events in vec(events(), 1..20),
    ) {
        let mut health = vec![Health::default(); lineup.candidates().len()];
        let course = walk_through(policy, need, &lineup, &mut health, &events, START);
        for (number, (candidate, _)) in course.legs.iter().enumerate() {
            let card = lineup.candidates()[*candidate].card;
            prop_assert_eq!(card.dialect, need.dialect);
            let is_first = course.legs[0].0 == *candidate;
            prop_assert!(number == 0 || is_first || need.is_met_by(&card), "{card:?}");
        }
    }

    #[test]
    fn nothing_is_left_in_flight(
        policy in policies(),
        lineup in lineups(),
        calls in vec((needs(), vec(events(), 1..8), 0..30_000_u64), 1..12),
    ) {
        let mut health = vec![Health::default(); lineup.candidates().len()];
        let mut now = START;
        for (need, events, pause_ms) in calls {
            now = now.after(pause_ms);
            now = walk_through(policy, need, &lineup, &mut health, &events, now).now;
        }
        for health in &health {
            prop_assert_eq!(health.gauge.in_flight(), 0);
            // No probe is outstanding: once its time has come, the target may be asked.
            let later = now.after(Rules::default().open_ms_max.max(30_000));
            let standing = health.breaker.standing(&Rules::default(), later);
            let is_barred = matches!(standing, Standing::Barred { .. });
            prop_assert!(!is_barred, "{health:?}");
        }
    }

    #[test]
    fn delays_are_bounded(
        policy in policies(),
        fault in faults(),
        visible in sights(),
        legs in 1..9_u32,
        legs_here in 1..9_u32,
        left_ms in 0..50_000_u64,
        draw: u64,
    ) {
        let state = State {
            legs,
            legs_here,
            deadline: START.after(left_ms),
            credential: Credential::Ours,
        };
        if let Next::SameTarget { at } = next(&policy, &state, fault, visible, START, draw) {
            prop_assert!(at < state.deadline);
            prop_assert!(legs < policy.legs_max && legs_here <= policy.retries);
            prop_assert_eq!(visible, Visible::Nothing);
            let delay_ms = at.since(START);
            match fault.after_ms() {
                Some(ms) => prop_assert!((ms..=ms + WAIT_JITTER_MS).contains(&delay_ms)),
                None => prop_assert!((BACKOFF_MS_MIN..=BACKOFF_MS_MAX).contains(&delay_ms)),
            }
        }
        let backoff_ms = backoff_ms(&policy, legs_here, draw);
        prop_assert!((BACKOFF_MS_MIN..=BACKOFF_MS_MAX).contains(&backoff_ms));
    }

    #[test]
    fn a_probe_always_comes(
        steps in vec((0..10_000_u64, 0..6_u8, any::<u64>()), 1..200),
    ) {
        let rules = Rules::default();
        let mut breaker = Breaker::default();
        let mut now = START;
        let mut held: Vec<Permit> = Vec::new();
        for (pause_ms, kind, draw) in steps {
            now = now.after(pause_ms);
            let permit = breaker.admit(&rules, now);
            let outcome = match kind {
                0 => Outcome::Good,
                1 | 2 => Outcome::Bad,
                3 => Outcome::Rest { until: now.after(draw % 20_000) },
                4 => Outcome::Nothing,
                _ => {
                    held.push(permit); // lost for good
                    continue;
                }
            };
            breaker.record(&rules, permit, outcome, now, draw);
            if let Standing::Barred { until } = breaker.standing(&rules, now) {
                prop_assert!(until.since(now) <= PATIENCE_MS, "{breaker:?}");
                prop_assert!(until > now);
                let then = breaker.standing(&rules, until);
                prop_assert!(!matches!(then, Standing::Barred { .. }), "{breaker:?}");
            }
        }
    }

    #[test]
    fn probes_are_bounded(
        probes in 1..4_u32,
        steps in vec((0..3_000_u64, any::<bool>(), 0..4_u8, any::<u64>()), 1..200),
    ) {
        let rules = Rules { probes, ..Rules::default() };
        let mut breaker = Breaker::default();
        let mut now = START;
        let mut out: Vec<(Permit, Moment)> = Vec::new();
        for (pause_ms, comes_back, kind, draw) in steps {
            now = now.after(pause_ms);
            if comes_back && !out.is_empty() {
                let index = usize::try_from(draw % out.len() as u64).expect("few");
                let (permit, _) = out.swap_remove(index);
                let outcome = [Outcome::Good, Outcome::Bad, Outcome::Bad, Outcome::Nothing];
                breaker.record(&rules, permit, outcome[usize::from(kind)], now, draw);
            } else {
                let permit = breaker.admit(&rules, now);
                if !matches!(permit, Permit::Barred { .. }) {
                    out.push((permit, now));
                }
            }
            let mut trials: Vec<u32> = out.iter().filter_map(|(permit, _)| match permit {
                Permit::Probe { trial } => Some(*trial),
                Permit::Normal | Permit::Barred { .. } => None,
            }).collect();
            trials.sort_unstable();
            for same in trials.chunk_by(|one, other| one == other) {
                prop_assert!(same.len() <= probes as usize, "{same:?}");
            }
        }
    }

    #[test]
    fn the_barred_are_last(
        states in vec((0..8_u32, 0..40_000_u64, 1..9_u16), 1..8),
        sticky in option::of(0..8_usize),
        draw: u64,
    ) {
        let rules = Rules::default();
        let health: Vec<Health> = states.iter().map(|(failures, ago_ms, _)| {
            let at = Moment(START.0 - ago_ms);
            let mut health = Health::default();
            for _ in 0..*failures {
                let permit = health.breaker.admit(&rules, at);
                health.breaker.record(&rules, permit, Outcome::Bad, at, draw);
                health.gauge.failed(at);
            }
            health
        }).collect();
        let equals = states.iter().enumerate().map(|(target, (_, _, weight))| Equal {
            candidate: target,
            target,
            weight: NonZeroU16::new(*weight).expect("at least 1"),
        });
        let standing = |target: usize| health[target].breaker.standing(&rules, START);
        let is_barred = |target: usize| matches!(standing(target), Standing::Barred { .. });
        match choose(&rules, &health, equals, sticky, START, draw) {
            Some(Choice::Open(equal)) => prop_assert!(!is_barred(equal.target)),
            Some(Choice::Barred(equal, until)) => {
                prop_assert_eq!(standing(equal.target), Standing::Barred { until });
                for target in 0..states.len() {
                    let Standing::Barred { until: other } = standing(target) else {
                        return Err(proptest::test_runner::TestCaseError::fail("one is open"));
                    };
                    prop_assert!(until <= other);
                }
            }
            None => prop_assert!(false, "there is a target"),
        }
    }

    #[test]
    fn patience_is_bounded(
        usual in option::of(any::<u64>()),
        left_ms in 0..2_000_000_u64,
        thinks: bool,
        is_last: bool,
    ) {
        let pace = if thinks { Pace::Thinking } else { Pace::Prompt };
        let elsewhere = if is_last { Elsewhere::Nobody } else { Elsewhere::Possible };
        let deadline = START.after(left_ms);
        let limits = Patient::default().patience(pace, elsewhere, usual, START, deadline);
        prop_assert!(limits.first_token_ms <= FIRST_TOKEN_MS_MAX.min(left_ms));
        prop_assert!(limits.first_token_ms >= FIRST_TOKEN_MS.min(left_ms));
    }
}
