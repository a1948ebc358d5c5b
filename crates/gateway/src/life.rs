//! The life of a call, in order: receive → route → dispatch (shape → send) → relay → settle.
//!
//! **Invariant**: from `Receipt::open` on, every exit (answer, refusal, hang-up) settles the receipt
//! (property `every_exit_settles_exactly_once`).

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::dialect::stream::UsageDisplay;
use wire::problem::Problem;

use crate::Gateway;
use crate::dispatch::send::{self, Outgoing};
use crate::dispatch::{headers, shape};
use crate::receive::endpoint::Endpoint;
use crate::receive::{Body, Call, Turned, receive};
use crate::relay::models;
use crate::relay::refuse::refuse;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::{Meter, relay};
use crate::route::{Plan, route};
use crate::settle::receipt::{Opening, Outcome, Receipt, Reported};
use crate::setup::Setup;
use policy::ports::End;

/// Serves one call.
pub async fn serve(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<ReplyBody> {
    let turned = match receive(gateway, request).await {
        Ok(call) => {
            let (id, dialect) = (call.id.clone(), dialect(gateway, &call.endpoint));
            match answer(gateway, call).await {
                Ok(reply) => return reply,
                Err(refusal) => Turned {
                    refusal,
                    dialect,
                    id,
                },
            }
        }
        Err(turned) => turned,
    };
    gateway.metrics.refused(turned.refusal.reason);
    tracing::info!(
        call = turned.id.0,
        reason = ?turned.refusal.reason,
        message = turned.refusal.message,
        "call refused"
    );
    refuse(&turned)
}

/// Answers a call that was let in.
async fn answer(gateway: &Arc<Gateway>, mut call: Call) -> Result<Response<ReplyBody>, Refusal> {
    if gateway.tasks.is_stopping() {
        return Err(Refusal::new(
            Reason::ShuttingDown,
            "the gateway is stopping; try again",
        ));
    }
    if gateway.ledger.health().behind {
        let message = "the ledger's disk does not keep up; try again, or see `tokenwise doctor`";
        return Err(Refusal::new(Reason::LedgerBehind, message));
    }
    let setup = gateway.setup.load_full();
    let body = std::mem::replace(&mut call.body, Body::Whole(Bytes::new()));
    match (call.endpoint.clone(), body) {
        (Endpoint::Generate { dialect, pinned }, Body::Whole(body)) => {
            generate(gateway, &setup, &call, body, dialect, pinned.as_deref()).await
        }
        (Endpoint::CountTokens { pinned }, Body::Whole(body)) => {
            count(gateway, &setup, &call, body, pinned.as_deref()).await
        }
        (Endpoint::Embed { pinned }, Body::Whole(body)) => {
            embed(gateway, &setup, &call, body, pinned.as_deref()).await
        }
        (Endpoint::Model { dialect, name }, body) => {
            let plan = route(&setup, &name, dialect, None)?;
            let rest = format!("{}/{}", models::path(dialect), plan.model);
            pass(gateway, &setup, &call, body, &plan.upstream.id, &rest).await
        }
        (Endpoint::Models { dialect }, _) => models::list(gateway, &setup, &call, dialect).await,
        (Endpoint::Passthrough { provider, rest }, body) => {
            pass(gateway, &setup, &call, body, &provider, &rest).await
        }
        (_, Body::Flowing(_)) => Err(Refusal::new(
            Reason::Internal,
            "this endpoint's body was not read",
        )),
    }
}

/// An answer to a conversation: the one kind of call that levers work on.
async fn generate(
    gateway: &Arc<Gateway>,
    setup: &Arc<Setup>,
    call: &Call,
    body: Bytes,
    dialect: Dialect,
    pinned: Option<&str>,
) -> Result<Response<ReplyBody>, Refusal> {
    let request = dialect
        .read(&body)
        .map_err(|error| unreadable(error.problem()))?;
    let plan = route(setup, &request.model, dialect, pinned)?;
    let shaped = shape::shape(gateway, setup, call, &request, &plan);
    let opening = Opening::of(call, &request.model, &plan, body.len());
    let opening = opening.shaped(shaped.session, shaped.ticket);
    let receipt = Receipt::open(gateway, setup, opening);
    if let Some(written) = shaped.wait {
        shape::wait(written).await;
    }
    let usage = if request.usage_asked {
        UsageDisplay::Shown
    } else {
        UsageDisplay::Hidden
    };
    let bytes = if shaped.splice.is_empty() {
        body.clone()
    } else {
        Bytes::from(shaped.splice.apply(&body))
    };
    let mut upstream_headers = headers::upstream(&call.headers, &plan.upstream, setup.access);
    upstream_headers.extend(shaped.headers);
    let path = main_path(dialect);
    let sent = Sent {
        path,
        headers: upstream_headers,
        body: Either::Left(Full::new(bytes)),
    };
    dispatch(
        gateway,
        setup,
        call,
        &plan,
        sent,
        Meter::Dialect(dialect, usage),
        receipt,
    )
    .await
}

/// The size of a conversation: free, and never shaped.
async fn count(
    gateway: &Arc<Gateway>,
    setup: &Arc<Setup>,
    call: &Call,
    body: Bytes,
    pinned: Option<&str>,
) -> Result<Response<ReplyBody>, Refusal> {
    let dialect = Dialect::AnthropicMessages;
    let request = dialect
        .read(&body)
        .map_err(|error| unreadable(error.problem()))?;
    let plan = route(setup, &request.model, dialect, pinned)?;
    let mut splice = wire::splice::Splice::default();
    if plan.model != request.model {
        request.rename_model(&plan.model, &mut splice);
    }
    let opening = Opening::of(call, &request.model, &plan, body.len());
    let receipt = Receipt::open(gateway, setup, opening);
    let bytes = if splice.is_empty() {
        body.clone()
    } else {
        splice.apply(&body).into()
    };
    let sent = Sent {
        path: "/v1/messages/count_tokens",
        headers: headers::upstream(&call.headers, &plan.upstream, setup.access),
        body: Either::Left(Full::new(bytes)),
    };
    dispatch(gateway, setup, call, &plan, sent, Meter::Free, receipt).await
}

/// Embeddings: priced, never shaped.
async fn embed(
    gateway: &Arc<Gateway>,
    setup: &Arc<Setup>,
    call: &Call,
    body: Bytes,
    pinned: Option<&str>,
) -> Result<Response<ReplyBody>, Refusal> {
    let dialect = Dialect::OpenAiChat;
    let request = wire::dialect::openai_chat::request::read_embeddings(&body)
        .map_err(|error| unreadable(error.problem()))?;
    let plan = route(setup, &request.model, dialect, pinned)?;
    let mut splice = wire::splice::Splice::default();
    if plan.model != request.model {
        request.rename_model(&plan.model, &mut splice);
    }
    let opening = Opening::of(call, &request.model, &plan, body.len());
    let receipt = Receipt::open(gateway, setup, opening);
    let bytes = if splice.is_empty() {
        body.clone()
    } else {
        splice.apply(&body).into()
    };
    let sent = Sent {
        path: "/embeddings",
        headers: headers::upstream(&call.headers, &plan.upstream, setup.access),
        body: Either::Left(Full::new(bytes)),
    };
    dispatch(
        gateway,
        setup,
        call,
        &plan,
        sent,
        Meter::Dialect(dialect, UsageDisplay::Shown),
        receipt,
    )
    .await
}

/// Anything else that a provider offers.
async fn pass(
    gateway: &Arc<Gateway>,
    setup: &Arc<Setup>,
    call: &Call,
    body: Body,
    provider: &str,
    rest: &str,
) -> Result<Response<ReplyBody>, Refusal> {
    let upstream = setup.upstream(provider).ok_or_else(|| {
        let message = format!("provider `{provider}` is no longer configured");
        Refusal::new(Reason::UnknownRoute, message)
    })?;
    let model = wire::dialect::read_model(body.bytes()).unwrap_or_default();
    let plan = Plan {
        upstream: upstream.clone(),
        model: model.clone(),
    };
    let bytes = body.bytes().len();
    let receipt = Receipt::open(gateway, setup, Opening::of(call, &model, &plan, bytes));
    let body = match body {
        Body::Whole(bytes) => Either::Left(Full::new(bytes)),
        Body::Flowing(incoming) => Either::Right(incoming),
    };
    // A base address that ends in a version takes paths with and without it.
    let base = upstream.base.path().trim_end_matches('/');
    let version = base.rsplit('/').next().filter(|last| last.starts_with('v'));
    let unversioned = version.and_then(|version| rest.strip_prefix(&format!("/{version}")));
    let path = unversioned
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(rest);
    let headers = headers::upstream(&call.headers, upstream, setup.access);
    // Reading and deleting is never billed.
    let meter = match call.method {
        Method::POST => Meter::Watched(upstream.dialect),
        _ => Meter::Free,
    };
    dispatch(
        gateway,
        setup,
        call,
        &plan,
        Sent {
            path,
            headers,
            body,
        },
        meter,
        receipt,
    )
    .await
}

/// What goes out on a leg.
struct Sent<'a> {
    path: &'a str,
    headers: http::HeaderMap,
    body: Outgoing,
}

/// Sends the plan's leg and relays what comes back.
async fn dispatch(
    gateway: &Arc<Gateway>,
    setup: &Arc<Setup>,
    call: &Call,
    plan: &Plan,
    sent: Sent<'_>,
    meter: Meter,
    mut receipt: Receipt,
) -> Result<Response<ReplyBody>, Refusal> {
    let Sent {
        path,
        headers,
        body,
    } = sent;
    let (method, query) = (call.method.clone(), call.query.as_deref());
    let request = send::request(method, &plan.upstream, path, query, headers, body);
    let request = request.ok_or_else(|| {
        Refusal::new(
            Reason::BadRequest,
            format!("`{path}` is not a path that can be called"),
        )
    })?;
    receipt.sent();
    match gateway
        .http
        .send(request, &plan.upstream, &setup.limits)
        .await
    {
        Ok(response) => {
            receipt.answered(response.status().as_u16());
            relay(response, meter, receipt, &setup.limits).await
        }
        Err(refusal) => {
            // Whether the upstream saw any of it is not known; nothing came back, nothing is billed.
            let reported = Reported::Nothing;
            receipt.settle(Outcome {
                end: End::UpstreamBroke,
                status: 502,
                reported,
            });
            Err(refusal)
        }
    }
}

/// The path of a dialect's main endpoint below a base address.
const fn main_path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "/v1/messages",
        Dialect::OpenAiChat => "/chat/completions",
    }
}

/// The dialect in which a caller expects its errors.
fn dialect(gateway: &Gateway, endpoint: &Endpoint) -> Dialect {
    match endpoint {
        Endpoint::Generate { dialect, .. }
        | Endpoint::Model { dialect, .. }
        | Endpoint::Models { dialect } => *dialect,
        Endpoint::CountTokens { .. } => Dialect::AnthropicMessages,
        Endpoint::Embed { .. } => Dialect::OpenAiChat,
        Endpoint::Passthrough { provider, .. } => {
            let setup = gateway.setup.load();
            setup
                .upstream(provider)
                .map_or(Dialect::OpenAiChat, |upstream| upstream.dialect)
        }
    }
}

/// A body that cannot be read, as a refusal.
fn unreadable(problem: Problem) -> Refusal {
    Refusal {
        reason: Reason::BadRequest,
        message: problem.message,
        param: problem.param,
    }
}
