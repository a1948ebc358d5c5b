//! Degrade: the lesser answer that a limit prefers to none.
//!
//! A conversation is asked to think less from its first call on or never: an effort that changes
//! midway costs the prompt cache of everything before. A call moves to a cheaper target where its
//! limit or its route names one that may be called, is not dearer and has room; nothing is booked as
//! saved by that, for it is not the same answer.
//!
//! **Invariant**: a call is refused only after every step that its limit allows, and a step is in its
//! notes and its headers (tests `a_limit_degrades_before_it_refuses` and
//! `conversations_think_less_once_most_is_spent` in `tests/it/degrade.rs`).

use std::sync::{Mutex, PoisonError};

use http::Response;
use policy::admit::degrade::{Due, Step};
use policy::admit::limit::{LimitId, Then};
use policy::admit::tally::Notice;
use policy::lately::Lately;
use policy::ports::CallOpened;
use policy::prices::model::Confidence;
use policy::refusal::Refusal;
use policy::think::capability::Table;
use policy::think::edits::{can_ask, edits};
use policy::think::effort::Effort;
use serde::Serialize;
use wire::dialect::request::Request;
use wire::prompt::Role;
use wire::splice::Splice;
use wire::usage::Tokens;

use crate::admit::told::told;
use crate::dispatch::cascade::{self, Asked};
use crate::dispatch::legs::{self, Job, needed};
use crate::dispatch::shape::{Shaped, named_session};
use crate::dispatch::start::{Closed, resume, start};
use crate::life::Service;
use crate::relay::reply::ReplyBody;
use crate::route::place::Placed;
use crate::route::{Plan, Route, in_order, plan};
use crate::settle::opening::Opening;

/// 4 bytes a token, to know whether a prompt fits into a model before anything was counted.
const BYTES_PER_TOKEN: u64 = 4;

/// What was done to a call on account of a limit, as its row and its headers tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Degraded {
    limit: String,
    payer: String,
    step: &'static str,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    #[serde(skip)]
    told: String,
}

impl Degraded {
    pub(super) fn of(notice: &Notice, step: Step, to: String, instead_of: Option<String>) -> Self {
        Self {
            limit: notice.limit.to_string(),
            payer: notice.scope.to_string(),
            step: step.name(),
            to,
            instead_of,
            told: told(notice),
        }
    }

    /// What the header says of it.
    pub fn told(&self) -> &str {
        &self.told
    }
}

/// Conversations that began with less effort on account of a limit, and keep it.
#[derive(Debug, Default)]
pub struct Lowered(Mutex<Lately<Began>>);

#[derive(Clone, Debug)]
struct Began {
    target: String,
    effort: Effort,
    degraded: Degraded,
}

impl Lowered {
    fn get(&self, conversation: u64) -> Option<Began> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(conversation)
    }

    fn put(&self, conversation: u64, began: Began) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(conversation, began);
    }
}

/// What the limits of a call want done to it before it asks for its money.
pub fn due(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &Placed,
    user: Option<&str>,
) -> Option<Due> {
    let Service { gateway, setup, .. } = *service;
    if !setup.budgets.degrade() {
        return None;
    }
    let row = row_of(service, request, placed, user)?;
    gateway.accounts.due(&row, gateway.clock.now())
}

/// A call's row before it is opened, for those who ask what its payers have used.
pub fn row_of(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &Placed,
    user: Option<&str>,
) -> Option<CallOpened> {
    let plan = placed.route.first()?;
    let opening = Opening::of(service.call, &request.model, plan, request.body.len());
    let mut row = opening.of_user(user).into_row();
    let session = row.session.take();
    row.session = session.or_else(|| named_session(request).map(str::to_owned));
    Some(row)
}

/// Declares less effort for a conversation that begins while a limit wants it, or began so.
pub fn lower(
    service: &Service<'_>,
    request: &Request<'_>,
    plan: &Plan,
    conversation: u64,
    due: Option<&Due>,
    splice: &mut Splice,
) -> Option<Degraded> {
    let Service { gateway, setup, .. } = *service;
    if !setup.budgets.degrade() || request.reasoning().given {
        return None;
    }
    let target = plan.name();
    let began = gateway.lowered.get(conversation);
    let began = began.filter(|began| began.target == target);
    let capability = Table::built_in().find(&plan.upstream.prices, &plan.model)?;
    let began = match (began, due) {
        (Some(began), _) => began,
        (None, Some(due)) if begins(request) && capability.confidence != Confidence::Unverified => {
            let effort = capability.lowered(Effort::Low)?;
            let notice = due.usage.notice(Step::Effort.event());
            let degraded = Degraded::of(&notice, Step::Effort, effort.name().to_owned(), None);
            Began {
                target,
                effort,
                degraded,
            }
        }
        (None, _) => return None,
    };
    if !can_ask(request, capability, began.effort) {
        return None;
    }
    edits(request, capability, began.effort, splice);
    if let Some(due) = due {
        let notice = due.usage.notice(Step::Effort.event());
        gateway.accounts.told(&[notice]);
    }
    let degraded = began.degraded.clone();
    gateway.lowered.put(conversation, began);
    Some(degraded)
}

/// Whether nobody has answered in a conversation yet.
fn begins(request: &Request<'_>) -> bool {
    let mut segments = request.prompt.segments.iter();
    !segments.any(|segment| segment.role == Role::Assistant)
}

/// Serves a conversation, at a cheaper target where a limit wants it so, and refuses it where there
/// is no room for any.
pub async fn serve(
    service: &Service<'_>,
    job: &Job<'_>,
    placed: &Placed,
    due: Option<&Due>,
    shape: impl Fn(&Plan) -> Shaped,
) -> Result<Response<ReplyBody>, Closed> {
    let early = due.filter(|due| due.step == Step::Target);
    if let Some(due) = early {
        let notice = due.usage.notice(Step::Target.event());
        let moves = moves(service, job, placed, &due.usage.limit.id, &notice);
        if let Some(reply) = first_with_room(service, job, moves, &shape).await {
            return Ok(reply?);
        }
    }
    match cascade::ask(service, job, &shape).await {
        Asked::Nobody => {}
        Asked::Answered(reply) => return Ok(reply),
        Asked::InVain(receipt) => {
            let started = resume(service, job, &shape, *receipt)?;
            return Ok(legs::run(service, job, started, &shape).await?);
        }
    }
    let spent = match start(service, job, &shape) {
        Ok(started) => return Ok(legs::run(service, job, started, &shape).await?),
        Err(Closed::Spent(spent)) => spent,
        Err(closed @ Closed::Refusal(_)) => return Err(closed),
    };
    if spent.then == Then::Degrade && early.is_none() {
        let notice = spent.notice(Step::Target.event());
        let moves = moves(service, job, placed, &spent.limit, &notice);
        if let Some(reply) = first_with_room(service, job, moves, &shape).await {
            return Ok(reply?);
        }
    }
    Err(Closed::Spent(spent))
}

/// One cheaper target with those after it as fallbacks, and what is told if it serves.
struct Move {
    route: Route,
    degraded: Degraded,
    notice: Notice,
}

/// Where a call can go instead, the best first.
fn moves(
    service: &Service<'_>,
    job: &Job<'_>,
    placed: &Placed,
    limit: &LimitId,
    notice: &Notice,
) -> Vec<Move> {
    let Service { gateway, setup, .. } = *service;
    let Some(was) = job.route.first() else {
        return Vec::new();
    };
    let named = setup.budgets.degrade_to.get(limit).into_iter().flatten();
    let mut plans: Vec<Plan> = Vec::new();
    for target in named.chain(&placed.as_good) {
        let Some(plan) = plan(setup, target, job.need.dialect) else {
            continue;
        };
        let is_known = plan.is_same(was) || plans.iter().any(|known| known.is_same(&plan));
        if !is_known && is_fit(service, job, placed, was, &plan) {
            plans.push(plan);
        }
    }
    let routes = (0..plans.len()).filter_map(|skipped| {
        let plans: Vec<Plan> = plans.iter().skip(skipped).cloned().collect();
        let to = plans.first()?.name();
        Some(Move {
            route: in_order(setup, &gateway.healths, plans)?,
            degraded: Degraded::of(notice, Step::Target, to, Some(was.name())),
            notice: notice.clone(),
        })
    });
    routes.collect()
}

/// Whether a target may and can serve the call, and holds no more than the one that it was meant for.
fn is_fit(service: &Service<'_>, job: &Job<'_>, placed: &Placed, was: &Plan, plan: &Plan) -> bool {
    let Service { setup, call, .. } = *service;
    let may_call = call.may_call(&plan.name()).is_ok() || call.may_call(&plan.model).is_ok();
    let pinned = placed.pinned.as_ref();
    let is_allowed = may_call && pinned.is_none_or(|provider| *provider == plan.upstream.id);
    let now = service.gateway.clock.now();
    let (one, other) = (
        needed(service, was, &job.bound, now).most(),
        needed(service, plan, &job.bound, now).most(),
    );
    let is_cheaper = match (one, other) {
        (Some(one), Some(other)) => other < one,
        (None, other) => other.is_some(),
        (Some(_), None) => false,
    };
    let model = setup.prices.find(&plan.upstream.prices, &plan.model);
    let window = model.and_then(|model| model.context);
    let holds_it = window.is_none_or(|window| Tokens(placed.bytes / BYTES_PER_TOKEN) <= window);
    is_allowed && is_cheaper && holds_it
}

/// Serves a call at the first of these that has room; none if none has.
async fn first_with_room(
    service: &Service<'_>,
    job: &Job<'_>,
    moves: Vec<Move>,
    shape: &impl Fn(&Plan) -> Shaped,
) -> Option<Result<Response<ReplyBody>, Refusal>> {
    for Move {
        route,
        degraded,
        notice,
    } in moves
    {
        let job = Job {
            route: &route,
            degraded: Some(&degraded),
            ..*job
        };
        if let Ok(started) = start(service, &job, shape) {
            service.gateway.accounts.told(&[notice]);
            return Some(legs::run(service, &job, started, shape).await);
        }
    }
    None
}
