//! A cascade in a call's account: its first leg went to a cheaper target than the client's own.
//!
//! **Invariant**: a leg whose answer is thrown away is booked with its true cost and counted against
//! the lever, and its target is not blamed for it (test
//! `an_answer_that_does_not_convince_is_booked_and_replaced`).

use policy::cascade::record::Fared;
use policy::cascade::verdict::{Doubt, Ground};
use policy::cascade::word::Word;
use policy::dispatch::fault::{Blame, Fault};
use policy::dispatch::retry::Visible;
use policy::ports::outcomes::Outcome;
use policy::ports::{End, Lever};
use policy::route::adequacy::Ground as Vouched;

use crate::dispatch::turn::Turn;
use crate::route::Plan;
use crate::route::cascade::{First, Foreseen};
use crate::route::notes::RouteNotes;
use crate::settle::receipt::{Receipt, Reported};

/// Where a call's cascade stands.
#[derive(Debug)]
pub(super) struct Cascaded {
    own: Plan,
    /// What the cascade's record goes by.
    name: String,
    foreseen: Foreseen,
    /// How many of the call's first legs are its doing, once they are over.
    legs: Option<usize>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The leg under way is the cheap one.
    First,
    /// The cheap one is over, and the call goes on as if it had not been.
    Beyond,
}

impl Cascaded {
    /// The client's own target, while the cheap leg is under way.
    pub(super) fn own(&self) -> Option<&Plan> {
        (self.stage == Stage::First).then_some(&self.own)
    }

    /// Whether the leg at this place is its doing: the cheap one, and what was asked aside.
    pub(super) fn has_sent(&self, place: usize) -> bool {
        self.legs.is_none_or(|legs| place < legs)
    }

    /// The lever that the leg under way owes its target to.
    pub(super) fn lever(&self) -> Lever {
        match self.stage {
            Stage::First => Lever::Cascade,
            Stage::Beyond => Lever::Route,
        }
    }
}

impl Receipt {
    /// The leg that begins is the cheap one of a cascade.
    pub fn cascades(&mut self, first: &First) {
        self.cascade = Some(Cascaded {
            own: first.own.clone(),
            name: first.name.clone(),
            foreseen: first.foreseen,
            legs: None,
            stage: Stage::First,
        });
    }

    /// The cheap leg's answer is the call's, unjudged.
    pub fn vouched(&mut self, ground: Vouched) {
        self.became("unchecked", ground.name());
    }

    /// The cheap leg's answer convinces: it is the call's.
    pub fn convinced(&mut self, ground: Ground, word: Option<Word>) {
        let why = match ground {
            Ground::Verified => "verified",
            Ground::Likely(_) => "likely",
        };
        self.became("accepted", why);
        self.fared(Fared::Accepted);
        self.said(word);
        if let (Some(notes), Ground::Likely(probability)) = (&mut self.placed.cascade, ground) {
            notes.likely(probability);
        }
    }

    /// It does not: it is paid for and thrown away.
    pub fn doubted(&mut self, doubt: &Doubt, word: Option<Word>, reported: Reported) {
        self.became("escalated", doubt.name());
        self.fared(Fared::Rejected);
        self.said(word);
        if let Some(notes) = &mut self.placed.cascade {
            if let Doubt::Verifier(name) | Doubt::Unjudged(name) = doubt {
                notes.failed_by(name);
            }
            if let Doubt::Unsure(probability) = doubt {
                notes.likely(*probability);
            }
        }
        if let Some(mut turn) = self.turn.take() {
            turn.finished();
        }
        self.close_first(End::Answered, reported);
    }

    /// The cheap leg failed: nobody asks it again.
    pub fn gave_way(&mut self, fault: Fault, end: End, so_far: Option<Reported>) {
        self.became("failed", fault.name());
        // What the upstream is to blame for passes, and its breaker knows; what it does not take, it
        // will not take next time.
        if fault.blame(self.flight.credential) != Blame::Upstream {
            self.fared(Fared::Rejected);
        }
        self.note(fault);
        if let Some(mut turn) = self.turn.take() {
            // To that target nothing follows, whatever the fault.
            _ = turn.failed(fault, Visible::More);
        }
        self.close_first(end, Self::charged(fault, so_far));
    }

    /// The call goes on to the client's own target, on this turn.
    pub fn goes_on(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    fn close_first(&mut self, end: End, reported: Reported) {
        // The same call is about to be served where it was meant to go.
        if let Some(ticket) = &mut self.flight.ticket {
            ticket.forget_elsewhere();
        }
        self.close_leg(end, reported);
        self.flight.so_far = None;
        if let Some(cascade) = &mut self.cascade {
            cascade.legs = Some(self.legs.len());
            cascade.stage = Stage::Beyond;
        }
    }

    fn fared(&self, fared: Fared) {
        if let Some(cascade) = &self.cascade {
            self.gateway
                .cascades
                .came(&cascade.name, fared, cascade.foreseen.adequate);
        }
    }

    /// What the verdict says of the cheap target is noted, from where it is read again after a
    /// restart, and learned, where the route learns of targets.
    fn said(&mut self, word: Option<Word>) {
        let kinds = self.placed.notes.as_ref().map(RouteNotes::kinds);
        let (Some(word), Some(kinds)) = (word, kinds.filter(|kinds| !kinds.is_empty())) else {
            return;
        };
        let Some(notes) = &mut self.placed.cascade else {
            return;
        };
        notes.says(word);
        let outcome = Outcome {
            call: self.row.call.clone(),
            at: self.gateway.clock.now(),
            score: word.score,
            target: notes.target().to_owned(),
            kinds,
        };
        self.gateway.learned.learn_weighed(&outcome, word.weight);
    }

    fn became(&mut self, outcome: &'static str, why: &'static str) {
        self.gateway.metrics.cascaded(outcome, why);
        if let Some(notes) = &mut self.placed.cascade {
            notes.became(outcome, why);
        }
    }
}
