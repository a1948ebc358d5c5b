//! Connections to upstreams: who is trusted, how long they may take, and how a dead one is noticed.
//!
//! **Invariant**: a connection stands within `Limits::connect_timeout`, its TLS handshake included, or
//! has failed (test `a_handshake_that_hangs_is_given_up`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

/// 60 s of silence before a connection is tried: a model may think for longer, and the networks
/// between drop silent connections after some minutes (350 s at AWS's NAT, source:
/// <https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html>, read 2026-11-30).
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// 15 s between probes, four of them: a dead connection is known after two minutes.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// 2 min, as patient as the probes: who has acknowledged nothing of a request by then is gone. The system
/// itself tries for 15 minutes. A window that stays closed counts, too, and an upstream that is busy with
/// another call may leave a large body unread for a while.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// 20 s between pings of an HTTP/2 connection with open calls, which share it: when it dies, all of
/// them would wait for their whole patience, and so would those that come after.
const PING_EVERY: Duration = Duration::from_secs(20);

/// 10 s for the answer to a ping.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Makes connections, each within a time.
#[derive(Clone, Debug)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    most: Duration,
}

impl Connector {
    /// Trusts what the system trusts; Mozilla's roots where it has none.
    pub fn new(most: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(most));
        tcp.set_keepalive(Some(PROBE_AFTER));
        tcp.set_keepalive_interval(Some(PROBE_EVERY));
        tcp.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        let trusting = HttpsConnectorBuilder::new().with_native_roots();
        let inner = trusting
            .unwrap_or_else(|_| HttpsConnectorBuilder::new().with_webpki_roots())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        Self { inner, most }
    }
}

/// Lets a client notice when an HTTP/2 connection has died.
pub fn pinged(builder: &mut Builder) -> &mut Builder {
    builder
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PONG_WITHIN)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.most, self.inner.call(address));
        Box::pin(async move {
            connecting.await.unwrap_or_else(|_| {
                let hung = "the connection was not ready in time (`limits.connect_timeout_ms`)";
                Err(io::Error::new(io::ErrorKind::TimedOut, hung).into())
            })
        })
    }
}
