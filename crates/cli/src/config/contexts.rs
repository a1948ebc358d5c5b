//! From a route's `context` to budgets.
//!
//! **Invariant**: a budget that could not be kept as it is written is refused by name (test
//! `faulty_context_budgets_are_named`).

use std::sync::Arc;

use gateway::setup::{LeverMode, Setup};
use policy::shape::context::budget::{Budget, Class, Step};
use wire::usage::Tokens;

use super::fault::ConfigError;
use super::raw::route::{RawClass, RawContext, RawOver};
use super::rules::Entry;

/// 1 000: less than any agent's instructions; more likely a slip of the hand.
const TOKENS_FLOOR: u64 = 1_000;

/// 10 million: beyond the window of every model in the price book.
const TOKENS_CEILING: u64 = 10_000_000;

/// The budgets of a route.
pub(super) fn budgets(entry: Entry<'_>) -> Result<Arc<[Budget]>, ConfigError> {
    let raws = &entry.raw.context;
    let budgets: Result<Vec<Budget>, _> = raws.iter().map(|raw| budget(entry, raw)).collect();
    let budgets = budgets?;
    for (place, budget) in budgets.iter().enumerate() {
        let class = budget.class;
        if budgets.iter().take(place).any(|other| other.class == class) {
            let problem = format!("has two budgets for `{}`; allowed: one", class.name());
            return Err(entry.fault("context", problem));
        }
    }
    Ok(budgets.into())
}

fn budget(entry: Entry<'_>, raw: &RawContext) -> Result<Budget, ConfigError> {
    let class = class(raw.class);
    let fault = |field: &str, problem: String| {
        entry.fault(&format!("context.{}.{field}", class.name()), problem)
    };
    if !(TOKENS_FLOOR..=TOKENS_CEILING).contains(&raw.tokens_max) {
        let problem = format!(
            "is {}; allowed: {TOKENS_FLOOR} to {TOKENS_CEILING}",
            raw.tokens_max
        );
        return Err(fault("tokens_max", problem));
    }
    let over: Vec<Step> = raw.over.iter().copied().map(step).collect();
    if !over.is_sorted_by(|one, next| one < next) {
        let problem = format!(
            "is {}; allowed: each step once, in the order `compress`, `prune`, `refuse`",
            names(&over)
        );
        return Err(fault("over", problem));
    }
    if let Some(step) = over.iter().find(|step| !step.fits(class)) {
        let problem = format!(
            "lists `{}`, which is for `tool_results`; allowed: `refuse`",
            step.name()
        );
        return Err(fault("over", problem));
    }
    let changes = over.iter().find(|step| **step != Step::Refuse);
    if let Some(step) = changes.filter(|_| entry.build.raw.levers.passthrough) {
        let problem = format!(
            "lists `{}`, which contradicts `passthrough = true`; allowed beside it: `refuse`",
            step.name()
        );
        return Err(fault("over", problem));
    }
    Ok(Budget {
        class,
        tokens_max: Tokens(raw.tokens_max),
        over,
    })
}

/// The most tokens of documents.
pub(super) fn focus_tokens(entry: Entry<'_>) -> Result<Option<Tokens>, ConfigError> {
    let Some(tokens) = entry.raw.focus_tokens else {
        return Ok(None);
    };
    if entry.build.raw.levers.passthrough {
        let problem = "contradicts `passthrough = true` in [levers]; leave one of them out";
        return Err(entry.fault("focus_tokens", problem));
    }
    if !(TOKENS_FLOOR..=TOKENS_CEILING).contains(&tokens) {
        let problem = format!("is {tokens}; allowed: {TOKENS_FLOOR} to {TOKENS_CEILING}");
        return Err(entry.fault("focus_tokens", problem));
    }
    Ok(Some(Tokens(tokens)))
}

/// What the reader should know: steps that only observe.
pub(super) fn remarks(setup: &Setup) -> Vec<String> {
    let watched = setup
        .rules
        .iter()
        .filter(|it| it.trim.mode != LeverMode::On);
    let idle = watched.filter_map(|rule| {
        let steps = rule.context.iter().flat_map(|budget| &budget.over);
        let step = steps.copied().find(|step| *step != Step::Refuse);
        let step = step.map(|step| format!("lists `{}` in `context.over`", step.name()));
        let focus = rule.trim.focus.map(|_| "has `focus_tokens`".to_owned());
        Some(format!(
            "the route `{}` {}, and its trim lever is `{}`: nothing is left out until `trim_lever` is \
             `on`",
            rule.name,
            step.or(focus)?,
            rule.trim.mode.name()
        ))
    });
    idle.collect()
}

fn names(steps: &[Step]) -> String {
    let names = steps.iter().map(|step| format!("`{}`", step.name()));
    names.collect::<Vec<_>>().join(", ")
}

const fn class(raw: RawClass) -> Class {
    match raw {
        RawClass::System => Class::System,
        RawClass::Tools => Class::Tools,
        RawClass::History => Class::History,
        RawClass::ToolResults => Class::ToolResults,
        RawClass::Thinking => Class::Thinking,
        RawClass::Documents => Class::Documents,
        RawClass::Media => Class::Media,
        RawClass::LastMessage => Class::LastMessage,
        RawClass::Input => Class::Input,
    }
}

const fn step(raw: RawOver) -> Step {
    match raw {
        RawOver::Compress => Step::Compress,
        RawOver::Prune => Step::Prune,
        RawOver::Refuse => Step::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{parse, refused};
    use super::*;

    fn route(context: &str) -> String {
        format!("[[providers]]\nid = \"openai\"\n[[routes]]\nid = \"a\"\n{context}")
    }

    fn results(tokens: &str, over: &str) -> String {
        route(&format!(
            "[[routes.context]]\nclass = \"tool_results\"\ntokens_max = {tokens}\nover = [{over}]\n"
        ))
    }

    #[test]
    fn context_budgets_are_read() {
        let text = results("60_000", "\"compress\", \"prune\", \"refuse\"");
        let config = parse(&text).unwrap();
        let expect = [Budget {
            class: Class::ToolResults,
            tokens_max: Tokens(60_000),
            over: vec![Step::Compress, Step::Prune, Step::Refuse],
        }];
        assert_eq!(config.settings().rules[0].context[..], expect);
        let remark =
            "the route `a` lists `compress` in `context.over`, and its trim lever is `observe`";
        assert!(
            config.remarks[0].starts_with(remark),
            "{:?}",
            config.remarks
        );
        let on = text.replace("id = \"a\"\n", "id = \"a\"\ntrim_lever = \"on\"\n");
        assert_eq!(parse(&on).unwrap().remarks, Vec::<String>::new());
        let focused = route("focus_tokens = 8_000\ntrim_lever = \"on\"\n");
        let focused = parse(&focused).unwrap();
        assert_eq!(focused.settings().rules[0].trim.focus, Some(Tokens(8_000)));
        let refuses = parse(&results("60_000", "\"refuse\"")).unwrap();
        assert_eq!(refuses.remarks, Vec::<String>::new());
    }

    #[test]
    fn faulty_context_budgets_are_named() {
        let system = route(
            "[[routes.context]]\nclass = \"system\"\ntokens_max = 5000\nover = [\"prune\"]\n",
        );
        let passthrough = format!(
            "{}[levers]\npassthrough = true\n",
            results("5000", "\"compress\"")
        );
        let twice = results("5000", "") + &results("6000", "").split_off(route("").len());
        for (text, expect) in [
            (
                results("999", ""),
                "`routes.a.context.tool_results.tokens_max` is 999; allowed: 1000 to 10000000",
            ),
            (
                results("5000", "\"refuse\", \"prune\""),
                "`routes.a.context.tool_results.over` is `refuse`, `prune`; allowed: each step once",
            ),
            (results("5000", "\"prune\", \"prune\""), "each step once"),
            (
                system,
                "`routes.a.context.system.over` lists `prune`, which is for `tool_results`",
            ),
            (
                passthrough,
                "lists `compress`, which contradicts `passthrough",
            ),
            (
                twice,
                "`routes.a.context` has two budgets for `tool_results`",
            ),
            (
                route("focus_tokens = 10\n"),
                "`routes.a.focus_tokens` is 10; allowed: 1000 to 10000000",
            ),
            (
                route("focus_tokens = 5000\n[levers]\npassthrough = true\n"),
                "`routes.a.focus_tokens` contradicts `passthrough = true`",
            ),
            (
                results("5000", "\"compact\""),
                "`compress`, `prune`, `refuse`",
            ),
        ] {
            let found = refused(&text);
            assert!(found.contains(expect), "{text}: {found}");
        }
    }
}
