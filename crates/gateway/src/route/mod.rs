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

/// Finds the target of `model`: an alias, `provider/model`, a provider that lists it, or one that
/// takes any.
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
    let speaks = |upstream: &&Upstream| upstream.dialect == dialect;
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
        setup.aliases.insert("fast".into(), fast);
        setup
    }

    #[test]
    fn models_find_their_upstream() {
        let (openai, anthropic) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
        for (model, dialect, pinned, expect) in [
            ("gpt-5.4", openai, None, "openai gpt-5.4"),
            ("fast", openai, None, "openai gpt-5.4-mini"),
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
            let found = match route(&setup(), model, dialect, pinned) {
                Ok(plan) => format!("{} {}", plan.upstream.id, plan.model),
                Err(refusal) => refusal.message,
            };
            assert!(found.contains(expect), "{model}: {found}");
        }
    }

    #[test]
    fn a_model_that_nobody_serves_is_refused() {
        let mut setup = setup();
        setup.upstreams.remove(0);
        let refusal = route(&setup, "qwen-9", Dialect::OpenAiChat, None).expect_err("nobody");
        assert_eq!(refusal.param.as_deref(), Some("model"));
        assert!(
            refusal.message.contains("openai, anthropic, reseller"),
            "{refusal:?}"
        );
    }
}
