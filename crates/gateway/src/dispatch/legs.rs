//! The legs of a call: each is shaped, held, sent and looked at; what fails is followed up as
//! `policy::dispatch` says, until an answer begins or nobody is left.
//!
//! **Invariant**: the client sees one answer, never the beginning of two; every leg that was sent is
//! in the ledger (test
//! `the_sixteen_behaviours_are_rescued_or_cleanly_refused`).

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use policy::admit::book::hold::Need as Budgeted;
use policy::dispatch::fault::{Alarm, Fault};
use policy::dispatch::lineup::Need;
use policy::dispatch::patience::Pace;
use policy::dispatch::read::read_status;
use policy::dispatch::retry::Visible;
use policy::dispatch::walk::{Again, Ending};
use policy::moment::Moment;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;

use crate::admit;
use crate::dispatch::degrade::Degraded;
use crate::dispatch::headers;
use crate::dispatch::hedge;
use crate::dispatch::hold::{self, Bound};
use crate::dispatch::peek::{Beginning, Broken, Pauses, Waits, peek};
use crate::dispatch::pieces::Pieces;
use crate::dispatch::send;
use crate::dispatch::shape::{self, Shaped};
use crate::dispatch::start::{Closed, Started, nobody, start};
use crate::dispatch::turn::{Follows, Turn};
use crate::life::Service;
use crate::relay::refuse::SHOULD_RETRY;
use crate::relay::reply::ReplyBody;
use crate::relay::stream::{Reading, reported};
use crate::relay::whole::{self, Meter, TARGET_HEADER, Unread};
use crate::route::place::Placed;
use crate::route::{Plan, Route};
use crate::settle::faults::whose;
use crate::settle::flight::Flight;
use crate::settle::opening::Opening;
use crate::settle::receipt::{Outcome, Receipt, Reported};
use crate::setup;

/// What is to be sent, to whomever serves it.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The targets.
    pub route: &'a Route,
    /// The model as the client named it.
    pub asked: &'a str,
    /// Where a route has placed it.
    pub placed: Option<&'a Placed>,
    /// What a limit has done to it.
    pub degraded: Option<&'a Degraded>,
    /// The user that the body names.
    pub user: Option<&'a str>,
    /// The client's body.
    pub body: &'a Bytes,
    /// Where it goes, below a base address.
    pub path: &'static str,
    /// How its answer is read.
    pub meter: Meter,
    /// What it asks of a target.
    pub need: Need,
    /// The conversation that it belongs to, where several targets could serve it.
    pub conversation: Option<u64>,
    /// What bounds its usage.
    pub bound: Bound,
}

/// An answer that has begun.
pub(super) enum Answer {
    Whole(Parts, Bytes, Reported),
    Flowing(Parts, Beginning, Incoming, Reading),
}

/// A leg that brought none.
pub(super) struct Failed {
    pub(super) fault: Fault,
    pub(super) end: End,
    pub(super) so_far: Option<Reported>,
    pub(super) told: Told,
}

/// What a target said of its failure: what the client is told if nobody can serve the call.
struct Word<'p> {
    fault: Fault,
    told: Told,
    plan: &'p Plan,
}

/// The words themselves: an answer of the upstream's, or ours where there is none.
pub(super) enum Told {
    Answer(Parts, Bytes),
    Refusal(Refusal),
}

impl<'p> Word<'p> {
    /// As the walk chooses what is shown: the first target's word, or whoever refuses content.
    fn heard(self, shown: &mut Option<Self>, first: Option<&'p Plan>) {
        let is_first = first.is_some_and(|first| std::ptr::eq(first, self.plan));
        if shown.is_none() || is_first || self.fault == Fault::Refused {
            *shown = Some(self);
        }
    }
}

/// Sends a call to its targets until one answers.
pub async fn serve(
    service: &Service<'_>,
    job: &Job<'_>,
    shape: impl Fn(&Plan) -> Shaped,
) -> Result<Response<ReplyBody>, Closed> {
    let started = start(service, job, &shape)?;
    Ok(run(service, job, started, shape).await?)
}

/// Sends a call that was started to its targets until one answers.
pub async fn run(
    service: &Service<'_>,
    job: &Job<'_>,
    started: Started,
    shape: impl Fn(&Plan) -> Shaped,
) -> Result<Response<ReplyBody>, Refusal> {
    let Service { setup, call, .. } = *service;
    let Started {
        first,
        at,
        mut shaped,
        mut receipt,
    } = started;
    let mut plan = job.route.plans.get(first).ok_or_else(nobody)?;
    let mut word: Option<Word<'_>> = None;
    wait_until(service, at).await;
    loop {
        let answer = match hedge::due(job, &mut receipt) {
            None => leg(service, job, plan, shaped, &mut receipt).await,
            Some(hedging) => {
                let told = (hedging, &shape);
                let two = hedge::legs(service, job, (plan, shaped), told, &mut receipt);
                let brought = two.await;
                if let Some((plan, fault, told)) = brought.failed {
                    Word { fault, told, plan }.heard(&mut word, job.route.plans.get(first));
                }
                plan = brought.plan;
                brought.answer
            }
        };
        let failed = match answer {
            Ok(answer) => return Ok(reply(answer, receipt, setup.limits.idle_timeout).await),
            Err(failed) => failed,
        };
        let Failed {
            fault,
            end,
            so_far,
            told,
        } = failed;
        receipt.leg_failed(fault, end, so_far);
        Word { fault, told, plan }.heard(&mut word, job.route.plans.get(first));
        let turn = receipt.turn();
        let nothing = Follows::Nothing(None);
        let follows = turn.map_or(nothing, |turn| turn.failed(fault, Visible::Nothing));
        if let Follows::Nothing(ending) = follows {
            return Box::pin(give_up(ending, word, receipt)).await;
        }
        let (next, at) = receipt
            .turn()
            .map_or((first, Moment(0)), |turn| (turn.candidate(), turn.at()));
        wait_until(service, at).await;
        plan = job.route.plans.get(next).ok_or_else(nobody)?;
        shaped = shape(plan);
        let need = further(service, plan, &job.bound);
        if let Err(refusal) = receipt.next_leg(plan, &mut shaped, need.as_ref()) {
            tracing::info!(call = call.id.0, why = refusal.message, "no further leg");
            return Box::pin(give_up(None, word, receipt)).await;
        }
    }
}

/// What a further leg may use, where anything is limited.
pub(super) fn further(service: &Service<'_>, plan: &Plan, bound: &Bound) -> Option<Budgeted> {
    let Service { gateway, .. } = *service;
    let is_limited = gateway.accounts.is_limited();
    is_limited.then(|| needed(service, plan, bound, gateway.clock.now()))
}

/// Holds the first leg's worst case and opens the account of the call.
pub(super) fn open(
    service: &Service<'_>,
    job: &Job<'_>,
    plan: &Plan,
    shaped: &mut Shaped,
    turn: Turn,
) -> Result<Receipt, Closed> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let opening = Opening::of(call, job.asked, plan, job.body.len());
    let opening = opening
        .of_user(job.user)
        .placed(job.placed.map(Placed::placement).unwrap_or_default())
        .degraded(job.degraded)
        .shaped(shaped)
        .on(turn);
    let opening = held(service, plan, &job.bound, opening)?;
    Ok(Receipt::open(gateway, setup, opening))
}

/// The opening with its money held, where anything is limited.
pub fn held(
    service: &Service<'_>,
    plan: &Plan,
    bound: &Bound,
    opening: Opening,
) -> Result<Opening, Closed> {
    let Service { gateway, .. } = *service;
    if !gateway.accounts.is_limited() {
        return Ok(opening);
    }
    let now = gateway.clock.now();
    let need = needed(service, plan, bound, now);
    let reserved = gateway.accounts.reserve(opening.row(), need, now);
    let (holds, notices) = reserved.map_err(Closed::Spent)?;
    Ok(opening.holding(holds, admit::held(&need, now), &notices))
}

/// What a leg may use, and what it is expected to.
pub fn needed(service: &Service<'_>, plan: &Plan, bound: &Bound, now: Moment) -> Budgeted {
    let Service { gateway, setup, .. } = *service;
    let need = hold::need(setup, plan, bound, now);
    gateway
        .accounts
        .expecting(need, &plan.upstream.id, &plan.model)
}

async fn wait_until(service: &Service<'_>, at: Moment) {
    let millis = at.since(service.gateway.clock.now());
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

/// For how long the leg under way is waited for.
pub(super) fn pauses(service: &Service<'_>, receipt: &mut Receipt) -> Pauses {
    let turn = receipt.turn();
    let patience = turn.and_then(|turn| turn.patience(Pace::Thinking));
    Pauses::of(&service.setup.limits, patience)
}

/// Sends one leg and looks at the beginning of its answer.
pub(super) async fn leg(
    service: &Service<'_>,
    job: &Job<'_>,
    plan: &Plan,
    shaped: Shaped,
    receipt: &mut Receipt,
) -> Result<Answer, Failed> {
    let pauses = pauses(service, receipt);
    let answer = fly(service, job, plan, shaped, pauses, receipt.flight()).await?;
    receipt.begun();
    Ok(answer)
}

/// The same of one of two legs, which are begun once one of them has won.
pub(super) async fn fly(
    service: &Service<'_>,
    job: &Job<'_>,
    plan: &Plan,
    shaped: Shaped,
    pauses: Pauses,
    flight: &mut Flight,
) -> Result<Answer, Failed> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    if let Some(written) = shaped.wait {
        shape::wait(written).await;
    }
    let mut fields = headers::upstream(&call.headers, &plan.upstream, setup.access);
    fields.extend(shaped.headers);
    let body = Either::Left(Pieces::of(job.body, &shaped.splice));
    let (method, query) = (call.method.clone(), call.query.as_deref());
    let request = send::request(method, &plan.upstream, job.path, query, fields, body);
    let request = request.ok_or_else(|| unsendable(job.path))?;
    let Pauses {
        first_token, stall, ..
    } = pauses;
    let waits = Waits::from_now(pauses);
    flight.sent(gateway.clock.now());
    let response = gateway
        .http
        .send(request, &plan.upstream, first_token)
        .await;
    let response = response.map_err(|unanswered| Failed {
        fault: unanswered.fault,
        end: End::UpstreamBroke,
        so_far: None,
        told: Told::Refusal(unanswered.refusal),
    })?;
    let (head, mut body) = response.into_parts();
    flight.answered(head.status.as_u16(), gateway.clock.now());
    if head.status.is_success() && !whole::is_whole(&head) {
        let reading = whole::reading(&head, job.meter);
        return match begin(flight, reading, &mut body, &waits).await {
            Ok((beginning, reading)) => Ok(Answer::Flowing(head, beginning, body, reading)),
            Err((broken, reading)) => Err(broken_stream(broken, reading, plan)),
        };
    }
    whole_answer(service, head, body, (job.meter, stall, plan)).await
}

/// A stream whose beginning is being looked at. If the client leaves meanwhile, what the stream has
/// said of its usage goes to its account.
pub(super) struct Looking<'f> {
    reading: Option<Reading>,
    flight: &'f mut Flight,
}

impl<'f> Looking<'f> {
    pub(super) fn at(reading: Reading, flight: &'f mut Flight) -> Self {
        Self {
            reading: Some(reading),
            flight,
        }
    }

    pub(super) fn reading(&mut self) -> Option<&mut Reading> {
        self.reading.as_mut()
    }

    /// What was read, once nobody looks any more.
    pub(super) fn seen(&mut self) -> Reading {
        self.reading.take().unwrap_or(Reading::Opaque)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.flight.saw(reported(reading));
        }
    }
}

/// Looks at the beginning of an answer that flows.
async fn begin(
    flight: &mut Flight,
    reading: Reading,
    body: &mut Incoming,
    waits: &Waits,
) -> Result<(Beginning, Reading), (Broken, Reading)> {
    let mut looking = Looking::at(reading, flight);
    let beginning = match &mut looking.reading {
        Some(Reading::Dialect(_, stream)) => peek(body, stream, waits).await,
        Some(Reading::Watched(_) | Reading::Opaque | Reading::Free) | None => {
            Ok(Beginning::default())
        }
    };
    let reading = looking.seen();
    match beginning {
        Ok(beginning) => Ok((beginning, reading)),
        Err(broken) => Err((broken, reading)),
    }
}

/// An answer that is read whole before the client is told of it.
async fn whole_answer(
    service: &Service<'_>,
    head: Parts,
    body: Incoming,
    (meter, stall, plan): (Meter, Duration, &Plan),
) -> Result<Answer, Failed> {
    let provider = &plan.upstream.id;
    let limits = setup::Limits {
        idle_timeout: stall,
        ..service.setup.limits
    };
    let bytes = whole::collect(body, &limits).await;
    let refusal = |unread: Unread| Told::Refusal(whole::broken(provider, unread.what()));
    if !head.status.is_success() {
        let now = service.gateway.clock.now();
        let header = |name: &str| head.headers.get(name)?.to_str().ok();
        // The status tells what is wrong, even if the words about it do not come.
        let words = bytes.as_deref().unwrap_or_default();
        return Err(Failed {
            fault: read_status(head.status.as_u16(), header, words, now),
            end: End::UpstreamError,
            so_far: None,
            told: bytes.map_or_else(refusal, |bytes| Told::Answer(head, bytes)),
        });
    }
    let bytes = bytes.map_err(|unread| Failed {
        fault: unread.fault(),
        end: End::UpstreamBroke,
        so_far: None,
        told: refusal(unread),
    })?;
    let read = plan.upstream.dialect.read_answer(&bytes);
    if !read.is_json {
        let what = "sent an answer that is not JSON";
        return Err(Failed {
            fault: Fault::Unreadable,
            end: End::UpstreamBroke,
            so_far: None,
            told: Told::Refusal(whole::broken(provider, what)),
        });
    }
    Ok(Answer::Whole(head, bytes, meter.reported_in(read)))
}

/// A stream that failed before anything could be seen of it: an error event is told as the answer
/// that it would have been, had the upstream known earlier.
fn broken_stream(broken: Broken, reading: Reading, plan: &Plan) -> Failed {
    let Broken { fault, said } = broken;
    let (end, told) = if let Some(data) = said {
        let mut answer = Response::new(());
        *answer.status_mut() = status_of(fault, plan.upstream.dialect);
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        let (head, ()) = answer.into_parts();
        (End::UpstreamError, Told::Answer(head, data))
    } else {
        let what = if matches!(fault, Fault::Silent | Fault::Stalled) {
            "fell silent before its answer"
        } else if fault == Fault::Unreadable {
            "sent an event that breaks off"
        } else {
            "ended before its answer"
        };
        let refusal = whole::broken(&plan.upstream.id, what);
        (End::UpstreamBroke, Told::Refusal(refusal))
    };
    Failed {
        fault,
        end,
        so_far: Some(reported(reading)),
        told,
    }
}

/// The status with which the providers of a dialect tell such a fault.
fn status_of(fault: Fault, dialect: Dialect) -> StatusCode {
    let code = match fault {
        Fault::RateLimited { .. } | Fault::Exhausted => 429,
        Fault::Overloaded { .. } if dialect == Dialect::AnthropicMessages => 529,
        Fault::Overloaded { .. } => 503,
        Fault::Denied => 401,
        Fault::ModelMissing => 404,
        Fault::BadRequest | Fault::ContextExceeded | Fault::Refused | Fault::PrefillRejected => 400,
        Fault::Unconnected
        | Fault::Reset
        | Fault::Silent
        | Fault::Failed
        | Fault::Unreadable
        | Fault::Cut
        | Fault::Stalled
        | Fault::Interrupted => 500,
    };
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn unsendable(path: &str) -> Failed {
    let message = format!("`{path}` is not a path that can be called");
    Failed {
        fault: Fault::BadRequest,
        end: End::Refused,
        so_far: None,
        told: Told::Refusal(Refusal::new(Reason::BadRequest, message)),
    }
}

/// From here on nobody else can be asked, so that only the operator's own limit on silence holds.
pub(super) async fn reply(answer: Answer, receipt: Receipt, idle: Duration) -> Response<ReplyBody> {
    match answer {
        Answer::Whole(head, bytes, reported) => whole::whole(&head, bytes, reported, receipt).await,
        Answer::Flowing(head, beginning, body, reading) => {
            whole::flowing(&head, beginning, body, reading, receipt, idle)
        }
    }
}

/// Ends a call that nobody could serve, in the words of the target that it was meant for.
async fn give_up(
    ending: Option<Ending>,
    word: Option<Word<'_>>,
    mut receipt: Receipt,
) -> Result<Response<ReplyBody>, Refusal> {
    let retry_after_s = ending.and_then(|ending| ending.retry_after_s);
    let mut refusal = match word {
        Some(Word {
            fault,
            told: Told::Answer(head, bytes),
            plan,
        }) => match ours_to_mend(fault, plan) {
            None => {
                let again = ending.map_or(Again::Sensible, |ending| ending.client);
                return Ok(passed_on(&head, bytes, plan, receipt, again).await);
            }
            Some(refusal) => refusal,
        },
        Some(Word {
            told: Told::Refusal(refusal),
            ..
        }) => refusal,
        None => Refusal::new(Reason::Internal, "the call was given up"),
    };
    refusal.retry_after_s = refusal.retry_after_s.or(retry_after_s);
    let is_given_up = ending.is_some_and(|ending| ending.client == Again::Pointless);
    if is_given_up && refusal.reason == Reason::UpstreamUnreachable {
        refusal.reason = Reason::UpstreamGivenUp;
    }
    receipt.settle(Outcome {
        end: End::UpstreamBroke,
        status: 502,
        reported: Reported::Nothing,
    });
    Err(refusal)
}

/// The error answer of a target, which need not be the last one that was asked.
async fn passed_on(
    head: &Parts,
    bytes: Bytes,
    plan: &Plan,
    receipt: Receipt,
    again: Again,
) -> Response<ReplyBody> {
    let mut response = whole::whole(head, bytes, Reported::Nothing, receipt).await;
    let headers = response.headers_mut();
    let target = format!("{}/{}", plan.upstream.id, plan.model);
    if let Ok(target) = HeaderValue::from_str(&target) {
        headers.insert(TARGET_HEADER, target);
    }
    // What the upstream says of it stands.
    if again == Again::Pointless && !headers.contains_key(SHOULD_RETRY) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// What the client must not take for its own fault: our credential, our account.
fn ours_to_mend(fault: Fault, plan: &Plan) -> Option<Refusal> {
    let provider = &plan.upstream.id;
    let message = match fault.alarm(whose(plan))? {
        Alarm::CredentialDenied => format!(
            "provider `{provider}` does not accept the gateway's credential; its operator must \
             renew it"
        ),
        Alarm::AccountExhausted => format!(
            "the gateway's account at provider `{provider}` has no quota left; its operator must \
             top it up"
        ),
        // The client may have named the model itself, and can read what is said of it.
        Alarm::ModelMissing => return None,
    };
    tracing::error!(
        provider,
        fault = fault.name(),
        "a provider needs its operator"
    );
    Some(Refusal::new(Reason::UpstreamUnreachable, message))
}
