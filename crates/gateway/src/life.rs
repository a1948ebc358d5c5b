//! The life of a call, in order: receive → route → dispatch (shape → send) → relay → settle.
//!
//! **Invariant**: from `Receipt::open` on, every exit (answer, refusal, hang-up) settles the receipt
//! (property `every_exit_settles_exactly_once`).

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request as HttpRequest, Response, Uri};
use http_body_util::Either;
use hyper::body::Incoming;
use policy::dispatch::lineup::{Need, Tail};
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use wire::dialect::openai_chat::request::read_embeddings;
use wire::dialect::request::Request;
use wire::dialect::stream::UsageDisplay;
use wire::dialect::{Dialect, read_model, read_user};
use wire::problem::Problem;
use wire::prompt::{Part, Role};
use wire::splice::Splice;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::Gateway;
use crate::dispatch::context;
use crate::dispatch::degrade::{self, row_of};
use crate::dispatch::focus::focused;
use crate::dispatch::headers;
use crate::dispatch::hold::{Bound, Costs};
use crate::dispatch::legs::{self, Job};
use crate::dispatch::loops;
use crate::dispatch::send::{self, Outgoing, Unanswered};
use crate::dispatch::shape::{self, Shaped};
use crate::dispatch::trim::{decided, trimming};
use crate::dispatch::turned_away;
use crate::dispatch::wrap_up::wrap_up;
use crate::receive::endpoint::Endpoint;
use crate::receive::{Body, Call, Turned, receive};
use crate::relay::models;
use crate::relay::refuse::refuse;
use crate::relay::reply::ReplyBody;
use crate::relay::whole::{Meter, relay};
use crate::route::place::{Placed, place};
use crate::route::{Plan, Route, route};
use crate::settle::feedback;
use crate::settle::opening::Opening;
use crate::settle::receipt::{Outcome, Receipt, Reported};
use crate::setup::Setup;

/// Serves one call.
pub async fn serve(gateway: &Arc<Gateway>, request: HttpRequest<Incoming>) -> Response<ReplyBody> {
    let turned = match receive(gateway, request).await {
        Ok(call) => {
            let (id, dialect) = (call.id.clone(), dialect(gateway, &call.endpoint));
            let live = Arc::clone(&call.live);
            let answer = tokio::select! {
                answer = answer(gateway, call) => answer,
                () = live.token().cancelled() => Err(live.refusal()),
            };
            match answer {
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
            let route = service.route(&name, dialect, None)?;
            let plan = route.first().ok_or_else(|| {
                Refusal::new(Reason::UnknownModel, format!("no target serves `{name}`"))
            })?;
            let rest = format!("{}/{}", models::path(dialect), plan.model);
            service.pass(body, &plan.upstream.id, &rest).await
        }
        (Endpoint::Feedback { .. }, Body::Whole(body)) => {
            feedback::take(gateway, &call, &body).await
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
#[derive(Clone, Copy)]
pub struct Service<'a> {
    /// What all calls share.
    pub gateway: &'a Arc<Gateway>,
    /// What the gateway was told when the call came.
    pub setup: &'a Arc<Setup>,
    /// The call.
    pub call: &'a Call,
}

/// What goes out on the one leg of a call that is passed through, and how its answer is metered.
struct Sent<'a> {
    path: &'a str,
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
        let request = dialect
            .read(&body)
            .map_err(|error| unreadable(error.problem()))?;
        let conversation = conversation(self.call, &request);
        // Boxed, so that what waits for an answer is small.
        let mut placed = Box::new(place(self, &request, pinned, conversation)?);
        placed.decided = decided(self, &request, &placed);
        let focused = focused(self, &request, &mut placed);
        let body = focused.as_ref().unwrap_or(&body);
        // From here on it is as if the client had sent it so.
        let request = match focused {
            Some(_) => dialect.read(body),
            None => Ok(request),
        };
        let request = request.map_err(|error| unreadable(error.problem()))?;
        let row = |placed: &Placed| row_of(self, &request, placed, user(&request));
        let barred = |placed: &Placed, refusal: Refusal| {
            turned_away::write_down(self, row(placed), &refusal);
            refusal
        };
        let watched = loops::watch(self, &request, &mut placed);
        let watched = watched.map_err(|refusal| barred(&placed, refusal))?;
        placed.trimming = trimming(self, &request, &placed).map(Box::new);
        let context = context::look(self, &request, &mut placed);
        let context = context.map_err(|refusal| barred(&placed, refusal))?;
        let usage = if request.usage_asked {
            UsageDisplay::Shown
        } else {
            UsageDisplay::Hidden
        };
        let job = Job {
            route: &placed.route,
            asked: &request.model,
            placed: Some(&placed),
            degraded: None,
            user: user(&request),
            body,
            path: main_path(dialect),
            meter: Meter::Dialect(dialect, usage),
            need: Need {
                dialect,
                input: None,
                tail: tail(&request),
            },
            conversation: (placed.route.plans.len() > 1).then_some(conversation),
            bound: self.bound(dialect, || Bound::of(&request)),
        };
        let due = degrade::due(self, &request, &placed, job.user);
        let due = due.as_ref();
        let ending = wrap_up(self, &request, &placed, job.user);
        let answer = degrade::serve(self, &job, &placed, due, |plan| {
            let mut shaped = shape::shape(self, &request, plan, &placed, due);
            watched.nudge(&request, &mut shaped.splice);
            if let Some(words) = &ending {
                words.say(&request, &mut shaped);
            }
            shaped
        });
        match answer.await {
            Ok(response) => Ok(context.tell(watched.tell(response))),
            Err(closed) => Err(turned_away::closed(self, closed, row(&placed))),
        }
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
        let route = self.route(&request.model, dialect, pinned)?;
        let job = Job {
            route: &route,
            asked: &request.model,
            placed: None,
            degraded: None,
            user: user(&request),
            body: &body,
            path: "/v1/messages/count_tokens",
            meter: Meter::Free,
            need: plain(dialect),
            conversation: None,
            bound: Bound::free(dialect),
        };
        legs::serve(self, &job, |plan| {
            let mut splice = Splice::default();
            request.rename_model(&plan.model, &mut splice);
            Shaped::edited(splice)
        })
        .await
        .map_err(|closed| closed.refuse(self))
    }

    /// Embeddings: priced, never shaped.
    async fn embed(
        &self,
        body: Bytes,
        pinned: Option<&str>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let dialect = Dialect::OpenAiChat;
        let request = read_embeddings(&body).map_err(|error| unreadable(error.problem()))?;
        let route = self.route(&request.model, dialect, pinned)?;
        let user = user_in(&body);
        let job = Job {
            route: &route,
            asked: &request.model,
            placed: None,
            degraded: None,
            user: user.as_deref(),
            body: &body,
            path: "/embeddings",
            meter: Meter::Dialect(dialect, UsageDisplay::Shown),
            need: plain(dialect),
            conversation: None,
            bound: Bound::of_embeddings(body.len(), dialect),
        };
        let answer = legs::serve(self, &job, |plan| {
            let mut splice = Splice::default();
            request.rename_model(&plan.model, &mut splice);
            Shaped::edited(splice)
        });
        answer.await.map_err(|closed| {
            let opening = route.first().map(|plan| {
                let opening = Opening::of(self.call, &request.model, plan, body.len());
                opening.of_user(user.as_deref())
            });
            turned_away::closed(self, closed, opening.map(Opening::into_row))
        })
    }

    /// What bounds a call's usage; worked out only where anything is limited, for it looks over the
    /// whole body.
    fn bound(&self, dialect: Dialect, of: impl FnOnce() -> Bound) -> Bound {
        if self.gateway.accounts.is_limited() {
            of()
        } else {
            Bound::free(dialect)
        }
    }

    /// The targets of a model that the key may call.
    fn route(&self, model: &str, dialect: Dialect, pinned: Option<&str>) -> Result<Route, Refusal> {
        self.call.may_call(model)?;
        route(self.setup, &self.gateway.healths, model, dialect, pinned)
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
        self.call.may_call(&model)?;
        let plan = Plan {
            upstream: Arc::clone(upstream),
            model,
        };
        let costs = costs(&self.call.method, rest);
        let bound = match costs {
            Costs::Something => Bound::unread(body.bytes().len(), upstream.dialect),
            Costs::Nothing => Bound::free(upstream.dialect),
        };
        let user = user_in(body.bytes());
        let opening = Opening::of(self.call, &plan.model, &plan, body.bytes().len());
        let opening = opening.of_user(user.as_deref());
        let opening = legs::held(self, &plan, &bound, opening).map_err(|closed| {
            let opening = Opening::of(self.call, &plan.model, &plan, body.bytes().len());
            let row = opening.of_user(user.as_deref()).into_row();
            turned_away::closed(self, closed, Some(row))
        })?;
        let receipt = Receipt::open(self.gateway, self.setup, opening);
        let sent = Sent {
            path: below(&upstream.base, rest),
            body: match body {
                Body::Whole(bytes) => Either::Left(bytes.into()),
                Body::Flowing(incoming) => Either::Right(incoming),
            },
            meter: match costs {
                Costs::Something => Meter::Watched(upstream.dialect),
                Costs::Nothing => Meter::Free,
            },
        };
        self.send(&plan, sent, receipt).await
    }

    /// Sends a body as it is, once, and relays what comes back: what it does may not be done twice.
    async fn send(
        &self,
        plan: &Plan,
        sent: Sent<'_>,
        mut receipt: Receipt,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Sent { path, body, meter } = sent;
        let headers = headers::upstream(&self.call.headers, &plan.upstream, self.setup.access);
        let (method, query) = (self.call.method.clone(), self.call.query.as_deref());
        let request = send::request(method, &plan.upstream, path, query, headers, body);
        let request = request.ok_or_else(|| {
            let message = format!("`{path}` is not a path that can be called");
            Refusal::new(Reason::BadRequest, message)
        })?;
        let limits = &self.setup.limits;
        let clock = &self.gateway.clock;
        receipt.flight().sent(clock.now());
        let patience = limits.first_byte_timeout;
        let http = &self.gateway.http;
        match http.send(request, &plan.upstream, patience).await {
            Ok(response) => {
                let status = response.status().as_u16();
                receipt.flight().answered(status, clock.now());
                relay(response, meter, receipt, limits).await
            }
            Err(Unanswered { fault, refusal }) => {
                receipt.leg_failed(fault, End::UpstreamBroke, None);
                receipt.settle(Outcome {
                    end: End::UpstreamBroke,
                    status: 502,
                    reported: Reported::Nothing,
                });
                Err(refusal)
            }
        }
    }
}

/// What a call without a conversation asks of its target.
pub const fn plain(dialect: Dialect) -> Need {
    Need {
        dialect,
        input: None,
        tail: Tail::Others,
    }
}

/// The user that a body names. What Claude Code sends is a user and a session in one.
fn user<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let hints = &request.client;
    named(hints.user.as_deref().or(hints.user_id.as_deref())?)
}

/// The same of a body that is not read as a conversation.
fn user_in(body: &[u8]) -> Option<String> {
    named(&read_user(body)?).map(str::to_owned)
}

fn named(user: &str) -> Option<&str> {
    let user = user.split("_session_").next().unwrap_or(user);
    (!user.is_empty() && !user.starts_with('{')).then_some(user)
}

/// What names a conversation before anybody has looked closer: its session, or everything up to its
/// first message.
pub fn conversation(call: &Call, request: &Request<'_>) -> u64 {
    let seed = xxh3_64(call.key.as_bytes());
    if let Some(session) = &call.session {
        return xxh3_64_with_seed(session.as_bytes(), seed);
    }
    let mut segments = request.prompt.segments.iter();
    let first = segments.find(|segment| segment.part == Part::Messages);
    let chain = first.map(|segment| segment.chain).unwrap_or_default();
    xxh3_64_with_seed(&chain.0.to_le_bytes(), seed)
}

/// How a conversation ends.
fn tail(request: &Request<'_>) -> Tail {
    let last = request.prompt.segments.last();
    match last.map(|segment| segment.role) {
        Some(Role::Assistant) => Tail::Assistant,
        Some(Role::System | Role::User | Role::Tool) | None => Tail::Others,
    }
}

/// Whether what is passed through can cost anything: reading, deleting and giving up a batch are never
/// billed, nor are uploads of files. Source: <https://platform.claude.com/docs/en/build-with-claude/files>,
/// "file operations are free", read 2026-11-30; no other price list has a price for them.
fn costs(method: &Method, path: &str) -> Costs {
    let free = path.ends_with("/files") || path.ends_with("/cancel");
    if *method == Method::POST && !free {
        Costs::Something
    } else {
        Costs::Nothing
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
pub const fn main_path(dialect: Dialect) -> &'static str {
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
        | Endpoint::Models { dialect }
        | Endpoint::Feedback { dialect } => *dialect,
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
pub fn unreadable(problem: Problem) -> Refusal {
    Refusal {
        param: problem.param,
        ..Refusal::new(Reason::BadRequest, problem.message)
    }
}
