//! What is read back is what was written, and sums are exact.
//!
//! **Invariant**: the expected sums are made call by call in Rust, whatever the store does.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use std::collections::BTreeMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::{
    By, Filter, LedgerReader, Spending, SpendingAt, SpentBy, StoredCall, Totals,
};
use policy::ports::{CallId, CallOpened, CallSettled};
use proptest::collection;

use super::draw::{any_call, any_filter, numbered};
use super::{Make, START, check, opening, write};

/// 60 000 ms: what is summed together.
const MINUTE_MS: u64 = 60_000;

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

/// What was spent equals the same sum made call by call, by payers and minute: a cost that is
/// unknown counts as what was held; running calls, and those that were recovered or turned away, are
/// left out.
pub fn spending_is_exact(make: Make<'_>) {
    let inputs = (collection::vec(any_call(), 0..40), 0..5 * MINUTE_MS);
    check(32, &inputs, |(calls, since)| {
        let shelf = make();
        let store = shelf.start(START);
        let calls = meeting(numbered(calls));
        write(&*store, &calls);
        store.ledger().open(opening(99));
        store.flush();
        let since = [0, since, since / MINUTE_MS * MINUTE_MS].map(Moment);
        let mut spans = since.map(SpentBy::since).to_vec();
        let settled: Vec<&CallSettled> =
            calls.iter().filter_map(|it| it.settled.as_ref()).collect();
        spans.extend(settled.get(settled.len() / 2).map(|middle| {
            SpentBy {
                settled_by: Some(middle.at),
                except: settled
                    .iter()
                    .step_by(3)
                    .map(|it| it.call.clone())
                    .collect(),
                ..SpentBy::default()
            }
        }));
        for span in spans {
            let mut expect = Vec::new();
            for call in &calls {
                spend(&mut expect, call, &span);
            }
            let summed = shelf.reader().spending(&span, &mut |part| {
                let place = expect.iter().position(|it| *it == part);
                let place = place.unwrap_or_else(|| unreachable!("{part:?} in {expect:?}"));
                expect.swap_remove(place);
            });
            summed.expect("summed");
            assert_eq!(expect, [], "parts that are missing");
            let mut expect = Vec::new();
            for call in &calls {
                spend_at(&mut expect, call, &span);
            }
            let mut found = Vec::new();
            let summed = shelf
                .reader()
                .spending_at(&span, &mut |part| found.push(part));
            summed.expect("summed");
            let order = |one: &SpendingAt, other: &SpendingAt| {
                let key = |it: &SpendingAt| {
                    let names = (it.asked.clone(), it.provider.clone(), it.model.clone());
                    (names, it.at)
                };
                key(one).cmp(&key(other))
            };
            expect.sort_by(order);
            found.sort_by(order);
            assert_eq!(found, expect);
        }
    });
}

/// What calls under way hold is known until they settle or their hold is over.
pub fn holds_under_way_are_known(make: Make<'_>) {
    check(32, &collection::vec(any_call(), 1..8), |calls| {
        let shelf = make();
        let store = shelf.start(START);
        let mut calls = numbered(calls);
        for call in calls.iter_mut().step_by(2) {
            call.settled = None;
        }
        write(&*store, &calls);
        let open = calls.iter().filter(|call| call.settled.is_none());
        let open: Vec<&CallOpened> = open.map(|call| &call.opened).collect();
        let ends = calls.iter().filter_map(|call| call.opened.held);
        let ends = ends.flat_map(|held| [held.until, Moment(held.until.0.saturating_sub(1))]);
        for at in ends.chain([Moment(0)]) {
            let holds = |opened: &&&CallOpened| opened.held.is_some_and(|held| held.until > at);
            let expect: Vec<_> = open.iter().filter(holds).copied().collect();
            let found = shelf.reader().under_way(at).expect("readable");
            assert_eq!(found.iter().collect::<Vec<_>>(), expect, "at {at:?}");
        }
    });
}

/// The same calls within few minutes, two of three with the same payers, so that sums are made.
fn meeting(mut calls: Vec<StoredCall>) -> Vec<StoredCall> {
    let first = calls.first().map(|call| call.opened.clone());
    for (number, call) in calls.iter_mut().enumerate() {
        let opened = &mut call.opened;
        opened.at = Moment(opened.at.0 % (5 * MINUTE_MS));
        if let Some(first) = first.clone().filter(|_| number % 3 > 0) {
            *opened = CallOpened {
                call: opened.call.clone(),
                at: opened.at,
                held: opened.held,
                ..first
            };
        }
    }
    calls
}

/// Adds a call to its part of the sums.
fn spend(sums: &mut Vec<Spending>, call: &StoredCall, span: &SpentBy) {
    let (opened, settled) = (&call.opened, call.settled.as_ref().expect("settled"));
    if !span.admits(opened, settled) || !settled.end.counts() {
        return;
    }
    let held = opened.held.and_then(|held| held.usd);
    let mut part = Spending {
        key: opened.key.clone(),
        session: opened.session.clone(),
        task: opened.task.clone(),
        model: opened.model.clone(),
        payers: opened.payers.clone(),
        at: opened.at,
        cost: settled.cost.or(held).unwrap_or_default(),
        tokens: settled
            .legs
            .iter()
            .map(|leg| leg.usage.input() + leg.usage.output)
            .sum(),
        calls: 1,
    };
    let together = |other: &&mut Spending| {
        other.key == part.key
            && other.session == part.session
            && other.task == part.task
            && other.model == part.model
            && other.payers == part.payers
            && other.at.0 / MINUTE_MS == part.at.0 / MINUTE_MS
    };
    match sums.iter_mut().find(together) {
        None => sums.push(part),
        Some(sum) => {
            part.at = part.at.min(sum.at);
            part.cost += sum.cost;
            part.tokens += sum.tokens;
            part.calls += sum.calls;
            *sum = part;
        }
    }
}

/// Adds a call's legs to their parts of the sums.
fn spend_at(sums: &mut Vec<SpendingAt>, call: &StoredCall, span: &SpentBy) {
    let (opened, settled) = (&call.opened, call.settled.as_ref().expect("settled"));
    if !span.admits(opened, settled) || !settled.end.counts() {
        return;
    }
    let held = opened.held.and_then(|held| held.usd);
    for leg in &settled.legs {
        let mut part = SpendingAt {
            asked: opened.model.clone(),
            provider: leg.provider.clone(),
            model: leg.model.clone(),
            at: opened.at,
            cost: leg.cost.or(held).unwrap_or_default(),
            tokens: leg.usage.input() + leg.usage.output,
            legs: 1,
        };
        let together = |other: &&mut SpendingAt| {
            (&other.asked, &other.provider, &other.model)
                == (&part.asked, &part.provider, &part.model)
                && other.at.0 / MINUTE_MS == part.at.0 / MINUTE_MS
        };
        match sums.iter_mut().find(together) {
            None => sums.push(part),
            Some(sum) => {
                part.at = part.at.min(sum.at);
                part.cost += sum.cost;
                part.tokens += sum.tokens;
                part.legs += sum.legs;
                *sum = part;
            }
        }
    }
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
