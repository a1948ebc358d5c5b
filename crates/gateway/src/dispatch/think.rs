//! The think lever on live traffic: how hard a conversation's model is asked to think.
//!
//! **Invariant**: a conversation keeps the effort that it began with at a target, and what its client
//! says stands (tests `a_conversation_keeps_its_effort` and
//! `what_failed_its_check_is_lowered_by_one_level_less` in `tests/it/think.rs`).

use std::sync::{Mutex, PoisonError};

use policy::lately::Lately;
use policy::ports::Fault;
use policy::ports::outcomes::{Noted, Outcomes};
use policy::think::capability::Table;
use policy::think::class::Class;
use policy::think::decide::{Decision, Held, History, Opted, Policy, Question, Tools, decide};
use policy::think::edits::{can_ask, edits};
use policy::think::effort::Effort;
use policy::think::observed::Arm;
use policy::think::saved::{Likes, Thought};
use serde::{Deserialize, Serialize};
use wire::dialect::request::Request;
use wire::splice::Splice;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::life::Service;
use crate::route::Plan;
use crate::setup::{LeverMode, Think};

/// 20 000 settled calls are looked through for what they have thought, when a gateway starts.
const CALLS_READ: u32 = 20_000;

/// What stands in the notes of a call whose thinking is comparable.
const THOUGHT: &str = "\"thought\":";

/// What conversations began with at their targets, and how much calls have thought.
#[derive(Debug, Default)]
pub struct ThinkMemory {
    held: Mutex<Lately<Held>>,
    /// How many answers of conversations have failed their check.
    failed: Mutex<Lately<u32>>,
    thought: Mutex<Thought>,
}

impl ThinkMemory {
    fn get(&self, conversation: u64) -> Option<Held> {
        let known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(conversation)
    }

    fn put(&self, conversation: u64, held: Held) {
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(conversation, held);
    }

    /// An answer to a conversation has failed its check: what is asked next is lowered by one level
    /// less.
    pub fn failed(&self, conversation: u64) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failed.get(conversation).unwrap_or_default();
        failed.put(conversation, before.saturating_add(1));
    }

    fn history(&self, conversation: u64) -> History {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failed.get(conversation).unwrap_or_default();
        History { failures }
    }

    /// Takes over what the notes of settled calls say. Gives of how many. It may block.
    pub fn open(&self, store: &dyn Outcomes) -> Result<usize, Fault> {
        let noted = store.noted(THOUGHT, CALLS_READ)?;
        let mut count = 0;
        for (likes, arm, tokens) in noted.iter().filter_map(thought_of) {
            self.came(likes, arm, tokens);
            count += 1;
        }
        Ok(count)
    }

    /// A call of these has thought so much.
    pub fn came(&self, likes: Likes, arm: Arm, tokens: Tokens) {
        let mut thought = self.thought.lock().unwrap_or_else(PoisonError::into_inner);
        thought.came(likes, arm, tokens);
    }

    /// What such calls usually think where nobody lowers it, if that is known.
    pub fn usual(&self, likes: &Likes) -> Option<Tokens> {
        let thought = self.thought.lock().unwrap_or_else(PoisonError::into_inner);
        thought.usual(likes)
    }
}

/// What the notes of a settled call say of its thinking.
fn thought_of(noted: &Noted) -> Option<(Likes, Arm, Tokens)> {
    #[derive(Deserialize)]
    struct Notes {
        think: Think,
        #[serde(default)]
        route: Route,
    }
    #[derive(Deserialize)]
    struct Think {
        lever: String,
        effort: String,
        class: String,
        target: String,
        thought: u64,
    }
    #[derive(Default, Deserialize)]
    struct Route {
        name: String,
    }
    let Notes { think, route } = serde_json::from_str(&noted.notes).ok()?;
    let likes = Likes {
        route: route.name,
        class: Class::named(&think.class)?,
        target: think.target,
        effort: Effort::named(&think.effort)?,
    };
    let arm = if think.lever == LeverMode::On.name() {
        Arm::Lowered
    } else {
        Arm::Full
    };
    Some((likes, arm, Tokens(think.thought)))
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
    /// Who answered, how much it thought, and what its likes usually think where nobody lowers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usual: Option<u64>,
    /// What to compare it with; none if its thinking is not lowered, and would not be.
    #[serde(skip)]
    compares: Option<(Class, Effort, Arm)>,
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
    // A cascade asks two targets in turn, each of which keeps what it began with.
    let at_target = xxh3_64_with_seed(target.as_bytes(), conversation);
    let held = memory.get(at_target);
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
        memory.history(conversation),
        policy,
    );
    let is_kept = held.is_some_and(|held| held.effort == decision.effort);
    if !is_kept && !asked.given {
        memory.put(at_target, decision.held(&target, tools));
    }
    if let (Some(effort), LeverMode::On) = (decision.effort, rules.mode) {
        edits(request, capability, effort, splice);
    }
    let asks = decision.effort.filter(|effort| {
        let is_less = capability.default.is_some_and(|default| *effort < default);
        is_less && can_ask(request, capability, *effort)
    });
    let arm = if rules.mode == LeverMode::On {
        Arm::Lowered
    } else {
        Arm::Full
    };
    Some(ThinkNotes {
        compares: asks.map(|effort| (decision.class, effort, arm)),
        ..ThinkNotes::of(rules.mode, decision)
    })
}

impl ThinkNotes {
    fn of(mode: LeverMode, decision: Decision) -> Self {
        Self {
            lever: mode.name(),
            effort: decision.effort.map(Effort::name),
            class: decision.class.name(),
            why: decision.why.to_string(),
            target: None,
            thought: None,
            usual: None,
            compares: None,
        }
    }

    /// What kind of question it is, the effort that it gets or would get, and whether it does.
    pub fn compares(&self) -> Option<(Class, Effort, Arm)> {
        self.compares
    }

    /// With how much was thought, and what is usual, if that is known.
    pub fn thought(&mut self, target: &str, tokens: Tokens, usual: Option<Tokens>) {
        self.target = Some(target.to_owned());
        self.thought = Some(tokens.0);
        self.usual = usual.map(|it| it.0);
    }
}
