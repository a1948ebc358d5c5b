//! `kill -9` under load: what a client has received whole is in the books, once.
//!
//! **Invariant**: every call whose last byte reached its client is in the ledger exactly once after
//! restarts, answered and with its cost; every other row is closed, and none is there twice
//! (`kill_minus_nine`).

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;

use policy::ports::End;
use policy::ports::read::{Filter, LedgerReader as _, StoredCall};
use store::sqlite::reader::SqliteReader;

use crate::home::Home;
use crate::serve::Served;

/// Calls that must be received whole.
const CALLS: usize = 10_000;

/// Clients that call at the same time.
const CLIENTS: usize = 16;

/// A kill comes after 200 to 1 200 more received calls, so about 14 times in all.
const CALLS_BETWEEN: std::ops::Range<usize> = 200..1_200;

/// What the clients have received, and from where they call.
struct Field {
    address: RwLock<String>,
    received: Mutex<Vec<String>>,
    count: AtomicUsize,
}

impl Field {
    /// Calls over one connection until it breaks or all is done.
    fn call_until_it_breaks(&self, client: usize) -> std::io::Result<()> {
        let address = self.address.read().unwrap().clone();
        let mut stream = TcpStream::connect(address)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        for turn in 0.. {
            if self.count.load(Ordering::SeqCst) >= CALLS {
                break;
            }
            let streamed = (client + turn).is_multiple_of(2);
            let body = format!(
                r#"{{"model":"claude-haiku-4-5","max_tokens":64,"stream":{streamed},"messages":[{{"role":"user","content":"words:8 {client}-{turn}"}}]}}"#
            );
            let length = body.len();
            let request = format!(
                "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes())?;
            let (status, id) = receive(&mut reader)?;
            assert_eq!(status, "200", "{id}");
            self.received.lock().unwrap().push(id);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Reads one answer to its last byte and returns its status and the call's id.
pub(crate) fn receive(reader: &mut BufReader<TcpStream>) -> std::io::Result<(String, String)> {
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (mut status, mut id, mut length) = (None, None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("x-tokenwise-call", value)) => id = Some(value.to_owned()),
            Some(("content-length", value)) => length = value.parse::<usize>().ok(),
            Some(_) => {}
            None => status = line.split(' ').nth(1).map(str::to_owned),
        }
    }
    match length {
        Some(length) => reader.read_exact(&mut vec![0; length])?,
        None => while receive_chunk(reader)? > 0 {},
    }
    status.zip(id).ok_or_else(broken)
}

/// Reads one chunk of a chunked body; the last has no bytes.
fn receive_chunk(reader: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let broken = |_| std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let size = usize::from_str_radix(line.trim_end(), 16).map_err(broken)?;
    reader.read_exact(&mut vec![0; size + 2])?;
    Ok(size)
}

#[test]
fn kill_minus_nine() {
    let home = Home::new();
    let provider = Served::start(home.command(&["simulate", "--listen", "127.0.0.1:0"]));
    let config = format!(
        "[store]\npath = \"ledger.db\"\n\n[log]\nlevel = \"error\"\n\n[[providers]]\nid = \"anthropic\"\nbase_url = \"http://{}\"\napi_key = \"env:OPENAI_API_KEY\"\n",
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
        received: Mutex::new(Vec::new()),
        count: AtomicUsize::new(0),
    };
    let mut kills = 0;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let field = &field;
            scope.spawn(move || {
                while field.count.load(Ordering::SeqCst) < CALLS {
                    // A broken connection is what this test is about: call again.
                    field.call_until_it_breaks(client).ok();
                    thread::yield_now();
                }
            });
        }
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = CALLS_BETWEEN.start;
        while field.count.load(Ordering::SeqCst) < CALLS {
            if field.count.load(Ordering::SeqCst) < next {
                thread::yield_now();
                continue;
            }
            gateway.kill();
            kills += 1;
            gateway = Served::start(home.command(&arguments));
            *field.address.write().unwrap() = gateway.address.clone();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let span = (CALLS_BETWEEN.end - CALLS_BETWEEN.start) as u64;
            let more = CALLS_BETWEEN.start + usize::try_from((random >> 33) % span).unwrap();
            next = field.count.load(Ordering::SeqCst) + more;
        }
    });
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(provider.stop(), Some(0));
    let received = field.received.into_inner().unwrap();
    compare(&home.path().join("ledger.db"), &received, kills);
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
