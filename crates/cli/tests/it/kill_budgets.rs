//! `kill -9` under load where money is limited: what a crash cuts off stays held, and no limit is
//! exceeded however often the gateway starts anew.
//!
//! **Invariant**: for every task and for the key, what was spent and what calls that were cut off may
//! have cost are together within the amount (`kill_minus_nine_overspends_nothing`).

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use policy::money::PicoUsd;
use policy::ports::End;
use policy::ports::read::{Filter, LedgerReader as _};
use store::sqlite::reader::SqliteReader;

use crate::home::Home;
use crate::kill::receive;
use crate::serve::Served;

/// Calls that must be answered, be it by a refusal.
const CALLS: usize = 10_000;

/// Clients that call at the same time.
const CLIENTS: usize = 16;

/// A kill comes after so many more answers: 13 times in all.
const CALLS_BETWEEN: usize = 750;

/// Calls that are made for one task; it can pay for about half of them.
const CALLS_A_TASK: usize = 500;

/// What one task may cost.
const TASK_USD: &str = "0.06";

/// What all tasks may cost.
const KEY_USD: &str = "0.9";

/// What the clients share.
#[derive(Default)]
struct Field {
    address: RwLock<String>,
    made: AtomicUsize,
    answered: AtomicUsize,
    refused: AtomicUsize,
}

impl Field {
    /// Calls over one connection until it breaks or all is done.
    fn call_until_it_breaks(&self) -> std::io::Result<()> {
        let address = self.address.read().unwrap().clone();
        let mut stream = TcpStream::connect(address)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while self.answered.load(Ordering::SeqCst) < CALLS {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            let (task, streamed) = (number / CALLS_A_TASK, number.is_multiple_of(2));
            let body = format!(
                r#"{{"model":"claude-haiku-4-5","max_tokens":64,"stream":{streamed},"messages":[{{"role":"user","content":"words:16 {number}"}}]}}"#
            );
            let length = body.len();
            let request = format!(
                "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-tokenwise-task: task-{task}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes())?;
            let (status, id) = receive(&mut reader)?;
            match status.as_str() {
                "200" => {}
                "429" => _ = self.refused.fetch_add(1, Ordering::SeqCst),
                other => panic!("{other}: {id}"),
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[test]
fn kill_minus_nine_overspends_nothing() {
    let home = Home::new();
    let provider = Served::start(home.command(&["simulate", "--listen", "127.0.0.1:0"]));
    let config = format!(
        "[store]\npath = \"ledger.db\"\n\n[log]\nlevel = \"error\"\n\n[[providers]]\nid = \"anthropic\"\nbase_url = \"http://{}\"\napi_key = \"env:OPENAI_API_KEY\"\n\n[[budgets]]\nid = \"task\"\napplies_to = \"task\"\nusd = \"{TASK_USD}\"\nper = \"lifetime\"\n\n[[budgets]]\nid = \"key\"\napplies_to = \"key\"\nusd = \"{KEY_USD}\"\nper = \"month\"\n",
        provider.address
    );
    home.file("tokenwise.toml", &config);
    let arguments = [
        "serve",
        "--config",
        "tokenwise.toml",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut gateway = Served::start(home.command(&arguments));
    let field = Field {
        address: RwLock::new(gateway.address.clone()),
        ..Field::default()
    };
    let mut kills = 0;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let field = &field;
            scope.spawn(move || {
                while field.answered.load(Ordering::SeqCst) < CALLS {
                    // A broken connection is what this test is about: call again.
                    field.call_until_it_breaks().ok();
                    thread::yield_now();
                }
            });
        }
        while field.answered.load(Ordering::SeqCst) < CALLS {
            if field.answered.load(Ordering::SeqCst) < (kills + 1) * CALLS_BETWEEN {
                thread::yield_now();
                continue;
            }
            gateway.kill();
            kills += 1;
            gateway = Served::start(home.command(&arguments));
            *field.address.write().unwrap() = gateway.address.clone();
        }
    });
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(provider.stop(), Some(0));
    let refused = field.refused.into_inner();
    check(&home.path().join("ledger.db"), kills);
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
        let held = row.opened.held.unwrap().usd.unwrap();
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
