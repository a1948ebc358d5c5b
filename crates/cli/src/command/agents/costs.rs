//! What tasks cost: each, each that succeeded, and how unevenly.
//!
//! **Invariant**: files add up to the whole (test `parts_add_up` in `policy::agents::costs`).

use std::collections::BTreeMap;

use policy::agents::costs::{Costs, Ending, Task};
use policy::money::PicoUsd;
use serde_json::{Value, json};

use super::read::{Classes, Run};
use crate::print::amount::{count, known, pico, pico_known, share};
use crate::print::table::{Set, table};

/// What a set of runs cost.
struct Figures {
    costs: Costs,
    tokens: Classes,
}

impl Figures {
    fn of<'run>(runs: impl Iterator<Item = &'run Run> + Clone) -> Self {
        let task = |run: &Run| Task {
            cost: run.cost(),
            calls: u64::try_from(run.costs.len()).unwrap_or(u64::MAX),
            ending: match run.succeeded {
                Some(true) => Ending::Succeeded,
                Some(false) => Ending::Failed,
                None => Ending::Unknown,
            },
        };
        Self {
            costs: Costs::of(runs.clone().map(task)),
            tokens: runs.fold(Classes::default(), |sum, run| sum.plus(run.tokens)),
        }
    }
}

/// By file, and all.
fn figures(runs: &[Run]) -> Vec<(String, Figures)> {
    let mut files: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        files.entry(&run.file).or_default().push(run);
    }
    let each = files
        .into_iter()
        .map(|(file, runs)| (file.to_owned(), Figures::of(runs.into_iter())));
    each.chain([("all".to_owned(), Figures::of(runs.iter()))])
        .collect()
}

/// For people.
pub(super) fn text(runs: &[Run]) -> String {
    let heads = [
        "tasks",
        "calls",
        "cost USD",
        "a task",
        "a success",
        "p50",
        "p90",
        "p99",
        "top tenth",
        "on failures",
        "uncached",
        "read",
        "written",
        "output",
    ];
    let heads: Vec<(&str, Set)> = std::iter::once(("file", Set::Left))
        .chain(heads.map(|head| (head, Set::Right)))
        .collect();
    let row = |(file, Figures { costs, tokens }): &(String, Figures)| {
        let usd = |amount: Option<PicoUsd>| known(amount);
        vec![
            file.clone(),
            count(costs.all.tasks),
            count(costs.calls),
            costs.all.cost.to_string(),
            usd(costs.per_task()),
            usd(costs.per_success()),
            usd(costs.quantile(500)),
            usd(costs.quantile(900)),
            usd(costs.quantile(990)),
            share(costs.top_tenth(), costs.all.cost),
            share(costs.failed.cost, costs.succeeded.cost + costs.failed.cost),
            count(tokens.uncached),
            count(tokens.read),
            count(tokens.written),
            count(tokens.output),
        ]
    };
    let rows: Vec<_> = figures(runs).iter().map(row).collect();
    format!(
        "What tasks cost, and tokens by class\n{}\n",
        table(&heads, &rows)
    )
}

/// As JSON.
pub(super) fn json(runs: &[Run]) -> Value {
    let figures = figures(runs);
    let each = figures.iter().map(|(file, Figures { costs, tokens })| {
        let part = |part: policy::agents::costs::Part| json!({"tasks": part.tasks, "pico_usd": pico(part.cost)});
        let value = json!({
            "tasks": costs.all.tasks,
            "calls": costs.calls,
            "pico_usd": pico(costs.all.cost),
            "succeeded": part(costs.succeeded),
            "failed": part(costs.failed),
            "unknown": part(costs.unknown),
            "per_task_pico_usd": pico_known(costs.per_task()),
            "per_success_pico_usd": pico_known(costs.per_success()),
            "p50_pico_usd": pico_known(costs.quantile(500)),
            "p90_pico_usd": pico_known(costs.quantile(900)),
            "p99_pico_usd": pico_known(costs.quantile(990)),
            "top_tenth_pico_usd": pico(costs.top_tenth()),
            "tokens": {
                "uncached": tokens.uncached, "cache_read": tokens.read,
                "cache_write": tokens.written, "output": tokens.output,
            },
        });
        (file.clone(), value)
    });
    Value::Object(each.collect())
}
