//! Files of earlier builds, brought up to date.
//!
//! **Invariant**: a file here is made by the statements of the build that it stands for, never by
//! those of this one.

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::read::{Filter, SpentBy};
use policy::ports::{AuditEntry, CallOpened, CallSettled, End, KeyRecord, Payers};
use rusqlite::Connection;
use testkit::conformance::{Shelf, opening, settling};

use crate::shelves::FileShelf;

/// What the build with schema 1 wrote: its tables, its mark, and rows in each of them.
const SCHEMA_1: &str = include_str!("../../src/sqlite/schema_1.sql");
const ROWS_1: &str = "
    PRAGMA application_id = 0x746b7773;
    PRAGMA user_version = 1;
    INSERT INTO calls (call, opened_at_ms, key, session, task, endpoint, model, provider,
                       input_estimate)
    VALUES ('call_00000000000000000000000001', 1767225600001, 'anonymous', NULL, 'task',
            '/v1/messages', 'small', 'acme', 1),
           ('call_00000000000000000000000002', 1767225600002, 'anonymous', NULL, 'task',
            '/v1/messages', 'small', 'acme', 2);
    INSERT INTO legs VALUES (1, 0, 'acme', 'small-1', 1767225600001, 1767225600002, 1767225600003,
                             200, 'answered', 0, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, NULL, 2400000);
    INSERT INTO savings VALUES (1, 'cache', -1);
    UPDATE calls SET settled_at_ms = 1767225600051, ending = 'answered', status = 200,
                     estimated = 0, cost_pico_usd = 2400000, untouched_pico_usd = 2399999,
                     prices = '2026-01-01', notes = '{\"cache\":\"no write pays\"}'
    WHERE id = 1;
    INSERT INTO keys VALUES ('key_1', 'ci', zeroblob(32), 5, 70, NULL);
";

/// As it was before there were payers and holds.
fn opened_by_1(number: u64) -> CallOpened {
    CallOpened {
        payers: Payers::default(),
        held: None,
        target: None,
        ..opening(number)
    }
}

fn written_by_1() -> FileShelf {
    let shelf = FileShelf::new();
    let connection = Connection::open(shelf.path()).expect("opened");
    connection.execute_batch(SCHEMA_1).expect("made");
    connection.execute_batch(ROWS_1).expect("written");
    shelf
}

#[test]
fn a_ledger_of_schema_1_is_taken_over() {
    let shelf = written_by_1();
    let now = Moment(1_767_225_700_000);
    let ledger = shelf.ledger(now);
    assert_eq!(ledger.recovered(), 1);
    let reader = shelf.reader();
    let calls = reader.calls(&Filter::default());
    let calls: Vec<_> = calls.map(|call| call.expect("readable")).collect();
    let opened: Vec<_> = calls.iter().map(|call| call.opened.clone()).collect();
    assert_eq!(opened, [opened_by_1(1), opened_by_1(2)]);
    let settled: Vec<CallSettled> = calls.into_iter().filter_map(|call| call.settled).collect();
    assert_eq!(settled.first(), Some(&settling(1)));
    assert_eq!(
        settled.last().map(|settled| settled.end),
        Some(End::Recovered)
    );

    let mut spent = Vec::new();
    let summed = reader.spending(&SpentBy::default(), &mut |part| {
        spent.push((part.cost, part.calls));
    });
    summed.expect("summed");
    assert_eq!(spent, [(PicoUsd(2_400_000), 1)]);
    assert_eq!(reader.cut_off(Moment(0)).expect("readable"), []);
    ledger.close().expect("closed");
}

#[test]
fn keys_of_schema_1_are_taken_over() {
    let shelf = written_by_1();
    let keys = shelf.keys();
    let key = KeyRecord {
        id: "key_1".to_owned(),
        name: "ci".to_owned(),
        hash: [0; 32],
        created_at: Moment(5),
        expires_at: Some(Moment(70)),
        disabled_at: None,
        payers: Payers::default(),
        models: Vec::new(),
        previous: None,
    };
    assert_eq!(keys.list().expect("readable"), [key]);
    assert_eq!(keys.version().expect("readable"), 1);
    let rotated = keys.rotate("key_1", &[1; 32], Moment(60)).expect("written");
    assert_eq!(keys.find(&[0; 32]).expect("readable"), rotated);
    let entry = AuditEntry {
        at: Moment(9),
        actor: "command line".to_owned(),
        action: "rotate".to_owned(),
        subject: "key_1".to_owned(),
        detail: String::new(),
    };
    keys.audit(&entry).expect("written");
    assert_eq!(keys.audits(9).expect("readable"), [entry]);
}
