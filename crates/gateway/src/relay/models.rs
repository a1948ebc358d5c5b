//! The list of models: one upstream's own list as it is, or several joined.
//!
//! **Invariant**: entries are the upstreams' bytes; with one upstream of the dialect the whole
//! answer is (transcript `models`).

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use http_body_util::{BodyExt, Either, Limited};
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::json::Tape;

use crate::Gateway;
use crate::dispatch::{headers, send};
use crate::receive::Call;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::CALL_HEADER;
use crate::setup::{Setup, Upstream};

/// 8 MiB: the longest list seen (OpenRouter) is under 1 MiB.
const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Lists the models of every upstream that speaks `dialect`.
pub async fn list(
    gateway: &Arc<Gateway>,
    setup: &Setup,
    call: &Call,
    dialect: Dialect,
) -> Result<Response<ReplyBody>, Refusal> {
    let speaking = setup
        .upstreams
        .iter()
        .filter(|upstream| upstream.dialect == dialect);
    let mut lists = Vec::new();
    let mut last_refusal = None;
    for upstream in speaking {
        match fetch(gateway, setup, call, upstream).await {
            Ok(list) => lists.push(list),
            Err(refusal) => last_refusal = Some(refusal),
        }
    }
    let (status, body) = match (lists.len(), last_refusal) {
        (0, Some(refusal)) => return Err(refusal),
        (0, None) => {
            let message = format!(
                "no configured provider speaks {}; configured: {}",
                dialect.id(),
                setup.configured()
            );
            return Err(Refusal::new(Reason::UnknownRoute, message));
        }
        (1, _) => lists.remove(0),
        _ => (http::StatusCode::OK, joined(&lists).into()),
    };
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&call.id.0) {
        response.headers_mut().insert(CALL_HEADER, id);
    }
    Ok(response)
}

/// The path of a dialect's list of models below a base address.
pub const fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "/v1/models",
        Dialect::OpenAiChat => "/models",
    }
}

/// One upstream's list, as it answered.
async fn fetch(
    gateway: &Gateway,
    setup: &Setup,
    call: &Call,
    upstream: &Upstream,
) -> Result<(http::StatusCode, Bytes), Refusal> {
    let path = path(upstream.dialect);
    let headers = headers::upstream(&call.headers, upstream, setup.access);
    let body = Either::Left(Bytes::new().into());
    let query = call.query.as_deref();
    let broken = |what: &str| {
        let message = format!(
            "provider `{}` {what} when asked for its models",
            upstream.id
        );
        Refusal::new(Reason::UpstreamUnreachable, message)
    };
    let request = send::request(Method::GET, upstream, path, query, headers, body)
        .ok_or_else(|| broken("has no usable address"))?;
    let patience = setup.limits.first_byte_timeout;
    let response = gateway.http.send(request, upstream, patience).await;
    let response = response.map_err(|unanswered| unanswered.refusal)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIST_BYTES_MAX);
    let bytes = body
        .collect()
        .await
        .map_err(|_| broken("broke off its answer"))?
        .to_bytes();
    Ok((status, bytes))
}

/// The `data` entries of all lists that are lists, in one.
fn joined(lists: &[(http::StatusCode, Bytes)]) -> String {
    let mut entries: Vec<String> = Vec::new();
    for (_, list) in lists.iter().filter(|(status, _)| status.is_success()) {
        let Ok(tape) = Tape::read(list) else { continue };
        if let Some(data) = tape.root().get("data") {
            entries.extend(data.items().map(|entry| entry.raw().to_owned()));
        }
    }
    format!(
        r#"{{"object":"list","data":[{}],"has_more":false}}"#,
        entries.join(",")
    )
}
