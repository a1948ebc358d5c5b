//! Random calls whose figures agree with each other, and random filters.
//!
//! **Invariant**: a drawn call keeps the promises of `policy::ports`: its cost is the sum of its legs,
//! its savings add up to the difference (check `sums_are_exact`).

use std::collections::BTreeMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::{Filter, StoredCall};
use policy::ports::{CallId, CallOpened, CallSettled, End, Held, Leg, Lever, Payers};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, option, sample};
use wire::usage::{CacheWrites, Tokens, Usage};

/// Gives calls that were drawn at random ids of their own.
pub(super) fn numbered(mut calls: Vec<StoredCall>) -> Vec<StoredCall> {
    for (number, call) in calls.iter_mut().enumerate() {
        let id = CallId(format!("call_{number:026}"));
        call.opened.call = id.clone();
        if let Some(settled) = &mut call.settled {
            settled.call = id;
        }
    }
    calls
}

pub(super) fn any_call() -> impl Strategy<Value = StoredCall> {
    let names = (
        any_text(),
        any_text(),
        any_text(),
        option::of(any_text()),
        option::of(any_text()),
    );
    let charged = (any_payers(), option::of(any_held()));
    let opened = (names, any_moment(), any_count(), charged).prop_map(
        |(names, at, estimate, (payers, held))| CallOpened {
            call: CallId(String::new()),
            at,
            key: names.0,
            session: names.3,
            task: names.4,
            endpoint: "/v1/messages".to_owned(),
            model: names.1,
            provider: names.2.clone(),
            target: Some(names.2),
            input_estimate: Tokens(estimate),
            payers,
            held,
        },
    );
    (opened, any_settling()).prop_map(|(opened, settled)| StoredCall {
        opened,
        settled: Some(settled),
    })
}

fn any_payers() -> impl Strategy<Value = Payers> {
    let name = || option::of(any_text());
    let some = || collection::btree_set(any_text(), 0..4);
    (name(), name(), name(), some(), some()).prop_map(
        |(organisation, team, user, tags, parents)| Payers {
            organisation,
            team,
            user,
            tags: tags.into_iter().collect(),
            parents: parents.into_iter().collect(),
        },
    )
}

fn any_held() -> impl Strategy<Value = Held> {
    (option::of(any_amount()), any_count(), any_moment()).prop_map(|(usd, tokens, until)| Held {
        usd,
        tokens: Tokens(tokens),
        until,
    })
}

/// A call whose figures agree: its cost is the sum of its legs, its savings the difference.
fn any_settling() -> impl Strategy<Value = CallSettled> {
    let legs = collection::vec(any_leg(), 0..4);
    let given = (any_end(), 100..600_u16, any_text());
    (legs, any_moment(), given, option::of(any_amount())).prop_map(
        |(legs, at, given, untouched)| {
            let cost: Option<PicoUsd> = legs
                .iter()
                .map(|leg| leg.cost.map(|cost| cost.0))
                .sum::<Option<i128>>()
                .map(PicoUsd);
            let savings = match (cost, untouched) {
                (Some(cost), Some(untouched)) => split(untouched - cost),
                (None, _) | (_, None) => BTreeMap::new(),
            };
            let settled = CallSettled {
                call: CallId(String::new()),
                at,
                end: given.0,
                status: given.1,
                legs,
                cost,
                untouched,
                savings,
                prices: given.2.clone(),
                notes: given.2,
            };
            if settled.end == End::TurnedAway {
                unsent(settled)
            } else {
                settled
            }
        },
    )
}

/// Nothing was sent for it, and nothing is owed.
fn unsent(settled: CallSettled) -> CallSettled {
    CallSettled {
        legs: Vec::new(),
        cost: Some(PicoUsd::ZERO),
        untouched: Some(PicoUsd::ZERO),
        savings: BTreeMap::new(),
        ..settled
    }
}

/// Shares a difference between all levers: one pico-dollar each, the rest to the last.
fn split(difference: PicoUsd) -> BTreeMap<Lever, PicoUsd> {
    let mut savings: BTreeMap<_, _> = Lever::ALL.map(|lever| (lever, PicoUsd(1))).into();
    if let Some(mut last) = savings.last_entry() {
        let others = i128::try_from(Lever::ALL.len() - 1).expect("few levers");
        last.insert(difference - PicoUsd(others));
    }
    savings
}

fn any_leg() -> impl Strategy<Value = Leg> {
    let counts = proptest::array::uniform11(any_count());
    let times = (any_moment(), option::of(any_moment()), any_moment());
    let names = (any_text(), any_text(), option::of(any_text()));
    let ending = (option::of(any::<u16>()), any_end(), any::<bool>());
    (
        names,
        times,
        ending,
        counts,
        option::weighted(0.9, any_amount()),
    )
        .prop_map(|(names, times, ending, counts, cost)| Leg {
            provider: names.0,
            model: names.1,
            sent_at: times.0,
            first_byte_at: times.1,
            ended_at: times.2,
            status: ending.0,
            end: ending.1,
            usage: usage(counts, names.2),
            estimated: ending.2,
            cost,
        })
}

fn usage(counts: [u64; 11], tier: Option<String>) -> Usage {
    let [
        uncached,
        cache_read,
        m5,
        m30,
        h1,
        h12,
        audio_input,
        output,
        reasoning,
        audio_output,
        web,
    ] = counts;
    Usage {
        uncached: Tokens(uncached),
        cache_read: Tokens(cache_read),
        cache_write: CacheWrites {
            minutes_5: Tokens(m5),
            minutes_30: Tokens(m30),
            hour_1: Tokens(h1),
            hours_12: Tokens(h12),
        },
        audio_input: Tokens(audio_input),
        output: Tokens(output),
        reasoning: Tokens(reasoning),
        audio_output: Tokens(audio_output),
        web_searches: web,
        tier,
    }
}

pub(super) fn any_filter() -> impl Strategy<Value = Filter> {
    let times = (
        option::weighted(0.3, any_moment()),
        option::weighted(0.3, any_moment()),
    );
    let name = || option::weighted(0.3, any_text());
    (times, name(), name(), name(), name()).prop_map(|(times, key, session, task, model)| Filter {
        since: times.0,
        until: times.1,
        key,
        session,
        task,
        model,
    })
}

fn any_end() -> impl Strategy<Value = End> {
    sample::select(End::ALL.to_vec())
}

/// Few texts, so that parts of a breakdown meet; odd ones, so that nothing is quoted wrongly.
fn any_text() -> impl Strategy<Value = String> {
    sample::select(vec![
        "",
        "a",
        "it's; --",
        "a,\"b\"\n",
        "null",
        "\u{1f980}\u{0}z",
    ])
    .prop_map(str::to_owned)
}

/// Up to the year 2096, in which no calendar does anything unusual.
pub(super) fn any_moment() -> impl Strategy<Value = Moment> {
    (0..4_000_000_000_000_u64).prop_map(Moment)
}

/// Mostly ordinary; sometimes as much as a row can hold, so that sums leave 64 bits.
fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..2_000_000_u64, 1 => Just(i64::MAX.unsigned_abs())]
}

/// Up to an eighth of what a row can hold: a few legs fit a call, a few dozen calls leave 64 bits.
fn any_amount() -> impl Strategy<Value = PicoUsd> {
    let bound = i128::from(i64::MAX / 8);
    prop_oneof![4 => -1_000_000_i128..1_000_000_000, 1 => -bound..bound].prop_map(PicoUsd)
}
