//! `tokenwise budgets`: how far each limit is used by whom, and until when.
//!
//! **Invariant**: what is counted here from the ledger is what a running gateway counts (test
//! `budgets_are_those_of_the_gateway` in `tests/it`).

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use gateway::admin::shown;
use gateway::admit::Accounts;
use gateway::setup::Budgets;
use policy::admit::book::report::Usage;
use policy::admit::limit::{Limit, Measure};
use policy::admit::scope::Kind;
use policy::moment::Moment;
use policy::ports::Fault;
use policy::ports::read::LedgerReader;
use serde_json::{Value, json};

use super::now;
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::failure::UsageError;
use crate::print::table::{Set, table};
use crate::print::{self, Format, time};
use crate::restore::restore_from;

/// Show how far each limit is used by whom: spent, held, left, and when it begins anew.
///
/// It is counted from the ledger, beside a running gateway or without one. A call under way holds
/// the most that its first attempt can cost; one that a crash cut off, up to an hour.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this limit, by the id that the configuration gives it.
    #[arg(long, value_name = "ID")]
    limit: Option<String>,
    /// Only payers of this kind.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)))]
    kind: Option<String>,
    /// Only this payer: a key by its id, anything else by its name.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

/// Shows.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let budgets = arguments.ledger.source.budgets(environment)?;
    let limits = &budgets.limits;
    if let Some(id) = &arguments.limit
        && limits.iter().all(|limit| *limit.id != **id)
    {
        let problem = format!("no limit is called `{id}`; without `--limit`, all show");
        return Err(UsageError(problem).into());
    }
    let mut usage = if limits.is_empty() {
        Vec::new()
    } else {
        used(&arguments.ledger.reader(environment)?, &budgets, now())?
    };
    usage.retain(|usage| arguments.wants(usage));
    if arguments.format.json {
        print::json(&json(limits, &usage))?;
    } else {
        print::out(&text(limits, &usage))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn wants(&self, usage: &Usage) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.limit, &usage.limit.id)
            && is(&self.kind, usage.scope.kind.name())
            && is(&self.id, &usage.scope.id)
    }
}

/// What a gateway that starts now would count, and what the calls of a running one hold.
fn used(reader: &dyn LedgerReader, budgets: &Budgets, now: Moment) -> Result<Vec<Usage>, Fault> {
    let starts = budgets.limits.iter();
    let starts = starts.map(|limit| limit.quota.window().span(now).start);
    let Some(since) = starts.min() else {
        return Ok(Vec::new());
    };
    let accounts = Accounts::default();
    accounts.set(budgets, now);
    // Open calls before spent money: a call that settles in between shows twice rather than not.
    let mut holding = reader.under_way(now)?;
    holding.extend(reader.cut_off(now)?);
    restore_from(reader, &accounts, since, now)?;
    accounts.restore_holds(&holding, now);
    Ok(accounts.report(now))
}

/// The limits and their usage as the admin API shows them.
fn json(limits: &[Limit], usage: &[Usage]) -> Value {
    json!({
        "limits": limits.iter().map(shown::limit).collect::<Vec<_>>(),
        "left_out": 0,
        "usage": usage.iter().map(shown::usage).collect::<Vec<_>>(),
    })
}

/// The limits and their usage for people.
fn text(limits: &[Limit], usage: &[Usage]) -> String {
    if limits.is_empty() {
        return "nothing is limited; write a [[budgets]] table into the configuration\n".to_owned();
    }
    let rows: Vec<Vec<String>> = usage.iter().map(row).collect();
    let mut text = String::new();
    if rows.is_empty() {
        text.push_str("nothing is used in the present windows\n");
    } else {
        let heads = [
            ("limit", Set::Left),
            ("mode", Set::Left),
            ("payer", Set::Left),
            ("spent", Set::Right),
            ("held", Set::Right),
            ("left", Set::Right),
            ("of", Set::Right),
            ("until (UTC)", Set::Left),
        ];
        text.push_str(&table(&heads, &rows));
    }
    text.push('\n');
    for limit in limits {
        put!(text, "{}: {limit}, {}\n", limit.id, limit.mode.name());
    }
    text
}

fn row(usage: &Usage) -> Vec<String> {
    let limit = &usage.limit;
    let show = |units| limit.quota.measure().show(units);
    let until = match (limit.quota.measure(), usage.window.end) {
        (Measure::Concurrency, _) => "–".to_owned(),
        (_, Some(end)) => time::shown(end),
        (_, None) => "for ever".to_owned(),
    };
    vec![
        limit.id.to_string(),
        limit.mode.name().to_owned(),
        usage.scope.to_string(),
        show(usage.tally.spent),
        show(usage.tally.held(limit.mode)),
        show(usage.left()),
        show(limit.quota.amount()),
        until,
    ]
}

#[cfg(test)]
mod tests {
    use policy::admit::book::hold::UnknownPrice;
    use policy::admit::limit::{Mode, Quota, Then, Which};
    use policy::admit::window::{Period, Window, Zone};
    use policy::money::PicoUsd;
    use policy::ports::{CallId, CallOpened, CallSettled, End, Held, Ledger as _, Payers};
    use store::memory::Memory;
    use wire::usage::Tokens;

    use super::*;

    /// 2027-01-15 08:00:00 UTC.
    const NOW: Moment = Moment(1_800_000_000_000);

    const CENT: PicoUsd = PicoUsd(10_000_000_000);

    fn limit(id: &str, kind: Kind, quota: Quota) -> Limit {
        Limit {
            id: id.into(),
            kind,
            which: Which::Each,
            quota,
            mode: Mode::Hard,
            then: Then::Refuse,
        }
    }

    fn budgets() -> Budgets {
        let day = Window::new(Period::Day, Zone::UTC);
        Budgets {
            limits: vec![
                limit("at-once", Kind::Key, Quota::Concurrency(4)),
                limit("daily", Kind::Team, Quota::Usd(PicoUsd(100 * CENT.0), day)),
            ],
            unknown_price: UnknownPrice::Block,
            ..Budgets::default()
        }
    }

    fn opened(call: &str, hold_ms: u64) -> CallOpened {
        CallOpened {
            call: CallId(call.to_owned()),
            at: NOW,
            key: "key_1".to_owned(),
            session: None,
            task: None,
            endpoint: "/v1/messages".to_owned(),
            model: "small".to_owned(),
            provider: "acme".to_owned(),
            target: None,
            input_estimate: Tokens(0),
            payers: Payers {
                team: Some("search".to_owned()),
                ..Payers::default()
            },
            held: Some(Held {
                usd: Some(CENT),
                tokens: Tokens(1),
                until: NOW.after(hold_ms),
            }),
        }
    }

    fn settled(call: &str, cost: PicoUsd) -> CallSettled {
        CallSettled {
            call: CallId(call.to_owned()),
            at: NOW,
            end: End::Answered,
            status: 200,
            legs: Vec::new(),
            cost: Some(cost),
            untouched: None,
            savings: std::collections::BTreeMap::new(),
            prices: String::new(),
            notes: "{}".to_owned(),
        }
    }

    #[test]
    fn spent_and_held_are_shown() {
        let (ledger, budgets) = (Memory::default(), budgets());
        let used = || used(&ledger, &budgets, NOW.after(1)).unwrap();
        let limits = "\nat-once: 4 calls at once for each key, hard\n\
                      daily: $1.00 per day (UTC) for each team, hard\n";
        assert_eq!(
            text(&budgets.limits, &used()),
            format!("nothing is used in the present windows\n{limits}")
        );
        ledger.open(opened("call_1", 1_000));
        ledger.settle(settled("call_1", PicoUsd(25 * CENT.0)), Box::new(|| {}));
        ledger.open(opened("call_2", 1_000));
        // Its hold is over: whoever made it is gone.
        ledger.open(opened("call_3", 1));
        let table = "\
limit    mode  payer                    spent             held             left               of  until (UTC)
──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
at-once  hard  key `key_1`    0 calls at once  1 calls at once  3 calls at once  4 calls at once  –
daily    hard  team `search`            $0.25            $0.01            $0.74            $1.00  2027-01-16 00:00:00
";
        let shown = text(&budgets.limits, &used());
        assert_eq!(shown, format!("{table}{limits}"));
        assert_eq!(text(&[], &[]).lines().count(), 1);
    }
}
