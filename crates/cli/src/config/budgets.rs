//! From `[[budgets]]` and `[budget_rules]` to limits.
//!
//! **Invariant**: a limit that is not written out completely is refused, never completed by a guess
//! (test `incomplete_budgets_are_refused`).

use std::collections::{BTreeMap, BTreeSet};

use gateway::setup::{Budgets, Runaway, Setup, Target};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::limit::{self, Limit, Measure, Mode, Quota, Then, Which};
use policy::admit::scope::Kind;
use policy::admit::window::{Period, Window, Zone};
use policy::agents::runaway::Rules;
use policy::key::PREFIX;
use policy::money::PicoUsd;
use wire::usage::Tokens;

use super::build::Build;
use super::fault::ConfigError;
use super::raw::budget::{
    RawBudget, RawBudgetMode, RawPayer, RawPeriod, RawRunaway, RawThen, RawUnknownPrice, RawUsd,
};
use super::routes;

/// 1 000 times: beyond that, nothing is ever called a runaway.
const RUNAWAY_TIMES_MAX: u64 = 1_000;

/// What may be used.
pub(super) fn budgets(build: &Build<'_>) -> Result<Budgets, ConfigError> {
    let limits = build.raw.budgets.iter();
    let limits: Result<Vec<Limit>, _> = limits.map(|raw| Entry { build, raw }.limit()).collect();
    let mut degrade_to = BTreeMap::new();
    for raw in &build.raw.budgets {
        let targets = Entry { build, raw }.degrade_to()?;
        if !targets.is_empty() {
            degrade_to.insert(raw.id.as_str().into(), targets);
        }
    }
    let mut wrap_up = BTreeSet::new();
    for raw in build.raw.budgets.iter().filter(|raw| raw.wrap_up) {
        Entry { build, raw }.check_wrap_up()?;
        wrap_up.insert(raw.id.as_str().into());
    }
    Ok(Budgets {
        limits: limits?,
        wrap_up,
        unknown_price: unknown_price(build)?,
        runaway: runaway(build),
        runaway_rules: runaway_rules(build)?,
        degrade_to,
    })
}

/// What may be used, in limits that do not contradict each other.
pub(super) fn checked(build: &Build<'_>) -> Result<Budgets, ConfigError> {
    let budgets = budgets(build)?;
    limit::check(&budgets.limits)
        .map_err(|error| build.fault("budgets".to_owned(), format!("cannot be used: {error}")))?;
    Ok(budgets)
}

/// One table, and what is needed to say what is wrong with it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    build: &'a Build<'a>,
    raw: &'a RawBudget,
}

impl Entry<'_> {
    fn limit(self) -> Result<Limit, ConfigError> {
        let raw = self.raw;
        self.build.check_id("budgets.id", &raw.id)?;
        Ok(Limit {
            id: raw.id.as_str().into(),
            kind: kind(raw.applies_to),
            which: self.which()?,
            quota: self.quota()?,
            mode: mode(raw.mode),
            then: self.then()?,
        })
    }

    fn key(self, field: &str) -> String {
        format!("budgets.{}.{field}", self.raw.id)
    }

    fn fault(self, field: &str, problem: impl Into<String>) -> ConfigError {
        self.build.fault(self.key(field), problem.into())
    }

    fn which(self) -> Result<Which, ConfigError> {
        let payer = kind(self.raw.applies_to);
        let problem = match self.raw.only.as_deref() {
            None => return Ok(Which::Each),
            Some("") => format!(
                "is empty; name one {0}, or leave it out for a limit for each {0}",
                payer.name()
            ),
            Some(id) if payer == Kind::Key && id.starts_with(PREFIX) => {
                "looks like a key itself (not shown); write its id, which `tokenwise keys list` \
                 shows, as `key_0123456789ab`"
                    .to_owned()
            }
            Some(id) => return Ok(Which::One(id.into())),
        };
        Err(self.fault("only", problem))
    }

    /// What becomes of a call without room.
    fn then(self) -> Result<Then, ConfigError> {
        let raw = self.raw;
        if raw.then == RawThen::Refuse {
            return Ok(Then::Refuse);
        }
        if raw.mode == RawBudgetMode::Observe {
            let problem = "is `degrade`, which does nothing with `mode = \"observe\"`; write \
                           `hard` or `soft` there, or leave this out";
            return Err(self.fault("then", problem));
        }
        self.edits_bodies("then")?;
        let is_rate = raw.requests.is_some() || raw.concurrent.is_some();
        if is_rate && raw.applies_to != RawPayer::Model {
            let problem = "is `degrade`, but a lesser answer is still a call; allowed: with `usd` \
                           and `tokens`, or where `applies_to = \"model\"`";
            return Err(self.fault("then", problem));
        }
        Ok(Then::Degrade)
    }

    /// Cheaper targets for calls without room.
    fn degrade_to(self) -> Result<Vec<Target>, ConfigError> {
        let raw = self.raw;
        if raw.then == RawThen::Refuse && !raw.degrade_to.is_empty() {
            let problem = "does nothing without `then = \"degrade\"`; write that too, or leave \
                           this out";
            return Err(self.fault("degrade_to", problem));
        }
        let read = |text: &String| {
            routes::target(text).ok_or_else(|| {
                let problem = format!("lists `{text}`; allowed: `provider/model`");
                self.fault("degrade_to", problem)
            })
        };
        raw.degrade_to.iter().map(read).collect()
    }

    /// What would change a body cannot be where none may be.
    fn edits_bodies(self, field: &str) -> Result<(), ConfigError> {
        if !self.build.raw.levers.passthrough {
            return Ok(());
        }
        let problem = "changes bodies, which contradicts `passthrough = true` in [levers]; leave one \
                       of them out";
        Err(self.fault(field, problem))
    }

    /// Who asks agents to finish must know what that is.
    fn check_wrap_up(self) -> Result<(), ConfigError> {
        self.edits_bodies("wrap_up")?;
        let raw = self.raw;
        let ends = matches!(raw.applies_to, RawPayer::Session | RawPayer::Task);
        let runs_out = raw.usd.is_some() || raw.tokens.is_some();
        if ends && runs_out && raw.mode != RawBudgetMode::Observe {
            return Ok(());
        }
        let problem = "is true, but there is nothing to finish; allowed: for `session` and `task`, \
                       with `usd` or `tokens`, in mode `hard` or `soft`";
        Err(self.fault("wrap_up", problem))
    }

    fn quota(self) -> Result<Quota, ConfigError> {
        let raw = self.raw;
        match (&raw.usd, raw.tokens, raw.requests, raw.concurrent) {
            (Some(usd), None, None, None) => {
                let usd = money(self.build, self.key("usd"), usd)?;
                Ok(Quota::Usd(usd, self.window()?))
            }
            (None, Some(tokens), None, None) => Ok(Quota::Tokens(Tokens(tokens), self.window()?)),
            (None, None, Some(count), None) => Ok(Quota::Requests(count, self.window()?)),
            (None, None, None, Some(count)) => {
                let beside = "does not go with `concurrent`, which counts calls under way at any \
                              one time; leave it out";
                self.absent("per", raw.per, beside)?;
                self.absent("time_zone", raw.time_zone.as_ref(), beside)?;
                Ok(Quota::Concurrency(count))
            }
            (None, None, None, None) => Err(self.build.fault(
                format!("budgets.{}", raw.id),
                "limits nothing; write one of `usd = \"20.50\"`, `tokens = 1_000_000`, \
                 `requests = 600`, `concurrent = 4`"
                    .to_owned(),
            )),
            _ => Err(self.several()),
        }
    }

    /// The time in which so much may be used.
    fn window(self) -> Result<Window, ConfigError> {
        let Some(raw) = self.raw.per else {
            let names = Period::ALL.map(|period| format!("`{}`", period.name()));
            let problem = format!("is missing; allowed: {}", names.join(", "));
            return Err(self.fault("per", problem));
        };
        let period = period(raw);
        if period == Period::Lifetime {
            let beside = "does not go with `per = \"lifetime\"`, which never starts anew; leave it \
                          out";
            self.absent("time_zone", self.raw.time_zone.as_ref(), beside)?;
        }
        let zone = match &self.raw.time_zone {
            None => Zone::UTC,
            Some(name) => Zone::named(name).map_err(|error| {
                let problem = format!("is `{name}`, which is unknown: {error}");
                self.fault("time_zone", problem)
            })?,
        };
        Ok(Window::new(period, zone))
    }

    /// Refuses a field that would do nothing.
    fn absent<T>(self, field: &str, given: Option<T>, problem: &str) -> Result<(), ConfigError> {
        given.map_or(Ok(()), |_| Err(self.fault(field, problem)))
    }

    /// What to say of several amounts in one table.
    fn several(self) -> ConfigError {
        let raw = self.raw;
        let given = [
            ("`usd`", raw.usd.is_some()),
            ("`tokens`", raw.tokens.is_some()),
            ("`requests`", raw.requests.is_some()),
            ("`concurrent`", raw.concurrent.is_some()),
        ];
        let given = given.into_iter().filter(|(_, given)| *given);
        let given: Vec<&str> = given.map(|(name, _)| name).collect();
        let problem = format!(
            "has {}; allowed: one of them, and another [[budgets]] table for each of the others",
            given.join(" and ")
        );
        self.build.fault(format!("budgets.{}", raw.id), problem)
    }
}

fn runaway(build: &Build<'_>) -> Runaway {
    match build.raw.budget_rules.runaway {
        RawRunaway::Off => Runaway::Off,
        RawRunaway::Alarm => Runaway::Alarm,
        RawRunaway::Stop => Runaway::Stop,
    }
}

fn runaway_rules(build: &Build<'_>) -> Result<Rules, ConfigError> {
    let (mut rules, raw) = (Rules::default(), &build.raw.budget_rules);
    if let Some(times) = raw.runaway_times {
        let key = "budget_rules.runaway_times";
        let times = build.within(key, u64::from(times), 1..=RUNAWAY_TIMES_MAX)?;
        rules.times = u32::try_from(times).unwrap_or(u32::MAX);
    }
    if let Some(usd) = &raw.runaway_usd {
        rules.least = money(build, "budget_rules.runaway_usd".to_owned(), usd)?;
    }
    Ok(rules)
}

fn unknown_price(build: &Build<'_>) -> Result<UnknownPrice, ConfigError> {
    match &build.raw.budget_rules.unknown_price {
        RawUnknownPrice::Block => Ok(UnknownPrice::Block),
        RawUnknownPrice::Allow => Ok(UnknownPrice::Allow),
        RawUnknownPrice::HoldUsd(usd) => {
            let key = "budget_rules.unknown_price.hold_usd".to_owned();
            money(build, key, usd).map(UnknownPrice::HoldAtCeiling)
        }
    }
}

/// Dollars, to the last digit.
fn money(build: &Build<'_>, key: String, raw: &RawUsd) -> Result<PicoUsd, ConfigError> {
    let RawUsd::Text(text) = raw;
    match text.parse::<PicoUsd>() {
        Ok(money) if money < PicoUsd::ZERO => {
            Err(build.fault(key, format!("is `{text}`; allowed: zero or more")))
        }
        Ok(money) => Ok(money),
        Err(error) => Err(build.fault(key, format!("is not an amount: {error}"))),
    }
}

const fn kind(raw: RawPayer) -> Kind {
    match raw {
        RawPayer::Organisation => Kind::Organisation,
        RawPayer::Team => Kind::Team,
        RawPayer::Key => Kind::Key,
        RawPayer::User => Kind::User,
        RawPayer::Session => Kind::Session,
        RawPayer::Task => Kind::Task,
        RawPayer::Tag => Kind::Tag,
        RawPayer::Model => Kind::Model,
    }
}

const fn period(raw: RawPeriod) -> Period {
    match raw {
        RawPeriod::Minute => Period::Minute,
        RawPeriod::Hour => Period::Hour,
        RawPeriod::Day => Period::Day,
        RawPeriod::Week => Period::Week,
        RawPeriod::Month => Period::Month,
        RawPeriod::Lifetime => Period::Lifetime,
    }
}

const fn mode(raw: RawBudgetMode) -> Mode {
    match raw {
        RawBudgetMode::Observe => Mode::Observe,
        RawBudgetMode::Soft => Mode::Soft,
        RawBudgetMode::Hard => Mode::Hard,
    }
}

/// What the reader should know about models that budgets in dollars refuse.
pub(super) fn remarks(setup: &Setup) -> Vec<String> {
    if !limits_money(setup) || setup.budgets.unknown_price != UnknownPrice::Block {
        return Vec::new();
    }
    let sold = |provider: &str| setup.upstream(provider).map(|it| it.prices.as_str());
    let without_any = setup.upstreams.iter();
    let without_any = without_any.filter(|it| setup.prices.provider(&it.prices).is_none());
    let mut refused: Vec<String> = without_any.map(|it| format!("`{}/*`", it.id)).collect();
    for target in setup.routes.values().flatten().flatten() {
        let is_priced = sold(&target.provider).is_none_or(|prices| {
            setup.prices.provider(prices).is_none() // said already
                || setup.prices.find(prices, &target.model).is_some()
        });
        let name = format!("`{}`", routes::name(target));
        if !is_priced && !refused.contains(&name) {
            refused.push(name);
        }
    }
    if refused.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "budgets in dollars refuse models without a known price: {}; name a file with their prices \
         in `[prices] files`, or set `unknown_price` in [budget_rules]",
        refused.join(", ")
    )]
}

/// Whether a limit on money can refuse a call.
pub(crate) fn limits_money(setup: &Setup) -> bool {
    let mut limits = setup.budgets.limits.iter();
    limits.any(|it| it.quota.measure() == Measure::Usd && it.mode != Mode::Observe)
}

#[cfg(test)]
mod tests;
