//! Two legs at once in a call's account: a second one is started while the first is under way, and
//! one of them is over before the other.
//!
//! **Invariant**: both legs are held for before they are sent, and both are booked, whichever
//! answers (test `a_hedge_is_held_for_and_booked`).

use std::sync::Arc;

use policy::admit::book::hold::Need;
use policy::dispatch::fault::Fault;
use policy::dispatch::hedge::Side;
use policy::ports::{CallOpened, CallRaised, End};
use policy::refusal::Refusal;
use serde::Serialize;

use crate::Gateway;
use crate::admit;
use crate::admit::holds::Holds;
use crate::dispatch::degrade::Degraded;
use crate::dispatch::shape::Shaped;
use crate::dispatch::turn::Turn;
use crate::route::Plan;
use crate::settle::flight::Flight;
use crate::settle::receipt::{Receipt, Reported};

/// What a further leg of a call takes with it: all of its account but the legs under way.
pub struct Base<'r> {
    pub(super) gateway: &'r Arc<Gateway>,
    pub(super) row: &'r mut CallOpened,
    pub(super) holds: &'r mut Option<Holds>,
    pub(super) degraded: &'r mut Vec<Degraded>,
    pub(super) turn: &'r mut Option<Turn>,
}

/// How one of two legs came to its end.
#[derive(Debug)]
pub enum Lost {
    /// It failed while the other was under way.
    Failed {
        /// What went wrong.
        fault: Fault,
        /// How it ended.
        end: End,
        /// What it had said of its usage.
        so_far: Option<Reported>,
    },
    /// The other was enough.
    CalledOff,
}

/// What the row of a call says of its second leg.
#[derive(Debug, Serialize)]
pub(super) struct HedgeNotes {
    target: String,
    after_ms: u64,
    /// Which of the two the call went on with: `first`, `second`, or `neither`.
    went_on: &'static str,
}

impl HedgeNotes {
    fn of(first: &Flight, second: &Flight, kept: Option<Side>) -> Self {
        Self {
            target: second.target(),
            after_ms: first.before_ms(second),
            went_on: match kept {
                Some(Side::First) => "first",
                Some(Side::Second) => "second",
                None => "neither",
            },
        }
    }
}

impl Base<'_> {
    /// A further leg, with its money held; `Err` if it cannot be.
    pub fn start(
        &mut self,
        plan: &Plan,
        shaped: &mut Shaped,
        need: Option<&Need>,
    ) -> Result<Flight, Refusal> {
        let mut flight = Flight::to(plan);
        flight.shaped(shaped);
        let was = self.row.target.replace(plan.name());
        if let (Some(holds), Some(need)) = (&mut *self.holds, need) {
            let now = self.gateway.clock.now();
            if let Err(refusal) = self.gateway.accounts.raise(holds, self.row, need, now) {
                self.row.target = was;
                // Nothing was sent, so that nothing is learnt of its cache.
                drop(
                    flight
                        .ticket
                        .map(|ticket| ticket.settle(None, false, End::Refused)),
                );
                return Err(refusal);
            }
            flight.hold = holds.last();
            let more = admit::held(need, now);
            let held = self.row.held.map_or(more, |held| held.with(more));
            self.row.held = Some(held);
            self.gateway.ledger.raise(CallRaised {
                call: self.row.call.clone(),
                target: plan.name(),
                held,
            });
        }
        let degraded = shaped.degraded.take();
        let is_new = |it: &Degraded| !self.degraded.contains(it);
        self.degraded.extend(degraded.filter(is_new));
        Ok(flight)
    }

    /// The turn of the call, while it has one.
    pub fn turn(&mut self) -> Option<&mut Turn> {
        self.turn.as_mut()
    }
}

impl Receipt {
    /// What a further leg takes with it, the leg under way, and the place of one beside it.
    pub fn parts(&mut self) -> (Base<'_>, &mut Flight, &mut Option<Box<Flight>>) {
        let base = Base {
            gateway: &self.gateway,
            row: &mut self.row,
            holds: &mut self.holds,
            degraded: &mut self.degraded,
            turn: &mut self.turn,
        };
        (base, &mut self.flight, &mut self.hedge)
    }

    /// One of two legs is over before the other, with which the call goes on; nothing if there was
    /// only one.
    pub fn lost(&mut self, side: Side, how: Lost) {
        let Some(mut over) = self.hedge.take() else {
            return;
        };
        let kept = match side {
            Side::First => Side::Second,
            Side::Second => Side::First,
        };
        self.noted(HedgeNotes::of(&self.flight, &over, Some(kept)));
        if side == Side::First {
            std::mem::swap(&mut self.flight, &mut over);
        }
        self.row.target = Some(self.flight.target());
        let silent_ms = over.under_way_ms(self.gateway.clock.now());
        let (fault, end, reported) = match how {
            Lost::Failed { fault, end, so_far } => {
                self.note_at(&over, fault);
                (Some(fault), end, Self::charged(fault, so_far))
            }
            Lost::CalledOff => (None, End::CalledOff, over.seen()),
        };
        if let Some(turn) = &mut self.turn {
            turn.lost(side, fault, silent_ms);
        }
        self.book_hedge(over, end, reported);
    }

    /// The call is over while both legs are under way.
    pub(super) fn end_hedge(&mut self, end: End) {
        if let Some(mut over) = self.hedge.take() {
            self.noted(HedgeNotes::of(&self.flight, &over, None));
            let reported = over.seen();
            self.book_hedge(over, end, reported);
        }
    }

    fn noted(&mut self, notes: HedgeNotes) {
        self.gateway.metrics.hedged(notes.went_on);
        self.hedged = Some(Box::new(notes));
    }

    fn book_hedge(&mut self, mut over: Box<Flight>, end: End, reported: Reported) {
        if let Some(ticket) = &mut over.ticket {
            // The same call is served once where it was meant to go.
            ticket.forget_elsewhere();
        }
        let landed = over.land(&self.terms(), end, reported);
        self.book(over.hold, landed);
    }
}
