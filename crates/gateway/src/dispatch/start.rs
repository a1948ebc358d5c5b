//! Start: the first leg of a call is chosen, shaped and held; nothing is sent yet.
//!
//! **Invariant**: a call that was not started holds nothing (test
//! `a_limit_degrades_before_it_refuses`).

use http::StatusCode;
use policy::admit::tally::Spent;
use policy::moment::Moment;
use policy::ports::End;
use policy::refusal::{Reason, Refusal};

use crate::dispatch::legs::{self, Job};
use crate::dispatch::shape::Shaped;
use crate::dispatch::turn::Turn;
use crate::life::Service;
use crate::route::Plan;
use crate::settle::receipt::{Outcome, Receipt, Reported};

/// A call whose first leg may be sent.
pub struct Started {
    pub(super) first: usize,
    pub(super) at: Moment,
    pub(super) shaped: Shaped,
    pub(super) receipt: Receipt,
}

/// Why a call was not started.
#[derive(Debug)]
pub enum Closed {
    /// Nobody serves it, or it was sent in vain.
    Refusal(Refusal),
    /// A limit has no room, and nothing was sent.
    Spent(Box<Spent>),
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Closed {
    /// What the client is told.
    pub fn refuse(self, service: &Service<'_>) -> Refusal {
        match self {
            Self::Refusal(refusal) => refusal,
            Self::Spent(spent) => {
                let now = service.gateway.clock.now();
                service.gateway.accounts.refuse(&spent, now)
            }
        }
    }
}

/// What a client is told whose call has no target.
pub(super) fn nobody() -> Refusal {
    Refusal::new(Reason::UnknownModel, "no target serves this call")
}

/// Whose turn it is, and where that leads.
fn turn<'a>(service: &Service<'_>, job: &Job<'a>) -> Result<(Turn, &'a Plan), Refusal> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let (lineup, conversation) = (&job.route.lineup, job.conversation);
    let turn = Turn::start(gateway, setup, lineup, job.need, conversation, &call.id.0);
    let turn = turn.ok_or_else(nobody)?;
    let plan = job.route.plans.get(turn.candidate()).ok_or_else(nobody)?;
    Ok((turn, plan))
}

/// Chooses the first leg of a call and holds its money.
pub fn start(
    service: &Service<'_>,
    job: &Job<'_>,
    shape: impl Fn(&Plan) -> Shaped,
) -> Result<Started, Closed> {
    let (turn, plan) = turn(service, job).map_err(Closed::Refusal)?;
    let (first, at) = (turn.candidate(), turn.at());
    let mut shaped = shape(plan);
    let receipt = legs::open(service, job, plan, &mut shaped, turn)?;
    Ok(Started {
        first,
        at,
        shaped,
        receipt,
    })
}

/// The same for a call whose cascade did not convince: its account goes on.
pub fn resume(
    service: &Service<'_>,
    job: &Job<'_>,
    shape: impl Fn(&Plan) -> Shaped,
    mut receipt: Receipt,
) -> Result<Started, Refusal> {
    let (turn, plan) = turn(service, job)?;
    let (first, at) = (turn.candidate(), turn.at());
    let mut shaped = shape(plan);
    receipt.goes_on(turn);
    let need = legs::further(service, plan, &job.bound);
    if let Err(refusal) = receipt.next_leg(plan, &mut shaped, need.as_ref()) {
        receipt.settle(Outcome {
            end: End::Refused,
            status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
            reported: Reported::Nothing,
        });
        return Err(refusal);
    }
    Ok(Started {
        first,
        at,
        shaped,
        receipt,
    })
}
