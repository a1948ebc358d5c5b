//! Start: the first leg of a call is chosen, shaped and held; nothing is sent yet.
//!
//! **Invariant**: a call that was not started holds nothing and has no row (test
//! `a_limit_degrades_before_it_refuses`).

use policy::admit::tally::Spent;
use policy::moment::Moment;
use policy::refusal::{Reason, Refusal};

use crate::dispatch::legs::{self, Job};
use crate::dispatch::shape::Shaped;
use crate::dispatch::turn::Turn;
use crate::life::Service;
use crate::route::Plan;
use crate::settle::receipt::Receipt;

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
    /// Nobody serves it.
    Refusal(Refusal),
    /// A limit has no room.
    Spent(Box<Spent>),
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

/// Chooses the first leg of a call and holds its money.
pub fn start(
    service: &Service<'_>,
    job: &Job<'_>,
    shape: impl Fn(&Plan) -> Shaped,
) -> Result<Started, Closed> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let (lineup, conversation) = (&job.route.lineup, job.conversation);
    let turn = Turn::start(gateway, setup, lineup, job.need, conversation, &call.id.0);
    let turn = turn.ok_or_else(|| Closed::Refusal(nobody()))?;
    let (first, at) = (turn.candidate(), turn.at());
    let plan = job.route.plans.get(first);
    let plan = plan.ok_or_else(|| Closed::Refusal(nobody()))?;
    let mut shaped = shape(plan);
    let receipt = legs::open(service, job, plan, &mut shaped, turn)?;
    Ok(Started {
        first,
        at,
        shaped,
        receipt,
    })
}
