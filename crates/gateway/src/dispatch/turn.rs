//! The leg that a call is on, from the moment it is chosen until it is over.
//!
//! **Invariant**: every leg that was given out comes back once, whatever becomes of the call: a turn
//! that is dropped gives it back as one whose client has gone (test
//! `whatever_breaks_off_is_billed_and_let_go`).

use std::sync::Arc;

use policy::dispatch::breaker::Rules;
use policy::dispatch::fault::Fault;
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
    leg: Option<Leg>,
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
            leg: None,
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
        let now = self.gateway.clock.now();
        let (walk, leg) = (self.walk, self.leg.as_ref()?);
        let healths = &self.gateway.healths;
        Some(healths.with(&self.lineup, &self.rules, |site| {
            walk.patience(site, leg, pace, now)
        }))
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
        if let Some(leg) = self.leg.take() {
            self.decide(|_, site| leg.dropped(site, now));
        }
    }
}
