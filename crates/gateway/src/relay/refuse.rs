//! Our own refusals, in the client's dialect. The only place that turns reasons into status codes.
//!
//! **Invariant**: every reason has one status and one kind (the exhaustive `match` below).

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::problem::{Problem, ProblemKind};

use crate::receive::Turned;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::CALL_HEADER;

/// What the official libraries of both dialects obey before they look at a status.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The reply that turns a call away.
pub fn refuse(turned: &Turned) -> Response<ReplyBody> {
    let (status, final_word) = status(turned.refusal.reason);
    let body = turned
        .dialect
        .render(&problem(&turned.refusal), &turned.id.0);
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&turned.id.0) {
        headers.insert(CALL_HEADER, id);
    }
    if let Some(seconds) = turned.refusal.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    let allowed = turned.refusal.allowed_method.as_deref();
    if let Some(Ok(method)) = allowed.map(HeaderValue::from_str) {
        headers.insert(ALLOW, method);
    }
    if final_word == Retry::Pointless {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// What the client of a refused call is told.
pub fn told(refusal: &Refusal) -> (StatusCode, Problem) {
    let (status, _) = status(refusal.reason);
    (status, problem(refusal))
}

/// An error as an event of a stream that has begun.
pub fn event(refusal: &Refusal, dialect: Dialect, call: &str) -> Vec<u8> {
    dialect.render_event(&problem(refusal), call)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// The same request would be refused again.
    Pointless,
    /// It may work later.
    Sensible,
}

fn status(reason: Reason) -> (StatusCode, Retry) {
    match reason {
        Reason::BadRequest | Reason::ContextTooLarge => (StatusCode::BAD_REQUEST, Retry::Pointless),
        Reason::Unauthenticated => (StatusCode::UNAUTHORIZED, Retry::Pointless),
        Reason::UnknownRoute | Reason::UnknownModel | Reason::NotFound => {
            (StatusCode::NOT_FOUND, Retry::Pointless)
        }
        Reason::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Retry::Pointless),
        Reason::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Retry::Pointless),
        Reason::SlowClient => (StatusCode::REQUEST_TIMEOUT, Retry::Sensible),
        Reason::ModelNotAllowed | Reason::Stopped | Reason::Looping => {
            (StatusCode::FORBIDDEN, Retry::Pointless)
        }
        Reason::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Retry::Sensible),
        Reason::BudgetSpent => (StatusCode::TOO_MANY_REQUESTS, Retry::Pointless),
        Reason::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, Retry::Sensible),
        Reason::UpstreamGivenUp => (StatusCode::BAD_GATEWAY, Retry::Pointless),
        Reason::LedgerBehind | Reason::ShuttingDown => {
            (StatusCode::SERVICE_UNAVAILABLE, Retry::Sensible)
        }
        Reason::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Retry::Sensible),
    }
}

fn problem(refusal: &Refusal) -> Problem {
    let (kind, code) = match refusal.reason {
        Reason::BadRequest => (ProblemKind::InvalidRequest, "invalid_request"),
        // The code by which agents know that they must compact.
        Reason::ContextTooLarge => (ProblemKind::InvalidRequest, "context_length_exceeded"),
        Reason::Unauthenticated => (ProblemKind::Unauthenticated, "invalid_api_key"),
        Reason::UnknownRoute => (ProblemKind::NotFound, "unknown_route"),
        Reason::NotFound => (ProblemKind::NotFound, "not_found"),
        Reason::MethodNotAllowed => (ProblemKind::InvalidRequest, "method_not_allowed"),
        Reason::UnknownModel => (ProblemKind::NotFound, "model_not_found"),
        Reason::BodyTooLarge => (ProblemKind::TooLarge, "request_too_large"),
        Reason::SlowClient => (ProblemKind::Timeout, "request_timeout"),
        Reason::ModelNotAllowed => (ProblemKind::PermissionDenied, "model_not_allowed"),
        Reason::RateLimited => (ProblemKind::RateLimited, "rate_limit_exceeded"),
        Reason::BudgetSpent => (ProblemKind::RateLimited, "budget_exceeded"),
        Reason::Stopped => (ProblemKind::PermissionDenied, "stopped"),
        Reason::Looping => (ProblemKind::PermissionDenied, "looping"),
        Reason::UpstreamUnreachable | Reason::UpstreamGivenUp => {
            (ProblemKind::Upstream, "upstream_unreachable")
        }
        Reason::LedgerBehind => (ProblemKind::Overloaded, "ledger_behind"),
        Reason::ShuttingDown => (ProblemKind::Overloaded, "shutting_down"),
        Reason::Internal => (ProblemKind::Internal, "internal_error"),
    };
    Problem {
        kind,
        code,
        message: refusal.message.clone(),
        param: refusal.param.clone(),
    }
}
