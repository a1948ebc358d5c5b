//! The leg that a call is on, from the moment it is chosen until it is over.
//!
//! **Invariant**: every leg that was given out comes back once, whatever becomes of the call: a turn
//! that is dropped gives it back as one whose client has gone (test
//! `whatever_breaks_off_is_billed_and_let_go`).

use std::sync::Arc;

use policy::dispatch::breaker::Rules;
use policy::dispatch::fault::Fault;
use policy::dispatch::hedge::{Hedging, Side};
use policy::dispatch::lineup::{Lineup, Need};
use policy::dispatch::patience::{Pace, Patience};
use policy::dispatch::retry::{Policy, Visible};
use policy::dispatch::walk::{Ending, Leg, Site, Step, Walk};
use policy::moment::Moment;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Gateway;
use crate::setup::Setup;

/// One call's way along its targets.
pub struct Turn {
    gateway: Arc<Gateway>,
    lineup: Arc<Lineup>,
    rules: Rules,
    walk: Walk,
    hedging: Option<Hedging>,
    leg: Option<Leg>,
    /// A second leg beside it.
    beside: Option<Leg>,
    /// The conversation, which goes back to where it was answered last.
    conversation: Option<u64>,
    /// Where random draws come from: the call's id, which is random.
    seed: u64,
}

/// What follows a leg that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Another leg, which the turn is on now.
    Leg,
    /// Nothing, and how the call ends; not known if there was no leg that could fail.
    Nothing(Option<Ending>),
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn")
            .field("walk", &self.walk)
            .finish_non_exhaustive()
    }
}

impl Turn {
    /// Chooses the first leg; none if no target speaks the call's dialect.
    pub fn start(
        gateway: &Arc<Gateway>,
        setup: &Setup,
        lineup: &Arc<Lineup>,
        need: Need,
        conversation: Option<u64>,
        call: &str,
    ) -> Option<Self> {
        let rules = (setup.breaker, setup.retry);
        Self::start_by(rules, gateway, lineup, need, conversation, call)
    }

    /// The same by other rules than the setup's.
    pub fn start_by(
        (rules, policy): (Rules, Policy),
        gateway: &Arc<Gateway>,
        lineup: &Arc<Lineup>,
        need: Need,
        conversation: Option<u64>,
        call: &str,
    ) -> Option<Self> {
        let now = gateway.clock.now();
        let mut turn = Self {
            gateway: Arc::clone(gateway),
            lineup: Arc::clone(lineup),
            rules,
            walk: Walk::new(policy, need, now),
            hedging: policy.hedging,
            leg: None,
            beside: None,
            conversation,
            seed: xxh3_64_with_seed(call.as_bytes(), 0),
        };
        let draw = turn.draw();
        let home = conversation.and_then(|it| gateway.healths.home(it));
        turn.leg = turn.decide(|walk, site| walk.start(site, home, now, draw));
        turn.leg.is_some().then_some(turn)
    }

    /// The place of the target in the route.
    pub fn candidate(&self) -> usize {
        self.leg.as_ref().map_or(0, |leg| leg.candidate)
    }

    /// Not to be sent before this.
    pub fn at(&self) -> Moment {
        self.leg.as_ref().map(|leg| leg.at).unwrap_or_default()
    }

    /// How long to wait for the leg.
    pub fn patience(&self, pace: Pace) -> Option<Patience> {
        Some(self.patience_with(self.leg.as_ref()?, pace))
    }

    fn patience_with(&self, leg: &Leg, pace: Pace) -> Patience {
        let now = self.gateway.clock.now();
        let walk = self.walk;
        let healths = &self.gateway.healths;
        healths.with(&self.lineup, &self.rules, |site| {
            walk.patience(site, leg, pace, now)
        })
    }

    /// The answer has begun, so many milliseconds after it was sent.
    pub fn begun(&mut self, after_ms: u64) {
        let now = self.gateway.clock.now();
        if let Some(mut leg) = self.leg.take() {
            self.decide(|_, site| leg.begun(site, after_ms, now));
            if let Some(conversation) = self.conversation {
                self.gateway.healths.settle_in(conversation, leg.target);
            }
            self.leg = Some(leg);
        }
    }

    /// The answer has come whole.
    pub fn finished(&mut self) {
        let now = self.gateway.clock.now();
        if let Some(leg) = self.leg.take() {
            self.decide(|_, site| leg.finished(site, now));
        }
    }

    /// The leg failed: the next one is chosen, or the call's end is given.
    pub fn failed(&mut self, fault: Fault, visible: Visible) -> Follows {
        let now = self.gateway.clock.now();
        let Some(leg) = self.leg.take() else {
            return Follows::Nothing(None);
        };
        self.seed = self.seed.wrapping_add(1);
        let draw = self.draw();
        match self.decide(|walk, site| walk.failed(site, leg, fault, visible, now, draw)) {
            Step::Send(leg) => {
                self.leg = Some(leg);
                Follows::Leg
            }
            Step::GiveUp(ending) => Follows::Nothing(Some(ending)),
        }
    }

    /// When a second leg may be sent beside the first one of a call.
    pub fn hedging(&self) -> Option<Hedging> {
        self.hedging.filter(|_| self.walk.legs() == 1)
    }

    /// Chooses a second leg: its candidate, and how long to wait for it.
    pub fn hedge(&mut self, pace: Pace) -> Option<(usize, Patience)> {
        let now = self.gateway.clock.now();
        let leg = self.leg.take()?;
        self.seed = self.seed.wrapping_add(1);
        let draw = self.draw();
        self.beside = self.decide(|walk, site| walk.hedge(site, &leg, now, draw));
        self.leg = Some(leg);
        let beside = self.beside.as_ref()?;
        Some((beside.candidate, self.patience_with(beside, pace)))
    }

    /// The second leg is not sent after all.
    pub fn unhedged(&mut self) {
        let now = self.gateway.clock.now();
        if let Some(leg) = self.beside.take() {
            self.decide(|_, site| leg.dropped(site, now));
        }
    }

    /// One of the two legs failed, or the other was enough after this one was silent for so long.
    pub fn lost(&mut self, side: Side, fault: Option<Fault>, silent_ms: u64) {
        let now = self.gateway.clock.now();
        let (over, kept) = match side {
            Side::First => (self.leg.take(), self.beside.take()),
            Side::Second => (self.beside.take(), self.leg.take()),
        };
        self.leg = kept;
        let Some(over) = over else {
            return;
        };
        let draw = self.draw();
        self.decide(|walk, site| match fault {
            Some(fault) => walk.lost(site, (over, side), fault, now, draw),
            None => over.outpaced(site, silent_ms, now),
        });
    }

    fn draw(&self) -> u64 {
        xxh3_64_with_seed(b"draw", self.seed)
    }

    fn decide<R>(&mut self, decide: impl FnOnce(&mut Walk, &mut Site<'_>) -> R) -> R {
        let walk = &mut self.walk;
        let healths = &self.gateway.healths;
        healths.with(&self.lineup, &self.rules, |site| decide(walk, site))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.gateway.clock.now();
        let legs = [self.leg.take(), self.beside.take()];
        for leg in legs.into_iter().flatten() {
            self.decide(|_, site| leg.dropped(site, now));
        }
    }
}
