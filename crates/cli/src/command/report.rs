//! `tokenwise report`: what calls cost, what they would have cost, and which lever saved what.
//!
//! **Invariant**: the breakdown is that of the ledger, whose parts add up to its totals (store
//! conformance, `sums_are_exact`).

mod context;
mod thinking;
mod tools;

use std::collections::HashMap;
use std::process::ExitCode;

use policy::ports::outcomes::Outcomes as _;
use policy::ports::read::{By, LedgerReader, Slice, Totals};
use policy::prices::PriceBook;
use policy::think::observed::Observed;
use serde_json::{Value, json};
use store::sqlite::outcomes::SqliteOutcomes;

use context::{Context, Of};
use tools::Tools;

use super::which::Which;
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::amount::{count, share};
use crate::print::table::{Set, table};
use crate::print::{self, Format, figures};

/// Show what calls cost, what they would have cost untouched, and which lever saved what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to break the sums down by. Default: `model`.
    #[arg(long, value_enum)]
    by: Option<Breakdown>,
    #[command(flatten)]
    which: Which,
    /// Show what thinking took instead, by route and kind of question, and where it gained nothing.
    #[arg(long, conflicts_with = "by")]
    thinking: bool,
    /// Show what the input is made of instead (instructions, tools, history, results of tools, …), by
    /// route or by what `--by` says.
    #[arg(long, conflicts_with = "thinking")]
    context: bool,
    /// Show which tools the input is spent on instead: what defines them, and what they have given
    /// back.
    #[arg(long, conflicts_with_all = ["by", "thinking", "context"])]
    tools: bool,
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

/// 100 000 outcomes are read for what thinking gains: the latest.
const OUTCOMES_READ: u32 = 100_000;

/// What to break the sums down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Breakdown {
    /// The day (UTC) on which the call arrived.
    Day,
    /// The model that was asked for.
    Model,
    /// The provider that was called.
    Provider,
    /// The organisation that pays.
    Organisation,
    /// The team that pays.
    Team,
    /// The user that the client named, else the key's.
    User,
    /// The key that was called with.
    Key,
    /// The session.
    Session,
    /// The task.
    Task,
}

impl Breakdown {
    const fn by(self) -> By {
        match self {
            Self::Day => By::Day,
            Self::Model => By::Model,
            Self::Provider => By::Provider,
            Self::Organisation => By::Organisation,
            Self::Team => By::Team,
            Self::User => By::User,
            Self::Key => By::Key,
            Self::Session => By::Session,
            Self::Task => By::Task,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::User => "user",
            Self::Key => "key",
            Self::Session => "session",
            Self::Task => "task",
        }
    }
}

/// Reports.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let filter = arguments.which.filter()?;
    let reader = arguments.ledger.reader(environment)?;
    if arguments.thinking {
        let outcomes = SqliteOutcomes::open(&arguments.ledger.path(environment)?)?;
        let outcomes = outcomes.latest(OUTCOMES_READ)?.into_iter();
        let scores: HashMap<_, _> = outcomes.map(|it| (it.call, it.score)).collect();
        let mut observed = Observed::default();
        for call in reader.calls(&filter) {
            thinking::add(&mut observed, &call?, &scores);
        }
        if arguments.format.json {
            print::json(&thinking::json(&observed))?;
        } else {
            print::out(&thinking::text(&observed))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.context {
        let of = arguments.by.map_or(Of::Route, |by| Of::Field(by.by()));
        let mut context = Context::default();
        for call in reader.calls(&filter) {
            context.add(&call?, of, PriceBook::built_in());
        }
        if arguments.format.json {
            print::json(&context.json())?;
        } else {
            let name = arguments.by.map_or("route", Breakdown::name);
            print::out(&context.text(name))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.tools {
        let mut tools = Tools::default();
        for call in reader.calls(&filter) {
            tools.add(&call?);
        }
        if arguments.format.json {
            print::json(&tools.json())?;
        } else {
            print::out(&tools.text())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let by = arguments.by.unwrap_or(Breakdown::Model);
    let totals = reader.totals(&filter)?;
    let slices = reader.breakdown(&filter, by.by())?;
    if arguments.format.json {
        let mut value = json(&totals, &slices, by);
        value["since_ms"] = filter.since.map(|moment| moment.0).into();
        value["until_ms"] = filter.until.map(|moment| moment.0).into();
        print::json(&value)?;
    } else {
        print::out(&text(&totals, &slices, by))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sums and their breakdown as JSON.
pub(crate) fn json(totals: &Totals, slices: &[Slice], by: Breakdown) -> Value {
    let parts: Vec<Value> = slices
        .iter()
        .map(|slice| {
            let mut part = figures::totals(&slice.totals);
            part["label"] = slice.label.clone().into();
            part
        })
        .collect();
    json!({"totals": figures::totals(totals), "by": by.name(), "parts": parts})
}

/// Sums and their breakdown for people.
pub(crate) fn text(totals: &Totals, slices: &[Slice], by: Breakdown) -> String {
    if totals.calls == 0 && totals.running == 0 {
        let nothing =
            "no calls in the ledger match; point a client at the gateway, or widen the filter\n";
        return format!("{}{nothing}", figures::caveats(totals));
    }
    let heads = [
        (by.name(), Set::Left),
        ("calls", Set::Right),
        ("input", Set::Right),
        ("cached", Set::Right),
        ("written", Set::Right),
        ("output", Set::Right),
        ("untouched", Set::Right),
        ("saved", Set::Right),
        ("", Set::Right),
        ("cost", Set::Right),
    ];
    let mut rows: Vec<Vec<String>> = slices
        .iter()
        .map(|slice| {
            // What is passed through need not name a model.
            let label = slice.label.as_deref().filter(|label| !label.is_empty());
            row(label.unwrap_or("–"), &slice.totals)
        })
        .collect();
    if rows.len() > 1 {
        rows.push(row("all", totals));
    }
    let (table, bill) = (table(&heads, &rows), figures::bill(totals));
    let caveats = figures::caveats(totals);
    let note = "Untouched is an estimate: what the same calls would have cost without the gateway.";
    format!("{table}\n{bill}\n{note}\n{caveats}")
}

fn row(label: &str, totals: &Totals) -> Vec<String> {
    let usage = &totals.usage;
    vec![
        label.to_owned(),
        count(totals.calls),
        count(usage.input().0),
        count(usage.cache_read.0),
        count(usage.cache_write.total().0),
        count(usage.output.0),
        totals.untouched.to_string(),
        totals.saved().to_string(),
        share(totals.saved(), totals.untouched),
        totals.cost.to_string(),
    ]
}

/// Calls for the tests of what is made of notes.
#[cfg(test)]
mod stored {
    use policy::ports::read::{StoredCall, opening_of, recovery_of};
    use policy::ports::{CallId, End, Leg};
    use wire::usage::Usage;

    use crate::command::now;

    /// A call with these notes, answered with one leg.
    pub(super) fn call(number: u64, notes: String, usage: Usage) -> StoredCall {
        let mut settled = recovery_of(CallId(number.to_string()), now());
        settled.notes = notes;
        settled.legs.push(Leg {
            provider: "anthropic".into(),
            model: "claude-haiku-4-5".into(),
            sent_at: now(),
            first_byte_at: None,
            ended_at: now(),
            status: Some(200),
            end: End::Answered,
            usage,
            estimated: false,
            cost: None,
        });
        StoredCall {
            opened: opening_of(&settled),
            settled: Some(settled),
        }
    }
}
