//! Wrap-up: an agent whose budget is nearly used up is asked to finish, in what it reads next.
//!
//! It is asked once. A client that sends its history again sends it without what was added to it, so
//! the words are remembered and added again in the same place, and the prompt cache holds; after a
//! restart they are forgotten, which costs one cache miss.
//!
//! **Invariant**: only limits that want it ask, only agents are asked, and what was asked stands in the
//! same place in every later call (test `an_agent_is_asked_once_to_finish` in `tests/it/wrap_up.rs`).

use std::sync::{Mutex, PoisonError};

use policy::admit::book::report::Usage;
use policy::admit::degrade::Step;
use policy::admit::limit::Measure;
use policy::lately::Lately;
use policy::money::PicoUsd;
use wire::dialect::request::Request;
use wire::prompt::Part;
use wire::splice::Splice;

use crate::dispatch::degrade::{Degraded, row_of};
use crate::dispatch::shape::Shaped;
use crate::life::Service;
use crate::route::place::Placed;

/// What agents were asked, by conversation.
#[derive(Debug, Default)]
pub struct Asked(Mutex<Lately<Words>>);

impl Asked {
    fn get(&self, conversation: u64) -> Option<Words> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(conversation)
    }

    fn put(&self, conversation: u64, words: Words) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(conversation, words);
    }
}

/// What an agent was asked, and where.
#[derive(Clone, Debug)]
pub struct Words {
    message: usize,
    text: String,
    degraded: Degraded,
}

/// Whether the agent of a call is asked to finish, or was.
pub fn wrap_up(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &Placed,
    user: Option<&str>,
) -> Option<Words> {
    let (gateway, budgets) = (service.gateway, &service.setup.budgets);
    if budgets.wrap_up.is_empty() || !request.has_tools {
        return None;
    }
    let asked = &gateway.wrapping;
    if let Some(words) = asked.get(placed.conversation) {
        return Some(words);
    }
    let row = row_of(service, request, placed, user)?;
    let now = gateway.clock.now();
    let usage = gateway.accounts.ending(&row, now, &budgets.wrap_up)?;
    let last = request.prompt.segments.last()?;
    let message = usize::try_from(last.index).ok()?;
    let mut splice = Splice::default();
    let text = text(&usage);
    // A message without words, an image for instance, is left as it is, and asked again later.
    if last.part != Part::Messages || !request.append(message, &text, &mut splice) {
        return None;
    }
    let notice = usage.notice(Step::WrapUp.event());
    gateway.accounts.told(std::slice::from_ref(&notice));
    let words = Words {
        message,
        degraded: Degraded::of(&notice, Step::WrapUp, left(&usage), None),
        text,
    };
    asked.put(placed.conversation, words.clone());
    Some(words)
}

impl Words {
    /// Adds them to a call.
    pub fn say(&self, request: &Request<'_>, shaped: &mut Shaped) {
        if request.append(self.message, &self.text, &mut shaped.splice) {
            shaped.wrap_up = Some(self.degraded.clone());
        }
    }
}

fn text(usage: &Usage) -> String {
    format!(
        "\n\n[note from the gateway: the budget of {} is nearly used up, {} of it are left. Finish \
         now with what you have: say what is done and what is not.]",
        usage.scope,
        left(usage)
    )
}

/// What is left, as people read it.
fn left(usage: &Usage) -> String {
    let quota = &usage.limit.quota;
    let left = quota.amount().0.saturating_sub(usage.tally.spent.0).max(0);
    match quota.measure() {
        Measure::Usd => PicoUsd(left).to_string(),
        Measure::Tokens => format!("{left} tokens"),
        Measure::Requests | Measure::Concurrency => format!("{left} calls"),
    }
}
