//! The routes of a configuration, in words and as JSON.
//!
//! **Invariant**: whatever a route may do with a call is told, with its condition (test
//! `check_says_what_routes_do` in `tests/it`).

use gateway::setup::cascade::{Cascade, How, Verifier};
use gateway::setup::{LeverMode, Rule, Target};
use policy::route::rules::{Having, Hours, When};
use policy::shape::context::budget::{Budget, Step};
use policy::shape::trim::Level;
use serde_json::{Map, Value, json};

use super::start::lever;
use crate::config::routes;
use crate::print::amount::count;

/// What a route may do with the calls that it takes, in words.
pub(super) fn words(rule: &Rule) -> String {
    let mut does = vec![taken(&rule.when)];
    if let Some(to) = &rule.to {
        does.push(format!("to {to}"));
    }
    for (what, targets) in [("as good", &rule.as_good), ("cheaper", &rule.cheaper)] {
        if !targets.is_empty() {
            does.push(format!("{what} {} ({})", names(targets), lever(rule.mode)));
        }
    }
    if let Some(cascade) = &rule.cascade {
        does.push(asked_first(cascade));
    }
    if let Some(level) = rule.trim.level {
        does.push(format!(
            "trim {} ({})",
            level_name(level),
            lever(rule.trim.mode)
        ));
    }
    if let Some(most) = rule.trim.focus {
        let (most, mode) = (count(most.0), lever(rule.trim.mode));
        does.push(format!("at most {most} tokens of documents ({mode})"));
    }
    does.extend(
        rule.context
            .iter()
            .map(|budget| kept(budget, rule.trim.mode)),
    );
    does.push(format!("loops {}", rule.loops.action.name()));
    does.push(format!("think {}", lever(rule.think.mode)));
    format!("{}: {}", rule.name, does.join("; "))
}

/// Which calls it takes.
fn taken(when: &When) -> String {
    let mut conditions: Vec<String> = fields(when)
        .iter()
        .map(|(name, value)| match value {
            Value::Array(texts) => {
                let texts = texts.iter().filter_map(Value::as_str);
                format!("{name} {}", texts.collect::<Vec<_>>().join(" or "))
            }
            Value::Object(headers) => {
                let one = |(name, glob): (&String, &Value)| {
                    format!("{name}: {}", glob.as_str().unwrap_or_default())
                };
                format!(
                    "{name} {}",
                    headers.iter().map(one).collect::<Vec<_>>().join(" and ")
                )
            }
            Value::String(text) => format!("{name} {text}"),
            Value::Null | Value::Bool(_) | Value::Number(_) => format!("{name} {value}"),
        })
        .collect();
    if conditions.is_empty() {
        conditions.push("every call".to_owned());
    }
    format!("takes {}", conditions.join(", "))
}

fn names(targets: &[Target]) -> String {
    let names: Vec<String> = targets.iter().map(routes::name).collect();
    names.join(", ")
}

fn asked_first(cascade: &Cascade) -> String {
    let (target, mode) = (routes::name(&cascade.target), lever(cascade.mode));
    let mut text = format!("asks {target} first ({mode})");
    let checks = cascade.verifiers.iter().map(check);
    let agree = cascade
        .agree
        .iter()
        .map(|_| "samples that agree".to_owned());
    let checks: Vec<String> = checks.chain(agree).collect();
    if !checks.is_empty() {
        put!(text, ", checked by {}", checks.join(", "));
    }
    text
}

fn check(verifier: &Verifier) -> String {
    match &verifier.how {
        How::Pattern(_) => "a pattern".to_owned(),
        How::Command { program, .. } => program.display().to_string(),
        How::Judge(judge) => routes::name(&judge.target),
    }
}

/// What follows when a class of the context is too large.
fn kept(budget: &Budget, trim: LeverMode) -> String {
    let step = |step: &Step| match step {
        Step::Refuse => step.name().to_owned(),
        Step::Compress | Step::Prune => format!("{} ({})", step.name(), lever(trim)),
    };
    let steps: Vec<String> = budget.over.iter().map(step).collect();
    let steps = if steps.is_empty() {
        "tell".to_owned()
    } else {
        steps.join(", ")
    };
    let (class, most) = (budget.class.name(), count(budget.tokens_max.0));
    format!("{class} over {most} tokens: {steps}")
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Exact => "exact",
        Level::Folded => "folded",
    }
}

/// A route under the names that files use.
pub(super) fn json(rule: &Rule) -> Value {
    let targets = |targets: &[Target]| -> Value { targets.iter().map(routes::name).collect() };
    let cascade = rule.cascade.as_ref().map(|cascade| {
        json!({
            "target": routes::name(&cascade.target),
            "lever": lever(cascade.mode),
            "verify": cascade.verifiers.iter().map(check).collect::<Vec<_>>(),
            "agree": cascade.agree.as_ref().map(|agree| agree.samples),
            "quality": cascade.quality,
        })
    });
    let context: Vec<Value> = rule
        .context
        .iter()
        .map(|budget| {
            let over: Vec<&str> = budget.over.iter().map(|step| step.name()).collect();
            json!({
                "class": budget.class.name(),
                "tokens_max": budget.tokens_max.0,
                "over": over,
            })
        })
        .collect();
    json!({
        "id": rule.name,
        "when": fields(&rule.when),
        "use": rule.to,
        "as_good": targets(&rule.as_good),
        "cheaper": targets(&rule.cheaper),
        "quality": rule.quality,
        "explore": rule.explore,
        "first_token_ms_max": rule.first_token_ms_max,
        "lever": lever(rule.mode),
        "cascade": cascade,
        "think": lever(rule.think.mode),
        "loops": rule.loops.action.name(),
        "trim": rule.trim.level.map(level_name),
        "trim_lever": lever(rule.trim.mode),
        "focus_tokens": rule.trim.focus.map(|most| most.0),
        "context": context,
    })
}

/// The conditions that are there, under the names that files use.
fn fields(when: &When) -> Map<String, Value> {
    let having = |having: Having| match having {
        Having::With => "with",
        Having::Without => "without",
    };
    let clock = |hours: &Hours| {
        let (from, until) = (hours.from, hours.until);
        format!(
            "{:02}:{:02}-{:02}:{:02} ({})",
            from.hour(),
            from.minute(),
            until.hour(),
            until.minute(),
            hours.zone.name()
        )
    };
    let headers: Map<String, Value> = when
        .headers
        .iter()
        .map(|(name, glob)| (name.clone(), json!(glob)))
        .collect();
    let languages: Vec<&str> = when.languages.iter().map(|it| it.code()).collect();
    let all = [
        ("models", json!(when.models)),
        ("keys", json!(when.keys)),
        ("tags", json!(when.tags)),
        ("paths", json!(when.paths)),
        ("headers", Value::Object(headers)),
        (
            "dialect",
            json!(when.dialect.map(wire::dialect::Dialect::id)),
        ),
        ("tools", json!(when.tools.map(having))),
        ("media", json!(when.media.map(having))),
        ("input_tokens_min", json!(when.input_min.map(|it| it.0))),
        ("input_tokens_max", json!(when.input_max.map(|it| it.0))),
        ("languages", json!(languages)),
        ("hours", json!(when.hours.as_ref().map(clock))),
    ];
    let given = |value: &Value| match value {
        Value::Null => false,
        Value::Array(texts) => !texts.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    let there = all.into_iter().filter(|(_, value)| given(value));
    there
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
