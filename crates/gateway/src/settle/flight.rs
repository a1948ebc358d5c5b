//! A leg under way: who was asked, when it did what, and what it has used so far.
//!
//! **Invariant**: a flight that was sent is booked with what it used, or with an estimate that says
//! so; one that was not sent is not booked (property `every_exit_settles_exactly_once`).

use std::sync::Arc;

use policy::dispatch::fault::Credential;
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{End, Leg, Lever};
use wire::usage::{Tokens, Usage};

use crate::dispatch::shape::{Shaped, Ticket};
use crate::dispatch::think::ThinkNotes;
use crate::dispatch::trim::with_more;
use crate::route::Plan;
use crate::settle::faults::whose;
use crate::settle::receipt::{BYTES_PER_TOKEN, Reported};
use crate::settle::savings::Last;
use crate::setup::Setup;

/// A leg under way.
#[derive(Debug)]
pub struct Flight {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) prices: String,
    /// Whose credential it carries.
    pub(super) credential: Credential,
    pub(super) ticket: Option<Box<Ticket>>,
    /// How hard it was asked to think.
    pub(super) think: Option<ThinkNotes>,
    sent_at: Option<Moment>,
    first_byte_at: Option<Moment>,
    status: Option<u16>,
    /// What it has said of its usage, if its client left before it was relayed.
    pub(super) so_far: Option<Reported>,
    /// Its place among the call's legs that money is held for.
    pub(super) hold: usize,
}

/// What a leg is booked by, besides what it did.
pub(super) struct Terms {
    pub(super) setup: Arc<Setup>,
    /// When the call came.
    pub(super) opened_at: Moment,
    pub(super) now: Moment,
    pub(super) input_estimate: Tokens,
    /// Input tokens that were not sent because they were trimmed.
    pub(super) trimmed: Tokens,
    /// Where the call would have gone, had no lever moved it.
    pub(super) own: Option<Plan>,
    /// The lever that has chosen the target.
    pub(super) by: Lever,
}

/// A leg that is over.
pub(super) struct Landed {
    /// Its figures, if it was sent.
    pub(super) booked: Option<(Leg, Last)>,
    /// The lever's notes.
    pub(super) notes: String,
}

impl Flight {
    /// A leg to this target, which is not sent yet.
    pub(super) fn to(plan: &Plan) -> Self {
        Self {
            provider: plan.upstream.id.clone(),
            model: plan.model.clone(),
            prices: plan.upstream.prices.clone(),
            credential: whose(plan),
            ticket: None,
            think: None,
            sent_at: None,
            first_byte_at: None,
            status: None,
            so_far: None,
            hold: 0,
        }
    }

    /// With what the levers know of it.
    pub(super) fn shaped(&mut self, shaped: &mut Shaped) {
        self.ticket = shaped.ticket.take();
        self.think = shaped.think.take();
    }

    /// The leg has left.
    pub fn sent(&mut self, now: Moment) {
        self.sent_at = Some(now);
    }

    /// The head of the upstream's answer is here: its cache entries are readable from now on.
    pub fn answered(&mut self, status: u16, now: Moment) {
        self.first_byte_at = Some(now);
        self.status = Some(status);
        let taken = (200..300).contains(&status);
        if let Some(ticket) = self.ticket.as_mut().filter(|_| taken) {
            ticket.first_byte(now);
        }
    }

    /// What it has said of its usage, should the client leave now.
    pub fn saw(&mut self, reported: Reported) {
        self.so_far = Some(reported);
    }

    /// What is known of its usage when nobody waits for it any more.
    pub(super) fn seen(&mut self) -> Reported {
        let nothing = Reported::Seen { output_bytes: 0 };
        self.so_far.take().unwrap_or(nothing)
    }

    /// How long ago it was sent, in milliseconds.
    pub(super) fn under_way_ms(&self, now: Moment) -> u64 {
        now.since(self.sent_at.unwrap_or(now))
    }

    /// How long before another one it was sent, in milliseconds.
    pub(super) fn before_ms(&self, other: &Self) -> u64 {
        let both = self.sent_at.zip(other.sent_at);
        both.map_or(0, |(this, other)| other.since(this))
    }

    /// The status of the upstream's answer, once there is one.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// The target, as headers name it.
    pub(super) fn target(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// The leg is over.
    pub(super) fn land(&mut self, terms: &Terms, end: End, reported: Reported) -> Landed {
        let estimated = match &reported {
            Reported::SoFar { .. } | Reported::Seen { .. } | Reported::Unreadable => true,
            Reported::Usage(_) | Reported::Nothing => false,
        };
        let is_told = matches!(reported, Reported::Usage(_) | Reported::SoFar { .. });
        let usage = self.usage(reported, terms.input_estimate);
        let ticket = self.ticket.take();
        let account = ticket.map(|ticket| ticket.settle(usage.as_ref(), is_told, end));
        let account = account.unwrap_or_default();
        let (untouched, elsewhere) = (account.untouched, account.elsewhere);
        let notes = account.notes;
        // Prices are those of the moment at which the leg was sent.
        let at = self.sent_at.unwrap_or(terms.opened_at);
        let cost_at = |prices: &str, model: &str, usage: &Usage| {
            if *usage == Usage::default() {
                return Some(PicoUsd::ZERO);
            }
            let bill = terms.setup.prices.cost(prices, model, usage, at).ok()?;
            Some(bill.total())
        };
        let cost_of = |usage: &Usage| cost_at(&self.prices, &self.model, usage);
        let cost = usage.as_ref().and_then(cost_of);
        let untrimmed = account
            .untrimmed
            .or_else(|| with_more(usage.as_ref()?, terms.trimmed));
        let untrimmed = untrimmed.map_or(cost, |usage| cost_of(&usage));
        let uncached = untouched.map_or(untrimmed, |usage| cost_of(&usage));
        let is_own = |own: &&Plan| own.upstream.id == self.provider && own.model == self.model;
        let unmoved = match terms.own.as_ref().filter(|own| !is_own(own)) {
            None => uncached,
            Some(own) => elsewhere
                .or_else(|| usage.as_ref().map(Usage::uncached_only))
                .and_then(|usage| cost_at(&own.upstream.prices, &own.model, &usage)),
        };
        let last = Last {
            cost,
            untrimmed,
            uncached,
            unmoved,
            by: terms.by,
        };
        let booked = self.sent_at.take().map(|sent_at| {
            let leg = Leg {
                provider: self.provider.clone(),
                model: self.model.clone(),
                sent_at,
                first_byte_at: self.first_byte_at,
                ended_at: terms.now,
                status: self.status,
                end,
                usage: usage.unwrap_or_default(),
                estimated,
                cost,
            };
            (leg, last)
        });
        Landed { booked, notes }
    }

    /// What was used, estimated where nothing was reported; `None` if it cannot be known.
    fn usage(&self, reported: Reported, input_estimate: Tokens) -> Option<Usage> {
        match reported {
            Reported::Usage(usage) => Some(usage),
            Reported::SoFar {
                mut usage,
                output_bytes,
            } => {
                let seen = Tokens(output_bytes.div_ceil(BYTES_PER_TOKEN));
                usage.output = usage.output.max(seen);
                Some(usage)
            }
            Reported::Nothing => Some(Usage::default()),
            Reported::Unreadable => None,
            Reported::Seen { .. } if self.sent_at.is_none() => Some(Usage::default()),
            Reported::Seen { output_bytes } => {
                let input = self.ticket.as_ref().map(|ticket| ticket.expected_usage());
                let mut usage = input.unwrap_or_else(|| Usage {
                    uncached: input_estimate,
                    ..Usage::default()
                });
                usage.output = Tokens(output_bytes.div_ceil(BYTES_PER_TOKEN));
                Some(usage)
            }
        }
    }
}
