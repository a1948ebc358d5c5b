//! `tokenwise check`: is a configuration valid, and what would it do?
//!
//! **Invariant**: nothing is opened, written or called (test `check_shows_no_secret` in `tests/it`).

use std::path::PathBuf;
use std::process::ExitCode;

use gateway::setup::{AskUsage, Setup, Target};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::limit::{Limit, Measure, Quota, Which};
use serde_json::{Value, json};
use wire::provider::PROVIDERS;

use super::routed;
use super::start::{lever, summary};
use crate::config::build::{Config, Place};
use crate::config::routes;
use crate::config::schema::{reference, schema_text};
use crate::config::{Source, load};
use crate::env::Environment;
use crate::print::amount::pico;
use crate::print::table::{Set, table};
use crate::print::{self, Format};

/// Check a configuration and say what it would do.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file; default: the one that `serve` would use.
    file: Option<PathBuf>,
    /// Print the JSON schema of the file instead.
    #[arg(long, conflicts_with_all = ["file", "reference", "providers"])]
    schema: bool,
    /// Print the reference of the file, in Markdown, instead.
    #[arg(long, conflicts_with_all = ["file", "providers"])]
    reference: bool,
    /// List the providers that are known by id instead.
    #[arg(long, conflicts_with = "file")]
    providers: bool,
    #[command(flatten)]
    format: Format,
}

/// Checks.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    if arguments.schema {
        print::out(&schema_text())?;
    } else if arguments.reference {
        print::out(&reference())?;
    } else if arguments.providers {
        providers(arguments.format)?;
    } else {
        let config = match &arguments.file {
            Some(file) => load(Some(file), environment)?,
            None => Source::default().load(environment)?,
        };
        let settings = config.settings();
        if arguments.format.json {
            print::json(&json(&config, settings))?;
        } else {
            let text = summary(&config, settings);
            print::out(&format!(
                "valid; it would listen on {}\n{text}",
                config.listen
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(config: &Config, settings: &Setup) -> Value {
    let providers: Vec<Value> = config
        .providers
        .iter()
        .map(|row| {
            json!({
                "id": row.upstream.id,
                "dialect": row.upstream.dialect.id(),
                "base_url": row.upstream.base.to_string(),
                "api_key": row.key.to_string(),
                "models": row.upstream.models,
                "prices": row.upstream.prices,
            })
        })
        .collect();
    let models: serde_json::Map<String, Value> = settings
        .routes
        .iter()
        .map(|(alias, route)| {
            let step = |step: &Vec<Target>| -> Value { step.iter().map(routes::name).collect() };
            (alias.clone(), route.iter().map(step).collect())
        })
        .collect();
    let budgets: Vec<Value> = settings.budgets.limits.iter().map(budget).collect();
    let unknown_price = match settings.budgets.unknown_price {
        UnknownPrice::Block => json!("block"),
        UnknownPrice::Allow => json!("allow"),
        UnknownPrice::HoldAtCeiling(ceiling) => json!({"hold_pico_usd": pico(ceiling)}),
    };
    let ask_usage = match settings.ask_usage {
        AskUsage::Always => "always",
        AskUsage::Never => "never",
    };
    json!({
        "valid": true,
        "file": config.file,
        "listen": config.listen.to_string(),
        "providers": providers,
        "models": models,
        "routes": settings.rules.iter().map(routed::json).collect::<Vec<_>>(),
        "failover": {
            "retries": settings.retry.retries,
            "attempts_max": settings.retry.legs_max,
            "deadline_ms": settings.retry.deadline_ms,
            "wait_ms_max": settings.retry.wait_ms_max,
            "hedge_after_ms": settings.retry.hedging.map(|it| it.after_ms),
            "hedge_percent_max": settings.retry.hedging.map(|it| it.percent),
        },
        "budgets": budgets,
        "budget_rules": {"unknown_price": unknown_price},
        "levers": {
            "cache": lever(settings.cache),
            "think": lever(settings.think.mode),
            "ask_usage": ask_usage,
        },
        "loops": settings.loops.action.name(),
        "admin": settings.admin.is_some(),
        "store": match &config.place {
            Place::File(path) => json!(path),
            Place::Memory => json!(":memory:"),
        },
        "prices": settings.prices.version(),
        "remarks": config.remarks,
    })
}

/// A limit under the names that files use.
fn budget(limit: &Limit) -> Value {
    let only = match &limit.which {
        Which::Each => None,
        Which::One(id) => Some(id.as_ref()),
    };
    let (measure, amount) = match &limit.quota {
        Quota::Usd(money, _) => ("pico_usd", pico(*money)),
        Quota::Tokens(tokens, _) => ("tokens", tokens.0.into()),
        Quota::Requests(count, _) => ("requests", (*count).into()),
        Quota::Concurrency(count) => ("concurrent", (*count).into()),
    };
    let mut value = json!({
        "id": limit.id.as_ref(),
        "applies_to": limit.kind.name(),
        "only": only,
        "mode": limit.mode.name(),
        "text": limit.to_string(),
    });
    value[measure] = amount;
    let window = limit.quota.window();
    if limit.quota.measure() != Measure::Concurrency {
        value["per"] = window.period().name().into();
        value["time_zone"] = window.zone().name().into();
    }
    value
}

fn providers(format: Format) -> anyhow::Result<()> {
    if format.json {
        let entry = |known: &wire::provider::Provider| {
            json!({
                "id": known.id,
                "name": known.name,
                "dialect": known.dialect.id(),
                "base_url": known.base_url,
                "key_variables": known.key_env,
                "models": known.models,
                "source": known.source,
            })
        };
        return print::json(&PROVIDERS.iter().map(entry).collect());
    }
    let row = |known: &wire::provider::Provider| {
        let base = if known.base_url.is_empty() {
            "(yours)"
        } else {
            known.base_url
        };
        vec![
            known.id.to_owned(),
            known.dialect.id().to_owned(),
            base.to_owned(),
            known.key_env.join(" "),
        ]
    };
    let heads = [
        ("id", Set::Left),
        ("dialect", Set::Left),
        ("address", Set::Left),
        ("key", Set::Left),
    ];
    print::out(&table(
        &heads,
        &PROVIDERS.iter().map(row).collect::<Vec<_>>(),
    ))
}
