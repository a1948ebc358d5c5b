//! Sending one leg: connection pool, timeouts, and what went wrong in words.
//!
//! **Invariant**: a leg ends within its limits, whatever the upstream does (test
//! `a_silent_upstream_is_given_up`).

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use policy::dispatch::fault::Fault;
use policy::refusal::{Reason, Refusal};

use crate::dispatch::connect::{Connector, pinged};
use crate::dispatch::pieces::Pieces;
use crate::setup::{Limits, Upstream};

/// A request that brought no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What went wrong.
    pub fault: Fault,
    /// In words.
    pub refusal: Refusal,
}

/// 90 s: shorter than the keep-alive of the providers' load balancers, so that a pooled connection
/// is rarely closed under us.
const POOL_IDLE: Duration = Duration::from_secs(90);

/// The body of an upstream request.
pub type Outgoing = Either<Pieces, Incoming>;

/// The pooled HTTP client.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<Connector, Outgoing>,
}

impl Http {
    /// A client with no connections yet.
    pub fn new(limits: &Limits) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        let client = pinged(&mut builder)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(Connector::new(limits.connect_timeout));
        Self { client }
    }

    /// Sends one request and waits so long for the head of its answer.
    pub async fn send(
        &self,
        request: Request<Outgoing>,
        upstream: &Upstream,
        patience: Duration,
    ) -> Result<Response<Incoming>, Unanswered> {
        let answer = tokio::time::timeout(patience, self.client.request(request));
        let unanswered = |fault: Fault, what: String| {
            let message = format!(
                "provider `{}` {what}; try again, or check it with `tokenwise doctor`",
                upstream.id
            );
            let refusal = Refusal::new(Reason::UpstreamUnreachable, message);
            Unanswered { fault, refusal }
        };
        match answer.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                tracing::warn!(
                    provider = upstream.id,
                    error = chain(&error),
                    "upstream not reached"
                );
                let (fault, what) = if error.is_connect() {
                    (Fault::Unconnected, "cannot be reached")
                } else {
                    (Fault::Reset, "broke off the call")
                };
                Err(unanswered(fault, what.to_owned()))
            }
            Err(_) => {
                let what = format!("did not answer within {patience:?}");
                Err(unanswered(Fault::Silent, what))
            }
        }
    }
}

/// Builds the request of one leg. `None` if path and query do not make an address.
pub fn request(
    method: Method,
    upstream: &Upstream,
    path: &str,
    query: Option<&str>,
    headers: HeaderMap,
    body: Outgoing,
) -> Option<Request<Outgoing>> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = address(&upstream.base, path, query)?;
    *request.headers_mut() = headers;
    Some(request)
}

/// Joins the base address, a path below it, and a query.
fn address(base: &Uri, path: &str, query: Option<&str>) -> Option<Uri> {
    let prefix = base.path().trim_end_matches('/');
    let joined = match query {
        Some(query) => format!("{prefix}{path}?{query}"),
        None => format!("{prefix}{path}"),
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = joined.parse().ok();
    Uri::from_parts(parts).ok()
}

/// An error and its causes on one line, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
