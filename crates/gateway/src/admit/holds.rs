//! Holds: what is held for a call, and beside it for each of its legs at the names of its target.
//!
//! A call is charged as a whole to its payers and to the model as its client names it. Each leg alone
//! is charged to the target's own names for it, so that a limit on a model catches it by whatever
//! name it was asked for, and is not charged with what another model cost.
//!
//! **Invariant**: a call and its leg are held together or not at all, and end together (tests
//! `a_limit_on_a_model_catches_it_by_every_name` and `hard_budgets_are_never_exceeded`).

use policy::admit::book::NotRaised;
use policy::admit::book::hold::{Ask, HoldId, Need};
use policy::admit::tally::{Notice, Spent};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::CallOpened;
use policy::refusal::{Reason, Refusal};
use wire::usage::Tokens;

use super::payers::{at_target, scopes};
use super::{Accounts, HOLD_MS};

/// What is held for a call.
#[derive(Debug)]
pub struct Holds {
    call: HoldId,
    legs: Vec<LegHold>,
}

#[derive(Debug)]
struct LegHold {
    hold: HoldId,
    /// What it cost and used, once it is over; nothing of one that was never sent.
    used: Option<(Option<PicoUsd>, Tokens)>,
}

impl Holds {
    /// The leg that is held for last has this place.
    pub fn last(&self) -> usize {
        self.legs.len().saturating_sub(1)
    }

    /// The leg at this place is over, and used this.
    pub fn leg_used(&mut self, place: usize, cost: Option<PicoUsd>, tokens: Tokens) {
        if let Some(leg) = self.legs.get_mut(place) {
            leg.used = Some((cost, tokens));
        }
    }
}

impl Accounts {
    /// Holds what a call's first leg may use, in one step over everything that it is charged to.
    pub fn reserve(
        &self,
        opened: &CallOpened,
        need: Need,
        now: Moment,
    ) -> Result<(Holds, Vec<Notice>), Box<Spent>> {
        let (scopes, at_target) = (scopes(opened), at_target(opened));
        let ask = Ask {
            scopes: &scopes,
            need,
            expires_at: now.after(HOLD_MS),
        };
        let leg = Ask {
            scopes: &at_target,
            ..ask
        };
        let (holds, notices) = self.step(now, |kept| {
            let (call, mut notices) = kept.book.reserve(now, &ask)?;
            let reserved = kept.book.reserve_leg(now, &leg);
            let (hold, more) = reserved.inspect_err(|_| {
                kept.book.release(now, call);
            })?;
            notices.extend(more);
            kept.calls.insert(call, opened.call.clone());
            let legs = vec![LegHold { hold, used: None }];
            Ok::<_, Box<Spent>>((Holds { call, legs }, notices))
        })?;
        self.told(&notices);
        Ok((holds, notices))
    }

    /// Holds what a further leg may use; the row names its target already.
    pub fn raise(
        &self,
        holds: &mut Holds,
        opened: &CallOpened,
        need: &Need,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (call, until, scopes) = (holds.call, now.after(HOLD_MS), at_target(opened));
        let ask = Ask {
            scopes: &scopes,
            need: *need,
            expires_at: until,
        };
        let raised = self.step(now, |kept| {
            let (hold, mut notices) = kept.book.reserve_leg(now, &ask).map_err(NotRaised::Spent)?;
            let raised = kept.book.raise(now, call, need, until);
            let more = raised.inspect_err(|_| {
                kept.book.release(now, hold);
            })?;
            notices.extend(more);
            Ok((hold, notices))
        });
        match raised {
            Ok((hold, notices)) => {
                holds.legs.push(LegHold { hold, used: None });
                self.told(&notices);
                Ok(())
            }
            Err(NotRaised::Spent(spent)) => Err(self.refuse(&spent, now)),
            Err(NotRaised::Gone) => Err(Refusal::new(
                Reason::Internal,
                "the money held for this call was let go; send the call again",
            )),
        }
    }

    /// Replaces what was held by what was used.
    pub fn settle(
        &self,
        holds: Holds,
        cost: Option<PicoUsd>,
        tokens: Tokens,
        now: Moment,
    ) -> Vec<Notice> {
        let Holds { call, legs } = holds;
        let notices = self.step(now, |kept| {
            kept.calls.remove(&call);
            let (_, mut notices) = kept.book.settle(now, call, cost, tokens);
            for LegHold { hold, used } in legs {
                if let Some((cost, tokens)) = used {
                    notices.extend(kept.book.settle(now, hold, cost, tokens).1);
                } else {
                    kept.book.release(now, hold);
                }
            }
            notices
        });
        self.told(&notices);
        notices
    }

    /// Lets go what was held for a call of which nothing was sent.
    pub fn release(&self, holds: Holds, now: Moment) {
        self.step(now, |kept| {
            kept.calls.remove(&holds.call);
            kept.book.release(now, holds.call);
            for leg in holds.legs {
                kept.book.release(now, leg.hold);
            }
        });
    }
}
