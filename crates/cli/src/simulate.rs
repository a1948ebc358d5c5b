//! The simulated provider behind a real HTTP port: for the demo, for the SDK suite, and for anyone
//! who wants to try a client without a key or a bill.
//!
//! **Invariant**: it only carries bytes; every answer is the one that `sim::provider` gives to the
//! same request at the same moment (test `the_port_says_what_the_provider_says`).

use std::convert::Infallible;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use policy::moment::Moment;
use sim::provider::{Answer, Ask, Pace, Provider};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// 64 MiB: twice the largest request that Anthropic takes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Where the time comes from.
pub(crate) type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// A provider that several connections share.
pub(crate) type Shared = Arc<Mutex<Provider>>;

/// Where the simulated provider listens, and how fast it answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Simulate {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// Milliseconds from a request to the first byte of a streamed answer.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) first_frame_ms: u64,

    /// Milliseconds between two events of a stream.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) next_frame_ms: u64,
}

impl Simulate {
    /// Listens, prints `{"listening":"http://…"}` on one line, and serves until `shutdown`.
    pub(crate) async fn run(
        self,
        provider: Provider,
        clock: Clock,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let pace = Pace {
            first_frame_ms: self.first_frame_ms,
            next_frame_ms: self.next_frame_ms,
        };
        let provider = Arc::new(Mutex::new(provider.paced(pace)));
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let line = serde_json::json!({"listening": format!("http://{address}")});
        writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")?;
        serve(listener, provider, clock, shutdown).await;
        Ok(())
    }
}

/// Serves the provider on `listener` until `shutdown`, then lets the open answers end.
pub(crate) async fn serve(
    listener: TcpListener,
    provider: Shared,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        // A connection that fails before it is ours concerns nobody else.
        let Ok((stream, _)) = accepted else { continue };
        let provider = Arc::clone(&provider);
        let clock = Arc::clone(&clock);
        let service = service_fn(move |request| {
            let provider = Arc::clone(&provider);
            let now = clock();
            async move { Ok::<_, Infallible>(respond(request, &provider, now).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        // An error here is a client that went away.
        connections.spawn(async move { connection.await.ok() });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn respond(request: Request<Incoming>, provider: &Shared, now: Moment) -> Response<Frames> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return status_only(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    let path = head
        .uri
        .path_and_query()
        .map_or_else(|| head.uri.path(), |path| path.as_str());
    let ask = Ask {
        method: head.method.as_str(),
        path,
        authorization: text(&head.headers, "authorization"),
        x_api_key: text(&head.headers, "x-api-key"),
        anthropic_version: text(&head.headers, "anthropic-version"),
        body: &body,
        at: now,
    };
    // A provider that panicked in one request is still good for the next.
    let answer = provider
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .answer(&ask);
    response(answer)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn response(answer: Answer) -> Response<Frames> {
    let mut response = status_only(
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    );
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    let frames = match answer.body {
        sim::provider::Body::Whole(bytes) => {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, bytes.len().into());
            vec![sim::provider::Frame { bytes, delay_ms: 0 }]
        }
        sim::provider::Body::Stream(frames) => frames,
    };
    *response.body_mut() = Frames {
        left: frames.into_iter(),
        next: None,
    };
    response
}

fn status_only(status: StatusCode) -> Response<Frames> {
    let mut response = Response::new(Frames {
        left: Vec::new().into_iter(),
        next: None,
    });
    *response.status_mut() = status;
    response
}

/// A body that sends its frames one by one, each after its delay.
pub(crate) struct Frames {
    left: std::vec::IntoIter<sim::provider::Frame>,
    next: Option<(Bytes, Pin<Box<Sleep>>)>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.next.is_none() {
            let Some(frame) = self.left.next() else {
                return Poll::Ready(None);
            };
            if frame.delay_ms == 0 {
                return Poll::Ready(Some(Ok(Frame::data(frame.bytes.into()))));
            }
            let due = Instant::now() + Duration::from_millis(frame.delay_ms);
            let sleep = Box::pin(tokio::time::sleep_until(due));
            self.next = Some((frame.bytes.into(), sleep));
        }
        if let Some((_, sleep)) = &mut self.next {
            ready!(sleep.as_mut().poll(context));
        }
        Poll::Ready(self.next.take().map(|(bytes, _)| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::provider::meter::{Uncached, quarter_of_bytes};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const NOW: Moment = Moment(1_800_000_000_000);

    fn provider() -> Provider {
        Provider::new(quarter_of_bytes, Box::new(Uncached))
    }

    #[tokio::test]
    async fn the_port_says_what_the_provider_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let clock = Arc::new(|| NOW);
        let shared = Arc::new(Mutex::new(provider()));
        let server = serve(listener, shared, clock, async { stopped.await.unwrap() });
        let client = async {
            let body = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#;
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let length = body.len();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
            let mut got = String::new();
            stream.read_to_string(&mut got).await.unwrap();
            stop.send(()).unwrap();
            let expect = provider().answer(&Ask {
                method: "POST",
                path: "/v1/chat/completions",
                authorization: Some("Bearer k"),
                x_api_key: None,
                anthropic_version: None,
                body: body.as_bytes(),
                at: NOW,
            });
            assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
            let (_, got) = got.split_once("\r\n\r\n").unwrap();
            assert_eq!(got.as_bytes(), expect.body.bytes());
        };
        tokio::join!(server, client);
    }
}
