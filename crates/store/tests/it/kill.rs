//! A process that writes calls is killed with SIGKILL, again and again, at no particular moment.
//!
//! **Invariant**: every call whose acknowledgement left the process is in the ledger once, and every
//! call that was opened before it and not settled is closed as recovered.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use policy::moment::Moment;
use policy::ports::read::Filter;
use policy::ports::{End, Ledger};
use store::sqlite::Durability;
use store::sqlite::ledger::SqliteLedger;
use testkit::conformance::{Shelf, opening, settling};

use crate::shelves::FileShelf;

/// Names the ledger to the child; its absence makes the child's part of this file do nothing.
const LEDGER: &str = "STORE_TEST_KILLED_LEDGER";
/// The number of the child's first call.
const FIRST: &str = "STORE_TEST_KILLED_FIRST";

/// Each start of the child has this many numbers of its own: more than it lives to use.
const NUMBERS: u64 = 10_000_000;
const KILLS: u64 = 6;
/// The line before the number of an acknowledged call.
const ACKNOWLEDGED: &str = "acknowledged ";

/// The child: settles every even call, leaves every odd one open, and tells what is acknowledged.
#[test]
fn write_until_killed() {
    let (Some(ledger), Some(first)) = (variable(LEDGER), variable(FIRST)) else {
        return;
    };
    let first: u64 = first.parse().expect("a number");
    let ledger =
        SqliteLedger::open(Path::new(&ledger), Durability::Process, Moment(first)).unwrap();
    for number in (first..first + NUMBERS).step_by(2) {
        ledger.open(opening(number + 1));
        ledger.open(opening(number));
        ledger.settle(settling(number), Box::new(move || tell(number)));
        if number % 64 == 0 {
            // Otherwise it would only ever fill its own queue.
            ledger.flush();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how a test binary tells itself that it is the child"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// One write a line, straight to the pipe, past what the test harness captures.
fn tell(number: u64) {
    let line = format!("\n{ACKNOWLEDGED}{number}\n");
    std::io::stdout()
        .lock()
        .write_all(line.as_bytes())
        .expect("the parent listens");
}

fn child(shelf: &FileShelf, first: u64) -> Child {
    Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "kill::write_until_killed", "--nocapture"])
        .env(LEDGER, shelf.path())
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child")
}

/// Kills the child once it has told of this many calls, and returns all that it told.
fn acknowledged(mut child: Child, enough: usize) -> HashSet<u64> {
    let pipe = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut acknowledged = HashSet::new();
    for line in pipe.lines() {
        let line = line.expect("text");
        if let Some(number) = line.strip_prefix(ACKNOWLEDGED) {
            acknowledged.insert(number.parse().expect("a number"));
            if acknowledged.len() == enough {
                child.kill().expect("killed");
            }
        }
    }
    assert!(
        !child.wait().expect("ended").success(),
        "the child was killed, it did not end"
    );
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let shelf = FileShelf::new();
    let mut settled_before = HashSet::new();
    for round in 0..KILLS {
        let first = round * NUMBERS;
        // Early, late, and at no multiple of any batch; the scheduler adds its own chance.
        let enough = 1 + usize::try_from(round * round * 97).expect("small");
        let acknowledged = acknowledged(child(&shelf, first), enough);

        let ledger = shelf.ledger(Moment(first));
        assert!(
            ledger.recovered() >= acknowledged.len() as u64,
            "an open one for each"
        );
        let mut found = HashSet::new();
        for call in shelf.reader().calls(&Filter::default()) {
            let call = call.expect("readable");
            let number = call.opened.input_estimate.0;
            assert!(found.insert(number), "call {number} is there twice");
            let settled = call.settled.expect("a start leaves no call open");
            if settled.end == End::Recovered {
                assert!(
                    !acknowledged.contains(&number),
                    "call {number} was acknowledged"
                );
                assert!(
                    !settled_before.contains(&number),
                    "call {number} was settled"
                );
            } else {
                assert_eq!(settled, settling(number));
                settled_before.insert(number);
            }
        }
        for number in acknowledged {
            assert!(settled_before.contains(&number), "call {number} is lost");
            assert!(
                found.contains(&(number + 1)),
                "call {} was opened before",
                number + 1
            );
        }
        ledger.close().expect("closed");
    }
}
