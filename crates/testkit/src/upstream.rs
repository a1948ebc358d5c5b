//! An upstream over real TCP that does what a test tells it to: it answers from a script or as the
//! simulated provider, and records every request exactly.
//!
//! **Invariant**: nothing here waits for time; a test that needs an order opens gates and waits for
//! events (test `a_gate_holds_the_stream_until_it_is_opened`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use policy::moment::Moment;
use sim::provider::{Answer, Ask, Body, Provider};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::http1::{self, Ending, Headers, Reader};

/// What a request gets for which the script has no answer; no real provider uses it.
const UNSCRIPTED_STATUS: u16 = 599;

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Status and headers. A body without `content-length` is sent in chunks.
    Head(u16, Headers),
    /// Bytes of the body in one write; in a chunked body, one chunk.
    Chunk(Vec<u8>),
    /// Bytes on the connection as they are, HTTP or not.
    Raw(Vec<u8>),
    /// Waits until [`Upstream::open_gate`] is called once more.
    Gate,
    /// Closes the connection without ending the body.
    Cut,
    /// Resets the connection.
    Reset,
    /// Sends nothing more and waits until the client goes.
    Hang,
}

impl Step {
    /// A head with one header, the content type.
    pub fn head(status: u16, content_type: &str) -> Self {
        Self::Head(status, vec![("content-type".into(), content_type.into())])
    }

    /// A whole JSON answer.
    pub fn json(status: u16, body: &str) -> Vec<Self> {
        let headers = vec![
            ("content-type".into(), "application/json".into()),
            ("content-length".into(), body.len().to_string()),
        ];
        vec![Self::Head(status, headers), Self::Chunk(body.into())]
    }

    /// A stream of events, one chunk an event.
    pub fn events(events: &[&str]) -> Vec<Self> {
        let head = Self::head(200, "text/event-stream");
        let chunks = events.iter().map(|event| Self::Chunk((*event).into()));
        std::iter::once(head).chain(chunks).collect()
    }
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers in the order and case in which they came.
    pub headers: Headers,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Whether the body arrived whole.
    pub ending: Ending,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Recorded {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        http1::find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Requests in order of arrival.
    pub requests: Vec<Recorded>,
    /// Requests whose client went away before the answer was over.
    pub gone: BTreeSet<usize>,
    /// Requests whose script has been played to its end.
    pub played: BTreeSet<usize>,
}

type Play = Box<dyn FnMut(&Recorded) -> Vec<Step> + Send>;

struct Shared {
    log: watch::Sender<Log>,
    gates: Semaphore,
    play: Mutex<Play>,
}

/// A listening upstream; dropping it ends its connections.
pub struct Upstream {
    url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Answers the n-th request with the n-th script.
    pub async fn scripted(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let mut scripts: VecDeque<Vec<Step>> = scripts.into_iter().collect();
        Self::playing(move |_| {
            let nothing_left = || {
                Step::json(
                    UNSCRIPTED_STATUS,
                    r#"{"error":{"message":"no script is left"}}"#,
                )
            };
            scripts.pop_front().unwrap_or_else(nothing_left)
        })
        .await
    }

    /// Answers as the simulated provider would at the moments that `clock` tells; frames leave
    /// without their delays.
    pub async fn simulated(
        mut provider: Provider,
        clock: impl Fn() -> Moment + Send + 'static,
    ) -> Self {
        Self::playing(move |request| {
            steps(provider.answer(&Ask {
                method: &request.method,
                path: &request.path,
                authorization: request.header("authorization"),
                x_api_key: request.header("x-api-key"),
                anthropic_version: request.header("anthropic-version"),
                body: &request.body,
                at: clock(),
            }))
        })
        .await
    }

    /// Answers as `play` says, which is asked once a request, in order of arrival.
    pub async fn playing(play: impl FnMut(&Recorded) -> Vec<Step> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared {
            log: watch::Sender::new(Log::default()),
            gates: Semaphore::new(0),
            play: Mutex::new(Box::new(play)),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            url: format!("http://{address}"),
            shared,
            _tasks: tasks,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.log.borrow().requests.clone()
    }

    /// Request `index`, as soon as it has arrived.
    pub async fn request(&self, index: usize) -> Recorded {
        let log = self.wait_for(|log| log.requests.len() > index).await;
        log.requests[index].clone()
    }

    /// Lets one [`Step::Gate`] pass: the one that waits, or the next one that is reached.
    pub fn open_gate(&self) {
        self.shared.gates.add_permits(1);
    }

    /// Waits until the client of request `index` has gone away before its answer was over.
    pub async fn gone(&self, index: usize) {
        self.wait_for(|log| log.gone.contains(&index)).await;
    }

    /// Waits until the answer to request `index` has been sent to its last step.
    pub async fn played(&self, index: usize) {
        self.wait_for(|log| log.played.contains(&index)).await;
    }

    /// What happened, as soon as `holds` does.
    pub async fn wait_for(&self, mut holds: impl FnMut(&Log) -> bool) -> Log {
        let mut log = self.shared.log.subscribe();
        let log = log
            .wait_for(|log| holds(log))
            .await
            .expect("the upstream is alive");
        log.clone()
    }
}

/// A simulated answer as steps.
fn steps(answer: Answer) -> Vec<Step> {
    let headers = answer.headers.into_iter();
    let mut headers: Headers = headers
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let chunks = match answer.body {
        Body::Whole(bytes) => {
            headers.push(("content-length".into(), bytes.len().to_string()));
            vec![Step::Chunk(bytes)]
        }
        Body::Stream(frames) => frames
            .into_iter()
            .map(|frame| Step::Chunk(frame.bytes))
            .collect(),
    };
    let head = Step::Head(answer.status, headers);
    std::iter::once(head).chain(chunks).collect()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            break;
        };
        connections.spawn(converse(stream, connection, Arc::clone(&shared)));
    }
}

/// Serves one connection, request after request.
async fn converse(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    while let Some(request) = read(&mut reader, connection).await {
        let (index, steps) = record(&shared, request);
        let reached = tokio::select! {
            biased;
            reached = play(&steps, &mut writer, &shared) => reached,
            () = reader.closed() => Reached::ClientGone,
        };
        match reached {
            Reached::End => shared.log.send_modify(|log| _ = log.played.insert(index)),
            Reached::ClientGone => {
                shared.log.send_modify(|log| _ = log.gone.insert(index));
                return;
            }
            Reached::Cut => {
                drop((reader, writer));
                shared.log.send_modify(|log| _ = log.played.insert(index));
                return;
            }
            Reached::Reset => {
                writer.as_ref().set_zero_linger().ok();
                // Dropped as usual, the writer would say goodbye before the reset.
                writer.forget();
                drop(reader);
                shared.log.send_modify(|log| _ = log.played.insert(index));
                return;
            }
        }
    }
}

async fn read(reader: &mut Reader<OwnedReadHalf>, connection: usize) -> Option<Recorded> {
    let head = reader.request_head().await?;
    let (body, ending) = reader.rest().await;
    let mut words = head.start.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    Some(Recorded {
        method,
        path,
        headers: head.headers,
        body,
        ending,
        connection,
    })
}

/// Writes a request down and chooses its answer, one request at a time.
fn record(shared: &Shared, request: Recorded) -> (usize, Vec<Step>) {
    let mut play = shared.play.lock().unwrap_or_else(PoisonError::into_inner);
    let steps = play(&request);
    shared.log.send_modify(|log| log.requests.push(request));
    (shared.log.borrow().requests.len() - 1, steps)
}

/// How far an answer got.
enum Reached {
    /// To its end; the connection stays open.
    End,
    /// To a cut.
    Cut,
    /// To a reset.
    Reset,
    /// The client went away before.
    ClientGone,
}

async fn play(steps: &[Step], writer: &mut OwnedWriteHalf, shared: &Shared) -> Reached {
    let mut chunked = false;
    for step in steps {
        let bytes = match step {
            Step::Head(status, headers) => {
                chunked = http1::find(headers, "content-length").is_none();
                head_bytes(*status, headers)
            }
            Step::Chunk(bytes) if chunked => chunk_bytes(bytes),
            Step::Chunk(bytes) | Step::Raw(bytes) => bytes.clone(),
            Step::Gate => {
                shared
                    .gates
                    .acquire()
                    .await
                    .expect("gates are never closed")
                    .forget();
                continue;
            }
            Step::Cut => return Reached::Cut,
            Step::Reset => return Reached::Reset,
            Step::Hang => std::future::pending().await,
        };
        if writer.write_all(&bytes).await.is_err() {
            return Reached::ClientGone;
        }
    }
    if chunked && writer.write_all(b"0\r\n\r\n").await.is_err() {
        return Reached::ClientGone;
    }
    Reached::End
}

fn head_bytes(status: u16, headers: &Headers) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if http1::find(headers, "content-length").is_none() {
        text.push_str("transfer-encoding: chunked\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn chunk_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, exchange};
    use crate::http1::Piece;
    use sim::provider::meter::{Uncached, quarter_of_bytes};

    #[tokio::test]
    async fn requests_are_recorded_exactly() {
        let upstream = Upstream::scripted([Step::json(200, "{}"), Step::json(201, "[]")]).await;
        let mut client = Client::connect(upstream.url()).await;
        for (body, status) in [("{\"a\": 1.0}", 200), ("", 201), ("x", UNSCRIPTED_STATUS)] {
            client
                .ask("POST", "/v1/x?y=z", &[("X-Odd", "Case")], body.as_bytes())
                .await;
            assert_eq!(client.response().await.unwrap().status, status);
            let recorded = upstream.requests().pop().unwrap();
            assert_eq!(
                (recorded.method.as_str(), recorded.path.as_str()),
                ("POST", "/v1/x?y=z")
            );
            assert_eq!((recorded.text().as_str(), recorded.connection), (body, 0));
            assert_eq!(recorded.headers[1], ("X-Odd".into(), "Case".into()));
        }
    }

    #[tokio::test]
    async fn a_gate_holds_the_stream_until_it_is_opened() {
        let mut script = Step::events(&["data: 1\n\n", "data: 2\n\n"]);
        script.insert(2, Step::Gate);
        let upstream = Upstream::scripted([script]).await;
        let mut client = Client::connect(upstream.url()).await;
        client.ask("GET", "/", &[], b"").await;
        assert_eq!(client.head().await.unwrap().status(), 200);
        assert_eq!(client.piece().await, Piece::Data(b"data: 1\n\n".to_vec()));
        assert!(upstream.wait_for(|_| true).await.played.is_empty());
        upstream.open_gate();
        assert_eq!(client.piece().await, Piece::Data(b"data: 2\n\n".to_vec()));
        assert_eq!(client.piece().await, Piece::End);
        upstream.played(0).await;
    }

    #[tokio::test]
    async fn broken_answers_are_broken_as_told() {
        let head = Step::head(200, "text/plain");
        let cut = vec![head.clone(), Step::Chunk(b"a".to_vec()), Step::Cut];
        let raw = vec![
            Step::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".to_vec()),
            Step::Cut,
        ];
        for (script, expect) in [
            (cut, Some(("a", Ending::Broken))),
            (raw, Some(("ab", Ending::Broken))),
            (vec![Step::Reset], None),
            (vec![Step::Cut], None),
            (vec![head], Some(("", Ending::Whole))),
        ] {
            let upstream = Upstream::scripted([script]).await;
            let mut client = Client::connect(upstream.url()).await;
            client.ask("GET", "/", &[], b"").await;
            let response = client.response().await;
            let got = response.map(|response| (response.text(), response.ending));
            assert_eq!(got, expect.map(|(text, ending)| (text.to_owned(), ending)));
        }
    }

    #[tokio::test]
    async fn a_reset_is_a_reset() {
        use tokio::io::AsyncReadExt as _;
        let upstream = Upstream::scripted([vec![Step::Reset]]).await;
        let address = upstream.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed() {
        let upstream = Upstream::scripted([vec![Step::Hang], vec![Step::Hang]]).await;
        let mut client = Client::connect(upstream.url()).await;
        client.ask("GET", "/", &[], b"").await;
        upstream.request(0).await;
        client.hang_up();
        upstream.gone(0).await;
        let mut client = Client::connect(upstream.url()).await;
        client.ask("GET", "/", &[], b"").await;
        upstream.request(1).await;
        client.reset();
        upstream.gone(1).await;
    }

    #[tokio::test]
    async fn it_plays_the_simulated_provider() {
        let provider = Provider::new(quarter_of_bytes, Box::new(Uncached));
        let upstream = Upstream::simulated(provider, || Moment(0)).await;
        let body = br#"{"model":"m","max_tokens":9,"stream":true,
            "messages":[{"role":"user","content":"words:2"}]}"#;
        let headers = [("x-api-key", "k")];
        let response = exchange(upstream.url(), "POST", "/v1/messages", &headers, body).await;
        assert_eq!((response.status, response.ending), (200, Ending::Whole));
        assert!(
            response
                .text()
                .ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
        );
    }
}
