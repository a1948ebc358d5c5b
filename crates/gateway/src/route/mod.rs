//! Route: which targets may serve a call, in which order.
//!
//! **Invariant**: a call goes to configured upstreams that speak the client's dialect, or to none
//! at all (test `models_find_their_upstream`).

pub mod cascade;
pub mod cheaper;
pub mod learned;
pub mod notes;
pub mod place;
pub mod rehearse;

use std::num::NonZeroU16;
use std::sync::Arc;

use policy::dispatch::fault;
use policy::dispatch::lineup::{Candidate, Card, Lineup};
use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::provider::matches_glob;

use crate::dispatch::health::Healths;
use crate::setup::{Credential, Setup, Target, Upstream};

/// Where a leg goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The model as the upstream knows it.
    pub model: String,
}

impl Plan {
    /// Of a target, if it is configured, whatever it speaks.
    pub fn of(setup: &Setup, target: &Target) -> Option<Self> {
        Some(Self {
            upstream: Arc::clone(setup.upstream(&target.provider)?),
            model: target.model.clone(),
        })
    }

    /// The target, as configuration and headers name it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.upstream.id, self.model)
    }

    /// Whether it is this target.
    pub fn is_at(&self, target: &Target) -> bool {
        self.upstream.id == target.provider && self.model == target.model
    }

    /// Whether another plan is the same target.
    pub fn is_same(&self, other: &Self) -> bool {
        self.upstream.id == other.upstream.id && self.model == other.model
    }
}

/// Where a call may go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The targets, in the order of the lineup's candidates; at least one.
    pub plans: Vec<Plan>,
    /// Who is asked when.
    pub lineup: Arc<Lineup>,
}

impl Route {
    /// The target that is asked first if all is well.
    pub fn first(&self) -> Option<&Plan> {
        self.plans.first()
    }
}

/// Finds the targets of `model`: a name of the configuration, `provider/model`, a provider that
/// lists it, or one that takes any.
pub fn route(
    setup: &Setup,
    healths: &Healths,
    model: &str,
    dialect: Dialect,
    pinned: Option<&str>,
) -> Result<Route, Refusal> {
    if let Some(ranks) = setup.routes.get(model).filter(|_| pinned.is_none()) {
        return configured(setup, healths, model, dialect, ranks);
    }
    let target = find(setup, model, dialect, pinned).ok_or_else(|| unknown(setup, model))?;
    let upstream = setup
        .upstream(&target.provider)
        .ok_or_else(|| unknown(setup, model))?;
    if upstream.dialect != dialect {
        return Err(wrong_dialect(upstream, model, dialect));
    }
    let plan = Plan {
        upstream: Arc::clone(upstream),
        model: target.model,
    };
    let place = healths.place(&upstream.id);
    let candidates = vec![candidate(setup, &plan, place, 0)];
    lined_up(setup, model, candidates, vec![plan])
}

/// The targets that the configuration names for a model, those of another dialect left out.
fn configured(
    setup: &Setup,
    healths: &Healths,
    model: &str,
    dialect: Dialect,
    ranks: &[Vec<Target>],
) -> Result<Route, Refusal> {
    let (mut candidates, mut plans) = (Vec::new(), Vec::new());
    let mut other = None;
    for (rank, targets) in (0..).zip(ranks) {
        for target in targets {
            let upstream = setup
                .upstream(&target.provider)
                .ok_or_else(|| unknown(setup, model))?;
            if upstream.dialect != dialect {
                other = other.or(Some(upstream));
                continue;
            }
            let plan = Plan {
                upstream: Arc::clone(upstream),
                model: target.model.clone(),
            };
            let place = healths.place(&format!("{}/{}", target.provider, target.model));
            candidates.push(candidate(setup, &plan, place, rank));
            plans.push(plan);
        }
    }
    match other {
        Some(other) if plans.is_empty() => Err(wrong_dialect(other, model, dialect)),
        _ => lined_up(setup, model, candidates, plans),
    }
}

/// The plan for a target, if it is configured and speaks this dialect.
pub fn plan(setup: &Setup, target: &Target, dialect: Dialect) -> Option<Plan> {
    Plan::of(setup, target).filter(|plan| plan.upstream.dialect == dialect)
}

/// A route along these targets, each the fallback of the one before; none without any.
pub fn in_order(setup: &Setup, healths: &Healths, plans: Vec<Plan>) -> Option<Route> {
    let candidates = (0..).zip(&plans).map(|(rank, plan)| {
        let place = healths.place(&plan.name());
        candidate(setup, plan, place, rank)
    });
    let lineup = Lineup::new(candidates.collect()).ok()?;
    Some(Route {
        plans,
        lineup: Arc::new(lineup),
    })
}

/// A route with another target before its own, which become that one's fallbacks.
pub fn with_first(setup: &Setup, healths: &Healths, first: Plan, rest: Route) -> Route {
    let place = healths.place(&first.name());
    let mut candidates = vec![candidate(setup, &first, place, 0)];
    let mut plans = vec![first];
    let others = rest.lineup.candidates().iter().zip(rest.plans.iter());
    for (candidate, plan) in others {
        if !plans.iter().any(|known| known.is_same(plan)) {
            candidates.push(Candidate {
                rank: candidate.rank.saturating_add(1),
                ..*candidate
            });
            plans.push(plan.clone());
        }
    }
    match Lineup::new(candidates) {
        Ok(lineup) => Route {
            plans,
            lineup: Arc::new(lineup),
        },
        // Too many to be told apart: the call goes where it would have gone.
        Err(_) => rest,
    }
}

fn candidate(setup: &Setup, plan: &Plan, place: usize, rank: u16) -> Candidate {
    let Plan { upstream, model } = plan;
    let credential = match upstream.credential {
        Credential::FromClient => fault::Credential::Clients,
        Credential::Configured(_) | Credential::Nothing => fault::Credential::Ours,
    };
    Candidate {
        target: place,
        rank,
        weight: NonZeroU16::MIN,
        card: Card::of(
            &setup.prices,
            &upstream.prices,
            model,
            upstream.dialect,
            credential,
        ),
    }
}

fn lined_up(
    setup: &Setup,
    model: &str,
    candidates: Vec<Candidate>,
    plans: Vec<Plan>,
) -> Result<Route, Refusal> {
    // A setup has checked the number of targets, so that this fails only for none at all.
    let lineup = Lineup::new(candidates).map_err(|_| unknown(setup, model))?;
    Ok(Route {
        plans,
        lineup: Arc::new(lineup),
    })
}

fn find(setup: &Setup, model: &str, dialect: Dialect, pinned: Option<&str>) -> Option<Target> {
    let at = |provider: &str, model: &str| Target {
        provider: provider.to_owned(),
        model: model.to_owned(),
    };
    if let Some(provider) = pinned {
        return Some(at(provider, model));
    }
    let prefixed = model
        .split_once('/')
        .filter(|(id, _)| setup.upstream(id).is_some());
    if let Some((provider, name)) = prefixed {
        return Some(at(provider, name));
    }
    let speaks = |upstream: &&Arc<Upstream>| upstream.dialect == dialect;
    // Who names the model comes before who takes any; and the client's own dialect first, for the
    // same model may be sold by several providers.
    let chosen = [names, takes_any].into_iter().find_map(|serves| {
        let serving = setup.upstreams.iter();
        let mut serving = serving.filter(|upstream| serves(upstream, model));
        serving.clone().find(speaks).or_else(|| serving.next())
    });
    chosen.map(|upstream| at(&upstream.id, model))
}

/// The glob of a provider that takes any model.
const ANY: &str = "*";

fn names(upstream: &Upstream, model: &str) -> bool {
    let mut globs = upstream.models.iter().filter(|glob| *glob != ANY);
    globs.any(|glob| matches_glob(glob, model))
}

fn takes_any(upstream: &Upstream, _: &str) -> bool {
    upstream.models.iter().any(|glob| glob == ANY)
}

/// 12: more names than that are not read in an error.
const NAMES_TOLD_MAX: usize = 12;

fn unknown(setup: &Setup, model: &str) -> Refusal {
    let names: Vec<&str> = setup.routes.keys().map(String::as_str).collect();
    let names = match names.as_slice() {
        [] => String::new(),
        all if all.len() <= NAMES_TOLD_MAX => format!("; names of `[models]`: {}", all.join(", ")),
        all => format!(
            "; `GET /v1/models` lists the {} names of `[models]`",
            all.len()
        ),
    };
    let mut refusal = Refusal::new(
        Reason::UnknownModel,
        format!(
            "no configured provider serves `{model}`; configured: {}{names}; name one as \
             `PROVIDER/{model}`, or list the model under a provider's `models`",
            setup.configured()
        ),
    );
    refusal.param = Some("model".to_owned());
    refusal
}

fn wrong_dialect(upstream: &Upstream, model: &str, dialect: Dialect) -> Refusal {
    let path = match upstream.dialect {
        Dialect::AnthropicMessages => "/v1/messages",
        Dialect::OpenAiChat => "/v1/chat/completions",
    };
    let mut refusal = Refusal::new(
        Reason::UnknownModel,
        format!(
            "`{model}` is served by `{}`, which speaks {}, and this call came as {}; send it to \
             `{path}`",
            upstream.id,
            upstream.dialect.id(),
            dialect.id()
        ),
    );
    refusal.param = Some("model".to_owned());
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::sample;

    fn setup() -> Setup {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        let mut setup = sample::setup(vec![
            sample::upstream("local", openai, &["*"]),
            sample::upstream("openai", openai, &["gpt-*"]),
            sample::upstream("anthropic", anthropic, &["claude-*"]),
            sample::upstream("reseller", openai, &["claude-*"]),
        ]);
        let fast = Target {
            provider: "openai".into(),
            model: "gpt-5.4-mini".into(),
        };
        let deep = Target {
            provider: "anthropic".into(),
            model: "claude-y".into(),
        };
        setup
            .routes
            .insert("fast".into(), vec![vec![fast], vec![deep]]);
        setup
    }

    #[test]
    fn models_find_their_upstream() {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for (model, dialect, pinned, expect) in [
            ("gpt-5.4", openai, None, "openai gpt-5.4"),
            ("fast", openai, None, "openai gpt-5.4-mini"),
            ("fast", anthropic, None, "anthropic claude-y"),
            ("qwen-9", openai, None, "local qwen-9"),
            ("claude-x", anthropic, None, "anthropic claude-x"),
            ("claude-x", openai, None, "reseller claude-x"),
            ("local/gpt-5.4", openai, None, "local gpt-5.4"),
            ("nobody/gpt-5.4", openai, None, "local nobody/gpt-5.4"),
            ("gpt-5.4", openai, Some("local"), "local gpt-5.4"),
            (
                "gpt-5.4",
                anthropic,
                None,
                "send it to `/v1/chat/completions`",
            ),
            (
                "anthropic/claude-x",
                openai,
                None,
                "send it to `/v1/messages`",
            ),
        ] {
            let healths = Healths::default();
            let found = match route(&setup(), &healths, model, dialect, pinned) {
                Ok(route) => {
                    let plan = route.first().expect("a target");
                    format!("{} {}", plan.upstream.id, plan.model)
                }
                Err(refusal) => refusal.message,
            };
            assert!(found.contains(expect), "{model}: {found}");
        }
    }

    #[test]
    fn a_model_that_nobody_serves_is_refused() {
        let mut setup = setup();
        setup.upstreams.remove(0);
        let healths = Healths::default();
        let refusal = route(&setup, &healths, "qwen-9", Dialect::OpenAiChat, None);
        let refusal = refusal.expect_err("nobody");
        assert_eq!(refusal.param.as_deref(), Some("model"));
        assert!(
            refusal.message.contains("openai, anthropic, reseller"),
            "{refusal:?}"
        );
    }
}
