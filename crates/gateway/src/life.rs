//! The life of a call, in order: receive → route → dispatch (shape → send) → relay → settle.
//!
//! **Invariant**: from `Receipt::open` on, every exit (answer, refusal, hang-up) settles the receipt
//! (property `every_exit_settles_exactly_once`).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Either;
use hyper::body::Incoming;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use wire::dialect::openai_chat::request::read_embeddings;
use wire::dialect::stream::UsageDisplay;
use wire::dialect::{Dialect, read_model};
use wire::problem::Problem;
use wire::splice::Splice;

use crate::Gateway;
use crate::dispatch::pieces::Pieces;
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
    let setup = &gateway.setup.load_full();
    let body = std::mem::replace(&mut call.body, Body::Whole(Bytes::new()));
    let service = Service {
        gateway,
        setup,
        call: &call,
    };
    match (call.endpoint.clone(), body) {
        (Endpoint::Generate { dialect, pinned }, Body::Whole(body)) => {
            service.generate(body, dialect, pinned.as_deref()).await
        }
        (Endpoint::CountTokens { pinned }, Body::Whole(body)) => {
            service.count(body, pinned.as_deref()).await
        }
        (Endpoint::Embed { pinned }, Body::Whole(body)) => {
            service.embed(body, pinned.as_deref()).await
        }
        (Endpoint::Model { dialect, name }, body) => {
            let plan = route(setup, &name, dialect, None)?;
            let rest = format!("{}/{}", models::path(dialect), plan.model);
            service.pass(body, &plan.upstream.id, &rest).await
        }
        (Endpoint::Models { dialect }, _) => models::list(gateway, setup, &call, dialect).await,
        (Endpoint::Passthrough { provider, rest }, body) => {
            service.pass(body, &provider, &rest).await
        }
        (_, Body::Flowing(_)) => Err(Refusal::new(
            Reason::Internal,
            "this endpoint's body was not read",
        )),
    }
}

/// A call, and what it is served with.
struct Service<'a> {
    gateway: &'a Arc<Gateway>,
    setup: &'a Arc<Setup>,
    call: &'a Call,
}

/// What goes out on a leg, and how its answer is metered.
struct Sent<'a> {
    path: &'a str,
    headers: HeaderMap,
    body: Outgoing,
    meter: Meter,
}

impl Service<'_> {
    /// An answer to a conversation: the one kind of call that levers work on.
    async fn generate(
        &self,
        body: Bytes,
        dialect: Dialect,
        pinned: Option<&str>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Self {
            gateway,
            setup,
            call,
        } = *self;
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
        let shown = request.usage_asked;
        let usage = if shown {
            UsageDisplay::Shown
        } else {
            UsageDisplay::Hidden
        };
        let mut headers = self.headers(&plan);
        headers.extend(shaped.headers);
        let body = Either::Left(Pieces::of(&body, &shaped.splice));
        let (path, meter) = (main_path(dialect), Meter::Dialect(dialect, usage));
        self.send(
            &plan,
            Sent {
                path,
                headers,
                body,
                meter,
            },
            receipt,
        )
        .await
    }

    /// The size of a conversation: free, and never shaped.
    async fn count(
        &self,
        body: Bytes,
        pinned: Option<&str>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let dialect = Dialect::AnthropicMessages;
        let request = dialect
            .read(&body)
            .map_err(|error| unreadable(error.problem()))?;
        let plan = route(self.setup, &request.model, dialect, pinned)?;
        let mut splice = Splice::default();
        request.rename_model(&plan.model, &mut splice);
        let sent = Sent {
            path: "/v1/messages/count_tokens",
            headers: self.headers(&plan),
            body: Either::Left(Pieces::of(&body, &splice)),
            meter: Meter::Free,
        };
        self.send(&plan, sent, self.open(&plan, &request.model, body.len()))
            .await
    }

    /// Embeddings: priced, never shaped.
    async fn embed(
        &self,
        body: Bytes,
        pinned: Option<&str>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let dialect = Dialect::OpenAiChat;
        let request = read_embeddings(&body).map_err(|error| unreadable(error.problem()))?;
        let plan = route(self.setup, &request.model, dialect, pinned)?;
        let mut splice = Splice::default();
        request.rename_model(&plan.model, &mut splice);
        let sent = Sent {
            path: "/embeddings",
            headers: self.headers(&plan),
            body: Either::Left(Pieces::of(&body, &splice)),
            meter: Meter::Dialect(dialect, UsageDisplay::Shown),
        };
        self.send(&plan, sent, self.open(&plan, &request.model, body.len()))
            .await
    }

    /// Anything else that a provider offers.
    async fn pass(
        &self,
        body: Body,
        provider: &str,
        rest: &str,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let upstream = self.setup.upstream(provider).ok_or_else(|| {
            let message = format!("provider `{provider}` is no longer configured");
            Refusal::new(Reason::UnknownRoute, message)
        })?;
        let model = read_model(body.bytes()).unwrap_or_default();
        let plan = Plan {
            upstream: upstream.clone(),
            model,
        };
        let receipt = self.open(&plan, &plan.model, body.bytes().len());
        let sent = Sent {
            path: below(&upstream.base, rest),
            headers: self.headers(&plan),
            body: match body {
                Body::Whole(bytes) => Either::Left(bytes.into()),
                Body::Flowing(incoming) => Either::Right(incoming),
            },
            // Reading and deleting is never billed.
            meter: match self.call.method {
                Method::POST => Meter::Watched(upstream.dialect),
                _ => Meter::Free,
            },
        };
        self.send(&plan, sent, receipt).await
    }

    /// Opens the account of a call that no lever touches.
    fn open(&self, plan: &Plan, asked: &str, body_bytes: usize) -> Receipt {
        let opening = Opening::of(self.call, asked, plan, body_bytes);
        Receipt::open(self.gateway, self.setup, opening)
    }

    fn headers(&self, plan: &Plan) -> HeaderMap {
        headers::upstream(&self.call.headers, &plan.upstream, self.setup.access)
    }

    /// Sends the plan's leg and relays what comes back.
    async fn send(
        &self,
        plan: &Plan,
        sent: Sent<'_>,
        mut receipt: Receipt,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Sent {
            path,
            headers,
            body,
            meter,
        } = sent;
        let (method, query) = (self.call.method.clone(), self.call.query.as_deref());
        let request = send::request(method, &plan.upstream, path, query, headers, body);
        let request = request.ok_or_else(|| {
            let message = format!("`{path}` is not a path that can be called");
            Refusal::new(Reason::BadRequest, message)
        })?;
        let limits = &self.setup.limits;
        receipt.sent();
        match self
            .gateway
            .http
            .send(request, &plan.upstream, limits)
            .await
        {
            Ok(response) => {
                receipt.answered(response.status().as_u16());
                relay(response, meter, receipt, limits).await
            }
            Err(refusal) => {
                // Nothing came back, so nothing is billed, whatever the upstream saw.
                let (end, reported) = (End::UpstreamBroke, Reported::Nothing);
                receipt.settle(Outcome {
                    end,
                    status: 502,
                    reported,
                });
                Err(refusal)
            }
        }
    }
}

/// The path below a base address: one that ends in a version takes paths with and without it.
fn below<'p>(base: &Uri, path: &'p str) -> &'p str {
    let last = base.path().trim_end_matches('/').rsplit('/').next();
    let version = last.filter(|last| last.starts_with('v'));
    let inner = version.and_then(|version| path.strip_prefix('/')?.strip_prefix(version));
    inner.filter(|inner| inner.starts_with('/')).unwrap_or(path)
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
