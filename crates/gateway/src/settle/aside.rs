//! Aside: a leg that a cascade sends while the cheap answer waits to be judged: it is part of the same
//! call, held, billed and booked like every other, and its answer is no client's.
//!
//! **Invariant**: an aside that was sent is booked on every exit, also if the client leaves while it is
//! under way (test `a_client_that_leaves_while_the_judge_runs_owes_both_legs`).

use policy::admit::book::hold::Need;
use policy::dispatch::fault::Fault;
use policy::money::PicoUsd;
use policy::ports::{End, Lever};
use policy::refusal::Refusal;
use serde::Serialize;
use wire::splice::Splice;
use wire::usage::Tokens;

use crate::dispatch::shape::Shaped;
use crate::route::Plan;
use crate::settle::flight::{Flight, Terms};
use crate::settle::receipt::{BYTES_PER_TOKEN, Receipt, Reported};

/// An aside under way.
#[derive(Debug)]
pub(super) struct Aside {
    flight: Flight,
    role: &'static str,
    /// The size of what is asked.
    input: Tokens,
}

/// What is written down about an aside.
#[derive(Clone, Debug, Serialize)]
pub struct AsideNotes {
    role: &'static str,
    target: String,
    /// What it brought, or why it brought nothing.
    said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usd: Option<String>,
}

impl Receipt {
    /// Holds what an aside of this size may use, and begins it. `Err` if its money cannot be held;
    /// then nothing is to be sent.
    pub fn turns_aside(
        &mut self,
        (role, plan): (&'static str, &Plan),
        body_bytes: usize,
        need: Option<&Need>,
    ) -> Result<(), Refusal> {
        let was = self.row.target.clone();
        let (mut base, _, _) = self.parts();
        let started = base.start(plan, &mut Shaped::edited(Splice::default()), need);
        // The call stays where it is.
        self.row.target = was;
        self.aside = Some(Box::new(Aside {
            flight: started?,
            role,
            input: Tokens(body_bytes as u64 / BYTES_PER_TOKEN),
        }));
        Ok(())
    }

    /// The aside has left.
    pub fn aside_sent(&mut self) {
        let now = self.gateway.clock.now();
        if let Some(aside) = &mut self.aside {
            aside.flight.sent(now);
        }
    }

    /// The head of its answer is here.
    pub fn aside_answered(&mut self, status: u16) {
        let now = self.gateway.clock.now();
        if let Some(aside) = &mut self.aside {
            aside.flight.answered(status, now);
        }
    }

    /// The aside is over, and has brought this.
    pub fn aside_over(&mut self, end: End, reported: Reported, said: String) {
        let Some(mut aside) = self.aside.take() else {
            return;
        };
        let terms = Terms {
            input_estimate: aside.input,
            trimmed: Tokens(0),
            own: None,
            by: Lever::Cascade,
            ..self.terms()
        };
        let landed = aside.flight.land(&terms, end, reported);
        let (booked, _) = self.book(aside.flight.hold, landed);
        self.note_aside(AsideNotes {
            role: aside.role,
            target: aside.flight.target(),
            said,
            usd: booked.and_then(|it| it.cost).map(PicoUsd::exact),
        });
    }

    /// The aside failed.
    pub fn aside_failed(&mut self, fault: Fault, end: End) {
        if let Some(aside) = self.aside.take() {
            self.note_at(&aside.flight, fault);
            self.aside = Some(aside);
        }
        let reported = Self::charged(fault, None);
        self.aside_over(end, reported, fault.name().to_owned());
    }

    /// What became of one that was not sent.
    pub fn not_turned_aside(&mut self, (role, plan): (&'static str, &Plan), why: &str) {
        self.note_aside(AsideNotes {
            role,
            target: plan.name(),
            said: why.to_owned(),
            usd: None,
        });
    }

    /// The call ends while an aside is under way.
    pub(super) fn end_aside(&mut self, end: End) {
        let unseen = Reported::Seen { output_bytes: 0 };
        self.aside_over(end, unseen, end.name().to_owned());
    }

    fn note_aside(&mut self, notes: AsideNotes) {
        if let Some(cascade) = &mut self.placed.cascade {
            cascade.asked(notes);
        }
    }
}
