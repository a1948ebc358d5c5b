//! What recorded outcomes of the same tasks say of a cheaper model: the most that moving calls could
//! save.
//!
//! **Invariant**: two models are compared on the tasks that both did, and nothing is said of fewer
//! than [`TASKS_MIN`] (test `common_tasks_are_compared`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy::money::Price;
use policy::prices::PriceBook;
use wire::usage::Tokens;

use crate::command::{now, think::read_lines};

/// 20 tasks: below, one task more or less moves the share by over five points.
const TASKS_MIN: usize = 20;

/// A cheaper model beside the best one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) strong: String,
    pub(super) weak: String,
    /// Tasks that both did.
    pub(super) tasks: u64,
    /// Those in which the weaker one succeeded as often.
    pub(super) as_good: u64,
}

/// For each model the runs of each task: successes and all.
type Runs = BTreeMap<String, BTreeMap<String, (u32, u32)>>;

/// The cheapest model of these files beside the best one that did the same tasks better.
pub(super) fn pair(files: &[PathBuf]) -> anyhow::Result<Option<Pair>> {
    let mut runs = Runs::new();
    for file in files {
        read_lines(file, |line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            if let Some(succeeded) = line["success"].as_bool() {
                let tasks = runs.entry(text("model")).or_default();
                let task = tasks.entry(text("task_id")).or_default();
                task.0 += u32::from(succeeded);
                task.1 += 1;
            }
            Ok(())
        })?;
    }
    Ok(paired(&runs, price))
}

/// What a million tokens of output cost; none if the price book does not know the model.
fn price(model: &str) -> Option<Price> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let model = PriceBook::built_in().find_any(name)?;
    let rates = model.rates(now(), Tokens(0), None).ok()?;
    rates.output
}

fn paired(runs: &Runs, price: impl Fn(&str) -> Option<Price>) -> Option<Pair> {
    let rate = |(won, all): (u32, u32)| f64::from(won) / f64::from(all.max(1));
    let priced = runs
        .iter()
        .filter_map(|(name, tasks)| Some((price(name)?, name, tasks)));
    let mut models: Vec<_> = priced.collect();
    models.sort_by_key(|(price, name, _)| (*price, *name));
    models.iter().find_map(|(least, weak, weak_tasks)| {
        let mut best: Option<(f64, Pair)> = None;
        for (_, strong, strong_tasks) in models.iter().filter(|(price, ..)| price > least) {
            let both = weak_tasks.iter();
            let both = both.filter_map(|(task, weak)| Some((*weak, *strong_tasks.get(task)?)));
            let rates: Vec<(f64, f64)> = both
                .map(|(weak, strong)| (rate(weak), rate(strong)))
                .collect();
            let (weaker, stronger) = rates.iter().fold((0.0, 0.0), |sum, (weak, strong)| {
                (sum.0 + weak, sum.1 + strong)
            });
            let mean = stronger / f64::from(u32::try_from(rates.len().max(1)).unwrap_or(u32::MAX));
            let is_best = best.as_ref().is_none_or(|(known, _)| mean > *known);
            if rates.len() >= TASKS_MIN && stronger > weaker && is_best {
                let as_good = rates.iter().filter(|(weak, strong)| weak >= strong).count();
                let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
                let pair = Pair {
                    strong: (*strong).clone(),
                    weak: (*weak).clone(),
                    tasks: size(rates.len()),
                    as_good: size(as_good),
                };
                best = Some((mean, pair));
            }
        }
        best.map(|(_, pair)| pair)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use policy::money::Price;

    use super::{Runs, paired};

    #[test]
    fn common_tasks_are_compared() {
        let tasks = |of: std::ops::Range<usize>, won: fn(usize) -> u32| -> BTreeMap<_, _> {
            of.map(|task| (task.to_string(), (won(task), 1))).collect()
        };
        let runs = Runs::from([
            ("strong".to_owned(), tasks(0..40, |_| 1)),
            (
                "weak".to_owned(),
                tasks(10..50, |task| u32::from(task % 3 > 0)),
            ),
            ("elsewhere".to_owned(), tasks(40..80, |_| 0)),
        ]);
        let price = |name: &str| {
            let usd = u64::from(name == "strong") * 10 + u64::from(name == "weak");
            Some(Price::from_micro_usd_per_mtok(usd))
        };
        let pair = paired(&runs, price).expect("two that did the same");
        assert_eq!(
            (pair.weak.as_str(), pair.tasks, pair.as_good),
            ("weak", 30, 20)
        );
        assert_eq!(paired(&runs, |_| Some(Price::default())), None);
    }
}
