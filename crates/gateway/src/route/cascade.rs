//! Cascade: whether a cheaper target is asked before the call's own, and what both would cost.
//!
//! **Invariant**: a cheap target that is not cheaper for this very call, may not be called by its
//! key, fails, or would do again what only the provider can do, is never asked (test
//! `unfit_calls_go_straight_to_their_own_target`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use policy::cascade::closed::sample;
use policy::cascade::contract::Contract;
use policy::cascade::record::{Asks, Fared, Record};
use policy::cascade::verdict::{Doubt, Ground, Rules};
use policy::cascade::way::{Chances, Known, Way};
use policy::cascade::word::{Word, word};
use policy::dispatch::{patience, retry};
use policy::money::PicoUsd;
use policy::route::adequacy::Ground as Vouched;
use policy::route::economics::{Forecast, Load, forecast};
use policy::route::memory::{Head, Turned};
use policy::route::sessions::{Kind, Outlook};
use serde::Serialize;
use wire::dialect::request::Request;
use wire::usage::Tokens;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::life::Service;
use crate::route::cheaper::Appraisal;
use crate::route::notes::VerdictNotes;
use crate::route::{Plan, Route, plan, with_first};
use crate::settle::aside::AsideNotes;
use crate::setup::cascade::{Cascade, HasLogprobs};
use crate::setup::{LeverMode, Rule};

/// 4 bytes a token, to know a size before anything was counted.
const BYTES_PER_TOKEN: u64 = 4;

/// 8 tokens: a judge's number and what frames it. One that thinks first costs more, which nobody knows
/// before.
const SCORE_TOKENS: Tokens = Tokens(8);

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

    /// An answer was judged that was expected to be adequate with this probability, if anything was
    /// known of it.
    pub fn came(&self, name: &str, fared: Fared, expected: Option<f64>) {
        self.with(name, |record| record.came(fared, expected));
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
    pub notes: Box<CascadeNotes>,
    /// What is to be done; none if nothing.
    pub first: Option<Box<First>>,
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
    /// The conversation itself.
    pub of: u64,
    /// What was known beforehand.
    pub foreseen: Foreseen,
    /// What the user wrote last, where a model judges.
    pub question: String,
    /// The request for another answer of the cheap target, where several must agree.
    pub sample: Option<Bytes>,
}

/// What is known of an answer before it is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreseen {
    /// The probability that it is adequate; none if the route's cascade learns nothing.
    pub adequate: Option<f64>,
    /// Why it need not be judged; none if it must.
    pub vouched: Option<Vouched>,
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
    foreseen: Option<ForeseenNotes>,
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
    /// Who else was asked, before it was judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<AsideNotes>,
    /// What that says of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<VerdictNotes>,
}

/// What was known beforehand, and which way that leads.
#[derive(Clone, Debug, Serialize)]
struct ForeseenNotes {
    way: &'static str,
    /// The probability that the cheap answer would do, and that of the own target.
    adequate: String,
    own: String,
    /// The probability that it would convince.
    convinces: String,
    /// Why it need not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    ground: Option<&'static str>,
    /// What the way is expected to cost for the rest of the conversation, and the own target alone.
    way_usd: String,
    own_usd: String,
    /// Whether the answer is judged although it need not be, or asked for although it may be wasted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    looks_again: bool,
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

    /// With somebody else who was asked.
    pub fn asked(&mut self, notes: AsideNotes) {
        self.beside.push(notes);
    }

    /// With what the verdict says of the target.
    pub fn says(&mut self, word: Word) {
        self.verdict = Some(word.into());
    }

    /// The target, as `provider/model`.
    pub fn target(&self) -> &str {
        &self.target
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

    /// What a verdict on its answer says of the target.
    pub fn word(&self, verdict: Result<&Ground, &Doubt>) -> Option<Word> {
        word(verdict, &self.contract, &self.rules, self.cascade.trust)
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
    (talk, appraisal): (Talk, Option<&Appraisal<'_>>),
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
    let contract = Contract::of(request);
    let cheap = plan(service.setup, target, request.dialect);
    let name = format!("{} {}", rule.name, notes.target);
    let sampled = cascade
        .agree
        .as_ref()
        .map(|_| sample(request, &target.model));
    let sampled = sampled.transpose();
    let fit = match (&cheap, contract.barred, &sampled) {
        (_, Some(barred), _) => Err(barred.name()),
        (_, None, Err(unsampled)) => Err(unsampled.name()),
        (None, None, Ok(_)) => Err("other_dialect"),
        (Some(cheap), None, Ok(_)) => {
            let pair = (cheap, goes);
            let costs = costs(service, (request, cascade), talk, pair, &mut notes);
            let record = (cascade.mode, name.as_str());
            costs.and_then(|costs| match (appraisal, cascade.quality) {
                (Some(appraisal), Some(quality)) => {
                    let known = (appraisal, quality, pair);
                    foresee(service, record, costs, known, &mut notes)
                }
                _ => worth(service, record, costs, &mut notes),
            })
        }
    };
    notes.unfit = fit.err();
    let foreseen = fit.unwrap_or_default();
    let acts = fit.is_ok() && cascade.mode == LeverMode::On;
    let first = cheap.filter(|_| acts).and_then(|plan| {
        let healths = &service.gateway.healths;
        let route = with_first(service.setup, healths, plan.clone(), own.clone());
        let first = First {
            own: client.unwrap_or(goes).clone(),
            name,
            plan,
            route,
            contract,
            rules: cascade.rules(has_logprobs(request)),
            cascade: Arc::clone(cascade),
            comes: if request.stream {
                Comes::Streamed
            } else {
                Comes::Whole
            },
            conversation: apart(talk.conversation),
            of: talk.conversation,
            foreseen,
            question: if cascade.judges().next().is_some() {
                request.asked()
            } else {
                String::new()
            },
            sample: sampled.ok().flatten().map(Bytes::from),
        };
        let is_first = first.route.first()?.is_same(&first.plan);
        is_first.then(|| Box::new(first))
    });
    let notes = Box::new(notes);
    Some(Cascading { notes, first })
}

/// What a call costs.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// At the cheap target, this call and the rest of the conversation.
    cheap: Forecast,
    /// At its own.
    own: Forecast,
    /// At its own, if that is only asked when the cheap one did not convince: this call as warm as it
    /// would be, and those that follow cold, as what nobody asks becomes.
    escalated: PicoUsd,
    /// At whoever judges, this call and those that follow.
    check: Forecast,
}

/// What a call costs at the cheap target and at its own, or why the cheap one is not asked. What is
/// known of it is noted.
fn costs(
    service: &Service<'_>,
    (request, cascade): (&Request<'_>, &Cascade),
    talk: Talk,
    (cheap, own): (&Plan, &Plan),
    notes: &mut CascadeNotes,
) -> Result<Costs, &'static str> {
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
    let cost = |plan: &Plan, is_warm: bool| -> Option<Forecast> {
        let model = setup.prices.find(&plan.upstream.prices, &plan.model)?;
        forecast(model, now, turned.load(is_warm), &turned.outlook)
    };
    let costs = (cost(cheap, was_asked), cost(own, true));
    notes.target_usd = costs.0.map(|cost| cost.now.exact());
    notes.own_usd = costs.1.map(|cost| cost.now.exact());
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
    let (Some(at_cheap), Some(at_own), Some(cold)) = (costs.0, costs.1, cost(own, false)) else {
        return Err("unpriced");
    };
    Ok(Costs {
        cheap: at_cheap,
        own: at_own,
        escalated: at_own.now + following(cold.now, turned.outlook.calls),
        check: check(service, (request, cascade), at_cheap, &turned.outlook).ok_or("unpriced")?,
    })
}

/// What judging costs: samples at the cheap target, as far as all are asked for, and judges, who see
/// the last words and the answer; none if one of them has no price.
fn check(
    service: &Service<'_>,
    (request, cascade): (&Request<'_>, &Cascade),
    cheap: Forecast,
    outlook: &Outlook,
) -> Option<Forecast> {
    let Service { gateway, setup, .. } = *service;
    let samples = cascade.agree.as_ref().map_or(0, |it| it.samples);
    let mut cost = Forecast {
        now: following(cheap.now, samples.into()),
        rest: following(cheap.rest, samples.into()),
    };
    for judge in cascade.judges() {
        let plan = Plan::of(setup, &judge.target)?;
        let model = setup.prices.find(&plan.upstream.prices, &plan.model)?;
        let words = judge.rubric.text.len() + request.asked().len();
        let input = Tokens(words as u64 / BYTES_PER_TOKEN) + outlook.answers;
        let load = Load {
            input,
            began: input,
            warm: Tokens(0),
        };
        let alone = Outlook {
            calls: 0.0,
            answers: SCORE_TOKENS,
            ..*outlook
        };
        let one = forecast(model, gateway.clock.now(), load, &alone)?.now;
        cost.now += one;
        cost.rest += following(one, outlook.calls);
    }
    Some(cost)
}

/// What so many calls to come cost, at what one costs now.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a forecast, not a bill"
)]
fn following(one: PicoUsd, calls: f64) -> PicoUsd {
    PicoUsd((one.0 as f64 * calls).round() as i128)
}

/// Whether asking the cheap target pays, by how its answers have fared lately.
fn worth(
    service: &Service<'_>,
    (mode, name): (LeverMode, &str),
    costs: Costs,
    notes: &mut CascadeNotes,
) -> Result<Foreseen, &'static str> {
    let (cheap, own) = (costs.cheap.now + costs.check.now, costs.own.now);
    if cheap >= own {
        return Err("dearer");
    }
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
        Asks::Pays | Asks::Retrial => Ok(Foreseen::default()),
        Asks::Never => Err("does_not_pay"),
    }
}

/// The way that a call goes by what is known of the cheap target on such calls.
fn foresee(
    service: &Service<'_>,
    (mode, name): (LeverMode, &str),
    costs: Costs,
    (appraisal, quality, pair): (&Appraisal<'_>, f64, (&Plan, &Plan)),
    notes: &mut CascadeNotes,
) -> Result<Foreseen, &'static str> {
    let records = &service.gateway.cascades;
    let accepts = records.with(name, |record| record.accepts());
    notes.accepts = Some(format!("{accepts:.3}"));
    let opinion = appraisal.opinion_at(quality, pair, Some(accepts));
    // Who was only drawn to be tried is judged like everybody.
    let ground = opinion.verdict.ok();
    let ground = ground.filter(|ground| *ground != Vouched::Explored);
    let chances = Chances {
        adequate: opinion.adequate,
        own: opinion.own,
        quality,
        known: if ground.is_some() {
            Known::Kept
        } else {
            Known::Open
        },
        cheap: costs.cheap.total(),
        dear: costs.own.total(),
        escalated: costs.escalated,
        check: costs.check.total(),
    };
    let (taken, looks_again) = records.with(name, |record| {
        let taken = record.way(&chances);
        let looks_again = mode == LeverMode::On && record.goes(taken.way);
        (taken, looks_again)
    });
    // A call that is dearer there is not tried for the sake of knowing.
    let looks_again =
        looks_again && (taken.way != Way::Straight || costs.cheap.now < costs.own.now);
    notes.foreseen = Some(ForeseenNotes {
        way: taken.way.name(),
        adequate: format!("{:.3}", opinion.adequate),
        own: format!("{:.3}", opinion.own),
        convinces: format!("{:.3}", taken.convinces),
        ground: ground.map(Vouched::name),
        way_usd: taken.plan.cost.exact(),
        own_usd: chances.dear.exact(),
        looks_again,
    });
    match taken.way {
        Way::Straight if !looks_again => Err("does_not_pay"),
        Way::Unchecked if !looks_again => Ok(Foreseen {
            adequate: Some(opinion.adequate),
            vouched: ground,
        }),
        Way::Straight | Way::Checked | Way::Unchecked => Ok(Foreseen {
            adequate: Some(opinion.adequate),
            vouched: None,
        }),
    }
}

/// What names a conversation at a cheap target: to ask that one first must not make the client's own
/// deployments forget which of them has it warm.
fn apart(conversation: u64) -> u64 {
    xxh3_64_with_seed(b"cascade", conversation)
}

/// Whether the client asks for the log-probabilities of its answer's tokens.
fn has_logprobs(request: &Request<'_>) -> HasLogprobs {
    let asked = request.root().get("logprobs");
    match asked.and_then(|it| it.as_bool()) {
        Some(true) => HasLogprobs::Yes,
        Some(false) | None => HasLogprobs::No,
    }
}
