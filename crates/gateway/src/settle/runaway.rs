//! Runaway: what follows when a task spends much faster than its kind does.
//!
//! Each settled call is counted for its task, or its session where no task is named, and for every task
//! that it is part of. What kind of task it is tell its tools and instructions.
//!
//! **Invariant**: an alarm comes with the settled call that is too much, and a task is stopped only
//! where the owner says so (tests `a_runaway_is_told_of_within_a_minute` and
//! `a_runaway_is_stopped_where_the_owner_says_so` in `tests/it/runaway.rs`).

use std::sync::{Arc, Mutex, PoisonError};

use policy::agents::runaway::{Alarm, Guard};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::{AuditEntry, CallOpened, Fault, Stop};
use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::Gateway;
use crate::admin::refresh;
use crate::settle::beside::beside;
use crate::settle::receipt::Receipt;
use crate::setup::{Runaway, Setup};

/// Who stops a runaway, in the audit.
const ACTOR: &str = "runaway";

/// What tasks spend.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Guard>);

impl Watch {
    fn spent(&self, who: (u64, u64), cost: PicoUsd, at: Moment, setup: &Setup) -> Option<Alarm> {
        // Also after a panic elsewhere: an alarm more or less.
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.spent(who, cost, at, setup.budgets.runaway_rules)
    }
}

/// What is written down about a call that made its task a runaway.
#[derive(Clone, Debug, Serialize)]
pub struct RunawayNote {
    task: String,
    /// Spent in the last minute.
    spent_usd: String,
    /// What all but one in a hundred minutes of its kind spend at most.
    usual_usd: String,
    /// How many minutes of its kind were seen.
    minutes: u64,
    /// What was done: `alarm` or `stop`.
    action: &'static str,
}

impl Receipt {
    /// Counts the call for its task; its notes, with what was seen.
    pub(super) fn watched(&self, cost: Option<PicoUsd>, at: Moment, notes: String) -> String {
        let (head, row) = (self.placed.head, &self.row);
        match watch(&self.gateway, &self.setup, row, head, (cost, at)) {
            Some(runaway) => beside("runaway", &runaway, &notes),
            None => notes,
        }
    }
}

/// Counts a settled call. `head` tells the kind of task, if the call has tools or instructions.
fn watch(
    gateway: &Arc<Gateway>,
    setup: &Setup,
    row: &CallOpened,
    head: Option<u64>,
    (cost, at): (Option<PicoUsd>, Moment),
) -> Option<RunawayNote> {
    let cost = cost.filter(|cost| *cost > PicoUsd::ZERO)?;
    if setup.budgets.runaway == Runaway::Off {
        return None;
    }
    let tenant = xxh3_64(row.key.as_bytes());
    let number = |name: &str| xxh3_64_with_seed(name.as_bytes(), tenant);
    let own = row.task.as_ref().or(row.session.as_ref());
    let kind = head.unwrap_or_else(|| number(&row.model));
    let own = own.map(|name| (name, kind));
    // What a task with parts is like, its parts do not tell.
    let above = row
        .payers
        .parents
        .iter()
        .map(|name| (name, number("parts")));
    let mut told = None;
    for (name, kind) in own.into_iter().chain(above) {
        let alarm = gateway
            .runaways
            .spent((number(name), kind), cost, at, setup);
        let is_task = row.task.is_some();
        if let Some(alarm) = alarm {
            told = told.or(Some(tell(gateway, setup, name, is_task, alarm)));
        }
    }
    told
}

/// Tells of a runaway, and stops it if that is wanted. Only what a client has named a task can be
/// stopped.
fn tell(
    gateway: &Arc<Gateway>,
    setup: &Setup,
    name: &str,
    is_task: bool,
    alarm: Alarm,
) -> RunawayNote {
    let stops = setup.budgets.runaway == Runaway::Stop && is_task;
    let note = RunawayNote {
        task: name.to_owned(),
        spent_usd: alarm.spent.exact(),
        usual_usd: alarm.usual.exact(),
        minutes: alarm.minutes,
        action: if stops { "stop" } else { "alarm" },
    };
    tracing::warn!(
        task = note.task,
        spent_usd = note.spent_usd,
        usual_usd = note.usual_usd,
        minutes = note.minutes,
        action = note.action,
        "a task spends much faster than its kind does"
    );
    gateway.metrics.budgets().runaway();
    if stops {
        stop(gateway, name.to_owned(), note.clone());
    }
    note
}

/// Stops a task as an operator would, in the background.
fn stop(gateway: &Arc<Gateway>, task: String, note: RunawayNote) {
    let Some(keys) = gateway.admin.keys() else {
        tracing::error!(
            task,
            "a runaway cannot be stopped: no store is open for stops"
        );
        return;
    };
    let (now, shared) = (gateway.clock.now(), Arc::clone(gateway));
    gateway.tasks.spawn(async move {
        let work = {
            let gateway = Arc::clone(&shared);
            move || -> Result<(), Fault> {
                let what = Stop::Task(task);
                keys.stop(&what, now)?;
                keys.audit(&AuditEntry {
                    at: now,
                    actor: ACTOR.to_owned(),
                    action: "stop".to_owned(),
                    subject: what.to_string(),
                    detail: format!(
                        "spent ${} in a minute; its kind spends at most ${}",
                        note.spent_usd, note.usual_usd
                    ),
                })?;
                refresh(&gateway, &*keys)?;
                Ok(())
            }
        };
        match shared.tasks.blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::error!(%fault, "a runaway could not be stopped"),
            Err(error) => tracing::error!(%error, "a runaway could not be stopped"),
        }
    });
}
