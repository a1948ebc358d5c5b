//! What is read back is what was written, and sums are exact.
//!
//! **Invariant**: the expected sums are made call by call in Rust, whatever the store does.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use std::collections::BTreeMap;

use policy::money::PicoUsd;
use policy::ports::CallId;
use policy::ports::read::{By, Filter, LedgerReader, StoredCall, Totals};
use proptest::collection;

use super::draw::{any_call, any_filter, numbered};
use super::{Make, START, check, opening, write};

/// Whatever a call says, it is read back word for word.
pub fn calls_come_back_as_they_were(make: Make<'_>) {
    check(32, &collection::vec(any_call(), 1..6), |calls| {
        let shelf = make();
        let store = shelf.start(START);
        let calls = numbered(calls);
        write(&*store, &calls);
        for call in &calls {
            let found = shelf.reader().call(&call.opened.call).expect("readable");
            assert_eq!(found.as_ref(), Some(call));
        }
        assert_eq!(
            shelf
                .reader()
                .call(&CallId("call_no".to_owned()))
                .expect("readable"),
            None
        );
    });
}

/// Every sum equals the same sum made call by call, beyond 64 bits, below zero, and with unknowns
/// left out; breakdowns add up to the totals; the legs add up to the calls.
pub fn sums_are_exact(make: Make<'_>) {
    let inputs = (collection::vec(any_call(), 0..40), any_filter());
    check(32, &inputs, |(calls, filter)| {
        let shelf = make();
        let store = shelf.start(START);
        let calls = numbered(calls);
        write(&*store, &calls);
        store.ledger().open(opening(99));
        store.flush();
        let running = StoredCall {
            opened: opening(99),
            settled: None,
        };
        for filter in [Filter::default(), filter] {
            let mut expect = Totals::default();
            let mut parts: BTreeMap<(usize, Option<String>), Totals> = BTreeMap::new();
            for call in calls.iter().chain([&running]) {
                if filter.admits(&call.opened) {
                    expect.count(call);
                    for (place, by) in By::ALL.iter().enumerate() {
                        parts
                            .entry((place, by.label(&call.opened)))
                            .or_default()
                            .count(call);
                    }
                }
            }
            let reader = shelf.reader();
            let totals = reader.totals(&filter).expect("summed");
            assert_eq!(totals, expect);
            assert_eq!(totals.untouched - totals.cost_compared, totals.saved());
            for (place, by) in By::ALL.into_iter().enumerate() {
                for slice in reader.breakdown(&filter, by).expect("summed") {
                    let expect = parts.remove(&(place, slice.label.clone()));
                    assert_eq!(Some(slice.totals), expect, "{by:?} {:?}", slice.label);
                }
            }
            assert_eq!(parts, BTreeMap::new(), "parts that no breakdown has");
            assert_eq!(totals.cost, cost_of_legs(&*reader, &filter));
        }
    });
}

fn cost_of_legs(reader: &dyn LedgerReader, filter: &Filter) -> PicoUsd {
    let calls = reader.calls(filter).map(|call| call.expect("readable"));
    let priced = calls
        .filter_map(|call| call.settled)
        .filter(|settled| settled.cost.is_some());
    priced
        .flat_map(|settled| settled.legs)
        .filter_map(|leg| leg.cost)
        .sum()
}
