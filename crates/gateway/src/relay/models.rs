//! The list of models: what the providers that speak the dialect list, and the names that the
//! configuration adds.
//!
//! **Invariant**: entries of providers are their own bytes; with one provider, no names and a key that
//! may call everything, the whole answer is (transcripts `models`, `models_joined`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Either, Limited};
use policy::refusal::{Reason, Refusal};
use serde_json::json;
use wire::dialect::Dialect;
use wire::json::{Node, Tape};

use crate::Gateway;
use crate::dispatch::{headers, send};
use crate::receive::Call;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::CALL_HEADER;
use crate::setup::{Setup, Target, Upstream};

/// 8 MiB: the longest list seen (OpenRouter) is under 1 MiB.
const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// 10 s: a list takes well under one; a provider that is down must not keep back those of others.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// What an upstream has answered.
type Listed = (StatusCode, Bytes);

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
    let fetched = join_all(speaking.map(|upstream| fetch(gateway, setup, call, upstream))).await;
    if fetched.is_empty() {
        let message = format!(
            "no configured provider speaks {}; configured: {}",
            dialect.id(),
            setup.configured()
        );
        return Err(Refusal::new(Reason::UnknownRoute, message));
    }
    let is_list = |fetched: &Result<Listed, Refusal>| {
        let status = fetched.as_ref().map(|(status, _)| *status);
        status.is_ok_and(|status| status.is_success())
    };
    let (lists, failed): (Vec<_>, Vec<_>) = fetched.into_iter().partition(is_list);
    let lists: Vec<Listed> = lists.into_iter().flatten().collect();
    let (status, body) = if lists.is_empty() {
        // In the words of the first that said something.
        let told = failed.into_iter().reduce(Result::or);
        told.unwrap_or_else(|| Err(Refusal::new(Reason::Internal, "no list was asked for")))?
    } else {
        (StatusCode::OK, shown(&lists, setup, call, dialect))
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
) -> Result<Listed, Refusal> {
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
    let patience = setup.limits.first_byte_timeout.min(LIST_PATIENCE);
    let response = gateway.http.send(request, upstream, patience).await;
    let response = response.map_err(|unanswered| unanswered.refusal)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIST_BYTES_MAX);
    let bytes = tokio::time::timeout(LIST_PATIENCE, body.collect())
        .await
        .map_err(|_| broken("fell silent"))?
        .map_err(|_| broken("broke off its answer"))?
        .to_bytes();
    Ok((status, bytes))
}

/// The lists as their caller sees them: all in one, only what its key may call, and the names of the
/// configuration.
fn shown(lists: &[Listed], setup: &Setup, call: &Call, dialect: Dialect) -> Bytes {
    let all = call.models.is_empty();
    let names: Vec<&str> = aliases(setup, dialect)
        .filter(|name| call.may_call(name).is_ok())
        .collect();
    if let [(_, only)] = lists {
        if all && names.is_empty() {
            return only.clone();
        }
        return within(only, call, dialect, &names).map_or_else(|| only.clone(), Bytes::from);
    }
    let mut entries = names_as(dialect, &names);
    for (_, list) in lists {
        if let Ok(tape) = Tape::read(list) {
            entries.extend(allowed(&tape, call));
        }
    }
    let entries = entries.join(",");
    format!(r#"{{"object":"list","data":[{entries}],"has_more":false}}"#).into()
}

/// One upstream's list with other entries; the rest of it stays. `None` if it is no list.
fn within(list: &[u8], call: &Call, dialect: Dialect, names: &[&str]) -> Option<Vec<u8>> {
    let tape = Tape::read(list).ok()?;
    let data = tape.root().get("data").filter(Node::is_array)?;
    // What comes page by page has the names on its first page only.
    let paged = call.query.as_deref().unwrap_or_default();
    let is_first = !paged.contains("after_id=") && !paged.contains("before_id=");
    let mut entries = if is_first {
        names_as(dialect, names)
    } else {
        Vec::new()
    };
    entries.extend(allowed(&tape, call));
    let (before, after) = (list.get(..data.span().start)?, list.get(data.span().end..)?);
    let entries = format!("[{}]", entries.join(","));
    Some([before, entries.as_bytes(), after].concat())
}

/// The entries that the caller's key may call, as they came.
fn allowed(tape: &Tape<'_>, call: &Call) -> Vec<String> {
    let Some(data) = tape.root().get("data") else {
        return Vec::new();
    };
    let may_call = |id: &str| call.may_call(id).is_ok();
    let entries = data.items().filter(|entry| {
        let id = entry.get("id").and_then(|id| id.as_str());
        call.models.is_empty() || id.is_some_and(|id| may_call(&id))
    });
    entries.map(|entry| entry.raw().to_owned()).collect()
}

/// The names of the configuration that lead to a target of this dialect.
fn aliases(setup: &Setup, dialect: Dialect) -> impl Iterator<Item = &str> {
    let speaks = move |provider: &str| {
        let upstream = setup.upstream(provider);
        upstream.is_some_and(|upstream| upstream.dialect == dialect)
    };
    let leads = move |steps: &[Vec<Target>]| {
        let mut targets = steps.iter().flatten();
        targets.any(|target| speaks(&target.provider))
    };
    let routes = setup.routes.iter();
    let known = routes.filter(move |(_, steps)| leads(steps));
    known.map(|(name, _)| name.as_str())
}

/// Names as entries of a list.
fn names_as(dialect: Dialect, names: &[&str]) -> Vec<String> {
    let entry = |name: &&str| match dialect {
        Dialect::OpenAiChat => {
            json!({"id": name, "object": "model", "created": 0, "owned_by": "tokenwise"})
        }
        Dialect::AnthropicMessages => json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
        }),
    };
    names.iter().map(|name| entry(name).to_string()).collect()
}
