//! What only a file can do: be shared, be foreign, be old, and refuse to be changed.
//!
//! **Invariant**: each refusal is checked with its whole message.

use std::error::Error;
use std::sync::Arc;

use policy::moment::Moment;
use policy::ports::read::Filter;
use policy::ports::{AuditEntry, Ledger};
use rusqlite::Connection;
use store::error::StoreError;
use store::sqlite::Durability;
use store::sqlite::keys::SqliteKeys;
use store::sqlite::ledger::SqliteLedger;
use store::sqlite::reader::SqliteReader;
use testkit::conformance::{Shelf, opening, settling};

use crate::shelves::FileShelf;

const NOW: Moment = Moment(1);

/// A shelf with call 1 settled and call 2 open.
fn written() -> FileShelf {
    let shelf = FileShelf::new();
    let ledger = shelf.ledger(NOW);
    ledger.open(opening(1));
    ledger.settle(settling(1), Box::new(|| {}));
    ledger.open(opening(2));
    ledger.close().expect("closed");
    shelf
}

fn refusal(shelf: &FileShelf) -> StoreError {
    SqliteLedger::open(&shelf.path(), Durability::Process, NOW).expect_err("refused")
}

#[test]
fn a_second_gateway_is_refused() {
    let shelf = FileShelf::new();
    let first = shelf.ledger(NOW);
    first.open(opening(1));
    first.flush();
    let refusal = refusal(&shelf);
    assert!(matches!(refusal, StoreError::InUse { .. }));
    assert_eq!(
        refusal.to_string(),
        format!(
            "the ledger {} is in use by another gateway (process {}); stop it, or give this one \
             its own file",
            shelf.path().display(),
            std::process::id()
        )
    );
    let totals = shelf.reader().totals(&Filter::default()).expect("summed");
    assert_eq!(
        (totals.running, totals.recovered),
        (1, 0),
        "the first one's call is left alone"
    );
    drop(first);
    assert_eq!(shelf.ledger(NOW).recovered(), 1);
}

#[test]
fn readers_work_beside_a_running_gateway() {
    let shelf = FileShelf::new();
    let ledger = shelf.ledger(NOW);
    let keys = SqliteKeys::open(&shelf.path()).expect("keys beside a gateway");
    let before = shelf.reader();
    for number in 0..50 {
        ledger.open(opening(number));
        ledger.settle(settling(number), Box::new(|| {}));
        ledger.flush();
        let totals = before.totals(&Filter::default()).expect("summed");
        assert_eq!(totals.calls, number + 1);
    }
    assert_eq!(policy::ports::Keys::version(&keys).expect("readable"), 0);
    // A long export does not keep the writer from writing.
    let mut export = before.calls(&Filter::default());
    assert!(export.next().is_some());
    ledger.open(opening(50));
    ledger.close().expect("closed");
    assert_eq!(
        shelf
            .reader()
            .totals(&Filter::default())
            .expect("summed")
            .running,
        1
    );
}

#[test]
fn settled_rows_refuse_every_change() {
    let shelf = written();
    let connection = Connection::open(shelf.path()).expect("opened");
    connection
        .pragma_update(None, "recursive_triggers", true)
        .expect("set");
    let change = |sql: &str| {
        connection
            .execute(sql, [])
            .map_err(|error| error.to_string())
    };
    let refuse = |sql: &str, why: &str| {
        assert_eq!(change(sql), Err(why.to_owned()), "{sql}");
    };
    refuse(
        "UPDATE calls SET cost_pico_usd = 0 WHERE id = 1",
        "a settled call never changes",
    );
    refuse(
        "UPDATE calls SET settled_at_ms = NULL WHERE id = 1",
        "a settled call never changes",
    );
    refuse("DELETE FROM calls WHERE id = 1", "calls are never deleted");
    refuse("DELETE FROM calls WHERE id = 2", "calls are never deleted");
    refuse(
        "INSERT OR REPLACE INTO calls SELECT * FROM calls WHERE id = 1",
        "calls are never deleted",
    );
    refuse("UPDATE legs SET output = 0", "legs never change");
    refuse("DELETE FROM legs", "legs are never deleted");
    let twin = |id: u8| {
        format!("INSERT INTO savings (call_id, lever, pico_usd) VALUES ({id}, 'other', 1)")
    };
    refuse(&twin(1), "savings are added only while their call is open");
    refuse(&twin(3), "savings are added only while their call is open");
    refuse(
        "INSERT INTO legs SELECT call_id, 9, provider, model, sent_at_ms, first_byte_at_ms, \
         ended_at_ms, status, ending, estimated, uncached, cache_read, cache_write_5m, \
         cache_write_30m, cache_write_1h, cache_write_12h, audio_input, output, reasoning, \
         audio_output, web_searches, tier, cost_pico_usd FROM legs",
        "legs are added only while their call is open",
    );
    refuse("UPDATE savings SET pico_usd = 0", "savings never change");
    refuse("DELETE FROM savings", "savings are never deleted");
    assert_eq!(
        change("UPDATE calls SET settled_at_ms = 9 WHERE id = 2"),
        Ok(1)
    );
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checked");
    assert_eq!(check, "ok");
}

#[test]
fn keys_and_their_audit_refuse_what_nobody_may_do() {
    let shelf = written();
    let keys = shelf.keys();
    let entry = AuditEntry {
        at: NOW,
        actor: "command line".to_owned(),
        action: "create".to_owned(),
        subject: "key_1".to_owned(),
        detail: String::new(),
    };
    keys.audit(&entry).expect("written");
    let connection = Connection::open(shelf.path()).expect("opened");
    connection
        .pragma_update(None, "recursive_triggers", true)
        .expect("set");
    let make = |hash: &str, previous: &str| {
        format!(
            "INSERT INTO keys (id, name, hash, created_at_ms, previous_hash) \
             VALUES (quote({hash}), '', {hash}, 1, {previous})"
        )
    };
    connection
        .execute(&make("x'01'", "x'02'"), [])
        .expect("added");
    let taken = "this secret is there already";
    for (sql, why) in [
        (
            "UPDATE audit SET detail = 'none'",
            "what was audited never changes",
        ),
        ("DELETE FROM audit", "what was audited is never deleted"),
        (
            "INSERT OR REPLACE INTO audit SELECT * FROM audit",
            "what was audited is never deleted",
        ),
        (&make("x'02'", "NULL"), taken),
        (&make("x'03'", "x'01'"), taken),
        (&make("x'03'", "x'02'"), taken),
        ("UPDATE keys SET hash = x'02'", taken),
        ("DELETE FROM keys", "keys are never deleted; disable them"),
    ] {
        let refused = connection.execute(sql, []).expect_err(sql).to_string();
        assert_eq!(refused, why, "{sql}");
    }
    assert_eq!(keys.audits(9).expect("readable"), [entry]);
}

#[test]
fn messages_say_what_to_do() {
    let message = |error: &StoreError| error.to_string();

    let shelf = FileShelf::new();
    let path = shelf.path().display().to_string();
    let missing = SqliteReader::open(&shelf.path()).expect_err("refused");
    assert_eq!(
        message(&missing),
        format!("no ledger at {path}; `tokenwise serve` makes one")
    );

    std::fs::write(
        shelf.path(),
        "not a database, but long enough to have had a header",
    )
    .unwrap();
    let foreign = format!("{path} is not a tokenwise ledger; name another file");
    assert_eq!(message(&refusal(&shelf)), foreign);
    assert_eq!(
        message(&SqliteReader::open(&shelf.path()).expect_err("refused")),
        foreign
    );

    let shelf = FileShelf::new();
    let path = shelf.path().display().to_string();
    let other = Connection::open(shelf.path()).expect("opened");
    other
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .expect("written");
    assert_eq!(
        message(&refusal(&shelf)),
        format!("{path} is not a tokenwise ledger; name another file")
    );

    let shelf = written();
    let path = shelf.path().display().to_string();
    let newer = Connection::open(shelf.path()).expect("opened");
    newer.pragma_update(None, "user_version", 7).expect("set");
    let expect = format!(
        "the ledger {path} has schema 7, this build reads 6; use the newer tokenwise that wrote it"
    );
    assert_eq!(message(&refusal(&shelf)), expect);
    assert_eq!(
        message(&SqliteReader::open(&shelf.path()).expect_err("refused")),
        expect
    );
    newer.pragma_update(None, "user_version", 0).expect("set");
    assert_eq!(
        message(&SqliteReader::open(&shelf.path()).expect_err("refused")),
        format!(
            "the ledger {path} has schema 0, this build reads 6; start `tokenwise serve` once to \
             bring it up to date"
        )
    );

    let nowhere = FileShelf::new().path().join("deeper/ledger.db");
    let io = SqliteLedger::open(&nowhere, Durability::Process, NOW).expect_err("refused");
    assert_eq!(
        message(&io),
        format!("cannot create {}.lock", nowhere.display())
    );
    assert!(io.source().is_some());
}

#[test]
fn a_locked_file_delays_calls_and_loses_none() {
    let shelf = FileShelf::new();
    let ledger = Arc::new(shelf.ledger(NOW));
    let other = Connection::open(shelf.path()).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for number in 0..10 {
        ledger.open(opening(number));
        ledger.settle(settling(number), Box::new(|| {}));
    }
    assert_eq!(ledger.health().settled, 0);
    assert_eq!(ledger.health().queued, 20);
    other.execute_batch("COMMIT").expect("unlocked");
    ledger.flush();
    let health = ledger.health();
    assert_eq!(
        (health.settled, health.queued, health.failing),
        (10, 0, None)
    );
}

#[test]
fn a_ledger_past_its_bound_says_so_and_takes_what_is_under_way() {
    let shelf = FileShelf::new();
    let ledger = shelf.ledger(NOW);
    let other = Connection::open(shelf.path()).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let rows = 65_536;
    for number in 0..rows {
        ledger.open(opening(number));
    }
    assert!(!ledger.health().behind);
    for number in 0..10 {
        ledger.settle(settling(number), Box::new(|| {}));
    }
    assert!(ledger.health().behind);
    other.execute_batch("COMMIT").expect("unlocked");
    ledger.flush();
    let health = ledger.health();
    assert_eq!(
        (health.behind, health.settled, health.queued_most),
        (false, 10, rows + 11)
    );
}

#[test]
fn a_closed_ledger_does_not_hang_those_who_come_late() {
    let shelf = FileShelf::new();
    let ledger = shelf.ledger(NOW);
    ledger.close().expect("closed");
    ledger.settle(settling(1), Box::new(|| unreachable!("it is not written")));
    ledger.flush();
    assert_eq!(
        ledger.health().failing.as_deref(),
        Some("the ledger is closed")
    );
    assert_eq!(
        shelf
            .reader()
            .totals(&Filter::default())
            .expect("summed")
            .calls,
        0
    );
}
