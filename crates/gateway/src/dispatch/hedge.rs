//! Hedge: a second target is asked beside one that is slow to begin, and who begins first answers.
//!
//! **Invariant**: the client sees one answer; both legs are held for, and both are booked (test
//! `a_hedge_is_held_for_and_booked`).

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::cascade::contract::{Barred, Contract};
use policy::dispatch::fault::Fault;
use policy::dispatch::hedge::{Allowance, Hedging, Side};
use policy::dispatch::patience::Pace;
use policy::dispatch::retry::is_passing;
use tokio::time::timeout;

use crate::dispatch::legs::{self, Answer, Failed, Job, Told, further};
use crate::dispatch::peek::Pauses;
use crate::dispatch::shape::{self, Shaped};
use crate::life::Service;
use crate::route::Plan;
use crate::settle::faults::whose;
use crate::settle::flight::Flight;
use crate::settle::hedged::{Base, Lost};
use crate::settle::receipt::Receipt;

/// How many hedges may be sent now.
#[derive(Debug, Default)]
pub struct Hedges(Mutex<Allowance>);

impl Hedges {
    fn with<R>(&self, change: impl FnOnce(&mut Allowance) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came of a leg, and of the one beside it.
pub(super) struct Brought<'p> {
    pub(super) plan: &'p Plan,
    pub(super) answer: Result<Answer, Failed>,
    /// Of the two, the one that failed first.
    pub(super) failed: Option<(&'p Plan, Fault, Told)>,
}

/// Who brought it, and how the other ended before.
struct Raced {
    by: Side,
    answer: Result<Answer, Failed>,
    failed: Option<Failed>,
}

/// Whether a second leg may be sent beside the one under way, and when.
pub(super) fn due(job: &Job<'_>, receipt: &mut Receipt) -> Option<Hedging> {
    let hedging = receipt.turn()?.hedging()?;
    job.conversation.is_some().then_some(hedging)
}

/// Sends one leg, and a second one beside it if it is slow and that is allowed. Boxed, for the state
/// of two legs is nothing that calls without a hedge should carry.
pub(super) fn legs<'p>(
    service: &Service<'_>,
    job: &Job<'p>,
    leg: (&'p Plan, Shaped),
    how: (Hedging, impl Fn(&Plan) -> Shaped),
    receipt: &mut Receipt,
) -> Pin<Box<impl Future<Output = Brought<'p>>>> {
    Box::pin(both(service, job, leg, how, receipt))
}

async fn both<'p>(
    service: &Service<'_>,
    job: &Job<'p>,
    (plan, mut shaped): (&'p Plan, Shaped),
    (hedging, shape): (Hedging, impl Fn(&Plan) -> Shaped),
    receipt: &mut Receipt,
) -> Brought<'p> {
    service.gateway.hedges.with(|it| it.earn(&hedging));
    // Whoever waits for another call's cache entry on purpose is not slow.
    if let Some(written) = shaped.wait.take() {
        shape::wait(written).await;
    }
    let pauses = legs::pauses(service, receipt);
    let (mut base, first, second) = receipt.parts();
    let first = legs::fly(service, job, plan, shaped, pauses, first);
    let (raced, other) = {
        let mut first = pin!(first);
        let after = Duration::from_millis(hedging.after_ms);
        match timeout(after, &mut first).await {
            Ok(answer) => (Raced::alone(answer), plan),
            Err(_) => match start(service, job, shape, &mut base) {
                None => (Raced::alone(first.await), plan),
                Some((other, shaped, pauses, flight)) => {
                    let second = second.insert(Box::new(flight));
                    let second = legs::fly(service, job, other, shaped, pauses, second);
                    (race(first, second, plan).await, other)
                }
            },
        }
    };
    conclude(receipt, raced, (plan, other))
}

/// Books what is over.
fn conclude<'p>(
    receipt: &mut Receipt,
    raced: Raced,
    (first, second): (&'p Plan, &'p Plan),
) -> Brought<'p> {
    let Raced { by, answer, failed } = raced;
    let (plan, loser, side) = match by {
        Side::First => (first, second, Side::Second),
        Side::Second => (second, first, Side::First),
    };
    let (how, failed) = match failed {
        None => (Lost::CalledOff, None),
        Some(Failed {
            fault,
            end,
            so_far,
            told,
        }) => {
            let how = Lost::Failed { fault, end, so_far };
            (how, Some((loser, fault, told)))
        }
    };
    receipt.lost(side, how);
    if answer.is_ok() {
        receipt.begun();
    }
    Brought {
        plan,
        answer,
        failed,
    }
}

/// The second leg, if one is allowed, somebody else could answer, and its money can be held.
fn start<'p>(
    service: &Service<'_>,
    job: &Job<'p>,
    shape: impl Fn(&Plan) -> Shaped,
    base: &mut Base<'_>,
) -> Option<(&'p Plan, Shaped, Pauses, Flight)> {
    let hedges = &service.gateway.hedges;
    // What the provider itself does would be done twice.
    let barred = Contract::read(job.need.dialect, job.body).barred;
    if barred == Some(Barred::ProviderTools) || !hedges.with(Allowance::take) {
        return None;
    }
    let started = chosen(service, job, shape, base);
    if started.is_none() {
        hedges.with(Allowance::put_back);
    }
    started
}

fn chosen<'p>(
    service: &Service<'_>,
    job: &Job<'p>,
    shape: impl Fn(&Plan) -> Shaped,
    base: &mut Base<'_>,
) -> Option<(&'p Plan, Shaped, Pauses, Flight)> {
    let turn = base.turn()?;
    let (candidate, patience) = turn.hedge(Pace::Thinking)?;
    let plan = job.route.plans.get(candidate)?;
    let mut shaped = shape(plan);
    let need = further(service, plan, &job.bound);
    match base.start(plan, &mut shaped, need.as_ref()) {
        Ok(flight) => {
            let pauses = Pauses::of(&service.setup.limits, Some(patience));
            Some((plan, shaped, pauses, flight))
        }
        Err(refusal) => {
            let call = &service.call.id.0;
            tracing::info!(call, why = refusal.message, "no second leg");
            base.turn()?.unhedged();
            None
        }
    }
}

/// The first answer that begins. A fault of the first leg that any target would have ends it for
/// both: what one target refuses is not asked of another.
async fn race(
    mut first: Pin<&mut impl Future<Output = Result<Answer, Failed>>>,
    second: impl Future<Output = Result<Answer, Failed>>,
    plan: &Plan,
) -> Raced {
    let mut second = pin!(second);
    tokio::select! {
        biased;
        answer = &mut first => match answer {
            Err(failed) if is_passing(failed.fault, whose(plan)) => Raced {
                by: Side::Second,
                answer: second.await,
                failed: Some(failed),
            },
            answer => Raced::alone(answer),
        },
        answer = &mut second => match answer {
            Err(failed) => Raced {
                by: Side::First,
                answer: first.await,
                failed: Some(failed),
            },
            answer => Raced {
                by: Side::Second,
                answer,
                failed: None,
            },
        },
    }
}

impl Raced {
    /// By the first leg; the second one, if there is one, is called off.
    fn alone(answer: Result<Answer, Failed>) -> Self {
        Self {
            by: Side::First,
            answer,
            failed: None,
        }
    }
}
