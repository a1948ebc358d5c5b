//! Route: which target serves a call.
//!
//! **Invariant**: a call goes to a configured upstream that speaks the client's dialect, or to none
//! at all (test `models_find_their_upstream`).

use policy::refusal::{Reason, Refusal};
use wire::dialect::Dialect;
use wire::provider::matches_glob;

use crate::setup::{Setup, Target, Upstream};

/// Where a call goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The upstream.
    pub upstream: Upstream,
    /// The model as the upstream knows it.
    pub model: String,
}

/// Finds the target of `model`: an alias, `provider/model`, a provider's globs, or the only
/// upstream that speaks the dialect.
pub fn route(
    setup: &Setup,
    model: &str,
    dialect: Dialect,
    pinned: Option<&str>,
) -> Result<Plan, Refusal> {
    let target = find(setup, model, dialect, pinned).ok_or_else(|| unknown(setup, model))?;
    let upstream = setup
        .upstream(&target.provider)
        .ok_or_else(|| unknown(setup, model))?;
    if upstream.dialect != dialect {
        return Err(wrong_dialect(upstream, model, dialect));
    }
    Ok(Plan {
        upstream: upstream.clone(),
        model: target.model,
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
    if let Some(target) = setup.aliases.get(model) {
        return Some(target.clone());
    }
    let prefixed = model
        .split_once('/')
        .filter(|(id, _)| setup.upstream(id).is_some());
    if let Some((provider, name)) = prefixed {
        return Some(at(provider, name));
    }
    let listed =
        |upstream: &&Upstream| upstream.models.iter().any(|glob| matches_glob(glob, model));
    let speaks = |upstream: &&Upstream| upstream.dialect == dialect;
    let mut candidates = setup.upstreams.iter().filter(listed);
    // The client's own dialect first: the same model may be sold by several providers.
    let chosen = candidates
        .clone()
        .find(speaks)
        .or_else(|| candidates.next());
    let chosen = chosen.or_else(|| {
        let mut speaking = setup.upstreams.iter().filter(speaks);
        speaking.next().filter(|_| speaking.next().is_none())
    });
    chosen.map(|upstream| at(&upstream.id, model))
}

fn unknown(setup: &Setup, model: &str) -> Refusal {
    let mut refusal = Refusal::new(
        Reason::UnknownModel,
        format!(
            "no configured provider serves `{model}`; configured: {}; name one as \
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
