//! The listener: accepts connections, serves calls, and stops without losing any.
//!
//! **Invariant**: after `stop`, no new call begins and every begun one is settled before `run`
//! returns (tests `a_stop_waits_for_open_streams` and `a_stop_settles_what_does_not_end`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use crate::Gateway;
use crate::admin;
use crate::life::serve;
use crate::receive::page;
use crate::relay::cors;
use crate::relay::reply::ReplyBody;
use crate::settle::writing::Writing;

/// 30 s: a client that has not sent its headers by then is not going to.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// 30 s: how long open answers may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(30);

/// 1 s: for telling clients that their answers end here; those that do not listen are left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// 1 s: a hold lives for minutes; a second more does not matter.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// 50 ms: after a failed `accept` (out of file descriptors), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a browser shows at the base address.
const WELCOME: &str = "tokenwise is running.\n\n\
    POST /v1/messages, /v1/messages/count_tokens   the Anthropic dialect\n\
    POST /v1/chat/completions, /v1/embeddings      the OpenAI dialect\n\
    GET  /v1/models                                the models of every provider\n\
    /PROVIDER/...                                  everything else that a provider offers\n\
    GET  /healthz, /readyz, /metrics               for operators\n\
    /admin/v1/...                                  keys, stops and budgets, for operators\n";

/// Serves until the gateway's tasks are asked to stop, then drains.
pub async fn run(gateway: Arc<Gateway>, listener: TcpListener) {
    gateway.tasks.spawn(tidy(Arc::clone(&gateway)));
    loop {
        tokio::select! {
            () = gateway.tasks.stopping() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(Arc::clone(&gateway), stream);
                    gateway.tasks.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drain(&gateway).await;
}

/// Waits for open answers; those that take too long end with an error, and are settled like others.
async fn drain(gateway: &Gateway) {
    tokio::select! {
        () = gateway.tasks.finished() => return,
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("open answers are cut off after the drain time");
        }
        () = gateway.tasks.hurried() => {
            tracing::warn!("open answers are cut off, as was asked for");
        }
    }
    gateway.stops.cut_off();
    let last_words = tokio::time::timeout(LAST_WORDS, gateway.tasks.finished());
    if last_words.await.is_err() {
        gateway.tasks.abandon();
        let gone = tokio::time::timeout(LAST_WORDS, gateway.tasks.finished());
        if gone.await.is_err() {
            tracing::error!("something did not end");
        }
    }
}

/// Lets go what has expired and tells of a ledger that cannot be written, until the gateway stops.
async fn tidy(gateway: Arc<Gateway>) {
    let mut writing = Writing::default();
    loop {
        tokio::select! {
            () = gateway.tasks.stopping() => return,
            () = tokio::time::sleep(TIDY_EVERY) => {
                gateway.accounts.expire(gateway.clock.now());
                writing.tell(&gateway.ledger.health());
            }
        }
    }
}

async fn connection(gateway: Arc<Gateway>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was not set");
    }
    let served = Arc::clone(&gateway);
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&served);
        async move { Ok::<_, Infallible>(respond(&gateway, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = gateway.tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = gateway.tasks.abandoned() => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "connection ended with an error");
    }
}

/// The pages for operators and the admin API; everything else is a call.
async fn respond(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<ReplyBody> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        match request.uri().path() {
            // Clients ask here whether anyone is there, and so do people with a browser.
            "/" => return page(StatusCode::OK, "text/plain", WELCOME.to_owned()),
            "/healthz" => return page(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" => {
                let (status, text) = match () {
                    () if gateway.tasks.is_stopping() => {
                        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
                    }
                    () if gateway.ledger.health().behind => {
                        (StatusCode::SERVICE_UNAVAILABLE, "ledger behind\n")
                    }
                    () => (StatusCode::OK, "ready\n"),
                };
                return page(status, "text/plain", text.to_owned());
            }
            "/metrics" => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                return page(
                    StatusCode::OK,
                    kind,
                    gateway.metrics.text(&gateway.ledger.health()),
                );
            }
            _ => {}
        }
    }
    if admin::owns(request.uri().path()) {
        return admin::respond(gateway, request).await;
    }
    let origin = page::welcome(request.headers(), gateway.setup.load().access);
    let asked = origin
        .as_ref()
        .and_then(|origin| cors::preflight(&request, origin));
    if let Some(answer) = asked {
        return answer;
    }
    let mut response = Box::pin(serve(gateway, request)).await;
    if let Some(origin) = &origin {
        cors::tell(response.headers_mut(), origin);
    }
    response
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
