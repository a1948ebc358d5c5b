//! `kill -9` under load: what a client has received whole is in the books, once.
//!
//! **Invariant**: every call whose last byte reached its client is in the ledger exactly once after
//! restarts, answered and with its cost; every other row is closed, and none is there twice
//! (`kill_minus_nine`).

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use policy::ports::End;
use policy::ports::read::{Filter, LedgerReader as _, StoredCall};
use store::sqlite::reader::SqliteReader;

use crate::crash::{CLIENTS, Load, Received, kill_under};

/// A kill comes after 200 to 1 200 more received calls, so about 14 times in all.
const CALLS_BETWEEN: Range<usize> = 200..1_200;

/// What the clients have received.
#[derive(Default)]
struct Calls(Mutex<Vec<String>>);

impl Load for Calls {
    fn config(&self) -> String {
        String::new()
    }

    fn call(&self, number: usize) -> (String, String) {
        (String::new(), format!("words:8 {number}"))
    }

    fn received(&self, received: Received<'_>) {
        assert_eq!(received.status, "200", "{}", received.call);
        self.0.lock().unwrap().push(received.call);
    }
}

#[test]
fn kill_minus_nine() {
    let calls = Calls::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let between = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let span = (CALLS_BETWEEN.end - CALLS_BETWEEN.start) as u64;
        CALLS_BETWEEN.start + usize::try_from((random >> 33) % span).unwrap()
    };
    let (_home, ledger, kills) = kill_under(&calls, between);
    compare(&ledger, &calls.0.into_inner().unwrap(), kills);
}

/// Holds the books against what the clients received.
fn compare(ledger: &Path, received: &[String], kills: usize) {
    let reader = SqliteReader::open(ledger).unwrap();
    let filter = Filter::default();
    let rows: Vec<StoredCall> = reader.calls(&filter).map(Result::unwrap).collect();
    let ids: HashSet<&str> = rows.iter().map(|row| row.opened.call.0.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "no call is there twice");
    let received: HashSet<&str> = received.iter().map(String::as_str).collect();
    let mut lost = received.clone();
    let mut recovered = 0;
    for row in &rows {
        let settled = row.settled.as_ref().unwrap();
        let was_received = lost.remove(row.opened.call.0.as_str());
        assert!(!was_received || settled.end == End::Answered, "{row:?}");
        assert!(!was_received || settled.cost.is_some(), "{row:?}");
        recovered += usize::from(settled.end == End::Recovered);
    }
    assert!(lost.is_empty(), "received, but not in the ledger: {lost:?}");
    assert!(kills >= 5, "{kills} kills");
    assert!(recovered <= kills * CLIENTS, "{recovered} recovered calls");
    println!(
        "{} calls received whole over {kills} kills: all in the ledger once, answered; {recovered} \
         calls that were cut off are closed as recovered; {} rows in all",
        received.len(),
        rows.len()
    );
}
