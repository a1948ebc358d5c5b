//! From `[loops]` and a route's `loops` to what the data path is told.
//!
//! **Invariant**: an action without what it needs is refused (test `faulty_loops_are_named`).

use std::sync::Arc;

use gateway::setup::loops::{Action, Loops};

use super::build::Build;
use super::fault::ConfigError;
use super::raw::route::{RawLoopAction, RawLoops};
use super::routes::target;

/// What is done where no route says otherwise.
pub(super) fn everywhere(build: &Build<'_>) -> Result<Arc<Loops>, ConfigError> {
    read(build, "loops", &build.raw.loops)
}

/// What a route says, or what is done everywhere.
pub(super) fn of_route(
    build: &Build<'_>,
    id: &str,
    raw: Option<&RawLoops>,
) -> Result<Arc<Loops>, ConfigError> {
    match raw {
        Some(raw) => read(build, &format!("routes.{id}.loops"), raw),
        None => everywhere(build),
    }
}

fn read(build: &Build<'_>, key: &str, raw: &RawLoops) -> Result<Arc<Loops>, ConfigError> {
    let fault = |field: &str, problem: String| build.fault(format!("{key}.{field}"), problem);
    let degrade_to = raw.degrade_to.as_deref().map(|text| {
        let problem = || {
            fault(
                "degrade_to",
                format!("is `{text}`; allowed: `provider/model`"),
            )
        };
        target(text).ok_or_else(problem)
    });
    let degrade_to = degrade_to.transpose()?;
    let by_default = match (build.raw.levers.passthrough, &degrade_to) {
        (true, _) => Action::Off,
        (false, None) => Action::Observe,
        (false, Some(_)) => Action::Degrade,
    };
    let action = raw.action.map_or(by_default, action);
    if build.raw.levers.passthrough && action > Action::Observe {
        let problem = "contradicts `passthrough = true`; allowed beside it: `off` or `observe`";
        return Err(fault("action", problem.to_owned()));
    }
    if action == Action::Degrade && degrade_to.is_none() {
        let problem = "is `degrade` without `degrade_to`; name a target there";
        return Err(fault("action", problem.to_owned()));
    }
    if action < Action::Degrade && degrade_to.is_some() {
        let problem = format!("is never used by the action `{}`", action.name());
        return Err(fault("degrade_to", problem));
    }
    Ok(Arc::new(Loops {
        action,
        polling: raw.polling.clone(),
        degrade_to,
    }))
}

const fn action(raw: RawLoopAction) -> Action {
    match raw {
        RawLoopAction::Off => Action::Off,
        RawLoopAction::Observe => Action::Observe,
        RawLoopAction::Nudge => Action::Nudge,
        RawLoopAction::Degrade => Action::Degrade,
        RawLoopAction::Stop => Action::Stop,
    }
}

#[cfg(test)]
mod tests {
    use gateway::setup::loops::Action;

    use super::super::rows::{parse, refused};

    const PROVIDER: &str = "[[providers]]\nid = \"anthropic\"\napi_key = \"client\"\n";

    #[test]
    fn a_route_has_its_own_or_everybodys() {
        let text = format!(
            "{PROVIDER}[loops]\npolling = [\"tail_build\"]\n[[routes]]\nid = \"a\"\n\
             [routes.loops]\ndegrade_to = \"anthropic/claude-haiku-4-5\"\n[[routes]]\nid = \"b\"\n"
        );
        let config = parse(&text).unwrap();
        let setup = config.settings();
        assert_eq!(setup.loops.action, Action::Observe);
        let actions: Vec<Action> = setup.rules.iter().map(|rule| rule.loops.action).collect();
        assert_eq!(actions, [Action::Degrade, Action::Observe]);
        assert!(setup.rules[1].loops.may_repeat().contains(&"tail_build"));
        let through = parse(&format!("{PROVIDER}[levers]\npassthrough = true\n")).unwrap();
        assert_eq!(through.settings().loops.action, Action::Off);
    }

    #[test]
    fn faulty_loops_are_named() {
        for (text, expect) in [
            (
                "action = \"degrade\"",
                "`loops.action` is `degrade` without `degrade_to`; name a target there",
            ),
            (
                "degrade_to = \"haiku\"",
                "`loops.degrade_to` is `haiku`; allowed: `provider/model`",
            ),
            (
                "action = \"nudge\"\ndegrade_to = \"anthropic/a\"",
                "`loops.degrade_to` is never used by the action `nudge`",
            ),
            (
                "action = \"nudge\"\n[levers]\npassthrough = true",
                "`loops.action` contradicts `passthrough = true`; allowed beside it: `off` or `observe`",
            ),
            (
                "degrade_to = \"acme/a\"",
                "`loops.degrade_to` cannot be used: loops are degraded to a model of provider `acme`, which is \
                 not configured; configured: anthropic",
            ),
        ] {
            let file = format!("{PROVIDER}[loops]\n{text}\n");
            assert_eq!(refused(&file), format!("a.toml: {expect}"), "{text}");
        }
    }
}
