//! Cascade: whether a cheaper target is asked before the call's own, and what both would cost.
//!
//! **Invariant**: a cheap target that is not cheaper for this very call, may not be called by its
//! key, fails, or would do again what only the provider can do, is never asked (test
//! `unfit_calls_go_straight_to_their_own_target`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::cascade::contract::Contract;
use policy::cascade::record::{Asks, Fared, Record};
use policy::cascade::verdict::Rules;
use policy::dispatch::{patience, retry};
use policy::money::PicoUsd;
use policy::route::economics::forecast;
use policy::route::memory::{Head, Turned};
use policy::route::sessions::Kind;
use serde::Serialize;
use wire::dialect::request::Request;
use wire::json::Tape;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::life::Service;
use crate::route::{Plan, Route, plan, with_first};
use crate::setup::cascade::{Cascade, HasLogprobs};
use crate::setup::{LeverMode, Rule};

/// How the cheap target of each cascade has fared.
#[derive(Debug, Default)]
pub struct Records(Mutex<HashMap<String, Record>>);

impl Records {
    /// Of the cascade of that name. Names are those of routes and targets of the configuration.
    fn with<R>(&self, name: &str, change: impl FnOnce(&mut Record) -> R) -> R {
        let mut records = self.lock();
        if let Some(record) = records.get_mut(name) {
            return change(record);
        }
        change(records.entry(name.to_owned()).or_default())
    }

    /// An answer was judged.
    pub fn came(&self, name: &str, fared: Fared) {
        self.with(name, |record| record.came(fared));
    }

    /// Also after a panic elsewhere: a share may be off then, money is not.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a route's cascade comes to for one call.
#[derive(Debug)]
pub struct Cascading {
    /// What is written down about it.
    pub notes: CascadeNotes,
    /// What is to be done; none if nothing.
    pub first: Option<First>,
}

/// A cheap target that is asked first.
#[derive(Debug)]
pub struct First {
    /// The target.
    pub plan: Plan,
    /// The client's own.
    pub own: Plan,
    /// What the cascade's record goes by.
    pub name: String,
    /// The cheap one, and those behind it, which are only there to be waited for less.
    pub route: Route,
    /// What its answer must keep.
    pub contract: Contract,
    /// How it is judged.
    pub rules: Rules,
    /// The route's settings.
    pub cascade: Arc<Cascade>,
    /// How its answer comes.
    pub comes: Comes,
    /// What names the conversation at the cheap target, apart from its home at its own.
    pub conversation: u64,
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// In pieces.
    Streamed,
    /// At once.
    Whole,
}

/// What is written down about a call's cascade: what both targets would cost, whether the cheap one
/// was asked, and what became of its answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CascadeNotes {
    lever: &'static str,
    target: String,
    own: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_usd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_usd: Option<String>,
    /// The share of its answers that convinced lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfit: Option<&'static str>,
    /// What became of it: `accepted`, `escalated` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<String>,
}

impl CascadeNotes {
    /// With what became of the cheap leg, and why.
    pub fn became(&mut self, outcome: &'static str, why: &'static str) {
        self.outcome = Some(outcome);
        self.why = Some(why);
    }

    /// With the verifier that failed it.
    pub fn failed_by(&mut self, verifier: &str) {
        self.verifier = Some(verifier.to_owned());
    }

    /// With the probability that it is adequate.
    pub fn likely(&mut self, probability: f64) {
        self.probability = Some(format!("{probability:.3}"));
    }
}

impl First {
    /// One attempt, and no more patience than the client would have with a target of its own that
    /// others could stand in for.
    pub fn policy(&self, policy: retry::Policy) -> retry::Policy {
        let held = u64::try_from(self.cascade.hold_back.time_max.as_millis());
        let usual = policy.patience;
        let first_token_ms_thinking = match self.comes {
            Comes::Streamed => usual.first_token_ms.min(usual.first_token_ms_thinking),
            Comes::Whole => usual.first_token_ms_thinking,
        };
        retry::Policy {
            retries: 0,
            // The second one is never sent: it says that somebody else could answer.
            legs_max: 2,
            patience: patience::Rules {
                first_token_ms_thinking,
                kept_back_ms: held.unwrap_or(usual.kept_back_ms).min(usual.kept_back_ms),
                ..usual
            },
            ..policy
        }
    }

    /// How long a stream may be held back.
    pub fn held_at_most(&self) -> Duration {
        self.cascade.hold_back.time_max
    }
}

/// What a call is, for its costs.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// What kind of conversation it belongs to.
    pub kind: Kind,
    /// The conversation.
    pub conversation: u64,
    /// What is known of it, if somebody has asked already.
    pub turned: Option<Turned>,
}

/// What the cascade of a route comes to for a call; none if the route has none, or it is off.
/// `own` is where the call would go, `client` where its client sent it.
pub fn cascading(
    service: &Service<'_>,
    rule: &Rule,
    request: &Request<'_>,
    talk: Talk,
    (own, client): (&Route, Option<&Plan>),
) -> Option<Cascading> {
    let cascade = rule.cascade.as_ref()?;
    if cascade.mode == LeverMode::Off {
        return None;
    }
    let goes = own.first()?;
    let target = &cascade.target;
    let mut notes = CascadeNotes {
        lever: cascade.mode.name(),
        target: format!("{}/{}", target.provider, target.model),
        own: goes.name(),
        ..CascadeNotes::default()
    };
    let contract = Contract::read(request.dialect, request.body);
    let cheap = plan(service.setup, target, request.dialect);
    let name = format!("{} {}", rule.name, notes.target);
    let fit = match (&cheap, contract.barred) {
        (_, Some(barred)) => Err(barred.name()),
        (None, None) => Err("other_dialect"),
        (Some(cheap), None) => costs(service, request, talk, (cheap, goes), &mut notes)
            .and_then(|costs| worth(service, (cascade.mode, &name), costs, &mut notes)),
    };
    notes.unfit = fit.err();
    let acts = fit.is_ok() && cascade.mode == LeverMode::On;
    let first = cheap.filter(|_| acts).and_then(|plan| {
        let healths = &service.gateway.healths;
        let route = with_first(service.setup, healths, plan.clone(), own.clone());
        route.first()?.is_same(&plan).then(|| First {
            own: client.unwrap_or(goes).clone(),
            name,
            plan,
            route,
            contract,
            rules: cascade.rules(has_logprobs(request.body)),
            cascade: Arc::clone(cascade),
            comes: if request.stream {
                Comes::Streamed
            } else {
                Comes::Whole
            },
            conversation: apart(talk.conversation),
        })
    });
    Some(Cascading { notes, first })
}

/// What a call costs at the cheap target and at its own, or why the cheap one is not asked. What is
/// known of it is noted.
fn costs(
    service: &Service<'_>,
    request: &Request<'_>,
    talk: Talk,
    (cheap, own): (&Plan, &Plan),
    notes: &mut CascadeNotes,
) -> Result<(PicoUsd, PicoUsd), &'static str> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    let now = gateway.clock.now();
    let conversation = talk.conversation;
    let turned = talk.turned.unwrap_or_else(|| {
        let head = Head::of(&request.prompt, xxh3_64(call.key.as_bytes()));
        let bytes = request.body.len() as u64;
        let mut routing = gateway.routing();
        routing.comes(conversation, talk.kind, bytes, head, call.at)
    });
    let place = gateway.healths.place(&cheap.name());
    // The cheap target has a prefix warm only if it was asked before; that the other one has it, too,
    // is the cautious guess.
    let was_asked = gateway.healths.home(apart(conversation)) == Some(place);
    let cost = |plan: &Plan, is_warm: bool| -> Option<PicoUsd> {
        let model = setup.prices.find(&plan.upstream.prices, &plan.model)?;
        let load = turned.load(is_warm);
        Some(forecast(model, now, load, &turned.outlook)?.now)
    };
    let costs = (cost(cheap, was_asked), cost(own, true));
    notes.target_usd = costs.0.map(PicoUsd::exact);
    notes.own_usd = costs.1.map(PicoUsd::exact);
    let model = setup.prices.find(&cheap.upstream.prices, &cheap.model);
    let window = model.and_then(|model| model.context);
    let health = gateway.healths.at(place);
    if call.may_call(&cheap.name()).is_err() && call.may_call(&cheap.model).is_err() {
        return Err("not_allowed");
    }
    if window.is_some_and(|window| turned.input > window) {
        return Err("too_long");
    }
    if health.breaker.is_barred(&setup.breaker, now) {
        return Err("failing");
    }
    match costs {
        (Some(cheap), Some(own)) if cheap < own => Ok((cheap, own)),
        (Some(_), Some(_)) => Err("dearer"),
        _ => Err("unpriced"),
    }
}

/// Whether asking the cheap target pays, by how its answers have fared lately.
fn worth(
    service: &Service<'_>,
    (mode, name): (LeverMode, &str),
    (cheap, own): (PicoUsd, PicoUsd),
    notes: &mut CascadeNotes,
) -> Result<(), &'static str> {
    let records = &service.gateway.cascades;
    let asks = records.with(name, |record| {
        let accepts = record.accepts();
        notes.accepts = Some(format!("{accepts:.3}"));
        // Who only observes does not know better than at first.
        if mode == LeverMode::On {
            record.asks(cheap, own)
        } else {
            Asks::Pays
        }
    });
    match asks {
        Asks::Pays | Asks::Retrial => Ok(()),
        Asks::Never => Err("does_not_pay"),
    }
}

/// What names a conversation at a cheap target: to ask that one first must not make the client's own
/// deployments forget which of them has it warm.
fn apart(conversation: u64) -> u64 {
    xxh3_64_with_seed(b"cascade", conversation)
}

/// Whether the client asks for the log-probabilities of its answer's tokens.
fn has_logprobs(body: &[u8]) -> HasLogprobs {
    let asks = |tape: &Tape<'_>| {
        tape.root()
            .get("logprobs")
            .map(|node| node.raw().to_owned())
    };
    let asked = Tape::read(body).ok().as_ref().and_then(asks);
    match asked.as_deref() {
        Some("true") => HasLogprobs::Yes,
        _ => HasLogprobs::No,
    }
}
