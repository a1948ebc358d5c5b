//! Calls are written once, in order, and acknowledged when they are.
//!
//! **Invariant**: every check waits for the store itself, never for time to pass.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use policy::money::PicoUsd;
use policy::ports::read::{Filter, StoredCall, UNKNOWN};
use policy::ports::{CallOpened, CallSettled, Held, Leg};

use super::{Make, START, all, leg, lock, nobody, opening, settling, stored};

/// An amount that no row can hold becomes unknown, is counted, and enters no sum.
pub fn amounts_beyond_a_row_are_unknown(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    let beyond = PicoUsd(i128::from(i64::MAX) + 1);
    let mut settled = settling(1);
    settled.legs = vec![
        Leg {
            cost: Some(beyond),
            ..leg()
        },
        leg(),
    ];
    settled.cost = Some(beyond + PicoUsd(7));
    let held = Held {
        usd: Some(beyond),
        ..opening(1).held.expect("held")
    };
    store.ledger().open(CallOpened {
        held: Some(held),
        ..opening(1)
    });
    store.ledger().settle(settled, nobody());
    store.ledger().open(opening(2));
    store.ledger().settle(settling(2), nobody());
    store.flush();

    assert_eq!(store.ledger().health().unrepresentable, 2);
    let held = Held { usd: None, ..held };
    assert_eq!(stored(&*shelf, 1).opened.held, Some(held));
    let stored = stored(&*shelf, 1).settled.expect("settled");
    assert_eq!((stored.cost, stored.untouched), (None, None));
    assert_eq!(stored.savings, BTreeMap::new());
    let costs: Vec<_> = stored.legs.iter().map(|leg| leg.cost).collect();
    assert_eq!(costs, [None, leg().cost]);
    let totals = shelf.reader().totals(&Filter::default()).expect("summed");
    assert_eq!((totals.calls, totals.unpriced), (2, 1));
    assert_eq!(Some(totals.cost), settling(2).cost);
}

/// Calls are listed in the order of their opening, and the latest first where that is asked.
pub fn openings_come_back_in_order(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    // More than any page of an export, and settled in another order than opened.
    let numbers: Vec<u64> = (0..600).map(|step| step * 7 % 600).collect();
    for number in &numbers {
        store.ledger().open(opening(*number));
    }
    for number in 0..600 {
        store.ledger().settle(settling(number), nobody());
    }
    store.flush();
    let id = |number: &u64| opening(*number).call;
    let listed: Vec<_> = all(&*shelf)
        .into_iter()
        .map(|call| call.opened.call)
        .collect();
    assert_eq!(listed, numbers.iter().map(id).collect::<Vec<_>>());
    let latest = shelf.reader().latest(3).expect("readable");
    let latest: Vec<_> = latest.into_iter().map(|call| call.opened.call).collect();
    assert_eq!(
        latest,
        numbers.iter().rev().take(3).map(id).collect::<Vec<_>>()
    );
}

/// The first settling counts; a second one changes nothing, is counted, and is acknowledged.
pub fn settled_exactly_once(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    store.ledger().open(opening(1));
    let acknowledged = Arc::new(Mutex::new(0));
    for status in [200, 500, 200] {
        let acknowledged = Arc::clone(&acknowledged);
        let settled = CallSettled {
            status,
            legs: vec![leg(); status.into()],
            ..settling(1)
        };
        store
            .ledger()
            .settle(settled, Box::new(move || *lock(&acknowledged) += 1));
    }
    store.ledger().open(CallOpened {
        model: "other".to_owned(),
        ..opening(1)
    });
    store.flush();
    let expect = CallSettled {
        legs: vec![leg(); 200],
        ..settling(1)
    };
    assert_eq!(
        all(&*shelf),
        [StoredCall {
            opened: opening(1),
            settled: Some(expect)
        }]
    );
    assert_eq!(*lock(&acknowledged), 3);
    let health = store.ledger().health();
    assert_eq!((health.settled, health.repeated, health.queued), (1, 3, 0));
}

/// A settling that nobody announced is booked once, with what its legs tell.
pub fn settled_without_opening(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    store.ledger().settle(settling(1), nobody());
    store.ledger().settle(settling(1), nobody());
    store.ledger().settle(
        CallSettled {
            legs: Vec::new(),
            ..settling(2)
        },
        nobody(),
    );
    store.flush();
    let calls = all(&*shelf);
    let told = |call: &StoredCall| {
        let opened = &call.opened;
        (
            opened.at,
            opened.key.clone(),
            opened.model.clone(),
            opened.provider.clone(),
        )
    };
    let unknown = || UNKNOWN.to_owned();
    let told: Vec<_> = calls.iter().map(told).collect();
    let expect = [
        (leg().sent_at, unknown(), leg().model, leg().provider),
        (settling(2).at, unknown(), unknown(), unknown()),
    ];
    assert_eq!(told, expect);
    assert_eq!(
        calls.first().and_then(|call| call.settled.clone()),
        Some(settling(1))
    );
}

/// Sixteen threads that settle the same calls at once book each of them once.
pub fn threads_settle_at_once(make: Make<'_>) {
    const THREADS: u64 = 16;
    const CALLS: u64 = 200;
    let shelf = make();
    let store = shelf.start(START);
    let acknowledged = Arc::new(Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, acknowledged) = (store.ledger(), Arc::clone(&acknowledged));
            scope.spawn(move || {
                for step in 0..CALLS {
                    let number = (step + thread * 13) % CALLS;
                    let acknowledged = Arc::clone(&acknowledged);
                    ledger.open(opening(number));
                    let note = Box::new(move || *lock(&acknowledged) += 1);
                    ledger.settle(settling(number), note);
                }
            });
        }
    });
    store.flush();
    assert_eq!(*lock(&acknowledged), THREADS * CALLS);
    let mut calls = all(&*shelf);
    calls.sort_by(|left, right| left.opened.call.cmp(&right.opened.call));
    let expect = |number| StoredCall {
        opened: opening(number),
        settled: Some(settling(number)),
    };
    assert_eq!(calls, (0..CALLS).map(expect).collect::<Vec<_>>());
    let health = store.ledger().health();
    assert_eq!(
        (health.settled, health.repeated),
        (CALLS, (2 * THREADS - 2) * CALLS)
    );
}
