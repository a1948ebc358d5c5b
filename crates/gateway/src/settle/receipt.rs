//! The receipt of a call: opened before money can be spent, settled exactly once on every exit.
//!
//! **Invariant**: dropping an unsettled receipt settles it as `client_gone` (property
//! `every_exit_settles_exactly_once`).

use std::sync::Arc;

use policy::admit::book::hold::Need;
use policy::dispatch::fault::{Charge, Fault};
use policy::dispatch::retry::Visible;
use policy::money::PicoUsd;
use policy::ports::{CallOpened, CallSettled, End, Leg, Lever};
use policy::refusal::Refusal;
use tokio::sync::oneshot;
use wire::usage::Usage;

use crate::Gateway;
use crate::admit::holds::Holds;
use crate::admit::stops::Live;
use crate::dispatch::degrade::Degraded;
use crate::dispatch::shape::Shaped;
use crate::dispatch::turn::Turn;
use crate::route::Plan;
use crate::settle::aside::Aside;
use crate::settle::beside::{beside, beside_if};
use crate::settle::cascaded::Cascaded;
use crate::settle::faults::Faults;
use crate::settle::flight::{Flight, Landed, Terms};
use crate::settle::hedged::HedgeNotes;
use crate::settle::opening::{Opening, Placement};
use crate::settle::savings::{Last, Savings};
use crate::setup::Setup;

/// 499: what proxies write down for a client that went away before its answer was over.
pub const CLIENT_GONE: u16 = 499;

/// 403: what the client of a stopped call gets.
pub const STOPPED: u16 = 403;

/// 4 bytes a token: the estimate of output whose usage was never reported. Within a third of the
/// truth for text and code in most languages; such rows are marked as estimated.
pub(super) const BYTES_PER_TOKEN: u64 = 4;

/// How a leg came out.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The status for the client.
    pub status: u16,
    /// What the upstream reported.
    pub reported: Reported,
}

/// What is known of the tokens that a leg used.
#[derive(Clone, Debug)]
pub enum Reported {
    /// The upstream's own figures.
    Usage(Usage),
    /// The upstream's figures so far, of a stream that did not come to its end: its input is what
    /// was used, its output is not all of it.
    SoFar {
        /// What was reported until then.
        usage: Usage,
        /// Bytes of text, arguments and thinking that were seen.
        output_bytes: u64,
    },
    /// Nothing was used: errors before any output, and endpoints that are free.
    Nothing,
    /// The upstream said nothing; this many bytes of output were seen.
    Seen {
        /// Bytes of text, arguments and thinking.
        output_bytes: u64,
    },
    /// The answer cannot be read for usage: the cost is unknown.
    Unreadable,
}

/// A call's account while it is open.
pub struct Receipt {
    pub(super) gateway: Arc<Gateway>,
    pub(super) setup: Arc<Setup>,
    pub(super) row: CallOpened,
    /// The leg under way.
    pub(super) flight: Box<Flight>,
    /// A second one beside it, which was sent because the first was silent.
    pub(super) hedge: Option<Box<Flight>>,
    /// What became of it.
    pub(super) hedged: Option<Box<HedgeNotes>>,
    /// The legs that are over.
    pub(super) legs: Vec<Leg>,
    /// Why they failed.
    pub(super) faults: Faults,
    /// Why the leg under way goes no further.
    broke: Option<Fault>,
    pub(super) turn: Option<Turn>,
    pub(super) holds: Option<Holds>,
    notices: Vec<String>,
    pub(super) placed: Box<Placement>,
    /// What limits have done to the call.
    pub(super) degraded: Vec<Degraded>,
    live: Arc<Live>,
    /// A cheaper target was asked first.
    pub(super) cascade: Option<Cascaded>,
    /// What is asked aside while its answer waits.
    pub(super) aside: Option<Box<Aside>>,
    settled: Option<Settled>,
}

/// What settling found.
struct Settled {
    committed: Option<oneshot::Receiver<()>>,
    cost: Option<PicoUsd>,
    saved: PicoUsd,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("call", &self.row.call)
            .finish_non_exhaustive()
    }
}

impl Receipt {
    /// Opens the account; from here on the call is in the ledger.
    pub fn open(gateway: &Arc<Gateway>, setup: &Arc<Setup>, opening: Opening) -> Self {
        let Opening {
            row,
            flight,
            turn,
            holds,
            notices,
            placed,
            degraded,
            live,
        } = opening;
        gateway.ledger.open(row.clone());
        gateway.metrics.opened();
        Self {
            gateway: Arc::clone(gateway),
            setup: Arc::clone(setup),
            row,
            flight: Box::new(flight),
            hedge: None,
            hedged: None,
            legs: Vec::new(),
            faults: Faults::default(),
            broke: None,
            turn,
            holds,
            notices,
            placed,
            degraded,
            live,
            cascade: None,
            aside: None,
            settled: None,
        }
    }

    /// Goes on with another leg; the one before is over. `Err` if its money cannot be held.
    pub fn next_leg(
        &mut self,
        plan: &Plan,
        shaped: &mut Shaped,
        need: Option<&Need>,
    ) -> Result<(), Refusal> {
        let (mut base, flight, _) = self.parts();
        let started = base.start(plan, shaped, need);
        let started = started.map(|next| *flight = next);
        if started.is_err() {
            // Nothing was sent, so that nothing is learnt of the target.
            self.turn = None;
        }
        started
    }

    /// The leg under way failed, and is booked with what it may have cost.
    pub fn leg_failed(&mut self, fault: Fault, end: End, so_far: Option<Reported>) {
        self.note(fault);
        self.close_leg(end, Self::charged(fault, so_far));
    }

    /// What a leg that failed may have cost.
    pub(super) fn charged(fault: Fault, so_far: Option<Reported>) -> Reported {
        match fault.charge() {
            Charge::Nothing => Reported::Nothing,
            Charge::Unseen => Reported::Seen { output_bytes: 0 },
            Charge::SoFar => so_far.unwrap_or(Reported::Seen { output_bytes: 0 }),
        }
    }

    /// The leg under way breaks off although its answer has begun.
    pub fn breaks(&mut self, fault: Fault) {
        self.note(fault);
        self.broke = Some(fault);
    }

    pub(super) fn note(&mut self, fault: Fault) {
        let Self {
            gateway,
            faults,
            flight,
            ..
        } = self;
        note(gateway, faults, flight, fault);
    }

    pub(super) fn note_at(&mut self, flight: &Flight, fault: Fault) {
        note(&self.gateway, &mut self.faults, flight, fault);
    }

    /// The leg under way.
    pub fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }

    /// The turn of the call, while it has one.
    pub fn turn(&mut self) -> Option<&mut Turn> {
        self.turn.as_mut()
    }

    /// The call's place among those under way.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What there is to say about budgets, as they stand now.
    pub fn notices(&self) -> Vec<String> {
        let degraded = self.degraded.iter().map(|it| it.told().to_owned());
        let mut notices: Vec<String> = degraded.chain(self.notices.iter().cloned()).collect();
        if self.row.held.is_some() {
            let now = self.gateway.clock.now();
            notices.extend(self.gateway.accounts.standing(&self.row, now));
        }
        notices
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.row.call.0
    }

    /// The provider of the leg under way.
    pub fn provider(&self) -> &str {
        &self.flight.provider
    }

    /// The target, as headers name it.
    pub fn target(&self) -> String {
        self.flight.target()
    }

    /// The status of the upstream's answer; 200 before there is one.
    pub fn upstream_status(&self) -> u16 {
        self.flight.status().unwrap_or(200)
    }

    /// The answer itself begins: the target is well, and this is how long it took.
    pub fn begun(&mut self) {
        let after_ms = self.flight.under_way_ms(self.gateway.clock.now());
        if let Some(turn) = &mut self.turn {
            turn.begun(after_ms);
        }
    }

    /// Settles; a second call does nothing.
    pub fn settle(&mut self, outcome: Outcome) {
        if self.settled.is_some() {
            return;
        }
        let Outcome {
            end,
            status,
            reported,
        } = outcome;
        self.end_aside(end);
        self.end_turn(end);
        self.end_hedge(end);
        let now = self.gateway.clock.now();
        let (last, notes) = self.close_leg(end, reported);
        let thought = self.thought(end);
        let (cost, savings) = self.savings(last);
        let savings = savings.by_thinking(thought);
        let saved = savings.total();
        let let_go = self.let_go(cost, now);
        let notes = self.watched(cost, now, self.notes(notes));
        let row = CallSettled {
            call: self.row.call.clone(),
            at: now,
            end,
            status,
            legs: std::mem::take(&mut self.legs),
            cost,
            untouched: savings.untouched,
            savings: savings.parts,
            prices: self.setup.prices.version().to_owned(),
            notes,
        };
        self.log(&row, saved);
        self.gateway
            .metrics
            .settled(&self.flight.provider, self.row.at, &row, saved);
        let (commit, committed) = oneshot::channel();
        let acknowledge = Box::new(move || {
            let_go();
            // An error means that the client is gone, and nobody waits.
            commit.send(()).unwrap_or_default();
        });
        self.gateway.ledger.settle(row, acknowledge);
        self.settled = Some(Settled {
            committed: Some(committed),
            cost,
            saved,
        });
    }

    /// Books the leg under way. Gives its figures, if it was sent, and the lever's notes.
    pub(super) fn close_leg(&mut self, end: End, reported: Reported) -> (Option<Last>, String) {
        let terms = self.terms();
        let landed = self.flight.land(&terms, end, reported);
        self.book(self.flight.hold, landed)
    }

    pub(super) fn book(&mut self, hold: usize, landed: Landed) -> (Option<Last>, String) {
        let Landed { booked, notes } = landed;
        let Some((leg, last)) = booked else {
            return (None, notes);
        };
        if let Some(holds) = &mut self.holds {
            let tokens = leg.usage.input() + leg.usage.output;
            holds.leg_used(hold, leg.cost, tokens);
        }
        self.legs.push(leg);
        (Some(last), notes)
    }

    /// What a leg is booked by.
    pub(super) fn terms(&self) -> Terms {
        let own = self.cascade.as_ref().and_then(Cascaded::own);
        Terms {
            setup: Arc::clone(&self.setup),
            opened_at: self.row.at,
            now: self.gateway.clock.now(),
            input_estimate: self.row.input_estimate,
            trimmed: self.placed.trimmed,
            own: own.or(self.placed.instead_of.as_ref()).cloned(),
            by: self.cascade.as_ref().map_or(Lever::Route, Cascaded::lever),
        }
    }

    /// What all legs cost, and what each lever saved.
    fn savings(&self, last: Option<Last>) -> (Option<PicoUsd>, Savings) {
        let cost = self.legs.iter().map(|leg| leg.cost).sum();
        let earlier = self.legs.len() - usize::from(last.is_some());
        let earlier = self.legs.get(..earlier).unwrap_or_default();
        let moved = self.placed.instead_of.as_ref();
        let mover = |place: usize, leg: &Leg| {
            let is_moved =
                |plan: &Plan| plan.upstream.id != leg.provider || plan.model != leg.model;
            match &self.cascade {
                Some(cascade) if cascade.has_sent(place) => Some(Lever::Cascade),
                _ => moved.is_some_and(is_moved).then_some(Lever::Route),
            }
        };
        (cost, Savings::of(earlier, mover, last))
    }

    /// The notes of the row: those of the last leg's shaping, with what went before.
    fn notes(&self, shaping: String) -> String {
        let placed = &self.placed;
        let notes = beside_if("think", self.flight.think.as_ref(), shaping);
        let notes = beside_if("trim", placed.trim.as_ref(), notes);
        let notes = beside_if("hedge", self.hedged.as_ref(), notes);
        let notes = beside_if("focus", placed.focused.as_ref(), notes);
        let notes = beside_if("context", placed.context.as_ref(), notes);
        let notes = self.faults.beside(notes);
        let notes = match self.degraded.as_slice() {
            [] => notes,
            degraded => beside("degraded", &degraded, &notes),
        };
        let notes = beside_if("loop", placed.looping.as_ref(), notes);
        let notes = beside_if("cascade", placed.cascade.as_ref(), notes);
        beside_if("route", placed.notes.as_ref(), notes)
    }

    /// Gives the leg back with what became of it.
    fn end_turn(&mut self, end: End) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        match end {
            End::Answered => turn.finished(),
            End::UpstreamBroke => _ = turn.failed(self.broke.unwrap_or(Fault::Cut), Visible::More),
            End::UpstreamError => {
                _ = turn.failed(self.broke.unwrap_or(Fault::Interrupted), Visible::More);
            }
            // Nothing is learnt: the turn gives its leg back when it is dropped.
            End::ClientGone
            | End::Refused
            | End::TurnedAway
            | End::Stopped
            | End::CalledOff
            | End::Recovered => {}
        }
    }

    /// Completes when the settled row is safe; `None` before settling or when taken already.
    pub fn settlement(&mut self) -> Option<oneshot::Receiver<()>> {
        self.settled
            .as_mut()
            .and_then(|settled| settled.committed.take())
    }

    /// The cost as the header shows it.
    pub fn cost_text(&self) -> String {
        let cost = self.settled.as_ref().and_then(|settled| settled.cost);
        cost.map_or_else(|| "unknown".to_owned(), PicoUsd::exact)
    }

    /// The savings as the header shows them.
    pub fn saved_text(&self) -> String {
        self.settled
            .as_ref()
            .map_or(PicoUsd::ZERO, |settled| settled.saved)
            .exact()
    }

    /// One wide event per call.
    fn log(&self, row: &CallSettled, saved: PicoUsd) {
        let usage = row.legs.last().map(|leg| &leg.usage);
        tracing::info!(
            call = self.row.call.0,
            key = self.row.key,
            session = self.row.session,
            task = self.row.task,
            endpoint = self.row.endpoint,
            target = self.target(),
            end = row.end.name(),
            status = row.status,
            millis = row.at.since(self.row.at),
            input = usage.map(|usage| usage.input().0),
            cache_read = usage.map(|usage| usage.cache_read.0),
            cache_write = usage.map(|usage| usage.cache_write.total().0),
            output = usage.map(|usage| usage.output.0),
            cost_usd = row.cost.map(PicoUsd::exact),
            saved_usd = saved.exact(),
            "call settled"
        );
    }
}

/// Notes that a leg failed.
fn note(gateway: &Gateway, faults: &mut Faults, flight: &Flight, fault: Fault) {
    gateway.metrics.leg_failed(&flight.provider, fault);
    faults.add(flight.target(), fault, flight.credential);
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let reported = self.flight.seen();
        let (end, status) = if self.live.token().is_cancelled() {
            (End::Stopped, STOPPED)
        } else {
            (End::ClientGone, CLIENT_GONE)
        };
        self.settle(Outcome {
            end,
            status,
            reported,
        });
    }
}
