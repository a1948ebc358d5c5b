//! Loops: agents that go in circles are seen from their own messages, and told, moved or stopped as far
//! as their route allows.
//!
//! What was added to a message is added again when the client sends that message again, so that the
//! prefix stays the same, after a restart and at another replica too: everything follows from the
//! messages. What was read of a conversation is only kept so that it need not be read again.
//!
//! **Invariant**: an action that only observes changes no byte, and what goes upstream grows at its end
//! (tests `an_observed_loop_changes_nothing` and `nudges_keep_the_prefix` in `tests/it/loops.rs`).

use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue, Response};
use policy::agents::look::{Look, Nudge, Progress, STEPS_MIN, go_on};
use policy::agents::loops::Finding;
use policy::lately::Lately;
use policy::refusal::{Reason, Refusal};
use serde::Serialize;
use serde_json::Value;
use wire::dialect::request::Request;
use wire::json::Node;
use wire::prompt::{Chain, Part, Role};
use wire::splice::Splice;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::life::Service;
use crate::relay::reply::ReplyBody;
use crate::route::place::Placed;
use crate::route::{Plan, plan, with_first};
use crate::setup::loops::{Action, Loops};

/// Says that the agent goes in circles, and what was done about it.
pub const LOOP_HEADER: HeaderName = HeaderName::from_static("x-tokenwise-loop");

/// 4 bytes a token, to know whether a prompt fits into a model before anything was counted.
const BYTES_PER_TOKEN: u64 = 4;

/// 1 024 conversations in each of two generations are kept ready to go on: some 8 kB each, so 16 MB at
/// most. Others are read anew, with the same result.
const READY_MAX: usize = 1_024;

/// What was read of conversations.
#[derive(Debug)]
pub struct Readings(Mutex<Lately<(Chain, Progress)>>);

impl Default for Readings {
    fn default() -> Self {
        Self(Mutex::new(Lately::new(READY_MAX)))
    }
}

impl Readings {
    /// What was read of a conversation, if its messages up to there are those of the request.
    fn get(&self, conversation: u64, request: &Request<'_>) -> Progress {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(conversation);
        let same =
            known.filter(|(chain, known)| request.prompt.chain_before(known.read()) == *chain);
        same.map(|(_, known)| known).unwrap_or_default()
    }

    fn put(&self, conversation: u64, request: &Request<'_>, progress: Progress) {
        let chain = request.prompt.chain_before(progress.read());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(conversation, (chain, progress));
    }
}

/// Looks at the messages of a request, on from where the call before has left off.
fn read(readings: &Readings, request: &Request<'_>, conversation: u64, polling: &[&str]) -> Look {
    let words = polling.join(" ");
    let conversation = xxh3_64_with_seed(words.as_bytes(), conversation);
    let known = readings.get(conversation, request);
    let messages = request.root().get("messages");
    let rest = messages.iter().flat_map(Node::items).skip(known.read());
    let rest: Vec<Value> = rest
        .map(|message| serde_json::from_str(message.raw()).unwrap_or_default())
        .collect();
    let (look, progress) = go_on(known, &rest, polling);
    readings.put(conversation, request, progress);
    look
}

/// What is written down of a loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoopNotes {
    kind: &'static str,
    length: usize,
    repeats: u64,
    /// The step with which it began, counted from 1.
    since: u64,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl LoopNotes {
    fn of(finding: Finding, action: Action) -> Self {
        Self {
            kind: finding.kind.name(),
            length: finding.length,
            repeats: finding.repeats,
            since: finding.since + 1,
            action: action.name(),
            to: None,
        }
    }

    fn header(&self) -> Option<HeaderValue> {
        let Self {
            kind,
            length,
            repeats,
            since,
            action,
            ..
        } = self;
        let text = format!(
            "kind={kind}; length={length}; repeats={repeats}; since={since}; action={action}"
        );
        HeaderValue::from_str(&text).ok()
    }
}

/// What was seen of a call's agent.
#[derive(Debug, Default)]
pub struct Watched {
    nudges: Vec<Nudge>,
    header: Option<HeaderValue>,
}

/// Looks at the messages of a call, and refuses or moves it where its route says so.
pub fn watch(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &mut Placed,
) -> Result<Watched, Refusal> {
    let loops = placed.loops.clone();
    if loops.action == Action::Off || !is_long(request) {
        return Ok(Watched::default());
    }
    let readings = &service.gateway.readings;
    let Look {
        found,
        certain,
        nudges,
    } = read(readings, request, placed.conversation, &loops.may_repeat());
    if let Some(finding) = certain.filter(|_| loops.action >= Action::Stop) {
        service
            .gateway
            .metrics
            .looped(finding.kind.name(), Action::Stop.name());
        return Err(stopped(finding));
    }
    let mut watched = Watched::default();
    if loops.action >= Action::Nudge {
        watched.nudges = nudges;
    }
    if let Some(finding) = found {
        let to = move_away(service, request, placed, &loops);
        let action = match to {
            Some(_) => Action::Degrade,
            None => loops.action.min(Action::Nudge),
        };
        let notes = LoopNotes {
            to,
            ..LoopNotes::of(finding, action)
        };
        service.gateway.metrics.looped(notes.kind, notes.action);
        watched.header = notes.header();
        placed.looping = Some(notes);
    }
    Ok(watched)
}

/// Whether there are enough steps for any loop.
fn is_long(request: &Request<'_>) -> bool {
    let segments = request.prompt.segments.iter();
    let said = segments.filter(|it| it.part == Part::Messages && it.role == Role::Assistant);
    let mut places: Vec<u32> = said.map(|segment| segment.index).collect();
    places.dedup();
    places.len() >= STEPS_MIN
}

fn stopped(finding: Finding) -> Refusal {
    let message = format!(
        "the gateway ends this task, for it goes in circles: {}",
        finding.wording()
    );
    Refusal::new(Reason::Looping, message)
}

/// Puts the cheaper target before the call's own, and names it; none where it may not or cannot serve.
fn move_away(
    service: &Service<'_>,
    request: &Request<'_>,
    placed: &mut Placed,
    loops: &Loops,
) -> Option<String> {
    let target = loops.degrade_to.as_ref()?;
    if loops.action < Action::Degrade {
        return None;
    }
    let plan = plan(service.setup, target, request.dialect)?;
    let own = placed.route.first().is_some_and(|own| own.is_same(&plan));
    if own || !can_serve(service, placed, &plan) {
        return None;
    }
    let name = plan.name();
    let healths = &service.gateway.healths;
    placed.route = with_first(service.setup, healths, plan, placed.route.clone());
    // Another answer, not a lever's doing: nothing counts as saved, and nobody else is asked first.
    placed.instead_of = None;
    placed.cascade = None;
    Some(name)
}

fn can_serve(service: &Service<'_>, placed: &Placed, plan: &Plan) -> bool {
    let Service { setup, call, .. } = *service;
    let may_call = call.may_call(&plan.name()).is_ok() || call.may_call(&plan.model).is_ok();
    let pinned = placed.pinned.as_ref();
    let model = setup.prices.find(&plan.upstream.prices, &plan.model);
    let window = model.and_then(|model| model.context);
    may_call
        && pinned.is_none_or(|provider| *provider == plan.upstream.id)
        && window.is_none_or(|window| Tokens(placed.bytes / BYTES_PER_TOKEN) <= window)
}

impl Watched {
    /// Declares what the agent is told.
    pub fn nudge(&self, request: &Request<'_>, splice: &mut Splice) {
        for Nudge { message, text } in &self.nudges {
            // A message without words, an image for instance, is left as it is.
            request.append(*message, text, splice);
        }
    }

    /// Tells the client.
    pub fn tell(self, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
        if let Some(value) = self.header {
            response.headers_mut().insert(LOOP_HEADER, value);
        }
        response
    }
}
