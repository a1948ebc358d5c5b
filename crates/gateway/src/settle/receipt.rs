//! The receipt of a call: opened before money can be spent, settled exactly once on every exit.
//!
//! **Invariant**: dropping an unsettled receipt settles it as `client_gone` (property
//! `every_exit_settles_exactly_once`).

use std::sync::Arc;

use policy::admit::book::hold::Need;
use policy::dispatch::fault::{Charge, Credential, Fault};
use policy::dispatch::retry::Visible;
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{CallOpened, CallRaised, CallSettled, End, Leg, Lever};
use policy::refusal::Refusal;
use tokio::sync::oneshot;
use wire::usage::{Tokens, Usage};

use crate::Gateway;
use crate::admit;
use crate::admit::holds::Holds;
use crate::admit::stops::Live;
use crate::dispatch::degrade::Degraded;
use crate::dispatch::shape::{Shaped, Ticket};
use crate::dispatch::think::ThinkNotes;
use crate::dispatch::trim::with_more;
use crate::dispatch::turn::Turn;
use crate::route::Plan;
use crate::settle::beside::{beside, beside_if};
use crate::settle::cascaded::Cascaded;
use crate::settle::faults::{Faults, whose};
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
#[derive(Debug)]
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
    /// The provider of the leg under way.
    provider: String,
    prices: String,
    model: String,
    pub(super) ticket: Option<Box<Ticket>>,
    leg: LegClock,
    /// The legs that are over.
    pub(super) legs: Vec<Leg>,
    /// Why they failed.
    faults: Faults,
    /// Why the leg under way goes no further.
    broke: Option<Fault>,
    /// Whose credential the leg under way carries.
    pub(super) credential: Credential,
    pub(super) turn: Option<Turn>,
    pub(super) holds: Option<Holds>,
    notices: Vec<String>,
    pub(super) placed: Box<Placement>,
    /// How hard the leg under way was asked to think.
    think: Option<ThinkNotes>,
    /// What limits have done to the call.
    degraded: Vec<Degraded>,
    live: Arc<Live>,
    /// What the leg under way has said of its usage, if its client left before it was relayed.
    pub(super) so_far: Option<Reported>,
    /// A cheaper target was asked first.
    pub(super) cascade: Option<Cascaded>,
    settled: Option<Settled>,
}

/// When the leg did what.
#[derive(Clone, Copy, Debug, Default)]
struct LegClock {
    sent_at: Option<Moment>,
    first_byte_at: Option<Moment>,
    status: Option<u16>,
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
            credential,
            prices,
            model,
            ticket,
            turn,
            holds,
            notices,
            placed,
            think,
            degraded,
            live,
        } = opening;
        gateway.ledger.open(row.clone());
        gateway.metrics.opened();
        Self {
            gateway: Arc::clone(gateway),
            setup: Arc::clone(setup),
            provider: row.provider.clone(),
            row,
            prices,
            model,
            ticket,
            leg: LegClock::default(),
            legs: Vec::new(),
            faults: Faults::default(),
            broke: None,
            credential,
            turn,
            holds,
            notices,
            placed,
            think,
            degraded,
            live,
            so_far: None,
            cascade: None,
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
        let ticket = shaped.ticket.take();
        let was = self.row.target.replace(plan.name());
        if let (Some(holds), Some(need)) = (&mut self.holds, need) {
            let now = self.gateway.clock.now();
            if let Err(refusal) = self.gateway.accounts.raise(holds, &self.row, need, now) {
                self.row.target = was;
                // Nothing was sent, so that nothing is learnt: of the target as of its cache.
                self.turn = None;
                drop(ticket.map(|ticket| ticket.settle(None, End::Refused)));
                return Err(refusal);
            }
            let more = admit::held(need, now);
            let held = self.row.held.map_or(more, |held| held.with(more));
            self.row.held = Some(held);
            self.gateway.ledger.raise(CallRaised {
                call: self.row.call.clone(),
                target: plan.name(),
                held,
            });
        }
        self.provider.clone_from(&plan.upstream.id);
        self.prices.clone_from(&plan.upstream.prices);
        self.model.clone_from(&plan.model);
        self.credential = whose(plan);
        self.ticket = ticket;
        self.think = shaped.think.take();
        let degraded = shaped.degraded.take();
        let is_new = |it: &Degraded| !self.degraded.contains(it);
        let degraded = degraded.filter(is_new);
        self.degraded.extend(degraded);
        self.leg = LegClock::default();
        Ok(())
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
        self.gateway.metrics.leg_failed(&self.provider, fault);
        let target = self.target();
        self.faults.add(target, fault, self.credential);
    }

    /// What the leg under way has said of its usage, should the client leave now.
    pub fn saw(&mut self, reported: Reported) {
        self.so_far = Some(reported);
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
        &self.provider
    }

    /// The target, as headers name it.
    pub fn target(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// The status of the upstream's answer; 200 before there is one.
    pub fn upstream_status(&self) -> u16 {
        self.leg.status.unwrap_or(200)
    }

    /// The leg has left.
    pub fn sent(&mut self) {
        self.leg.sent_at = Some(self.gateway.clock.now());
    }

    /// The head of the upstream's answer is here: its cache entries are readable from now on.
    pub fn answered(&mut self, status: u16) {
        let now = self.gateway.clock.now();
        self.leg.first_byte_at = Some(now);
        self.leg.status = Some(status);
        let taken = (200..300).contains(&status);
        if let Some(ticket) = self.ticket.as_mut().filter(|_| taken) {
            ticket.first_byte(now);
        }
    }

    /// The answer itself begins: the target is well, and this is how long it took.
    pub fn begun(&mut self) {
        let now = self.gateway.clock.now();
        let sent_at = self.leg.sent_at.unwrap_or(now);
        if let Some(turn) = &mut self.turn {
            turn.begun(now.since(sent_at));
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
        self.end_turn(end);
        let now = self.gateway.clock.now();
        let (last, notes) = self.close_leg(end, reported);
        let (cost, savings) = self.savings(last);
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
            .settled(&self.provider, end, cost, saved);
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
        let estimated = match &reported {
            Reported::SoFar { .. } | Reported::Seen { .. } | Reported::Unreadable => true,
            Reported::Usage(_) | Reported::Nothing => false,
        };
        let usage = self.usage(reported);
        let cost = usage.as_ref().and_then(|usage| self.cost(usage));
        let ticket = self.ticket.take();
        let account = ticket.map(|ticket| ticket.settle(usage.as_ref(), end));
        let account = account.unwrap_or_default();
        let (untouched, elsewhere) = (account.untouched, account.elsewhere);
        let more = self.placed.trimmed;
        let untrimmed = account
            .untrimmed
            .or_else(|| with_more(usage.as_ref()?, more));
        let untrimmed = untrimmed.map_or(cost, |usage| self.cost(&usage));
        let uncached = untouched.map_or(untrimmed, |usage| self.cost(&usage));
        let unmoved = match self.instead_of().cloned() {
            None => uncached,
            Some(plan) => elsewhere
                .or_else(|| usage.as_ref().map(Usage::uncached_only))
                .and_then(|usage| self.cost_at(&plan.upstream.prices, &plan.model, &usage)),
        };
        let Some(sent_at) = self.leg.sent_at.take() else {
            return (None, account.notes);
        };
        if let Some(holds) = &mut self.holds {
            let tokens = usage.as_ref().map(|usage| usage.input() + usage.output);
            holds.leg_used(cost, tokens.unwrap_or_default());
        }
        self.legs.push(Leg {
            provider: self.provider.clone(),
            model: self.model.clone(),
            sent_at,
            first_byte_at: self.leg.first_byte_at,
            ended_at: self.gateway.clock.now(),
            status: self.leg.status,
            end,
            usage: usage.unwrap_or_default(),
            estimated,
            cost,
        });
        let last = Last {
            cost,
            untrimmed,
            uncached,
            unmoved,
            by: self.lever(),
        };
        (Some(last), account.notes)
    }

    /// Where the leg under way would have gone, had no lever moved it.
    fn instead_of(&self) -> Option<&Plan> {
        let own = self.cascade.as_ref().and_then(Cascaded::own);
        let plan = own.or(self.placed.instead_of.as_ref())?;
        let is_there = plan.upstream.id == self.provider && plan.model == self.model;
        (!is_there).then_some(plan)
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
                Some(_) if place == 0 => Some(Lever::Cascade),
                _ => moved.is_some_and(is_moved).then_some(Lever::Route),
            }
        };
        (cost, Savings::of(earlier, mover, last))
    }

    /// The lever that has chosen the target of the leg under way.
    fn lever(&self) -> Lever {
        self.cascade.as_ref().map_or(Lever::Route, Cascaded::lever)
    }

    /// The notes of the row: those of the last leg's shaping, with what went before.
    fn notes(&self, shaping: String) -> String {
        let placed = &self.placed;
        let notes = beside_if("think", self.think.as_ref(), shaping);
        let notes = beside_if("trim", placed.trim.as_ref(), notes);
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
            End::ClientGone | End::Refused | End::Stopped | End::Recovered => {}
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

    /// The leg's usage, estimated where nothing was reported; `None` if it cannot be known.
    fn usage(&self, reported: Reported) -> Option<Usage> {
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
            Reported::Seen { .. } if self.leg.sent_at.is_none() => Some(Usage::default()),
            Reported::Seen { output_bytes } => {
                let estimate = self.row.input_estimate;
                let input = self.ticket.as_ref().map(|ticket| ticket.expected_usage());
                let mut usage = input.unwrap_or_else(|| Usage {
                    uncached: estimate,
                    ..Usage::default()
                });
                usage.output = Tokens(output_bytes.div_ceil(BYTES_PER_TOKEN));
                Some(usage)
            }
        }
    }

    fn cost(&self, usage: &Usage) -> Option<PicoUsd> {
        self.cost_at(&self.prices, &self.model, usage)
    }

    fn cost_at(&self, prices: &str, model: &str, usage: &Usage) -> Option<PicoUsd> {
        if *usage == Usage::default() {
            return Some(PicoUsd::ZERO);
        }
        // Prices are those of the moment at which the call was sent.
        let at = self.leg.sent_at.unwrap_or(self.row.at);
        self.setup
            .prices
            .cost(prices, model, usage, at)
            .ok()
            .map(|bill| bill.total())
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

impl Drop for Receipt {
    fn drop(&mut self) {
        let unseen = Reported::Seen { output_bytes: 0 };
        let reported = self.so_far.take().unwrap_or(unseen);
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
