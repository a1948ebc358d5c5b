//! `tokenwise tasks`: what each task cost, and what one success costs.
//!
//! **Invariant**: the tasks' own costs and that of calls without a task add up to the ledger's total
//! (checked on every run, and test `task_costs_are_the_ledgers` in `tests/it`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;

use anyhow::bail;
use policy::agents::costs::{Costs, Ending, Task as Ended};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::CallId;
use policy::ports::outcomes::Outcomes as _;
use policy::ports::read::{Filter, LedgerReader as _, StoredCall, Totals};
use serde_json::{Value, json};
use store::sqlite::outcomes::SqliteOutcomes;

use super::now;
use crate::env::Environment;
use crate::ledger::LedgerSource;
use crate::print::amount::{count, known, pico, pico_known, share};
use crate::print::table::{Set, table};
use crate::print::{self, Format, time};

/// 0.5: a task whose last judged answer was more good than not has succeeded.
const SUCCESS_MIN: f64 = 0.5;

/// Show what each task cost: one row a task, the dearest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only calls since then: a day as `2026-11-24` (UTC), or how long ago as `7d`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The latest first instead of the dearest.
    #[arg(long)]
    newest: bool,
    /// Also take each session for a task whose calls name none: for agents that send no header of ours,
    /// as Claude Code.
    #[arg(long)]
    sessions: bool,
    /// How many rows the table has; JSON has all.
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    rows: usize,
    #[command(flatten)]
    ledger: LedgerSource,
    #[command(flatten)]
    format: Format,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct Task {
    totals: Totals,
    sessions: BTreeSet<String>,
    /// The task that it is part of.
    parent: Option<String>,
    /// Tasks that are part of it, directly or not.
    within: BTreeSet<String>,
    /// What their calls cost.
    cost_within: PicoUsd,
    latest: Moment,
    /// The last feedback on a call of it.
    judged: Option<(Moment, f64)>,
}

impl Task {
    fn ending(&self) -> Ending {
        match self.judged {
            None => Ending::Unknown,
            Some((_, score)) if score >= SUCCESS_MIN => Ending::Succeeded,
            Some(_) => Ending::Failed,
        }
    }

    fn ended(&self) -> Ended {
        Ended {
            cost: self.totals.cost + self.cost_within,
            calls: self.totals.calls,
            ending: self.ending(),
        }
    }
}

/// All tasks, and the calls that belong to none.
#[derive(Debug, Default)]
struct Tasks {
    by_name: BTreeMap<String, Task>,
    rest: Totals,
    /// What calls count for that name no task.
    unnamed: Unnamed,
}

/// What calls count for that name no task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unnamed {
    #[default]
    Nothing,
    /// Their session, if that is known.
    Session,
}

impl Tasks {
    fn add(&mut self, call: &StoredCall, judged: &HashMap<CallId, (Moment, f64)>) {
        let opened = &call.opened;
        let session = opened.session.as_ref();
        let session = session.filter(|_| self.unnamed == Unnamed::Session);
        let Some(name) = opened.task.as_ref().or(session) else {
            self.rest.count(call);
            return;
        };
        let parents = &opened.payers.parents;
        let task = self.by_name.entry(name.clone()).or_default();
        task.totals.count(call);
        task.sessions.extend(opened.session.clone());
        task.latest = task.latest.max(opened.at);
        task.parent = task.parent.take().or_else(|| parents.first().cloned());
        let said = judged.get(&opened.call).copied();
        if said.map(|(at, _)| at) > task.judged.map(|(at, _)| at) {
            task.judged = said;
        }
        let cost = call.settled.as_ref().and_then(|settled| settled.cost);
        for parent in parents {
            let parent = self.by_name.entry(parent.clone()).or_default();
            parent.within.insert(name.clone());
            parent.cost_within += cost.unwrap_or_default();
            parent.latest = parent.latest.max(opened.at);
        }
    }

    /// The sum of every task's own cost, and of calls without one.
    fn cost(&self) -> PicoUsd {
        let own = self.by_name.values().map(|task| task.totals.cost);
        own.sum::<PicoUsd>() + self.rest.cost
    }

    /// What tasks that are no part of another one cost, sub-tasks included.
    fn whole(&self, wanted: fn(&Task) -> bool) -> Costs {
        let whole = self.by_name.values().filter(|task| task.parent.is_none());
        Costs::of(whole.filter(|task| wanted(task)).map(Task::ended))
    }

    fn sorted(&self, newest: bool) -> Vec<(&String, &Task)> {
        let mut rows: Vec<_> = self.by_name.iter().collect();
        rows.sort_by_key(|(_, task)| {
            let ended = task.ended();
            if newest {
                (i128::from(task.latest.0), ended.cost.0)
            } else {
                (ended.cost.0, i128::from(task.latest.0))
            }
        });
        rows.reverse();
        rows
    }
}

/// Shows the tasks.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let since = arguments.since.as_deref();
    let filter = Filter {
        since: since.map(|text| time::moment(text, now())).transpose()?,
        // What arrives while this reads would be in one sum and not in the other.
        until: Some(now()),
        ..Filter::default()
    };
    let reader = arguments.ledger.reader(environment)?;
    let outcomes = SqliteOutcomes::open(&arguments.ledger.path(environment)?)?;
    let judged = outcomes.latest(u32::MAX)?.into_iter();
    let judged = judged.map(|outcome| (outcome.call, (outcome.at, outcome.score)));
    let judged: HashMap<CallId, (Moment, f64)> = judged.collect();
    let mut tasks = Tasks {
        unnamed: if arguments.sessions {
            Unnamed::Session
        } else {
            Unnamed::Nothing
        },
        ..Tasks::default()
    };
    let mut all = Totals::default();
    for call in reader.calls(&filter) {
        let call = call?;
        all.count(&call);
        tasks.add(&call, &judged);
    }
    if tasks.cost() != all.cost {
        bail!("the tasks do not add up to the ledger's total; please report this");
    }
    if arguments.format.json {
        print::json(&tasks.json(&all, arguments.newest))?;
    } else {
        print::out(&tasks.text(&all, arguments))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed => "failed",
        Ending::Unknown => "–",
    }
}

impl Tasks {
    fn text(&self, all: &Totals, arguments: &Arguments) -> String {
        if self.by_name.is_empty() {
            let told = match self.unnamed {
                Unnamed::Nothing => {
                    "no call in the ledger names a task; send `x-tokenwise-task`, or take each \
                     session for one with `--sessions`\n"
                }
                Unnamed::Session => "no call in the ledger names a task or has a session\n",
            };
            return told.to_owned();
        }
        let heads = [
            ("task", Set::Left),
            ("part of", Set::Left),
            ("calls", Set::Right),
            ("sessions", Set::Right),
            ("sub-tasks", Set::Right),
            ("own cost", Set::Right),
            ("with sub-tasks", Set::Right),
            ("saved", Set::Right),
            ("", Set::Right),
            ("outcome", Set::Left),
            ("last call", Set::Left),
        ];
        let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let rows = self
            .sorted(arguments.newest)
            .into_iter()
            .take(arguments.rows);
        let rows = rows.map(|(name, task)| {
            let totals = &task.totals;
            vec![
                name.clone(),
                task.parent.clone().unwrap_or_default(),
                count(totals.calls),
                count(size(task.sessions.len())),
                count(size(task.within.len())),
                totals.cost.to_string(),
                task.ended().cost.to_string(),
                totals.saved().to_string(),
                share(totals.saved(), totals.untouched),
                word(task.ending()).to_owned(),
                time::shown(task.latest),
            ]
        });
        let mut text = table(&heads, &rows.collect::<Vec<_>>());
        let hidden = self.by_name.len().saturating_sub(arguments.rows);
        if hidden > 0 {
            put!(text, "and {hidden} more; `--rows` shows them\n");
        }
        let (whole, judged) = (self.whole(|_| true), self.judged());
        put!(
            text,
            "\n{} tasks of their own cost {}, {} each; p50 {}, p90 {}, p99 {}; the dearest tenth {}\n",
            count(whole.all.tasks),
            whole.all.cost,
            known(whole.per_task()),
            known(whole.quantile(500)),
            known(whole.quantile(900)),
            known(whole.quantile(990)),
            share(whole.top_tenth(), whole.all.cost)
        );
        put!(
            text,
            "{} with feedback, {} succeeded: a success costs {}\n",
            count(judged.all.tasks),
            count(judged.succeeded.tasks),
            known(judged.per_success())
        );
        put!(
            text,
            "calls without a task cost {}; all together {}\n",
            self.rest.cost,
            all.cost
        );
        if all.unpriced > 0 {
            put!(text, "{} calls of unknown cost are missing\n", all.unpriced);
        }
        text
    }

    /// Of tasks that are no part of another one, those with feedback.
    fn judged(&self) -> Costs {
        self.whole(|task| task.judged.is_some())
    }

    fn json(&self, all: &Totals, newest: bool) -> Value {
        let tasks = self.sorted(newest).into_iter().map(|(name, task)| {
            json!({
                "task": name,
                "parent": task.parent,
                "calls": task.totals.calls,
                "running": task.totals.running,
                "unpriced": task.totals.unpriced,
                "sessions": task.sessions.len(),
                "sub_tasks": task.within.len(),
                "cost_pico_usd": pico(task.totals.cost),
                "with_sub_tasks_pico_usd": pico(task.ended().cost),
                "saved_pico_usd": pico(task.totals.saved()),
                "score": task.judged.map(|(_, score)| score),
                "last_call_ms": task.latest.0,
            })
        });
        let (whole, judged) = (self.whole(|_| true), self.judged());
        json!({
            "tasks": tasks.collect::<Vec<_>>(),
            "cost_pico_usd": pico(all.cost),
            "without_task_pico_usd": pico(self.rest.cost),
            "whole_tasks": whole.all.tasks,
            "per_task_pico_usd": pico_known(whole.per_task()),
            "p50_pico_usd": pico_known(whole.quantile(500)),
            "p90_pico_usd": pico_known(whole.quantile(900)),
            "p99_pico_usd": pico_known(whole.quantile(990)),
            "judged": judged.all.tasks,
            "succeeded": judged.succeeded.tasks,
            "per_success_pico_usd": pico_known(judged.per_success()),
        })
    }
}
