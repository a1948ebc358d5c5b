//! The think lever on live traffic: how hard a conversation's model is asked to think.
//!
//! **Invariant**: a conversation keeps the effort that it began with, and what its client says stands
//! (test `a_conversation_keeps_its_effort` in `tests/it/think.rs`).

use std::sync::{Mutex, PoisonError};

use policy::lately::Lately;
use policy::think::capability::Table;
use policy::think::decide::{Decision, Held, History, Opted, Policy, Question, Tools, decide};
use policy::think::edits::edits;
use policy::think::effort::Effort;
use serde::Serialize;
use wire::dialect::request::Request;
use wire::splice::Splice;

use crate::life::Service;
use crate::route::Plan;
use crate::setup::{LeverMode, Think};

/// What conversations began with.
#[derive(Debug, Default)]
pub struct ThinkMemory(Mutex<Lately<Held>>);

impl ThinkMemory {
    fn get(&self, conversation: u64) -> Option<Held> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(conversation)
    }

    fn put(&self, conversation: u64, held: Held) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(conversation, held);
    }
}

/// What is written down about one call's effort.
#[derive(Clone, Debug, Serialize)]
pub struct ThinkNotes {
    lever: &'static str,
    /// The level that it is given, or would be; none leaves it untouched.
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    class: &'static str,
    why: String,
}

/// Decides about one leg, and declares the edit if the lever is on. Gives nothing where there is
/// nothing to say: of models that are not known to think.
pub fn think(
    service: &Service<'_>,
    request: &Request<'_>,
    plan: &Plan,
    conversation: u64,
    rules: Think,
    splice: &mut Splice,
) -> Option<ThinkNotes> {
    if rules.mode == LeverMode::Off {
        return None;
    }
    let capability = Table::built_in().find(&plan.upstream.prices, &plan.model)?;
    let memory = &service.gateway.thinking;
    let target = plan.name();
    let held = memory.get(conversation);
    let held = held.filter(|held| held.target == target);
    let asked = request.reasoning();
    // What was decided before needs no text.
    let text = if held.is_some() || asked.given {
        String::new()
    } else {
        request.asked()
    };
    let tools = if request.has_tools {
        Tools::Defined
    } else {
        Tools::None
    };
    let question = Question {
        text: &text,
        tools,
        asked: &asked,
    };
    let opted = |is_in: bool| if is_in { Opted::In } else { Opted::Out };
    let policy = Policy {
        tools: opted(rules.with_tools),
        ..Policy::default()
    };
    let decision = decide(
        &question,
        Some(capability),
        held.as_ref(),
        History::default(),
        policy,
    );
    let is_kept = held.is_some_and(|held| held.effort == decision.effort);
    if !is_kept && !asked.given {
        memory.put(conversation, decision.held(&target, tools));
    }
    if let (Some(effort), LeverMode::On) = (decision.effort, rules.mode) {
        edits(request, capability, effort, splice);
    }
    Some(ThinkNotes::of(rules.mode, decision))
}

impl ThinkNotes {
    fn of(mode: LeverMode, decision: Decision) -> Self {
        Self {
            lever: mode.name(),
            effort: decision.effort.map(Effort::name),
            class: decision.class.name(),
            why: decision.why.to_string(),
        }
    }
}
