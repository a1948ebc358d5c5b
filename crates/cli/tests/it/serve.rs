//! The gateway as a process: starting, saying where it listens, stopping.
//!
//! **Invariant**: it ends by itself on SIGTERM, and its children end with the test (`Served`).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::home::Home;

/// A running process that says where it listens.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    _stdout: BufReader<ChildStdout>,
}

impl Served {
    /// Starts it and waits until it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let command = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let address = said["listening"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://")
            .to_owned();
        Self {
            child,
            address,
            _stdout: stdout,
        }
    }

    /// Sends one request and returns the whole answer.
    pub(crate) fn call(&self, method: &str, path: &str, fields: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}content-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits for it.
    pub(crate) fn stop(self) -> Option<i32> {
        self.ends_by(&["-TERM"])
    }

    /// Sends these signals, and waits for its end.
    fn ends_by(mut self, signals: &[&str]) -> Option<i32> {
        let id = self.child.id().to_string();
        for signal in signals {
            let sent = Command::new("kill").args([signal, id.as_str()]).status();
            assert!(sent.unwrap().success());
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) const CALL: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#;

#[test]
fn serve_says_where_it_listens_and_stops() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let provider = format!("http://{}/v1", simulated.address);
    let config = home.before(&provider, "");
    let served = Served::start(home.command(&["serve", "--config", &config]));
    assert!(
        served
            .call("GET", "/healthz", "", "")
            .starts_with("HTTP/1.1 200")
    );
    let answer = served.call("POST", "/v1/chat/completions", "", CALL);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("You said: hi"), "{answer}");
    let report = ["report", "--json", "--config", &config];
    // The ledger can be read beside the gateway; what was answered is in it.
    assert_eq!(home.json(&report)["totals"]["calls"], 1);
    let explained = home.prints(&["explain", "last", "--config", &config]);
    assert!(
        explained.contains("/v1/chat/completions for gpt-5.4"),
        "{explained}"
    );
    assert_eq!(served.stop(), Some(0));
    let value = home.json(&report);
    assert_eq!(
        (&value["totals"]["calls"], &value["totals"]["running"]),
        (&1.into(), &0.into())
    );
    assert_eq!(simulated.stop(), Some(0));
}

#[test]
fn a_second_signal_ends_open_answers_with_their_account() {
    let home = Home::new();
    // It would take longer than anybody waits for a gateway to stop.
    let simulated = Served::start(home.command(&["simulate", "--next-frame-ms", "300"]));
    let config = home.before(&format!("http://{}/v1", simulated.address), "");
    let served = Served::start(home.command(&["serve", "--config", &config]));
    let mut stream = TcpStream::connect(&served.address).unwrap();
    let body = CALL.replace(r#""model""#, r#""stream":true,"model""#);
    let body = body.replace("hi", "words:1000");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0);
    }
    assert_eq!(served.ends_by(&["-TERM", "-INT"]), Some(0));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(r#""code":"shutting_down""#), "{rest}");
    let call = home.json(&["explain", "last", "--json", "--config", &config]);
    assert_eq!(call["settled"]["end"], "stopped");
    assert!(
        call["settled"]["cost_pico_usd"].as_i64().unwrap() > 0,
        "{call}"
    );
}

#[test]
fn a_store_with_keys_lets_only_their_holders_in() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let provider = format!("http://{}/v1", simulated.address);
    let config = home.before(&provider, "");
    let made = home.json(&["keys", "create", "ci", "--json", "--config", &config]);
    let secret = made["secret"].as_str().unwrap();
    let served = Served::start(home.command(&["serve", "--config", &config]));
    let answer = served.call("POST", "/v1/chat/completions", "", CALL);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let field = format!("authorization: Bearer {secret}\r\n");
    let answer = served.call("POST", "/v1/chat/completions", &field, CALL);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let by_key = home.json(&["report", "--json", "--by", "key", "--config", &config]);
    assert_eq!(by_key["parts"][0]["label"], made["id"]);
}

#[test]
fn open_access_beyond_loopback_does_not_start() {
    let home = Home::new();
    for arguments in [
        &["serve", "--listen", "0.0.0.0:0"][..],
        &["serve", "--listen", "[::]:0"],
    ] {
        let (code, message) = home.fails(arguments);
        assert_eq!(code, 2, "{message}");
        assert!(
            message.contains("not loopback") && message.contains("keys create"),
            "{message}"
        );
    }
}
