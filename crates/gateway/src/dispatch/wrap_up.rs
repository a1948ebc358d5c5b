//! Wrap-up: an agent whose budget is nearly used up is asked to finish, in what it reads next.
//!
//! It is asked once. A client that sends its history again sends it without what was added to it, so
//! the words are remembered and added again in the same place, and the prompt cache holds; after a
//! restart they are forgotten, which costs one cache miss. A model that refuses thinking behind other
//! bytes than it saw would refuse the call then, and is never asked.
//!
//! **Invariant**: only limits that want it ask, only agents of their own payer are asked, and what was
//! asked stands in the same place in every later call of that conversation (tests
//! `an_agent_is_asked_once_to_finish` and `nobody_else_is_asked` in `tests/it/wrap_up.rs`).

use std::sync::{Mutex, PoisonError};

use policy::admit::book::report::Usage;
use policy::admit::degrade::Step;
use policy::admit::limit::Measure;
use policy::lately::Lately;
use policy::money::PicoUsd;
use policy::think::capability::Table;
use wire::dialect::request::Request;
use wire::prompt::{Chain, Part};
use wire::splice::Splice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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
    /// What tells everything up to there.
    chain: Chain,
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
    let row = row_of(service, request, placed, user)?;
    // Agents that begin alike are told apart by who pays for them, and by what they have read since.
    let payer = row.task.as_ref().or(row.session.as_ref());
    let payer = payer.map_or("", String::as_str);
    let conversation = xxh3_64_with_seed(payer.as_bytes(), placed.conversation);
    let chain = |message: usize| request.prompt.chain_before(message.saturating_add(1));
    let known = asked.get(conversation);
    let known = known.filter(|words| chain(words.message) == words.chain);
    if known.is_some() {
        return known;
    }
    if binds_thinking(placed) {
        return None;
    }
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
        chain: chain(message),
        degraded: Degraded::of(&notice, Step::WrapUp, left(&usage), None),
        text,
    };
    asked.put(conversation, words.clone());
    Some(words)
}

/// Whether a target of the call is known to refuse thinking behind other bytes than it saw.
fn binds_thinking(placed: &Placed) -> bool {
    placed.route.plans.iter().any(|plan| {
        let known = Table::built_in().find(&plan.upstream.prices, &plan.model);
        known.is_some_and(|capability| capability.binds_prefix)
    })
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
