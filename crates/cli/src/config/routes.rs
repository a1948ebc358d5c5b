//! From `[models]` and `[failover]` to routes: which targets a name stands for, and how often they
//! are asked.
//!
//! **Invariant**: a route is shown in the order in which it is asked (test
//! `routes_are_asked_in_order`).

use std::collections::{BTreeMap, BTreeSet};

use gateway::setup::{Setup, Target};
use policy::dispatch::hedge::Hedging;
use policy::dispatch::retry;

use super::build::Build;
use super::fault::ConfigError;
use super::raw::{
    ATTEMPTS_CEILING, ATTEMPTS_FLOOR, HEDGE_MS_FLOOR, RETRIES_CEILING, RawRoute, RawStep,
    TIMEOUT_MS_CEILING, TIMEOUT_MS_FLOOR,
};

/// Equal deployments, and behind them their fallbacks.
type Route = Vec<Vec<Target>>;

/// What the names of `[models]` stand for.
pub(super) fn routes(build: &Build<'_>) -> Result<BTreeMap<String, Route>, ConfigError> {
    let models = build.raw.models.iter();
    models
        .map(|(name, raw)| Ok((name.clone(), route(build, name, raw)?)))
        .collect()
}

fn route(build: &Build<'_>, name: &str, raw: &RawRoute) -> Result<Route, ConfigError> {
    let fault = |problem: String| build.fault(format!("models.{name}"), problem);
    let (verb, steps) = match raw {
        RawRoute::One(target) => ("is", vec![std::slice::from_ref(target)]),
        RawRoute::Several(steps) => ("lists", steps.iter().map(targets).collect()),
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = steps.iter().copied().flatten().find(|it| !seen.insert(*it)) {
        return Err(fault(format!(
            "lists `{twice}` twice; write it once: `failover.retries` says how often a target is \
             asked again"
        )));
    }
    if steps.iter().any(|step| step.is_empty()) {
        return Err(fault(
            "has an empty list within it; write equal deployments into it, or leave it out"
                .to_owned(),
        ));
    }
    let read = |text: &String| {
        target(text).ok_or_else(|| fault(format!("{verb} `{text}`; allowed: `provider/model`")))
    };
    steps
        .into_iter()
        .map(|step| step.iter().map(read).collect())
        .collect()
}

fn targets(step: &RawStep) -> &[String] {
    match step {
        RawStep::One(target) => std::slice::from_ref(target),
        RawStep::Equal(targets) => targets,
    }
}

pub(super) fn target(text: &str) -> Option<Target> {
    let (provider, model) = text.split_once('/')?;
    (!provider.is_empty() && !model.is_empty()).then(|| Target {
        provider: provider.to_owned(),
        model: model.to_owned(),
    })
}

/// How calls that fail are followed up.
pub(super) fn failover(build: &Build<'_>) -> Result<retry::Policy, ConfigError> {
    let raw = &build.raw.failover;
    let percent = build.within("failover.hedge_percent_max", raw.hedge_percent_max, 1..=100)?;
    let hedging = raw.hedge_after_ms.map(|after_ms| {
        let allowed = HEDGE_MS_FLOOR..=TIMEOUT_MS_CEILING;
        let after_ms = build.within("failover.hedge_after_ms", after_ms, allowed)?;
        Ok(Hedging { after_ms, percent })
    });
    Ok(retry::Policy {
        hedging: hedging.transpose()?,
        retries: build.within("failover.retries", raw.retries, 0..=RETRIES_CEILING)?,
        legs_max: build.within(
            "failover.attempts_max",
            raw.attempts_max,
            ATTEMPTS_FLOOR..=ATTEMPTS_CEILING,
        )?,
        deadline_ms: build.within(
            "failover.deadline_ms",
            raw.deadline_ms,
            TIMEOUT_MS_FLOOR..=TIMEOUT_MS_CEILING,
        )?,
        wait_ms_max: build.within(
            "failover.wait_ms_max",
            raw.wait_ms_max,
            0..=TIMEOUT_MS_CEILING,
        )?,
        ..retry::Policy::default()
    })
}

/// What the reader should know about routes whose targets cannot stand in for each other.
pub(super) fn remarks(setup: &Setup) -> Vec<String> {
    let mut remarks = Vec::new();
    let has_others = |route: &Route| route.iter().flatten().count() > 1;
    if setup.retry.hedging.is_some() && !setup.routes.values().any(has_others) {
        remarks.push(
            "`failover.hedge_after_ms` asks for a second target, and no name of `models` has one"
                .to_owned(),
        );
    }
    for (name, route) in &setup.routes {
        let mut speakers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for target in route.iter().flatten() {
            if let Some(upstream) = setup.upstream(&target.provider) {
                let dialect = upstream.dialect.id();
                speakers.entry(dialect).or_default().insert(&upstream.id);
            }
        }
        if speakers.len() > 1 {
            let speakers = speakers.into_iter().map(|(dialect, ids)| {
                let ids: Vec<&str> = ids.into_iter().collect();
                format!("{dialect} ({})", ids.join(", "))
            });
            remarks.push(format!(
                "the targets of `{name}` speak {}: a call only goes to those of its own dialect",
                speakers.collect::<Vec<_>>().join(" and ")
            ));
        }
    }
    remarks
}

/// A route in words: `east/large or west/large, else openai/large`.
pub(crate) fn shown(route: &[Vec<Target>]) -> String {
    let steps = route.iter().map(|step| {
        let targets: Vec<String> = step.iter().map(name).collect();
        targets.join(" or ")
    });
    steps.collect::<Vec<_>>().join(", else ")
}

/// A target as files write it.
pub(crate) fn name(target: &Target) -> String {
    format!("{}/{}", target.provider, target.model)
}

#[cfg(test)]
mod tests {
    use policy::dispatch::retry::Policy;

    use super::super::rows::{parse, refused};
    use super::*;

    const PROVIDERS: &str = "[[providers]]\nid = \"openai\"\n\
                             [[providers]]\nid = \"groq\"\napi_key = \"client\"\n\
                             [[providers]]\nid = \"anthropic\"\napi_key = \"client\"\n";

    fn models(value: &str) -> String {
        format!("{PROVIDERS}[models]\nfast = {value}\n")
    }

    #[test]
    fn routes_are_asked_in_order() {
        let check = |value: &str, expect: &str| {
            let config = parse(&models(value)).unwrap();
            assert_eq!(shown(&config.settings().routes["fast"]), expect, "{value}");
            assert_eq!(config.remarks, Vec::<String>::new(), "{value}");
        };
        check("\"openai/a\"", "openai/a");
        check("[\"openai/a\"]", "openai/a");
        check("[\"openai/b\", \"groq/a\"]", "openai/b, else groq/a");
        check("[[\"openai/a\", \"groq/a/b\"]]", "openai/a or groq/a/b");
        check(
            "[\"openai/c\", [\"openai/b\", \"groq/a\"], \"groq/b\"]",
            "openai/c, else openai/b or groq/a, else groq/b",
        );
    }

    #[test]
    fn routes_that_cannot_be_called_are_refused() {
        let check = |value: &str, expect: &str| {
            assert_eq!(refused(&models(value)), expect, "{value}");
        };
        check(
            "\"gpt\"",
            "a.toml: `models.fast` is `gpt`; allowed: `provider/model`",
        );
        check(
            "[\"openai/a\", \"groq/\"]",
            "a.toml: `models.fast` lists `groq/`; allowed: `provider/model`",
        );
        check(
            "[\"openai/a\", [\"groq/a\", \"openai/a\"]]",
            "a.toml: `models.fast` lists `openai/a` twice; write it once: `failover.retries` says \
             how often a target is asked again",
        );
        check(
            "[\"openai/a\", []]",
            "a.toml: `models.fast` has an empty list within it; write equal deployments into it, \
             or leave it out",
        );
        check(
            "[]",
            "a.toml: `models.fast` cannot be used: model `fast` has 0 targets; allowed: 1 to 64",
        );
        check(
            "[\"openai/a\", \"acme/a\"]",
            "a.toml: `models.fast` cannot be used: model alias `fast` names provider `acme`, which \
             is not configured; configured: openai, groq, anthropic",
        );
        let shape = "a.toml:10: `fast`: allowed: `provider/model` in quotes, or a list of them in \
                     which a list within stands for equal deployments; `tokenwise check --schema` \
                     lists every field";
        check("5", shape);
        check("{ to = \"openai/a\" }", shape);
        check("[\"openai/a\", [[\"groq/a\"]]]", shape);
    }

    #[test]
    fn a_route_of_two_dialects_is_remarked() {
        let config = parse(&models("[[\"openai/a\", \"groq/a\"], \"anthropic/a\"]")).unwrap();
        assert_eq!(
            config.remarks,
            [
                "the targets of `fast` speak anthropic_messages (anthropic) and openai_chat (groq, \
              openai): a call only goes to those of its own dialect"
            ]
        );
    }

    #[test]
    fn a_hedge_without_a_second_target_is_remarked() {
        let hedged = |targets: &str| {
            let text = format!("{}[failover]\nhedge_after_ms = 900\n", models(targets));
            parse(&text).unwrap().remarks
        };
        assert_eq!(hedged("[\"openai/a\", \"openai/b\"]"), Vec::<String>::new());
        assert_eq!(
            hedged("\"openai/a\""),
            ["`failover.hedge_after_ms` asks for a second target, and no name of `models` has one"]
        );
    }

    #[test]
    fn failures_are_followed_up_within_bounds() {
        let failover = |text: &str| format!("[failover]\n{text}\n");
        let policy = |text: &str| parse(&failover(text)).unwrap().settings().retry;
        assert_eq!(policy(""), Policy::default());
        let expect = Policy {
            retries: 0,
            legs_max: 1,
            deadline_ms: 30_000,
            wait_ms_max: 0,
            hedging: Some(Hedging {
                after_ms: 900,
                percent: 10,
            }),
            ..Policy::default()
        };
        let none = "retries = 0\nattempts_max = 1\ndeadline_ms = 30_000\nwait_ms_max = 0\n\
                    hedge_after_ms = 900\nhedge_percent_max = 10";
        assert_eq!(policy(none), expect);
        for (text, expect) in [
            (
                "retries = 11",
                "a.toml: `failover.retries` is 11; allowed: 0 to 10",
            ),
            (
                "attempts_max = 0",
                "a.toml: `failover.attempts_max` is 0; allowed: 1 to 64",
            ),
            (
                "hedge_after_ms = 0",
                "a.toml: `failover.hedge_after_ms` is 0; allowed: 50 to 3600000",
            ),
            (
                "hedge_percent_max = 101",
                "a.toml: `failover.hedge_percent_max` is 101; allowed: 1 to 100",
            ),
            (
                "deadline_ms = 9",
                "a.toml: `failover.deadline_ms` is 9; allowed: 10 to 3600000",
            ),
            (
                "wait_ms_max = 3_600_001",
                "a.toml: `failover.wait_ms_max` is 3600001; allowed: 0 to 3600000",
            ),
        ] {
            assert_eq!(refused(&failover(text)), expect);
        }
    }
}
