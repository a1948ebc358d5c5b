//! What a crash leaves, and what the next start makes of it.
//!
//! **Invariant**: a life may be cut off between any two steps.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use policy::moment::Moment;
use policy::ports::read::{Filter, StoredCall, recovery_of};
use policy::ports::{CallId, CallOpened, CallRaised, CallSettled, End};
use proptest::collection;
use proptest::prelude::{Just, Strategy, prop_oneof};

use super::draw::{any_call, any_moment, numbered};
use super::{Make, START, Shelf, all, check, lock, nobody, opening, settling, stored};

/// How many calls a random life has.
const CALLS: u64 = 12;

/// One step of a random life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u64),
    /// A call's number, and which of several different endings it gets.
    Settle(u64, u16),
    Flush,
    Crash,
}

/// Over any life of openings, settlings and crashes: nothing is there twice, what was acknowledged
/// stays, and what is settled never changes.
pub fn nothing_acknowledged_is_lost_to_a_crash(make: Make<'_>) {
    let step = prop_oneof![
        8 => (0..CALLS).prop_map(Step::Open),
        8 => (0..CALLS, 200..204_u16).prop_map(|(number, status)| Step::Settle(number, status)),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    check(64, &collection::vec(step, 1..80), |steps| {
        let shelf = make();
        let mut store = shelf.start(START);
        let mut settled_before = HashMap::new();
        let acknowledged = Arc::new(Mutex::new(HashSet::new()));
        for (step, now) in steps.into_iter().chain([Step::Crash]).zip(1..) {
            match step {
                Step::Open(number) => store.ledger().open(opening(number)),
                Step::Settle(number, status) => {
                    let settled = CallSettled {
                        status,
                        ..settling(number)
                    };
                    let (acknowledged, call) = (Arc::clone(&acknowledged), settled.call.clone());
                    let note = move || {
                        lock(&acknowledged).insert(call);
                    };
                    store.ledger().settle(settled, Box::new(note));
                }
                Step::Flush => store.flush(),
                Step::Crash => {
                    store.crash();
                    store = shelf.start(START.after(now));
                    settled_before = survivors(&*shelf, &settled_before, &lock(&acknowledged));
                }
            }
        }
    });
}

/// A call whose acknowledgement has come survives a crash in that very moment.
pub fn acknowledged_is_safe_at_once(make: Make<'_>) {
    for calls in [1, 2, 7, 300] {
        let shelf = make();
        let store = shelf.start(START);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        for number in 0..calls {
            let tell = tell.clone();
            store.ledger().open(opening(number));
            let last = number + 1 == calls;
            let acknowledge = move || {
                if last {
                    tell.send(()).unwrap_or_default();
                }
            };
            store
                .ledger()
                .settle(settling(number), Box::new(acknowledge));
        }
        told.recv().expect("acknowledged");
        store.crash();
        assert_eq!(shelf.start(START.after(9)).recovered(), 0);
        for number in 0..calls {
            assert_eq!(stored(&*shelf, number).settled, Some(settling(number)));
        }
    }
}

/// Checks what a crash has left, and returns it.
fn survivors(
    shelf: &dyn Shelf,
    settled_before: &HashMap<CallId, StoredCall>,
    acknowledged: &HashSet<CallId>,
) -> HashMap<CallId, StoredCall> {
    let mut found = HashMap::new();
    for call in all(shelf) {
        let settled = call.settled.as_ref().expect("a start leaves no call open");
        if settled.end != End::Recovered {
            let number = (0..CALLS).find(|number| opening(*number).call == settled.call);
            let number = number.expect("a call of this life");
            let expect = CallSettled {
                status: settled.status,
                ..settling(number)
            };
            assert_eq!(*settled, expect);
        } else if !settled_before.contains_key(&call.opened.call) {
            assert!(
                !acknowledged.contains(&call.opened.call),
                "an acknowledged call was recovered"
            );
        }
        let twin = found.insert(call.opened.call.clone(), call);
        assert_eq!(twin, None, "a call is there twice");
    }
    for (id, before) in settled_before {
        assert_eq!(found.get(id), Some(before), "a settled call has changed");
    }
    for id in acknowledged {
        assert!(found.contains_key(id), "an acknowledged call is lost");
    }
    found
}

/// Whatever a call says when it is opened is there after a crash, and the holds of the calls that
/// it cut off are known until they expire.
pub fn what_a_crash_cuts_off_is_known(make: Make<'_>) {
    let inputs = (collection::vec(any_call(), 1..8), any_moment());
    check(32, &inputs, |(calls, now)| {
        let shelf = make();
        let store = shelf.start(START);
        let mut calls = numbered(calls);
        let (tell, told) = std::sync::mpsc::sync_channel(calls.len());
        for call in &calls {
            store.ledger().open(call.opened.clone());
        }
        for settled in calls
            .iter()
            .filter_map(|call| call.settled.clone())
            .step_by(2)
        {
            let tell = tell.clone();
            let acknowledge = move || tell.send(()).unwrap_or_default();
            store.ledger().settle(settled, Box::new(acknowledge));
        }
        drop(tell);
        // Who is told that a call is safe knows the same of every row before it.
        told.iter().for_each(drop);
        store.crash();
        let store = shelf.start(now);
        assert_eq!(store.recovered(), calls.len() as u64 / 2);
        for call in calls.iter_mut().skip(1).step_by(2) {
            call.settled = Some(recovery_of(call.opened.call.clone(), now));
        }
        assert_eq!(all(&*shelf), calls);

        let reader = shelf.reader();
        let ends = calls.iter().filter_map(|call| call.opened.held);
        let ends = ends.flat_map(|held| [held.until, Moment(held.until.0.saturating_sub(1))]);
        for at in ends.chain([Moment(0), now]) {
            let cut_off = |call: &&StoredCall| {
                let settled = call.settled.as_ref();
                settled.is_some_and(|settled| settled.end == End::Recovered)
                    && call.opened.held.is_some_and(|held| held.until > at)
            };
            let expect: Vec<_> = calls
                .iter()
                .filter(cut_off)
                .map(|call| &call.opened)
                .collect();
            let found = reader.cut_off(at).expect("readable");
            assert_eq!(found.iter().collect::<Vec<_>>(), expect, "at {at:?}");
        }
    });
}

/// What is held for a call's further legs is there after a crash in place of its first leg's hold,
/// and changes nothing of a call that is settled.
pub fn what_later_legs_hold_outlives_a_crash(make: Make<'_>) {
    let raised = |number: u64, legs: u32| CallRaised {
        call: opening(number).call,
        target: format!("other/leg-{legs}"),
        held: (0..legs).fold(opening(number).held.expect("held"), |held, _| {
            held.with(opening(number + 1).held.expect("held"))
        }),
    };
    let expect = |number: u64, legs: u32| CallOpened {
        target: Some(raised(number, legs).target),
        held: Some(raised(number, legs).held),
        ..opening(number)
    };
    let shelf = make();
    let store = shelf.start(START);
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    for number in 0..3 {
        store.ledger().open(opening(number));
    }
    store.ledger().raise(raised(0, 1));
    store.ledger().raise(raised(0, 2));
    store.ledger().settle(settling(1), nobody());
    store.ledger().raise(raised(1, 1));
    store.ledger().raise(raised(2, 1));
    let acknowledge = move || tell.send(()).unwrap_or_default();
    store.ledger().settle(settling(2), Box::new(acknowledge));
    // A call that nobody opened is not made up.
    store.ledger().raise(raised(7, 1));
    told.recv().expect("acknowledged");
    store.crash();
    assert_eq!(shelf.start(START.after(9)).recovered(), 1);
    assert_eq!(stored(&*shelf, 0).opened, expect(0, 2));
    assert_eq!(stored(&*shelf, 1).opened, opening(1));
    assert_eq!(stored(&*shelf, 2).opened, expect(2, 1));
    assert_eq!(all(&*shelf).len(), 3);
    let cut_off = shelf.reader().cut_off(START.after(9)).expect("readable");
    assert_eq!(cut_off, [expect(0, 2)]);
}

/// A start closes every call that was open, no other, and only once.
pub fn recovery_closes_what_was_open(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    assert_eq!(store.recovered(), 0);
    for number in 0..5 {
        store.ledger().open(opening(number));
    }
    for number in 0..2 {
        store.ledger().settle(settling(number), nobody());
    }
    store.flush();
    store.crash();

    let store = shelf.start(Moment(START.0 + 9));
    assert_eq!(store.recovered(), 3);
    for number in 0..2 {
        assert_eq!(stored(&*shelf, number).settled, Some(settling(number)));
    }
    for number in 2..5 {
        let call = stored(&*shelf, number);
        assert!(call.is_estimated());
        assert_eq!(call.opened, opening(number), "the estimated input is kept");
        let settled = call.settled.expect("closed");
        assert_eq!((settled.end, settled.cost), (End::Recovered, None));
        assert_eq!(
            (settled.at, settled.legs),
            (Moment(START.0 + 9), Vec::new())
        );
    }
    let totals = shelf.reader().totals(&Filter::default()).expect("summed");
    assert_eq!((totals.calls, totals.running), (5, 0));
    assert_eq!(
        (totals.recovered, totals.estimated, totals.unpriced),
        (3, 3, 3)
    );

    // The answer that a dead process had in flight can no longer be booked.
    store.ledger().settle(settling(4), nobody());
    store.flush();
    assert_eq!(
        stored(&*shelf, 4).settled.expect("closed").end,
        End::Recovered
    );
    store.crash();
    assert_eq!(shelf.start(Moment(START.0 + 20)).recovered(), 0);
}
