//! Place: the route of the configuration that a call takes, and which of its targets.
//!
//! **Invariant**: a lever that is off or observes changes no target (test
//! `only_a_route_that_is_on_moves_a_call`).

use std::sync::Arc;

use policy::moment::Moment;
use policy::refusal::Refusal;
use policy::route::economics::{Choice, Offer, Unfit, choose, forecast};
use policy::route::memory::{Head, Turned};
use policy::route::rules::{Sight, first};
use policy::route::sessions::Kind;
use policy::shape::context::budget::Budget;
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::usage::Tokens;
use xxhash_rust::xxh3::xxh3_64;

use crate::dispatch::context::ContextNotes;
use crate::dispatch::focus::FocusNotes;
use crate::dispatch::loops::LoopNotes;
use crate::dispatch::trim::{Decided, Trimming};
use crate::life::Service;
use crate::receive::Call;
use crate::route::cascade::{Cascading, First, Talk, cascading};
use crate::route::cheaper::{Appraisal, Opinion};
use crate::route::notes::RouteNotes;
use crate::route::{Plan, Route, plan, route, with_first};
use crate::settle::opening::Placement;
use crate::setup::loops::Loops;
use crate::setup::{LeverMode, Rule, Setup, Target, Think, Trim};

/// 4 bytes a token, to know a size before anything was counted.
const BYTES_PER_TOKEN: u64 = 4;

/// Where a call goes, and why.
#[derive(Debug)]
pub struct Placed {
    /// The targets.
    pub route: Route,
    /// What kind of conversation it belongs to.
    pub kind: Kind,
    /// The size of its body.
    pub bytes: u64,
    /// What names its conversation.
    pub conversation: u64,
    /// What the think lever may do.
    pub think: Think,
    /// What the trim lever may do.
    pub trim: Trim,
    /// How much of a context there may be.
    pub budgets: Arc<[Budget]>,
    /// What is done with its texts.
    pub decided: Decided,
    /// What became of its documents.
    pub focused: Option<Box<FocusNotes>>,
    /// What it does.
    pub trimming: Option<Box<Trimming>>,
    /// What its sender should know of its context.
    pub context: Option<ContextNotes>,
    /// Targets that its route's owner holds to be as good.
    pub as_good: Vec<Target>,
    /// The provider that the client names in the path.
    pub pinned: Option<String>,
    /// Where it would have gone, if a lever has moved it.
    pub instead_of: Option<Plan>,
    /// Why, for the call's notes.
    pub notes: Option<RouteNotes>,
    /// What its route's cascade comes to.
    pub cascade: Option<Cascading>,
    /// Its tools and instructions.
    pub head: Option<Head>,
    /// What is done about agents that go in circles.
    pub loops: Arc<Loops>,
    /// The loop that its agent is in.
    pub looping: Option<LoopNotes>,
}

impl Placed {
    /// Where the client sent it.
    fn where_asked(
        route: Route,
        (kind, bytes, conversation, head): (Kind, u64, u64, Option<Head>),
        (think, loops): (Think, Arc<Loops>),
    ) -> Self {
        Self {
            route,
            head,
            kind,
            bytes,
            conversation,
            think,
            trim: Trim::OFF,
            budgets: Arc::default(),
            decided: Decided::default(),
            focused: None,
            trimming: None,
            context: None,
            as_good: Vec::new(),
            pinned: None,
            instead_of: None,
            notes: None,
            cascade: None,
            loops,
            looping: None,
        }
    }

    /// Where a leg to this target would have gone, had no lever moved it.
    pub fn instead_of(&self, plan: &Plan) -> Option<&Plan> {
        let first = self.first().filter(|first| first.plan.is_same(plan));
        let was = first.map(|first| &first.own).or(self.instead_of.as_ref());
        was.filter(|was| !was.is_same(plan))
    }

    /// The cheap target that is asked first, if one is.
    pub fn first(&self) -> Option<&First> {
        self.cascade.as_ref()?.first.as_deref()
    }

    /// What the call's account needs to know of it.
    pub fn placement(&self) -> Placement {
        Placement {
            kind: Some(self.kind),
            bytes: self.bytes,
            instead_of: self.instead_of.clone(),
            notes: self.notes.clone(),
            trimmed: self
                .trimming
                .as_ref()
                .map(|it| it.saved)
                .unwrap_or_default(),
            trim: self.trimming.as_ref().map(|it| it.notes.clone()),
            context: self.context.clone(),
            focused: self.focused.clone(),
            cascade: self
                .cascade
                .as_ref()
                .map(|cascade| (*cascade.notes).clone()),
            head: self.head.map(|head| head.number),
            looping: self.looping.clone(),
        }
    }
}

/// The route of the configuration that takes a call, if one does.
fn rule<'s>(setup: &'s Setup, call: &Call, request: &Request<'_>, asked: &str) -> Option<&'s Rule> {
    let conditions = setup.rules.iter().map(|rule| &rule.when);
    let place = seen(call, request, asked, |sight| first(conditions, sight))?;
    setup.rules.get(place)
}

/// Shows what the conditions of routes look at.
pub fn seen<R>(
    call: &Call,
    request: &Request<'_>,
    asked: &str,
    look: impl FnOnce(&Sight<'_>) -> R,
) -> R {
    let header = |name: &str| {
        let value = call.headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    look(&Sight {
        model: &request.model,
        key: &call.key,
        tags: &call.payers.tags,
        path: &call.path,
        dialect: request.dialect,
        tools: request.has_tools,
        media: request.has_media(),
        input: size(request),
        text: asked,
        at: call.at,
        header: &header,
    })
}

/// The input, as estimated.
fn size(request: &Request<'_>) -> Tokens {
    Tokens(request.body.len() as u64 / BYTES_PER_TOKEN)
}

/// Finds the targets of a call and decides between them.
pub fn place(
    service: &Service<'_>,
    request: &Request<'_>,
    pinned: Option<&str>,
    conversation: u64,
) -> Result<Placed, Refusal> {
    let Service {
        gateway,
        setup,
        call,
    } = *service;
    call.may_call(&request.model)?;
    let kind = Kind::of(request.has_tools);
    let bytes = request.body.len() as u64;
    let head = Head::of(&request.prompt, xxh3_64(call.key.as_bytes()));
    let named = |model: &str| route(setup, &gateway.healths, model, request.dialect, pinned);
    // Whoever names a provider in the path has decided.
    let decides = !setup.rules.is_empty() && pinned.is_none();
    let asked = decides.then(|| request.asked());
    let rule = asked
        .as_ref()
        .and_then(|asked| rule(setup, call, request, asked));
    let Some(rule) = rule else {
        let talk = (kind, bytes, conversation, head);
        let whole = (setup.think, Arc::clone(&setup.loops));
        let mut placed = Placed::where_asked(named(&request.model)?, talk, whole);
        placed.pinned = pinned.map(str::to_owned);
        return Ok(placed);
    };
    let base = named(rule.to.as_deref().unwrap_or(&request.model))?;
    // A name of ours may lead nowhere but by its route: then there is nothing to compare with.
    let named_so = rule.to.as_ref().and_then(|_| named(&request.model).ok());
    let was = named_so.as_ref().unwrap_or(&base).first().cloned();
    let mut notes = RouteNotes::of(&rule.name, rule.mode);
    let mut placed = base;
    let mut talk = Talk {
        kind,
        conversation,
        turned: None,
    };
    let text = asked.as_deref().unwrap_or_default();
    let has_others = !rule.as_good.is_empty() || !rule.cheaper.is_empty();
    let weighs = rule.mode != LeverMode::Off && has_others;
    let of = (text, head, conversation);
    let appraisal = rule
        .learns()
        .then(|| Appraisal::of(service, rule, request, of));
    notes.counts_for(appraisal.as_ref().map_or(&[], |it| &it.kinds));
    if weighs {
        let scales = Scales {
            service,
            rule,
            appraisal: appraisal.as_ref(),
            turned: gateway
                .routing()
                .comes(conversation, kind, bytes, head, call.at),
            home: gateway.healths.home(conversation),
        };
        talk.turned = Some(scales.turned);
        let plans = scales.plans(&placed, request.dialect);
        let (choice, options) = scales.weigh(&plans);
        notes.weighed(&options, choice, &scales.turned.outlook);
        let moves = rule.mode == LeverMode::On && choice.place > 0;
        if let Some(chosen) = plans.get(choice.place).filter(|_| moves) {
            placed = with_first(setup, &gateway.healths, chosen.clone(), placed);
        }
    }
    let goes = placed.first();
    let instead_of = was.filter(|was| goes.is_some_and(|goes| !goes.is_same(was)));
    let (known, own) = ((talk, appraisal.as_ref()), (&placed, instead_of.as_ref()));
    let cascade = cascading(service, rule, request, known, own);
    let talk = (kind, bytes, conversation, head);
    let levers = (rule.think, Arc::clone(&rule.loops));
    Ok(Placed {
        trim: rule.trim,
        budgets: Arc::clone(&rule.context),
        as_good: rule.as_good.clone(),
        instead_of,
        notes: Some(notes),
        cascade,
        ..Placed::where_asked(placed, talk, levers)
    })
}

/// A target with what was found of it.
pub struct Weighed<'p> {
    /// The target.
    pub plan: &'p Plan,
    /// What it costs, and why it cannot be chosen.
    pub offer: Offer,
    /// What is thought of its answers, if it is a cheaper one.
    pub opinion: Option<Opinion>,
}

/// What targets are weighed with.
struct Scales<'a> {
    service: &'a Service<'a>,
    rule: &'a Rule,
    /// Where the route names cheaper targets.
    appraisal: Option<&'a Appraisal<'a>>,
    turned: Turned,
    /// The health's place of the target that answered the conversation last.
    home: Option<usize>,
}

impl Scales<'_> {
    /// The target that the call would go to, and those that its route allows instead.
    fn plans(&self, base: &Route, dialect: Dialect) -> Vec<Plan> {
        let setup = self.service.setup;
        let others = self.rule.as_good.iter().chain(&self.rule.cheaper);
        let others = others.filter_map(|target| plan(setup, target, dialect));
        let first = base.first().cloned();
        let mut plans: Vec<Plan> = Vec::new();
        for plan in first.into_iter().chain(others) {
            if !plans.iter().any(|known| known.is_same(&plan)) {
                plans.push(plan);
            }
        }
        plans
    }

    fn weigh<'p>(&self, plans: &'p [Plan]) -> (Choice, Vec<Weighed<'p>>) {
        let now = self.service.gateway.clock.now();
        let weighed = plans.iter().map(|plan| {
            let opinion = plans.first().and_then(|own| self.opinion(plan, own));
            let mut offer = self.offer(plan, now);
            let doubt = opinion.and_then(|opinion| opinion.verdict.err());
            offer.unfit = offer.unfit.or(doubt.map(Unfit::from));
            Weighed {
                plan,
                offer,
                opinion,
            }
        });
        let weighed: Vec<Weighed<'_>> = weighed.collect();
        let offers: Vec<Offer> = weighed.iter().map(|it| it.offer).collect();
        let places = plans.iter().map(|plan| self.health_of(plan));
        let home = self
            .home
            .and_then(|home| places.into_iter().position(|place| place == home));
        (choose(&offers, home), weighed)
    }

    /// What is thought of a target that is neither the call's own nor held to be as good.
    fn opinion(&self, plan: &Plan, own: &Plan) -> Option<Opinion> {
        let appraisal = self.appraisal?;
        let is_as_good = self.rule.as_good.iter().any(|target| plan.is_at(target));
        let is_cheaper = self.rule.cheaper.iter().any(|target| plan.is_at(target));
        (is_cheaper && !is_as_good && !plan.is_same(own)).then(|| appraisal.opinion(plan, own))
    }

    fn health_of(&self, plan: &Plan) -> usize {
        self.service.gateway.healths.place(&plan.name())
    }

    fn offer(&self, plan: &Plan, now: Moment) -> Offer {
        let Service {
            gateway,
            setup,
            call,
        } = *self.service;
        let place = self.health_of(plan);
        let health = gateway.healths.at(place);
        let load = self.turned.load(self.home == Some(place));
        let model = setup.prices.find(&plan.upstream.prices, &plan.model);
        let forecast = model.and_then(|model| forecast(model, now, load, &self.turned.outlook));
        let window = model.and_then(|model| model.context);
        let is_slow = |most: u64| health.gauge.first_token_ms(now).is_some_and(|ms| ms > most);
        let unfit = if call.may_call(&plan.name()).is_err() && call.may_call(&plan.model).is_err()
            || window.is_some_and(|window| self.turned.input > window)
        {
            Some(Unfit::Closed)
        } else if health.breaker.is_barred(&setup.breaker, now) {
            Some(Unfit::Failing)
        } else if self.rule.first_token_ms_max.is_some_and(is_slow) {
            Some(Unfit::Slow)
        } else if forecast.is_none() {
            Some(Unfit::Unpriced)
        } else {
            None
        };
        Offer { forecast, unfit }
    }
}
