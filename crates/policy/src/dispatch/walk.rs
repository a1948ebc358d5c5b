//! One call on its way along a lineup: which leg is sent, what follows a fault, and how it ends.
//!
//! The caller keeps the walk for the length of a call and brings the shared parts to every step.
//!
//! **Invariant**: every leg that is given out is taken back once, so that at rest no target has
//! calls in flight or a probe outstanding (property `nothing_is_left_in_flight`).

use wire::usage::Tokens;

use crate::dispatch::after::whole_seconds;
use crate::dispatch::balance::{Choice, Equal, Health};
use crate::dispatch::breaker::{Outcome, Permit, Rules, Standing};
use crate::dispatch::fault::{Blame, Credential, Fault};
use crate::dispatch::hedge::Side;
use crate::dispatch::lineup::{Card, Lineup, Need, Tail, Tried, Wanted};
use crate::dispatch::patience::{Elsewhere, Pace, Patience};
use crate::dispatch::retry::{self, Next, Policy, State, Visible, Why};
use crate::moment::Moment;

/// What the calls of a route share.
#[derive(Debug)]
pub struct Site<'a> {
    /// The targets of the route.
    pub lineup: &'a Lineup,
    /// When breakers open.
    pub rules: &'a Rules,
    /// How every target is, of this route and of others.
    pub health: &'a mut [Health],
}

/// One attempt at a target. It must come back: by [`Walk::failed`], [`Leg::finished`] or
/// [`Leg::dropped`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Leg {
    /// The target's place in the lineup.
    pub candidate: usize,
    /// The target's place among the healths.
    pub target: usize,
    /// Not to be sent before this.
    pub at: Moment,
    permit: Permit,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Begun,
}

/// What follows a fault.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Another leg.
    Send(Leg),
    /// The end.
    GiveUp(Ending),
}

/// How a call ends that nobody could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why no other leg follows.
    pub why: Why,
    /// What the client is told: the last fault of the first target, for a fallback's trouble with
    /// the call is none of the client's; but a refusal of content, whoever refuses.
    pub fault: Fault,
    /// When it may try again, in whole seconds, where that is known.
    pub retry_after_s: Option<u64>,
    /// Whether the client's library should try by itself.
    pub client: Again,
}

/// Whether a client's library should send a call again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It may help: nothing was tried again here, or the upstream asks for more patience than was
    /// had.
    Sensible,
    /// It was tried again here: each further try would be multiplied by as many.
    Pointless,
}

/// One call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    policy: Policy,
    need: Need,
    deadline: Moment,
    legs: u32,
    legs_here: u32,
    tried: Tried,
    above: Option<Tokens>,
    /// The first candidate, and the fault that is shown.
    shown: Option<(usize, Fault)>,
}

impl Site<'_> {
    fn pick(
        &self,
        wanted: &Wanted,
        sticky: Option<usize>,
        now: Moment,
        draw: u64,
    ) -> Option<Choice> {
        let Self {
            lineup,
            rules,
            health,
        } = self;
        lineup.pick(wanted, rules, health, sticky, now, draw)
    }

    fn standing(&self, target: usize, at: Moment) -> Option<Standing> {
        let health = self.health.get(target)?;
        Some(health.breaker.standing(self.rules, at))
    }

    /// Gives out a leg; `at` may lie ahead.
    fn send(&mut self, candidate: usize, target: usize, at: Moment) -> Option<Leg> {
        let health = self.health.get_mut(target)?;
        let permit = match health.breaker.admit(self.rules, at) {
            Permit::Barred { .. } => health.breaker.force(self.rules, at),
            permit @ (Permit::Normal | Permit::Probe { .. }) => permit,
        };
        health.gauge.sent();
        Some(Leg {
            candidate,
            target,
            at,
            permit,
            stage: Stage::Sent,
        })
    }

    /// Takes a leg back.
    fn take(
        &mut self,
        (target, permit): (usize, Permit),
        outcome: Outcome,
        now: Moment,
        draw: u64,
    ) {
        let Some(health) = self.health.get_mut(target) else {
            return;
        };
        health.gauge.ended();
        if outcome == Outcome::Bad {
            health.gauge.failed(now);
        }
        let breaker = &mut health.breaker;
        breaker.record(self.rules, permit, outcome, now, draw);
    }
}

impl Leg {
    /// What is taken back, once.
    fn returned(self) -> (usize, Permit) {
        (self.target, self.permit)
    }

    /// The first token has come: the target is well, and what follows is another matter.
    pub fn begun(&mut self, site: &mut Site<'_>, first_token_ms: u64, now: Moment) {
        let Some(health) = site.health.get_mut(self.target) else {
            return;
        };
        if self.stage == Stage::Begun {
            return;
        }
        self.stage = Stage::Begun;
        health.gauge.answered(first_token_ms, now);
        let permit = std::mem::replace(&mut self.permit, Permit::Normal);
        let breaker = &mut health.breaker;
        breaker.record(site.rules, permit, Outcome::Good, now, 0);
    }

    /// The whole answer has come.
    pub fn finished(mut self, site: &mut Site<'_>, now: Moment) {
        let first_token_ms = now.since(self.at);
        self.begun(site, first_token_ms, now);
        site.take(self.returned(), Outcome::Nothing, now, 0);
    }

    /// Another target answered first: this one was silent for as long.
    pub fn outpaced(self, site: &mut Site<'_>, silent_ms: u64, now: Moment) {
        if let Some(health) = site.health.get_mut(self.target) {
            health.gauge.kept_silent(silent_ms, now);
        }
        site.take(self.returned(), Outcome::Nothing, now, 0);
    }

    /// The client has gone: nothing is learnt.
    pub fn dropped(self, site: &mut Site<'_>, now: Moment) {
        site.take(self.returned(), Outcome::Nothing, now, 0);
    }
}

impl Walk {
    /// A call that asks for `need`, from `now` on.
    pub const fn new(policy: Policy, need: Need, now: Moment) -> Self {
        Self {
            policy,
            need,
            deadline: now.after(policy.deadline_ms),
            legs: 0,
            legs_here: 0,
            tried: Tried::NONE,
            above: None,
            shown: None,
        }
    }

    /// The first leg; none if no target of the lineup speaks the call's dialect.
    ///
    /// What no target is known to take goes to one that may: its own answer is the client's to see.
    pub fn start(
        &mut self,
        site: &mut Site<'_>,
        sticky: Option<usize>,
        now: Moment,
        draw: u64,
    ) -> Option<Leg> {
        let anybody = Need {
            input: None,
            tail: Tail::Others,
            ..self.need
        };
        let needs = [self.need, anybody].into_iter();
        let mut wanted = needs.map(|need| Wanted {
            need,
            ..self.wanted()
        });
        let choice = wanted.find_map(|wanted| site.pick(&wanted, sticky, now, draw))?;
        let (equal, at) = match choice {
            Choice::Open(equal) => (equal, now),
            Choice::Barred(equal, _) => (equal, self.awake(site, equal, now).unwrap_or(now)),
        };
        self.set_out(site, equal, at)
    }

    /// What follows a leg that failed, after the client has seen `visible` of its answer.
    pub fn failed(
        &mut self,
        site: &mut Site<'_>,
        leg: Leg,
        fault: Fault,
        visible: Visible,
        now: Moment,
        draw: u64,
    ) -> Step {
        let index = leg.candidate;
        let (target, permit) = leg.returned();
        let card = card(site, index);
        let credential = credential(site, index);
        site.take((target, permit), fault.outcome(credential, now), now, draw);
        self.remember(index, fault);
        let state = State {
            legs: self.legs,
            legs_here: self.legs_here,
            deadline: self.deadline,
            credential,
        };
        let next = retry::next(&self.policy, &state, fault, visible, now, draw);
        if let Next::SameTarget { at } = next
            && let Some(Standing::Normal | Standing::Due) = site.standing(target, at)
            && let Some(again) = site.send(index, target, at)
        {
            self.legs += 1;
            self.legs_here += 1;
            return Step::Send(again);
        }
        match next {
            Next::GiveUp { why } => return self.give_up(site, why, fault, now),
            Next::LargerWindow => {
                let window = card.and_then(|card| card.window);
                let known = [window, self.need.input, self.above];
                self.above = Some(known.into_iter().flatten().max().unwrap_or_default());
            }
            Next::SameTarget { .. } | Next::NextTarget => {}
        }
        if fault == Fault::PrefillRejected && self.need.tail == Tail::Others {
            self.need.tail = Tail::Assistant;
        }
        self.tried.add(index);
        let elsewhere = self.elsewhere(site, now, draw);
        elsewhere.map_or_else(|| self.give_up(site, Why::NoTarget, fault, now), Step::Send)
    }

    /// A second leg beside a first one that is slow to begin: at another target that may be asked
    /// now, or none.
    pub fn hedge(
        &mut self,
        site: &mut Site<'_>,
        beside: &Leg,
        now: Moment,
        draw: u64,
    ) -> Option<Leg> {
        if self.legs >= self.policy.legs_max || now >= self.deadline {
            return None;
        }
        let mut wanted = self.wanted();
        wanted.tried.add(beside.candidate);
        let Choice::Open(equal) = site.pick(&wanted, None, now, draw)? else {
            return None;
        };
        let leg = site.send(equal.candidate, equal.target, now)?;
        self.legs += 1;
        Some(leg)
    }

    /// One of two legs failed, and the call goes on with the other, which was sent already.
    pub fn lost(
        &mut self,
        site: &mut Site<'_>,
        (leg, side): (Leg, Side),
        fault: Fault,
        now: Moment,
        draw: u64,
    ) {
        let index = leg.candidate;
        let credential = credential(site, index);
        site.take(leg.returned(), fault.outcome(credential, now), now, draw);
        self.remember(index, fault);
        self.tried.add(index);
        if side == Side::First {
            self.legs_here = 1;
        }
    }

    /// How long to wait for a leg.
    pub fn patience(&self, site: &Site<'_>, leg: &Leg, pace: Pace, now: Moment) -> Patience {
        let mut wanted = self.wanted();
        wanted.tried.add(leg.candidate);
        let other = site.pick(&wanted, None, now, 0);
        let elsewhere = match other {
            Some(Choice::Open(_)) if self.legs < self.policy.legs_max => Elsewhere::Possible,
            _ => Elsewhere::Nobody,
        };
        let health = site.health.get(leg.target);
        let usual = health.and_then(|health| health.gauge.first_token_ms(now));
        let rules = &self.policy.patience;
        rules.patience(pace, elsewhere, usual, now, self.deadline)
    }

    /// Legs sent so far.
    pub const fn legs(&self) -> u32 {
        self.legs
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            need: self.need,
            tried: self.tried,
            above: self.above,
        }
    }

    fn elsewhere(&mut self, site: &mut Site<'_>, now: Moment, draw: u64) -> Option<Leg> {
        // Turned, so that the choice does not follow the delay that the same draw gave.
        let choice = site.pick(&self.wanted(), None, now, draw.rotate_left(17))?;
        let (equal, at) = match choice {
            Choice::Open(equal) => (equal, now),
            Choice::Barred(equal, _) => (equal, self.awake(site, equal, now)?),
        };
        self.set_out(site, equal, at)
    }

    fn set_out(&mut self, site: &mut Site<'_>, equal: Equal, at: Moment) -> Option<Leg> {
        let leg = site.send(equal.candidate, equal.target, at)?;
        self.legs += 1;
        self.legs_here = 1;
        Some(leg)
    }

    /// When a barred target can be asked: at once if it is broken, for nobody is better; after its
    /// rest if it asked for one that we may wait for.
    fn awake(&self, site: &Site<'_>, equal: Equal, now: Moment) -> Option<Moment> {
        let rest_until = site.health.get(equal.target)?.breaker.rest_until();
        let at = rest_until.max(now);
        (at.since(now) <= self.policy.wait_ms_max && at < self.deadline).then_some(at)
    }

    fn remember(&mut self, candidate: usize, fault: Fault) {
        self.shown = match self.shown {
            Some((first, shown)) if first != candidate && fault != Fault::Refused => {
                Some((first, shown))
            }
            Some((first, _)) => Some((first, fault)),
            None => Some((candidate, fault)),
        };
    }

    fn give_up(&self, site: &Site<'_>, why: Why, fault: Fault, now: Moment) -> Step {
        let fault = self.shown.map_or(fault, |(_, shown)| shown);
        let told = fault.after_ms();
        let retry_after_ms = match fault.blame(Credential::Ours) {
            Blame::Client => None,
            Blame::Upstream | Blame::Gateway => told.or_else(|| self.opens_in_ms(site, now)),
        };
        let is_clients = fault.blame(Credential::Ours) == Blame::Client;
        let asks_for_more = told.is_some_and(|ms| ms > self.policy.wait_ms_max);
        let client = if self.legs < 2 || is_clients || asks_for_more {
            Again::Sensible
        } else {
            Again::Pointless
        };
        Step::GiveUp(Ending {
            why,
            fault,
            retry_after_s: retry_after_ms.map(whole_seconds),
            client,
        })
    }

    /// How long until some target takes calls like this one, if none does now.
    fn opens_in_ms(&self, site: &Site<'_>, now: Moment) -> Option<u64> {
        let wanted = Wanted {
            tried: Tried::NONE,
            ..self.wanted()
        };
        match site.pick(&wanted, None, now, 0)? {
            Choice::Open(_) => None,
            Choice::Barred(_, until) => Some(until.since(now)),
        }
    }
}

/// What a candidate can take.
fn card(site: &Site<'_>, index: usize) -> Option<Card> {
    let candidate = site.lineup.candidates().get(index)?;
    Some(candidate.card)
}

/// Whose credential opens a candidate.
fn credential(site: &Site<'_>, index: usize) -> Credential {
    card(site, index)
        .map(|card| card.credential)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
