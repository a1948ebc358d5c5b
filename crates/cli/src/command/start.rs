//! From a configuration to a gateway that is ready to serve.
//!
//! **Invariant**: nothing is listened to before the store is open and access is decided (test
//! `open_access_beyond_loopback_does_not_start` in `tests/it`).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use gateway::Gateway;
use gateway::clock::Clock;
use gateway::dispatch::trim::Counter;
use gateway::receive::keyring::Keyring;
use gateway::setup::{Access, AskUsage, LeverMode, Rule, Setup};
use policy::admit::book::hold::UnknownPrice;
use policy::dispatch::hedge::Hedging;
use tokio::net::TcpListener;

use super::routed;
use crate::config::budgets::limits_money;
use crate::config::build::{Config, Place};
use crate::config::routes;
use crate::config::watch::{keys_made, keys_of, stopped};
use crate::ledger::Open;
use crate::print::amount::count;
use crate::print::time::stretch;
use crate::restore::restore;
use crate::tokens::O200k;

/// A gateway with its listener.
pub(crate) struct Started {
    /// The gateway.
    pub(crate) gateway: Arc<Gateway>,
    /// Its port.
    pub(crate) listener: TcpListener,
    /// Where it listens in fact.
    pub(crate) address: SocketAddr,
    /// Its store.
    pub(crate) open: Open,
    /// The version of the keys that it knows.
    pub(crate) keys_version: u64,
}

/// Opens the store, decides who may call, and listens.
pub(crate) async fn start(
    config: &Config,
    listen: SocketAddr,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Started> {
    let open = Open::new(config, clock.now())?;
    let (keys_version, records) = keys_of(&*open.keys)?;
    let setup = config.setup(listen, keys_made(records.len()))?;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}; is the port taken? name another with `--listen`")
    })?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let ledger = Arc::clone(&open.ledger);
    let now = clock.now();
    let gateway = Gateway::new(setup, Keyring::new(records), clock, ledger);
    gateway.trimming.count_with(Counter {
        tokens: O200k::count,
        more: O200k::more,
    });
    let trims = |rule: &Rule| rule.trim.level.is_some();
    if gateway.setup.load().rules.iter().any(trims) {
        // Unpacks the vocabulary now and not within the first call.
        O200k::count("");
    }
    gateway.stops.set(stopped(&*open.keys)?);
    gateway.admin.open(Arc::clone(&open.keys));
    let outcomes = gateway.learned.open(Arc::clone(&open.outcomes))?;
    let thought = gateway.thinking.open(&*open.outcomes)?;
    tracing::debug!(outcomes, thought, "outcomes are known");
    restore(&gateway, &config.place, now)?;
    Ok(Started {
        gateway,
        listener,
        address,
        open,
        keys_version,
    })
}

/// What runs, in a few lines for people.
pub(crate) fn summary(config: &Config, setup: &Setup) -> String {
    let mut text = String::new();
    let mut line = |label: &str, what: &str| {
        put!(text, "  {label:<10} {what}\n");
    };
    match &config.file {
        Some(file) => line("config", &file.display().to_string()),
        None => line("config", "none: built-in defaults and the environment"),
    }
    for (index, row) in config.providers.iter().enumerate() {
        let label = if index == 0 { "providers" } else { "" };
        let base = row.upstream.base.to_string();
        let (id, base) = (&row.upstream.id, base.trim_end_matches('/'));
        line(label, &format!("{id} at {base}, key: {}", row.key));
    }
    for (index, (name, route)) in setup.routes.iter().enumerate() {
        let label = if index == 0 { "models" } else { "" };
        line(label, &format!("{name} = {}", routes::shown(route)));
    }
    for (index, rule) in setup.rules.iter().enumerate() {
        let label = if index == 0 { "routes" } else { "" };
        line(label, &routed::words(rule));
    }
    line("failover", &failover(setup));
    for (index, limit) in setup.budgets.limits.iter().enumerate() {
        let label = if index == 0 { "budgets" } else { "" };
        let (id, mode) = (&limit.id, limit.mode.name());
        line(label, &format!("{id} ({mode}): {limit}"));
    }
    if limits_money(setup) {
        line("unpriced", &unpriced(setup.budgets.unknown_price));
    }
    line("levers", &levers(setup));
    if setup.admin.is_some() {
        line("admin", "at /admin/v1/, with the token of `[admin]`");
    }
    match &config.place {
        Place::File(path) => line("ledger", &path.display().to_string()),
        Place::Memory => line("ledger", "in memory: forgotten at the end"),
    }
    let models: usize = setup
        .prices
        .providers()
        .map(|provider| provider.models().len())
        .sum();
    let models = count(models as u64);
    line(
        "prices",
        &format!("version {}, {models} models", setup.prices.version()),
    );
    for remark in &config.remarks {
        line("note", remark);
    }
    text
}

/// Who may call, in words.
pub(crate) const fn access(setup: &Setup) -> &'static str {
    match setup.access {
        Access::Open => "open to this machine; the first `tokenwise keys create NAME` closes it",
        Access::Keys => "with a key from `tokenwise keys create NAME`",
    }
}

/// How failures are followed up, in words.
fn failover(setup: &Setup) -> String {
    let policy = &setup.retry;
    if policy.legs_max == 1 {
        return "off: one attempt for each call".to_owned();
    }
    let mut text = format!(
        "retries for each target: {}; attempts in all: {}, none after {}",
        policy.retries,
        policy.legs_max,
        stretch(policy.deadline_ms)
    );
    if let Some(Hedging { after_ms, percent }) = policy.hedging {
        let after = stretch(after_ms);
        put!(
            text,
            "; a second target after {after} of silence, for {percent} % of calls at most"
        );
    }
    text
}

/// What becomes of models without a known price where money is limited, in words.
fn unpriced(rule: UnknownPrice) -> String {
    match rule {
        UnknownPrice::Block => "models without a known price are refused".to_owned(),
        UnknownPrice::Allow => "models without a known price count as nothing".to_owned(),
        UnknownPrice::HoldAtCeiling(ceiling) => {
            format!("each call without a known price holds {ceiling}")
        }
    }
}

/// The levers, in words.
fn levers(setup: &Setup) -> String {
    let usage = match setup.ask_usage {
        AskUsage::Always => "asked for on every stream",
        AskUsage::Never => "not asked for",
    };
    let (cache, think) = (lever(setup.cache), lever(setup.think.mode));
    format!("cache {cache}; think {think}; usage {usage}")
}

/// A lever's mode, as configuration files write it.
pub(crate) const fn lever(mode: LeverMode) -> &'static str {
    match mode {
        LeverMode::Off => "off",
        LeverMode::Observe => "observe",
        LeverMode::On => "on",
    }
}
