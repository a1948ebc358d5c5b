//! The command line.
//!
//! **Invariant**: an unknown flag, mode or value ends the process with code 2 before anything is sent.

use std::fs;
use std::str::FromStr;
use std::sync::Arc;

/// How load is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One call after another.
    Closed,
    /// Calls at a fixed rate.
    Open,
    /// One stream after another.
    Stream,
    /// Streams that are opened and held.
    Hold,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::Stream, Self::Hold];

    /// The name on the command line and in the result.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Stream => "stream",
            Self::Hold => "hold",
        }
    }
}

/// What is asked for.
#[derive(Clone)]
pub struct Options {
    /// How load is made.
    pub mode: Mode,
    /// Host and port.
    pub address: String,
    /// The request, head and body.
    pub request: Arc<Vec<u8>>,
    /// Connections.
    pub connections: usize,
    /// How long is measured, in seconds.
    pub seconds: f64,
    /// How long it runs before, in seconds.
    pub warm_seconds: f64,
    /// Calls a second in all, for [`Mode::Open`].
    pub rate: f64,
    /// Threads that make calls.
    pub threads: usize,
    /// Whether answers are streams.
    pub streams: bool,
    /// Streams that are opened a second, for [`Mode::Hold`].
    pub ramp: f64,
    /// How long one call may take, in seconds.
    pub timeout_seconds: f64,
    /// Processes whose trees are measured.
    pub measured: Vec<i32>,
    /// Processes whose trees help, such as the upstream.
    pub helping: Vec<i32>,
}

impl Options {
    /// Reads the command line.
    pub fn of_process() -> Self {
        let mut options = Self {
            mode: Mode::Closed,
            address: String::new(),
            request: Arc::default(),
            connections: 1,
            seconds: 5.0,
            warm_seconds: 1.0,
            rate: 100.0,
            threads: 1,
            streams: false,
            ramp: 1000.0,
            timeout_seconds: 30.0,
            measured: vec![],
            helping: vec![],
        };
        let (mut url, mut body, mut headers) = (String::new(), String::new(), String::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || match arguments.next() {
                Some(value) => value,
                None => refuse(&format!("{flag}: value missing")),
            };
            match flag.as_str() {
                "--mode" => options.mode = mode(&value()),
                "--url" => url = value(),
                "--body" => body = value(),
                "--header" => headers += &format!("{}\r\n", value()),
                "--conns" => options.connections = number(&flag, &value()),
                "--secs" => options.seconds = number(&flag, &value()),
                "--warm" => options.warm_seconds = number(&flag, &value()),
                "--rate" => options.rate = number(&flag, &value()),
                "--threads" => options.threads = number(&flag, &value()),
                "--pid" => options.measured.push(number(&flag, &value())),
                "--aux" => options.helping.push(number(&flag, &value())),
                "--ramp" => options.ramp = number(&flag, &value()),
                "--timeout" => options.timeout_seconds = number(&flag, &value()),
                "--sse" => options.streams = true,
                _ => refuse(&format!("unknown flag {flag}")),
            }
        }
        options.streams |= matches!(options.mode, Mode::Stream | Mode::Hold);
        let Some(rest) = url.strip_prefix("http://") else {
            refuse("--url: write http://host:port/path");
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        options.address = host.to_string();
        options.request = Arc::new(request(host, path, &headers, &body));
        options
    }
}

/// The bytes that are sent for each call.
fn request(host: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let body = if body.is_empty() {
        vec![]
    } else {
        fs::read(body).unwrap_or_else(|error| refuse(&format!("--body {body}: {error}")))
    };
    let length = body.len();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), &body].concat()
}

fn mode(name: &str) -> Mode {
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
    mode.unwrap_or_else(|| refuse("--mode: closed, open, stream or hold"))
}

fn number<T: FromStr>(flag: &str, text: &str) -> T {
    let number = text.parse().ok();
    number.unwrap_or_else(|| refuse(&format!("{flag}: `{text}` is no such number")))
}

fn refuse(problem: &str) -> ! {
    eprintln!("{problem}");
    std::process::exit(2)
}
