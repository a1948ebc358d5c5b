//! A gateway that is killed under load, again and again, in front of a simulated provider.
//!
//! **Invariant**: a client calls until all answers are there, over whichever gateway runs, and counts
//! an answer only when it has its last byte.

use std::io::{BufRead as _, BufReader, Error, ErrorKind, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::home::Home;
use crate::serve::Served;

/// Answers that must be received whole.
pub(crate) const CALLS: usize = 10_000;

/// Clients that call at the same time.
pub(crate) const CLIENTS: usize = 16;

/// The start of a configuration: errors alone are logged, and a ledger lies beside it.
const CONFIG: &str = "[store]\npath = \"ledger.db\"\n\n[log]\nlevel = \"error\"\n\n";

/// What was received whole.
pub(crate) struct Received<'a> {
    /// The status code.
    pub(crate) status: &'a str,
    /// The call's id.
    pub(crate) call: String,
}

/// What a test asks for, and what it makes of the answers.
pub(crate) trait Load: Sync {
    /// What is appended to the configuration.
    fn config(&self) -> String;

    /// Header fields of the call with this number, each with its line break, and what it says.
    fn call(&self, number: usize) -> (String, String);

    /// Takes an answer.
    fn received(&self, received: Received<'_>);
}

/// Makes calls until [`CALLS`] answers are there, and kills and restarts the gateway whenever as many
/// more have come as `between` says next. Returns how often, and where the ledger is.
pub(crate) fn kill_under(
    load: &dyn Load,
    mut between: impl FnMut() -> usize,
) -> (Home, PathBuf, usize) {
    let home = Home::new();
    let provider = Served::start(home.command(&["simulate", "--listen", "127.0.0.1:0"]));
    let config = format!(
        "{CONFIG}[[providers]]\nid = \"anthropic\"\nbase_url = \"http://{}\"\napi_key = \"env:OPENAI_API_KEY\"\n\n{}",
        provider.address,
        load.config()
    );
    let config = home.file("tokenwise.toml", &config);
    let config = config.to_str().unwrap();
    let start = || {
        let arguments = ["serve", "--config", config, "--listen", "127.0.0.1:0"];
        Served::start(home.command(&arguments))
    };
    let mut gateway = start();
    let field = Field {
        load,
        address: RwLock::new(gateway.address.clone()),
        made: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
    };
    let mut kills = 0;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while field.answered() < CALLS {
                    // A broken connection is what these tests are about: call again.
                    field.call_until_it_breaks().ok();
                    thread::yield_now();
                }
            });
        }
        let mut next = between();
        while field.answered() < CALLS {
            if field.answered() < next {
                thread::yield_now();
                continue;
            }
            gateway.kill();
            kills += 1;
            gateway = start();
            field.address.write().unwrap().clone_from(&gateway.address);
            next = field.answered() + between();
        }
    });
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(provider.stop(), Some(0));
    let ledger = home.path().join("ledger.db");
    (home, ledger, kills)
}

/// What the clients share.
struct Field<'a> {
    load: &'a dyn Load,
    address: RwLock<String>,
    made: AtomicUsize,
    answered: AtomicUsize,
}

impl Field<'_> {
    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Calls over one connection until it breaks or all is done; every other answer is a stream.
    fn call_until_it_breaks(&self) -> Result<()> {
        let address = self.address.read().unwrap().clone();
        let mut stream = TcpStream::connect(address)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while self.answered() < CALLS {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            let ((fields, says), streamed) = (self.load.call(number), number.is_multiple_of(2));
            let body = format!(
                r#"{{"model":"claude-haiku-4-5","max_tokens":64,"stream":{streamed},"messages":[{{"role":"user","content":"{says}"}}]}}"#
            );
            let length = body.len();
            let request = format!(
                "POST /v1/messages HTTP/1.1\r\nhost: x\r\n{fields}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes())?;
            let (status, call) = receive(&mut reader)?;
            let status = status.as_str();
            self.load.received(Received { status, call });
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Reads one answer to its last byte and returns its status and the call's id.
fn receive(reader: &mut BufReader<TcpStream>) -> Result<(String, String)> {
    let broken = || Error::from(ErrorKind::UnexpectedEof);
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
fn receive_chunk(reader: &mut BufReader<TcpStream>) -> Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let broken = |_| Error::from(ErrorKind::UnexpectedEof);
    let size = usize::from_str_radix(line.trim_end(), 16).map_err(broken)?;
    reader.read_exact(&mut vec![0; size + 2])?;
    Ok(size)
}
