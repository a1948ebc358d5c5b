//! Stories about the whole gateway, told as text: what the client asks and the upstream answers is
//! played over real TCP, what came of it is written beside it.
//!
//! ```text
//! == a greeting
//! >> POST /v1/messages  x-api-key: sk-client
//! {"model":"small","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}
//! -> POST /v1/messages                  what went upstream, exactly
//! <- 200 text/event-stream              what the upstream answers, one event a chunk
//! event: message_start
//! data: {…}
//!
//! [client closes]                       or [cut], [reset], [hang]
//! << 200                                what the client got
//! == ledger
//! one row a line
//! ```
//!
//! `>>` and `<-` are the story; `->`, `<<` and the ledger are expectations, which `UPDATE=1` writes.
//! A body that left as it came reads `[the same bytes]`.
//!
//! **Invariant**: a file whose expectations hold is told back to the byte (test
//! `a_true_story_is_told_back_unchanged`).

use std::future::Future;
use std::path::Path;

use crate::client::Client;
use crate::http1::{Ending, Headers, Piece};
use crate::transcript::story::{Exchange, Story, parse};
use crate::upstream::{Recorded, Upstream};

mod story;

/// Set to rewrite expectations instead of checking them.
const UPDATE: &str = "UPDATE";

/// Stands for a value that no file can know.
const ANY: &str = "*";

/// Stands for a body that left as it came.
const SAME_BYTES: &str = "[the same bytes]";

/// What a story is played on.
pub trait Harness {
    /// Starts a fresh gateway in front of `upstream_url` and returns its own URL.
    fn start(&mut self, upstream_url: &str) -> impl Future<Output = String>;

    /// The ledger, a line a row, once everything asked so far is settled.
    fn ledger_rows(&mut self) -> impl Future<Output = Vec<String>>;

    /// Stops the gateway.
    fn stop(&mut self) -> impl Future<Output = ()>;

    /// Headers, lowercase, whose values differ from run to run.
    fn volatile_headers(&self) -> &[&str] {
        &["date"]
    }
}

/// Plays the stories of a file and checks their expectations, or rewrites them if the environment
/// has `UPDATE=1`.
pub async fn run(path: &Path, harness: &mut impl Harness) {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
    let told = tell(&text, harness).await;
    if told == text {
        return;
    }
    if updates() {
        std::fs::write(path, told).expect("the file that was just read can be written");
        return;
    }
    let differs = told
        .lines()
        .zip(text.lines())
        .position(|(got, expected)| got != expected);
    let line = differs.unwrap_or_else(|| told.lines().count().min(text.lines().count()));
    let got = told.lines().nth(line).unwrap_or("(nothing)");
    let expected = text.lines().nth(line).unwrap_or("(nothing)");
    fail(&format!(
        "{}:{}\n  expected: {expected}\n  got:      {got}\n\
         the whole story as it went (UPDATE=1 writes it to the file):\n{told}",
        path.display(),
        line + 1,
    ));
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no settings of their own to declare it in"
)]
fn updates() -> bool {
    std::env::var(UPDATE).is_ok_and(|value| value == "1")
}

#[expect(clippy::panic, reason = "a transcript fails its test")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}

/// Plays the stories of `text` and tells them again with what happened.
pub async fn tell(text: &str, harness: &mut impl Harness) -> String {
    let (preamble, stories) = parse(text);
    let mut parts: Vec<String> = Vec::new();
    if !preamble.is_empty() {
        parts.push(preamble);
    }
    for story in &stories {
        parts.push(play(story, harness).await);
    }
    parts.join("\n")
}

/// Plays one story and tells it with what happened.
async fn play(story: &Story, harness: &mut impl Harness) -> String {
    let blocks = story
        .exchanges
        .iter()
        .flat_map(|exchange| &exchange.answers);
    let upstream = Upstream::scripted(blocks.map(|block| block.steps().0)).await;
    let gateway = harness.start(upstream.url()).await;
    let names = Names {
        upstream: upstream.url().into(),
        gateway: gateway.clone(),
    };
    let mut told = format!("== {}\n", story.title);
    let mut seen = 0;
    for exchange in &story.exchanges {
        let got = converse(exchange, &gateway, &upstream, seen).await;
        told.push_str(&exchange.ask.written(">>"));
        let requests = upstream.requests();
        let mut answers = exchange.answers.iter();
        for request in &requests[seen..] {
            told.push_str(&went_upstream(request, exchange, harness, &names));
            told.extend(answers.next().map(|answer| answer.written("<-")));
        }
        told.extend(answers.map(|answer| answer.written("<-")));
        seen = requests.len();
        told.push_str(&got.told(harness, &names));
    }
    told.push_str("== ledger\n");
    let rows = harness.ledger_rows().await;
    told.extend(rows.iter().map(|row| format!("{row}\n")));
    if rows.is_empty() {
        told.push_str("(empty)\n");
    }
    harness.stop().await;
    told
}

/// What the client got.
#[derive(Debug, Default)]
struct Got {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    remark: Option<&'static str>,
}

impl Got {
    fn told(&self, harness: &impl Harness, names: &Names) -> String {
        if self.status == 0 {
            return format!("<< {}\n", self.remark.unwrap_or("[connection closed]"));
        }
        let mut text = format!("<< {}\n", self.status);
        text.push_str(&names.headers(&self.headers, harness.volatile_headers()));
        let mut body = String::from_utf8_lossy(&self.body).into_owned();
        // An id that a header gives anew on each run may also stand in the body.
        for (name, value) in &self.headers {
            let is_volatile = harness.volatile_headers().contains(&name.as_str());
            if is_volatile && !value.is_empty() {
                body = body.replace(value.as_str(), ANY);
            }
        }
        for line in body.trim_end().lines() {
            text.push_str(line);
            text.push('\n');
        }
        text.extend(self.remark.map(|remark| format!("{remark}\n")));
        names.hide(&text)
    }
}

/// Asks, and reads as far as the story lets the client stay; `seen` requests came before.
async fn converse(exchange: &Exchange, gateway: &str, upstream: &Upstream, seen: usize) -> Got {
    let words = exchange.ask.words();
    let (method, path) = match words.as_slice() {
        [method, path] => (*method, *path),
        _ => fail("`>>` wants a method and a path"),
    };
    let headers = exchange.ask.headers();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut client = Client::connect(gateway).await;
    client
        .ask(
            method,
            path,
            &headers,
            exchange.ask.body().join("\n").as_bytes(),
        )
        .await;

    let mut leaves = exchange
        .answers
        .iter()
        .map(|answer| answer.steps().1)
        .enumerate();
    let leaves = leaves.find_map(|(leg, events)| events.map(|events| (seen + leg, events)));
    let mut got = Got::default();
    if let Some((request, 0)) = leaves {
        upstream.request(request).await;
        got.remark = Some("[client closed]");
    } else {
        read(&mut client, leaves.map(|(_, events)| events), &mut got).await;
    }
    client.hang_up();
    if let Some((request, _)) = leaves {
        upstream.gone(request).await;
    }
    got
}

/// Reads an answer to its end, or until `events` of it have come.
async fn read(client: &mut Client, events: Option<usize>, got: &mut Got) {
    let Some(head) = client.head().await else {
        return;
    };
    got.status = head.status();
    got.headers = head.headers;
    loop {
        if events.is_some_and(|events| count_events(&got.body) >= events) {
            got.remark = Some("[client closed]");
            return;
        }
        match client.piece().await {
            Piece::Data(data) => got.body.extend(data),
            Piece::End => return,
            Piece::Broken => {
                got.remark = Some("[broken]");
                return;
            }
        }
    }
}

fn count_events(body: &[u8]) -> usize {
    body.windows(2).filter(|pair| pair == b"\n\n").count()
}

fn went_upstream(
    request: &Recorded,
    exchange: &Exchange,
    harness: &impl Harness,
    names: &Names,
) -> String {
    let mut text = format!("-> {} {}\n", request.method, request.path);
    text.push_str(&names.headers(&request.headers, harness.volatile_headers()));
    let body = request.text();
    if body == exchange.ask.body().join("\n") && !body.is_empty() {
        text.push_str(SAME_BYTES);
        text.push('\n');
    } else {
        text.extend(body.lines().map(|line| format!("{line}\n")));
    }
    if request.ending == Ending::Broken {
        text.push_str("[broken]\n");
    }
    names.hide(&text)
}

/// The addresses of a run, which a story must not depend on.
struct Names {
    upstream: String,
    gateway: String,
}

impl Names {
    fn hide(&self, text: &str) -> String {
        let upstream = self.upstream.trim_start_matches("http://");
        let gateway = self.gateway.trim_start_matches("http://");
        text.replace(upstream, "upstream")
            .replace(gateway, "gateway")
    }

    /// One header a line, indented.
    fn headers(&self, headers: &Headers, volatile: &[&str]) -> String {
        let lines = headers.iter().map(|(name, value)| {
            let known = !volatile.contains(&name.to_ascii_lowercase().as_str());
            format!("   {name}: {}\n", if known { value } else { ANY })
        });
        self.hide(&lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client talks to the upstream itself.
    struct Direct;

    impl Harness for Direct {
        async fn start(&mut self, upstream_url: &str) -> String {
            upstream_url.into()
        }
        async fn ledger_rows(&mut self) -> Vec<String> {
            vec!["a row".into()]
        }
        async fn stop(&mut self) {}
    }

    const STORY: &str = r#"Words before the first story are kept.

== a whole answer, then an error
>> POST /v1/x  x-api-key: k  a: b
   c: d
{"n":1}
-> POST /v1/x
   host: localhost
   x-api-key: k
   a: b
   c: d
   content-length: 7
[the same bytes]
<- 200 application/json  x: y
{"ok":true}
<< 200
   content-type: application/json
   x: y
   content-length: 11
{"ok":true}
>> GET /v1/y
-> GET /v1/y
   host: localhost
   content-length: 0
<- 500
<< 500
   content-length: 0
== ledger
a row

== a stream that the client leaves
>> POST /v1/x
{}
-> POST /v1/x
   host: localhost
   content-length: 2
[the same bytes]
<- 200 text/event-stream
data: 1

data: 2

[client closes]
data: 3
<< 200
   content-type: text/event-stream
   transfer-encoding: chunked
data: 1

data: 2
[client closed]
== ledger
a row

== a stream that breaks
>> POST /v1/x
{}
-> POST /v1/x
   host: localhost
   content-length: 2
[the same bytes]
<- 200 text/event-stream
data: 1

data: half
[cut]
<< 200
   content-type: text/event-stream
   transfer-encoding: chunked
data: 1

data: half
[broken]
== ledger
a row

== no answer at all
>> POST /v1/x
{}
-> POST /v1/x
   host: localhost
   content-length: 2
[the same bytes]
<- [reset]
<< [connection closed]
== ledger
a row
"#;

    #[tokio::test]
    async fn a_true_story_is_told_back_unchanged() {
        assert_eq!(tell(STORY, &mut Direct).await, STORY);
    }

    #[tokio::test]
    async fn expectations_are_written_by_the_run() {
        let bare = "== a story\n>> GET /v1/y\n<- 204\n";
        let told = tell(bare, &mut Direct).await;
        assert!(told.contains("-> GET /v1/y\n"), "{told}");
        assert_eq!(tell(&told, &mut Direct).await, told);
    }
}
