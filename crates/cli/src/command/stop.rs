//! `tokenwise stop` and `tokenwise resume`: the kill switch.
//!
//! **Invariant**: a running gateway ends what is stopped within a second, calls under way included,
//! and every use is written down (test `a_stop_reaches_a_running_gateway` in `tests/it`).

use std::process::ExitCode;

use gateway::admin::shown;
use policy::ports::{AuditEntry, Keys, Stop};
use serde_json::{Value, json};

use super::now;
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::failure::UsageError;
use crate::print::{self, Format, time};

/// Who makes the changes that these commands write down.
const ACTOR: &str = "command line";

/// Stop a key, a task or everything: calls under way end with an error, new ones are refused.
///
/// A running gateway obeys within a second. `tokenwise resume` lifts a stop.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArguments {
    #[command(subcommand)]
    what: What,
}

/// Lift a stop.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArguments {
    #[command(subcommand)]
    what: What,
}

/// What every action takes.
#[derive(Debug, clap::Args)]
struct Sources {
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The calls of a key.
    Key {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        sources: Sources,
    },
    /// The calls of a task.
    Task {
        /// The task, as its client names it in `x-tokenwise-task`.
        name: String,
        #[command(flatten)]
        sources: Sources,
    },
    /// Every call of every key.
    Everything {
        #[command(flatten)]
        sources: Sources,
    },
    /// Nothing: list what is stopped.
    List {
        #[command(flatten)]
        sources: Sources,
    },
}

impl What {
    const fn sources(&self) -> &Sources {
        match self {
            Self::Key { sources, .. }
            | Self::Task { sources, .. }
            | Self::Everything { sources }
            | Self::List { sources } => sources,
        }
    }

    /// What is named; none for a list.
    fn stop(&self) -> Option<Stop> {
        match self {
            Self::Key { id, .. } => Some(Stop::Key(id.clone())),
            Self::Task { name, .. } => Some(Stop::Task(name.clone())),
            Self::Everything { .. } => Some(Stop::Everything),
            Self::List { .. } => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Stop,
    Resume,
}

/// Stops.
pub(crate) fn stop(
    arguments: &StopArguments,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    change(&arguments.what, Verb::Stop, environment)
}

/// Lifts a stop.
pub(crate) fn resume(
    arguments: &ResumeArguments,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    change(&arguments.what, Verb::Resume, environment)
}

fn change(what: &What, verb: Verb, environment: &Environment) -> anyhow::Result<ExitCode> {
    let sources = what.sources();
    let keys = sources.ledger.keys(environment)?;
    let Some(stop) = what.stop() else {
        return list(&keys, sources.format);
    };
    if let Stop::Key(id) = &stop
        && keys.list()?.iter().all(|record| record.id != *id)
    {
        let message = format!("there is no key `{id}`; `tokenwise keys list` shows them");
        return Err(UsageError(message).into());
    }
    let at = now();
    let (changed, action, words) = match verb {
        Verb::Stop if keys.stop(&stop, at)? => (true, "stop", "is stopped"),
        Verb::Stop => (false, "stop", "was stopped already"),
        Verb::Resume if keys.resume(&stop)? => (true, "resume", "may go on"),
        Verb::Resume => (false, "resume", "was not stopped"),
    };
    let subject = stop.to_string();
    if changed {
        keys.audit(&AuditEntry {
            at,
            actor: ACTOR.to_owned(),
            action: action.to_owned(),
            subject: subject.clone(),
            detail: String::new(),
        })?;
    }
    if sources.format.json {
        print::json(&json!({
            "kind": stop.kind(),
            "id": stop.id(),
            "stopped": verb == Verb::Stop,
            "changed": changed,
        }))?;
    } else {
        print::out(&format!("{subject} {words}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(keys: &dyn Keys, format: Format) -> anyhow::Result<ExitCode> {
    let stops = keys.stops()?;
    if format.json {
        let rows = stops.iter().map(|(stop, at)| shown::stop(stop, *at));
        print::json(&rows.collect::<Value>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if stops.is_empty() {
        print::out("nothing is stopped\n")?;
    }
    for (stop, at) in &stops {
        print::out(&format!("{} since {} UTC\n", stop, time::shown(*at)))?;
    }
    Ok(ExitCode::SUCCESS)
}
