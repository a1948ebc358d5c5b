//! How a walk goes on after each kind of trouble, and what the shared health learns from it.
//!
//! **Invariant**: one helper plays a leg; every test starts from healthy targets.

use std::num::NonZeroU16;

use wire::dialect::Dialect;
use wire::usage::Tokens;

use super::{Ending, Leg, Site, Step, Walk};
use crate::dispatch::balance::Health;
use crate::dispatch::breaker::{Rules, Standing};
use crate::dispatch::fault::{Credential, Fault};
use crate::dispatch::lineup::{Candidate, Card, Lineup, Need, Tail};
use crate::dispatch::patience::{FIRST_TOKEN_MS, FIRST_TOKEN_MS_MAX, Pace};
use crate::dispatch::prefill::Prefill;
use crate::dispatch::retry::{Policy, Visible, Why};
use crate::moment::Moment;

const NOW: Moment = Moment(1_000_000);

const RULES: Rules = Rules {
    streak: 1,
    share_minimum: 10,
    share_percent: 50,
    open_ms: 2_000,
    open_ms_max: 20_000,
    probes: 1,
    successes: 2,
};

const NEED: Need = Need {
    dialect: Dialect::OpenAiChat,
    input: Some(Tokens(10)),
    tail: Tail::Others,
};

/// Targets one after another, with what they make of a prefill.
fn lineup(prefills: &[Prefill]) -> (Lineup, Vec<Health>) {
    let candidates = prefills
        .iter()
        .enumerate()
        .map(|(target, prefill)| Candidate {
            target,
            rank: u16::try_from(target).expect("few"),
            weight: NonZeroU16::MIN,
            card: Card {
                dialect: Dialect::OpenAiChat,
                window: None,
                prefill: *prefill,
                credential: Credential::Ours,
            },
        });
    let lineup = Lineup::new(candidates.collect()).expect("some");
    (lineup, vec![Health::default(); prefills.len()])
}

fn start(site: &mut Site<'_>, now: Moment) -> (Walk, Leg) {
    let mut walk = Walk::new(Policy::default(), NEED, now);
    let leg = walk.start(site, None, now, 0).expect("a target");
    (walk, leg)
}

fn fail(walk: &mut Walk, site: &mut Site<'_>, leg: Leg, fault: Fault) -> Result<Leg, Ending> {
    match walk.failed(site, leg, fault, Visible::Nothing, NOW, 0) {
        Step::Send(leg) => Ok(leg),
        Step::GiveUp(ending) => Err(ending),
    }
}

#[test]
fn a_rest_is_waited_for_if_it_is_short() {
    let limited = |after_ms| Fault::RateLimited {
        after_ms: Some(after_ms),
    };
    // Alone: the next call waits for a short rest, and does not believe in a long one.
    for (after_ms, expect) in [(5_000, NOW.after(5_000)), (60_000, NOW)] {
        let (lineup, mut health) = lineup(&[Prefill::Ignores]);
        let mut site = Site {
            lineup: &lineup,
            rules: &RULES,
            health: &mut health,
        };
        let (mut walk, leg) = start(&mut site, NOW);
        let _again = fail(&mut walk, &mut site, leg, limited(after_ms));
        let (_, leg) = start(&mut site, NOW);
        assert_eq!(leg.at, expect, "{after_ms}");
    }
    // A fallback that rests is waited for, or not asked at all.
    for (after_ms, expect) in [(5_000, Ok(NOW.after(5_000))), (60_000, Err(Why::NoTarget))] {
        let (lineup, mut health) = lineup(&[Prefill::Ignores; 2]);
        let mut site = Site {
            lineup: &lineup,
            rules: &RULES,
            health: &mut health,
        };
        let (mut walk, leg) = start(&mut site, NOW);
        let fallback = fail(&mut walk, &mut site, leg, Fault::Silent).expect("the fallback");
        assert_eq!(fallback.target, 1);
        let _again = fail(&mut walk, &mut site, fallback, limited(after_ms));
        // The primary again, as if nothing had been.
        site.health[0] = Health::default();
        let (mut walk, leg) = start(&mut site, NOW);
        let next = fail(&mut walk, &mut site, leg, Fault::Silent);
        let found = next.map(|leg| leg.at).map_err(|ending| ending.why);
        assert_eq!(found, expect, "{after_ms}");
    }
}

#[test]
fn forced_calls_close_the_breaker_of_a_lone_target() {
    let (lineup, mut health) = lineup(&[Prefill::Ignores]);
    let mut site = Site {
        lineup: &lineup,
        rules: &RULES,
        health: &mut health,
    };
    let (mut walk, leg) = start(&mut site, NOW);
    let ending = fail(&mut walk, &mut site, leg, Fault::Failed).expect_err("it opens");
    assert!(ending.retry_after_s.is_some_and(|seconds| seconds <= 2));
    for _ in 0..RULES.successes {
        let (_, leg) = start(&mut site, NOW);
        leg.finished(&mut site, NOW.after(1));
    }
    let standing = site.health[0].breaker.standing(&RULES, NOW.after(1));
    assert_eq!(standing, Standing::Normal);
}

#[test]
fn the_first_token_is_counted_once() {
    let (lineup, mut health) = lineup(&[Prefill::Ignores]);
    let mut site = Site {
        lineup: &lineup,
        rules: &RULES,
        health: &mut health,
    };
    let (_, mut leg) = start(&mut site, NOW);
    leg.begun(&mut site, 500, NOW.after(500));
    leg.finished(&mut site, NOW.after(9_000));
    let usual = site.health[0].gauge.first_token_ms(NOW.after(9_000));
    assert_eq!(usual, Some(500));
}

#[test]
fn fallbacks_hide_nothing_but_their_own_trouble() {
    for (fault, expect) in [
        (Fault::BadRequest, Fault::Silent),
        (Fault::Refused, Fault::Refused),
    ] {
        let (lineup, mut health) = lineup(&[Prefill::Ignores; 2]);
        let mut site = Site {
            lineup: &lineup,
            rules: &RULES,
            health: &mut health,
        };
        let (mut walk, leg) = start(&mut site, NOW);
        let leg = fail(&mut walk, &mut site, leg, Fault::Silent).expect("the fallback");
        let ending = fail(&mut walk, &mut site, leg, fault).expect_err("final");
        assert_eq!((ending.why, ending.fault), (Why::Final, expect));
    }
}

#[test]
fn a_rejected_prefill_goes_to_who_takes_it() {
    let (lineup, mut health) = lineup(&[Prefill::Continues, Prefill::Rejects, Prefill::Continues]);
    let mut site = Site {
        lineup: &lineup,
        rules: &RULES,
        health: &mut health,
    };
    let (mut walk, leg) = start(&mut site, NOW);
    let leg = fail(&mut walk, &mut site, leg, Fault::PrefillRejected).expect("another");
    assert_eq!(leg.target, 2);
}

#[test]
fn patience_ends_with_the_last_target() {
    let (lineup, mut health) = lineup(&[Prefill::Ignores; 2]);
    let mut site = Site {
        lineup: &lineup,
        rules: &RULES,
        health: &mut health,
    };
    let (mut walk, leg) = start(&mut site, NOW);
    let first_token_ms = |walk: &Walk, site: &Site<'_>, leg: &Leg| {
        walk.patience(site, leg, Pace::Prompt, NOW).first_token_ms
    };
    assert_eq!(first_token_ms(&walk, &site, &leg), FIRST_TOKEN_MS);
    let leg = fail(&mut walk, &mut site, leg, Fault::Silent).expect("the fallback");
    assert_eq!(first_token_ms(&walk, &site, &leg), FIRST_TOKEN_MS_MAX);
    // A fallback that is barred is nobody.
    site.health[0] = Health::default();
    let (mut walk, leg) = start(&mut site, NOW);
    let fallback = fail(&mut walk, &mut site, leg, Fault::Silent).expect("the fallback");
    let _none = fail(&mut walk, &mut site, fallback, Fault::Silent);
    site.health[0] = Health::default();
    let (walk, leg) = start(&mut site, NOW);
    assert_eq!(first_token_ms(&walk, &site, &leg), FIRST_TOKEN_MS_MAX);
    let policy = Policy {
        legs_max: 1,
        ..Policy::default()
    };
    site.health.fill(Health::default());
    let mut walk = Walk::new(policy, NEED, NOW);
    let leg = walk.start(&mut site, None, NOW, 0).expect("a target");
    assert_eq!(first_token_ms(&walk, &site, &leg), FIRST_TOKEN_MS_MAX);
}
