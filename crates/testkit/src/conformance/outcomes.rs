//! What clients say of answers is kept, once a call.
//!
//! **Invariant**: nothing is said of a call that is not settled (`a_call_is_judged_once`).

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

use policy::ports::outcomes::{Judged, Noted, Outcome};

use super::{Make, START, nobody, opening, settling};

fn outcome(number: u64, score: f64) -> Outcome {
    Outcome {
        call: opening(number).call,
        at: START.after(number),
        score,
        target: "acme/small-1".to_owned(),
        kinds: vec![1, u64::MAX - number],
    }
}

/// A settled call is found with what its judge needs, and the first word on it stands.
pub fn a_call_is_judged_once(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    let outcomes = shelf.outcomes();
    let settled = || outcomes.settled(&opening(1).call).expect("readable");
    store.ledger().open(opening(1));
    store.flush();
    assert_eq!(settled(), None, "open");
    store.ledger().settle(settling(1), nobody());
    store.flush();
    let expect = Judged {
        key: "anonymous".to_owned(),
        provider: "acme".to_owned(),
        model: "small-1".to_owned(),
        notes: settling(1).notes,
    };
    assert_eq!(settled(), Some(expect));
    assert!(outcomes.judge(&outcome(1, 0.25)).expect("kept"));
    assert!(!outcomes.judge(&outcome(1, 1.0)).expect("answered"));
    assert_eq!(outcomes.latest(9).expect("readable"), [outcome(1, 0.25)]);
}

/// Whoever asks for a few gets the latest, the oldest of them first; they outlive the store.
pub fn the_latest_outcomes_come_in_order(make: Make<'_>) {
    let shelf = make();
    drop(shelf.start(START));
    let outcomes = shelf.outcomes();
    for number in 1..=5 {
        assert!(outcomes.judge(&outcome(number, 0.5)).expect("kept"));
    }
    drop(outcomes);
    let latest = shelf.outcomes().latest(2).expect("readable");
    assert_eq!(latest, [outcome(4, 0.5), outcome(5, 0.5)]);
}

/// Notes of settled calls are found by what they contain, among the latest.
pub fn notes_are_found(make: Make<'_>) {
    let shelf = make();
    let store = shelf.start(START);
    let outcomes = shelf.outcomes();
    for number in 1..=4 {
        store.ledger().open(opening(number));
        if number < 4 {
            store.ledger().settle(settling(number), nobody());
        }
    }
    store.flush();
    let noted = |number: u64| {
        let settled = settling(number);
        Noted {
            call: settled.call,
            at: settled.at,
            notes: settled.notes,
        }
    };
    let found = |text: &str, among| outcomes.noted(text, among).expect("readable");
    assert_eq!(found("{", 9), [noted(1), noted(2), noted(3)]);
    assert_eq!(found("{", 2), [noted(2), noted(3)]);
    assert_eq!(found("nobody noted this", 9), []);
}
