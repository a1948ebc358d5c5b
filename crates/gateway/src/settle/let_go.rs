//! Letting go: what was held for a call is replaced by what it used, once its row is safe.
//!
//! **Invariant**: nothing stays held for a call that is over (test
//! `hard_budgets_are_never_exceeded`).

use std::sync::Arc;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::Leg;
use wire::usage::Tokens;

use crate::admit::told::told;
use crate::settle::receipt::Receipt;

impl Receipt {
    /// Replaces what was held by what the legs used: to be done when the settled row is safe, for
    /// money that is free again before could be held by another call, and both found open after a
    /// crash.
    pub(super) fn let_go(
        &mut self,
        cost: Option<PicoUsd>,
        now: Moment,
    ) -> impl FnOnce() + Send + 'static {
        let used = |leg: &Leg| leg.usage.input() + leg.usage.output;
        self.legs
            .iter()
            .for_each(|leg| self.gateway.accounts.saw(leg));
        let counted = self.legs.last().filter(|leg| !leg.estimated);
        if let (Some(kind), Some(leg)) = (self.placed.kind, counted) {
            let mut routing = self.gateway.routing();
            routing.settled(kind, self.placed.bytes, &leg.usage);
        }
        let tokens = self.legs.iter().map(used);
        let tokens = tokens.fold(Tokens(0), |sum, more| sum + more);
        let (gateway, holds) = (Arc::clone(&self.gateway), self.holds.take());
        let (call, was_sent) = (self.row.call.clone(), !self.legs.is_empty());
        move || match holds {
            None => {}
            Some(holds) if !was_sent => gateway.accounts.release(holds, now),
            Some(holds) => {
                for notice in gateway.accounts.settle(holds, cost, tokens, now) {
                    tracing::warn!(call = call.0, notice = told(&notice), "budget");
                }
            }
        }
    }
}
