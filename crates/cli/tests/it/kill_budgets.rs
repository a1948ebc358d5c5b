//! `kill -9` under load where money is limited: what a crash cuts off stays held, and no limit is
//! exceeded however often the gateway starts anew.
//!
//! **Invariant**: for every task and for the key, what was spent and what calls that were cut off may
//! have cost are together within the amount (`kill_minus_nine_overspends_nothing`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use policy::money::PicoUsd;
use policy::ports::End;
use policy::ports::read::{Filter, LedgerReader as _};
use store::sqlite::reader::SqliteReader;

use crate::crash::{CALLS, CLIENTS, Load, Received, kill_under};

/// A kill comes after so many more answers: some 12 times in all.
const CALLS_BETWEEN: usize = 750;

/// Calls that are made for one task; it can pay for about half of them.
const CALLS_A_TASK: usize = 500;

/// What one task may cost.
const TASK_USD: &str = "0.06";

/// What all tasks may cost.
const KEY_USD: &str = "0.9";

/// Calls for one task after the other, each of which runs out of money.
#[derive(Default)]
struct Tasks {
    refused: AtomicUsize,
}

impl Load for Tasks {
    fn config(&self) -> String {
        format!(
            "[[budgets]]\nid = \"task\"\napplies_to = \"task\"\nusd = \"{TASK_USD}\"\nper = \"lifetime\"\n\n[[budgets]]\nid = \"key\"\napplies_to = \"key\"\nusd = \"{KEY_USD}\"\nper = \"month\"\n"
        )
    }

    fn call(&self, number: usize) -> (String, String) {
        let task = number / CALLS_A_TASK;
        let fields = format!("x-tokenwise-task: task-{task}\r\n");
        (fields, format!("words:16 {number}"))
    }

    fn received(&self, received: Received<'_>) {
        match received.status {
            "200" => {}
            "429" => _ = self.refused.fetch_add(1, Ordering::SeqCst),
            other => panic!("{other}: {}", received.call),
        }
    }
}

#[test]
fn kill_minus_nine_overspends_nothing() {
    let tasks = Tasks::default();
    let (_home, ledger, kills) = kill_under(&tasks, || CALLS_BETWEEN);
    check(&ledger, kills);
    let refused = tasks.refused.into_inner();
    assert!(refused > 0 && refused < CALLS, "{refused} refused");
    println!("{CALLS} calls answered over {kills} kills, {refused} of them by a refusal");
}

/// What somebody paid, and may have paid for calls that were cut off.
#[derive(Default)]
struct Paid {
    spent: PicoUsd,
    unsure: PicoUsd,
}

/// Holds what the ledger has against the limits.
fn check(ledger: &Path, kills: usize) {
    let reader = SqliteReader::open(ledger).unwrap();
    let mut paid: BTreeMap<String, Paid> = BTreeMap::new();
    let mut cut_off = 0;
    for row in reader.calls(&Filter::default()).map(Result::unwrap) {
        let settled = row.settled.unwrap();
        if settled.end == End::TurnedAway {
            assert_eq!((row.opened.held, settled.cost), (None, Some(PicoUsd::ZERO)));
            continue;
        }
        // Killed while it was being turned away, it holds nothing.
        let held = row
            .opened
            .held
            .map_or(PicoUsd::ZERO, |held| held.usd.unwrap());
        for payer in [row.opened.task.unwrap(), row.opened.key] {
            let paid = paid.entry(payer).or_default();
            match settled.cost {
                Some(cost) => paid.spent += cost,
                None => paid.unsure += held,
            }
        }
        if settled.end == End::Recovered {
            cut_off += 1;
        } else {
            assert!(settled.cost.is_some(), "{settled:?}");
        }
    }
    for (payer, paid) in &paid {
        let amount = if payer.starts_with("task-") {
            TASK_USD
        } else {
            KEY_USD
        };
        let amount: PicoUsd = amount.parse().unwrap();
        let Paid { spent, unsure } = paid;
        assert!(
            *spent + *unsure <= amount,
            "{payer}: {spent} and {unsure} of {amount}"
        );
        println!("{payer:>9}: {spent} spent, {unsure} unsure, of {amount}");
    }
    assert!(kills >= 10, "{kills} kills");
    assert!(cut_off <= kills * CLIENTS, "{cut_off} calls were cut off");
}
