//! What every store must do: one suite that the file and the memory pass alike.
//!
//! **Invariant**: a check here names no store; a store joins with one line,
//! `testkit::store_conformance!(name, shelf)`, and then passes all of them.

#![expect(
    clippy::missing_panics_doc,
    reason = "a check panics where a store fails it"
)]

pub mod crash;
pub mod keys;
pub mod outcomes;
pub mod reading;
pub mod writing;

mod draw;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::outcomes::Outcomes;
use policy::ports::read::{Filter, LedgerReader, StoredCall};
use policy::ports::{
    Acknowledge, CallId, CallOpened, CallSettled, End, Held, Keys, Ledger, Leg, Lever, Payers,
};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use wire::usage::{Tokens, Usage};

/// Where the data of one store lies, whether it runs or not.
pub trait Shelf {
    /// Starts the store as a gateway would; `now` is the moment of any recovery.
    fn start(&self, now: Moment) -> Box<dyn Running>;

    /// Opens what is there for reading, while the store runs or afterwards.
    fn reader(&self) -> Arc<dyn LedgerReader>;

    /// Opens the keys, while the store runs or not.
    fn keys(&self) -> Arc<dyn Keys>;

    /// Opens the outcomes, while the store runs or not.
    fn outcomes(&self) -> Arc<dyn Outcomes>;
}

/// A store that takes calls.
pub trait Running: Send + Sync {
    /// Where calls are written.
    fn ledger(&self) -> &dyn Ledger;

    /// How many calls the start closed.
    fn recovered(&self) -> u64;

    /// Waits until what was pushed is committed.
    fn flush(&self);

    /// Ends as `kill -9` would.
    fn crash(self: Box<Self>);
}

/// Makes a test of every check, for the store whose shelves the expression builds.
#[macro_export]
macro_rules! store_conformance {
    ($store:ident, $shelf:expr) => {
        mod $store {
            $crate::store_conformance! { @checks $shelf;
                crash::acknowledged_is_safe_at_once
                crash::nothing_acknowledged_is_lost_to_a_crash
                crash::recovery_closes_what_was_open
                crash::what_a_crash_cuts_off_is_known
                crash::what_later_legs_hold_outlives_a_crash
                keys::a_key_is_assigned_as_a_whole
                keys::a_replaced_secret_works_for_a_while
                keys::changes_are_audited_in_order
                keys::disabled_keys_come_back
                keys::key_changes_are_noticed
                keys::keys_are_kept
                keys::stops_last_until_they_are_lifted
                outcomes::a_call_is_judged_once
                outcomes::notes_are_found
                outcomes::the_latest_outcomes_come_in_order
                reading::calls_come_back_as_they_were
                reading::holds_under_way_are_known
                reading::spending_is_exact
                reading::sums_are_exact
                writing::amounts_beyond_a_row_are_unknown
                writing::openings_come_back_in_order
                writing::settled_exactly_once
                writing::settled_without_opening
                writing::threads_settle_at_once
            }
        }
    };
    (@checks $shelf:expr; $($about:ident::$check:ident)+) => {
        $(
            #[test]
            fn $check() {
                $crate::conformance::$about::$check(&|| Box::new($shelf));
            }
        )+
    };
}

/// Builds an empty shelf.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Shelf>;

/// When the stores of this suite start: 1 January 2026.
const START: Moment = Moment(1_767_225_600_000);

/// The opening of the call with this number, which is also its estimated input.
pub fn opening(number: u64) -> CallOpened {
    CallOpened {
        call: CallId(format!("call_{number:026}")),
        at: START.after(number),
        key: "anonymous".to_owned(),
        session: None,
        task: Some("task".to_owned()),
        endpoint: "/v1/messages".to_owned(),
        model: "small".to_owned(),
        provider: "acme".to_owned(),
        target: Some("acme/small-1".to_owned()),
        input_estimate: Tokens(number),
        payers: Payers {
            team: Some("search".to_owned()),
            tags: vec!["batch".to_owned(), "eu, west".to_owned()],
            parents: vec!["whole".to_owned()],
            ..Payers::default()
        },
        held: Some(Held {
            usd: Some(PicoUsd(9_000_000)),
            tokens: Tokens(number + 100),
            until: START.after(number + 600_000),
        }),
    }
}

/// The settling of the call with this number: one leg, and a lever that lost a pico-dollar.
pub fn settling(number: u64) -> CallSettled {
    let cost = leg().cost.expect("priced");
    CallSettled {
        call: opening(number).call,
        at: START.after(number + 50),
        end: End::Answered,
        status: 200,
        legs: vec![leg()],
        cost: Some(cost),
        untouched: Some(cost - PicoUsd(1)),
        savings: BTreeMap::from([(Lever::Cache, PicoUsd(-1))]),
        prices: "2026-01-01".to_owned(),
        notes: r#"{"cache":"no write pays"}"#.to_owned(),
    }
}

fn leg() -> Leg {
    Leg {
        provider: "acme".to_owned(),
        model: "small-1".to_owned(),
        sent_at: START.after(1),
        first_byte_at: Some(START.after(2)),
        ended_at: START.after(3),
        status: Some(200),
        end: End::Answered,
        usage: Usage {
            uncached: Tokens(8),
            output: Tokens(1),
            ..Usage::default()
        },
        estimated: false,
        cost: Some(PicoUsd(2_400_000)),
    }
}

fn nobody() -> Acknowledge {
    Box::new(|| {})
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all(shelf: &dyn Shelf) -> Vec<StoredCall> {
    let reader = shelf.reader();
    reader
        .calls(&Filter::default())
        .map(|call| call.expect("readable"))
        .collect()
}

fn stored(shelf: &dyn Shelf, number: u64) -> StoredCall {
    let found = shelf
        .reader()
        .call(&opening(number).call)
        .expect("readable");
    found.expect("the call is there")
}

fn write(store: &dyn Running, calls: &[StoredCall]) {
    for call in calls {
        store.ledger().open(call.opened.clone());
        if let Some(settled) = &call.settled {
            store.ledger().settle(settled.clone(), nobody());
        }
    }
    store.flush();
}

/// Runs a property without a file of past failures: a case that failed becomes a row of its own.
#[expect(clippy::panic, reason = "a failed property fails its test")]
fn check<S: Strategy>(cases: u32, inputs: &S, property: impl Fn(S::Value)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        property(input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
