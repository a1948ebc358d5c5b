//! Prints what was replayed: a table for people, JSON for programs.
//!
//! **Invariant**: both print the same figures; money in JSON is whole pico-dollars.

use std::collections::HashMap;
use std::io::Write;

use policy::money::PicoUsd;
use serde_json::{Map, Value, json};
use sim::bill::Sum;
use sim::replay::{Sums, TaskSum};
use wire::usage::Ttl;

use super::Replayed;
use crate::print::table::{Set, table as laid_out};

/// A task of fewer calls gives a cache no chance to pay back what it wrote.
const LONG_TASK_CALLS: u64 = 3;

/// Figures about tasks.
struct Tasks<'a> {
    count: usize,
    succeeded: usize,
    /// The task whose cost rose most, relative to untouched, among long and among all tasks.
    worst: Option<&'a TaskSum>,
    worst_long: Option<&'a TaskSum>,
    /// Short tasks that cost more than untouched, and by how much in all.
    short_dearer: usize,
    short_extra: PicoUsd,
    /// Long tasks that cost over one percent more than untouched.
    long_dearer: usize,
}

fn ratio(task: &TaskSum) -> f64 {
    quotient(task.policy, task.untouched).unwrap_or(1.0)
}

/// One amount as a part of another; none of nothing.
pub(super) fn quotient(part: PicoUsd, whole: PicoUsd) -> Option<f64> {
    // Beyond 2^53 pico-dollars the last digits are lost, which no ratio shows.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
    let quotient = part.0 as f64 / whole.0 as f64;
    (whole != PicoUsd::ZERO).then_some(quotient)
}

impl<'a> Tasks<'a> {
    fn of(replayed: &'a Replayed<'_>) -> Self {
        let tasks = &replayed.sums.tasks;
        let success: HashMap<&str, bool> = replayed
            .recorded
            .iter()
            .map(|task| (task.id.as_str(), task.success == Some(true)))
            .collect();
        let worst = |wanted: &dyn Fn(&TaskSum) -> bool| {
            let chosen = tasks.iter().filter(|task| wanted(task));
            chosen.max_by(|one, other| ratio(one).total_cmp(&ratio(other)))
        };
        let is_long = |task: &TaskSum| task.calls >= LONG_TASK_CALLS;
        let dearer = tasks.iter().filter(|task| task.policy > task.untouched);
        let (long, short): (Vec<_>, Vec<_>) = dearer.partition(|task| is_long(task));
        Self {
            count: tasks.len(),
            succeeded: tasks
                .iter()
                .filter(|task| success.get(task.id.as_str()) == Some(&true))
                .count(),
            worst: worst(&|_| true),
            worst_long: worst(&is_long),
            short_dearer: short.len(),
            short_extra: short.iter().map(|task| task.policy - task.untouched).sum(),
            long_dearer: long.iter().filter(|task| ratio(task) > 1.01).count(),
        }
    }
}

/// Prints JSON.
pub(super) fn json(replayed: &Replayed<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let tasks = Tasks::of(replayed);
    let sums = &replayed.sums;
    let booked = replayed.booked;
    let levers: Map<String, Value> = sums
        .levers
        .iter()
        .map(|(lever, saved)| (lever.name().to_owned(), pico(*saved)))
        .collect();
    let task = |task: Option<&TaskSum>| {
        task.map(|task| json!({"id": task.id, "calls": task.calls, "ratio": ratio(task)}))
    };
    let value = json!({
        "model": format!("{}/{}", replayed.model.provider, replayed.model.id),
        "prices": replayed.prices,
        "calls": sums.calls + booked.calls,
        "thinking_blocks_unbound": sums.unbound,
        "calls_unpriced": booked.unknown,
        "tasks": tasks.count,
        "tasks_succeeded": tasks.succeeded,
        "untouched_pico_usd": pico(sums.untouched.cost + booked.untouched),
        "policy_pico_usd": pico(sums.policy.cost + booked.cost),
        "ideal_cache_pico_usd": pico(sums.ideal.cost),
        "ideal_cache_all_written_pico_usd": pico(sums.ideal_all_written.cost),
        "input_untouched_pico_usd": pico(sums.untouched.input_cost),
        "yardstick_every_block": yardstick(&replayed.yardstick),
        "routed": routed(replayed),
        "trimmed": replayed.trimmed.as_ref().map(|trimmed| trimmed.json(sums)),
        "levers": levers,
        "worst_task": task(tasks.worst),
        "worst_long_task": task(tasks.worst_long),
        "long_tasks_over_1_percent_dearer": tasks.long_dearer,
        "short_tasks_dearer": tasks.short_dearer,
        "short_tasks_extra_pico_usd": pico(tasks.short_extra),
        "tokens": {
            "untouched": tokens(&sums.untouched),
            "policy": tokens(&sums.policy),
            "ideal_cache": tokens(&sums.ideal),
        },
    });
    writeln!(out, "{value:#}")?;
    Ok(())
}

/// A serving trace does not say where messages end, so that published figures for such traces assume
/// a cache that reads at the end of every block and has no minimum; these compare with them.
fn yardstick(sums: &Sums) -> Value {
    if sums.calls == 0 {
        return Value::Null;
    }
    json!({
        "untouched_pico_usd": pico(sums.untouched.cost),
        "input_untouched_pico_usd": pico(sums.untouched.input_cost),
        "policy_pico_usd": pico(sums.policy.cost),
        "ideal_cache_pico_usd": pico(sums.ideal.cost),
        "ideal_cache_all_written_pico_usd": pico(sums.ideal_all_written.cost),
    })
}

/// With two targets: each alone, and the route lever between them.
fn routed(replayed: &Replayed<'_>) -> Value {
    let Some((second, sums)) = replayed.routed else {
        return Value::Null;
    };
    json!({
        "second": second,
        "first_alone_pico_usd": pico(sums.first),
        "second_alone_pico_usd": pico(sums.second),
        "routed_pico_usd": pico(sums.routed),
        "calls_at_second": sums.moved,
        "switches": sums.switches,
    })
}

fn routed_line(replayed: &Replayed<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some((second, sums)) = replayed.routed else {
        return Ok(());
    };
    let better = sums.first.min(sums.second);
    let beyond = quotient(sums.routed - better, better).unwrap_or(0.0) * 100.0;
    writeln!(
        out,
        "two targets: {} at {} alone, {} at {second} alone, {} with the route lever between them \
         ({beyond:+.2} % of the better one; {} of {} calls at {second}, {} switches)",
        sums.first,
        replayed.model.id,
        sums.second,
        sums.routed,
        sums.moved,
        sums.calls,
        sums.switches
    )?;
    Ok(())
}

pub(super) fn pico(amount: PicoUsd) -> Value {
    // No sum of real money comes near 2^63 pico-dollars (9.2 M USD); beyond, it is written as text.
    i64::try_from(amount.0).map_or_else(|_| Value::from(amount.0.to_string()), Value::from)
}

fn tokens(sum: &Sum) -> Value {
    let mut classes = Map::new();
    classes.insert("uncached".into(), sum.input.uncached.0.into());
    classes.insert("cache_read".into(), sum.input.read.0.into());
    for ttl in Ttl::ALL {
        classes.insert(
            format!("cache_write_{}", ttl.name()),
            sum.input.written.of(ttl).0.into(),
        );
    }
    classes.insert("output".into(), sum.output.0.into());
    Value::Object(classes)
}

/// Prints tables.
pub(super) fn table(replayed: &Replayed<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let tasks = Tasks::of(replayed);
    let sums = &replayed.sums;
    writeln!(
        out,
        "{} calls in {} tasks at {}/{} (prices {})\n",
        sums.calls, tasks.count, replayed.model.provider, replayed.model.id, replayed.prices
    )?;
    let untouched = sums.untouched.cost;
    let sides = [
        ("untouched", &sums.untouched),
        ("with policy", &sums.policy),
        ("ideal cache", &sums.ideal),
        ("ideal, all written", &sums.ideal_all_written),
    ];
    let rows = sides.map(|(name, sum)| {
        let saved = quotient(untouched - sum.cost, untouched).unwrap_or(0.0);
        vec![
            name.to_owned(),
            sum.input.uncached.to_string(),
            sum.input.read.to_string(),
            sum.input.written.total().to_string(),
            sum.output.to_string(),
            sum.cost.to_string(),
            format!("{:.1} %", saved * 100.0),
        ]
    });
    let figures = ["uncached", "read", "written", "output", "cost", "saved"];
    let heads: Vec<(&str, Set)> = [("", Set::Left)]
        .into_iter()
        .chain(figures.map(|head| (head, Set::Right)))
        .collect();
    write!(out, "{}", laid_out(&heads, &rows))?;
    let reached = quotient(untouched - sums.policy.cost, untouched - sums.ideal.cost);
    if let Some(reached) = reached {
        writeln!(
            out,
            "\n{:.2} % of what an ideal prefix cache saves",
            reached * 100.0
        )?;
    }
    let yardstick = &replayed.yardstick;
    for (name, sums) in [
        ("breakpoints, as the provider has them", sums),
        ("every block readable, no minimum", yardstick),
    ] {
        let saved = sums.untouched.cost - sums.policy.cost;
        let of_input = quotient(saved, sums.untouched.input_cost);
        let of_all = quotient(saved, sums.untouched.cost);
        if let (true, Some(of_input), Some(of_all)) = (yardstick.calls > 0, of_input, of_all) {
            writeln!(
                out,
                "{name}: {:.1} % of the input's cost saved, {:.1} % of the whole",
                of_input * 100.0,
                of_all * 100.0
            )?;
        }
    }
    for (lever, saved) in &sums.levers {
        writeln!(out, "lever {}: {saved} saved", lever.name())?;
    }
    routed_line(replayed, out)?;
    if let Some(trimmed) = &replayed.trimmed {
        trimmed.lines(sums, out)?;
    }
    task_lines(&tasks, replayed, out)
}

fn task_lines(
    tasks: &Tasks<'_>,
    replayed: &Replayed<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (untouched, policy) = (replayed.sums.untouched.cost, replayed.sums.policy.cost);
    let per = |cost: PicoUsd, count: usize| match i128::try_from(count) {
        Ok(count) if count > 0 => PicoUsd(cost.0 / count).to_string(),
        _ => "-".to_owned(),
    };
    writeln!(
        out,
        "per task: {} -> {}",
        per(untouched, tasks.count),
        per(policy, tasks.count)
    )?;
    if tasks.succeeded > 0 {
        let [before, after] = [untouched, policy].map(|cost| per(cost, tasks.succeeded));
        writeln!(
            out,
            "per successful task ({}): {before} -> {after}",
            tasks.succeeded
        )?;
    }
    if let Some(worst) = tasks.worst_long {
        let ratio = ratio(worst) * 100.0;
        writeln!(
            out,
            "worst task of {LONG_TASK_CALLS} calls or more: {} at {ratio:.1} % of untouched",
            worst.id
        )?;
    }
    if tasks.short_dearer > 0 {
        writeln!(
            out,
            "{} shorter tasks cost more than untouched, {} in all",
            tasks.short_dearer, tasks.short_extra
        )?;
    }
    let booked = replayed.booked;
    if booked.calls + booked.unknown > 0 {
        writeln!(
            out,
            "exported: {} calls cost {} and would have cost {} untouched; {} more without a price",
            booked.calls, booked.cost, booked.untouched, booked.unknown
        )?;
    }
    Ok(())
}
