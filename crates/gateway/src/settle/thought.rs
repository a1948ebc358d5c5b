//! Thought: what the last leg of a call has thought, and what it is estimated to have saved where it
//! was asked to think less.
//!
//! **Invariant**: a saving by thinking less is claimed only for a whole answer whose thinking was
//! metered, and only once its likes are known (test `less_thinking_is_booked_once_its_likes_are_known`
//! in `tests/it/think.rs`).

use policy::money::PicoUsd;
use policy::ports::End;
use policy::think::observed::Arm;
use policy::think::saved::Likes;
use wire::usage::{Tokens, Usage};

use crate::route::notes::RouteNotes;
use crate::settle::receipt::Receipt;

impl Receipt {
    /// Notes and learns what the leg that is booked last has thought. Gives what it would have cost
    /// more, or less, with the usual thinking.
    pub(super) fn thought(&mut self, end: End) -> Option<PicoUsd> {
        let flight = &mut self.flight;
        let think = flight.think.as_mut()?;
        let leg = self.legs.last().filter(|leg| !leg.estimated)?;
        let is_whole = end == End::Answered && leg.end == End::Answered;
        let (class, effort, arm) = think.compares().filter(|_| is_whole)?;
        let thought = leg.usage.reasoning;
        let likes = Likes {
            route: self
                .placed
                .notes
                .as_ref()
                .map_or("", RouteNotes::name)
                .into(),
            class,
            target: format!("{}/{}", leg.provider, leg.model),
            effort,
        };
        let memory = &self.gateway.thinking;
        let usual = memory.usual(&likes).filter(|_| arm == Arm::Lowered);
        think.thought(&likes.target, thought, usual);
        memory.came(likes, arm, thought);
        let usage = Usage {
            output: Tokens((leg.usage.output + usual?).0.saturating_sub(thought.0)),
            reasoning: usual?,
            ..leg.usage.clone()
        };
        let (book, at) = (&self.setup.prices, leg.sent_at);
        let usually = book.cost(&flight.prices, &leg.model, &usage, at).ok()?;
        Some(usually.total() - leg.cost?)
    }
}
