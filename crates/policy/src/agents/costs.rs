//! What tasks cost: per task and per task that succeeded, and how unevenly.
//!
//! **Invariant**: the total is the sum of the tasks, to the pico-dollar, and so is the sum of what
//! succeeded, failed and is unknown (test `parts_add_up`).

use crate::money::PicoUsd;

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It was done.
    Succeeded,
    /// It was not.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// What it cost.
    pub cost: PicoUsd,
    /// Its calls.
    pub calls: u64,
    /// What became of it.
    pub ending: Ending,
}

/// Tasks of one ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub tasks: u64,
    /// What they cost together.
    pub cost: PicoUsd,
}

/// What a set of tasks costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// All.
    pub all: Part,
    /// Calls of all.
    pub calls: u64,
    /// Those that succeeded.
    pub succeeded: Part,
    /// Those that failed.
    pub failed: Part,
    /// Those of which nobody knows.
    pub unknown: Part,
    /// Costs, ascending.
    sorted: Vec<PicoUsd>,
}

impl Costs {
    /// Of these tasks.
    pub fn of(tasks: impl IntoIterator<Item = Task>) -> Self {
        let mut costs = Self::default();
        for task in tasks {
            let part = match task.ending {
                Ending::Succeeded => &mut costs.succeeded,
                Ending::Failed => &mut costs.failed,
                Ending::Unknown => &mut costs.unknown,
            };
            for part in [part, &mut costs.all] {
                part.tasks += 1;
                part.cost += task.cost;
            }
            costs.calls += task.calls;
            costs.sorted.push(task.cost);
        }
        costs.sorted.sort_unstable();
        costs
    }

    /// The mean of a task, rounded down; none of no tasks.
    pub fn per_task(&self) -> Option<PicoUsd> {
        self.all
            .cost
            .0
            .checked_div(i128::from(self.all.tasks))
            .map(PicoUsd)
    }

    /// What one success costs, failed attempts included, rounded down; none without a success, or if
    /// nobody knows how some ended.
    pub fn per_success(&self) -> Option<PicoUsd> {
        let known = self.unknown.tasks == 0;
        let mean = self
            .all
            .cost
            .0
            .checked_div(i128::from(self.succeeded.tasks));
        mean.filter(|_| known).map(PicoUsd)
    }

    /// The cost that so many of a thousand tasks do not exceed.
    pub fn quantile(&self, permille: usize) -> Option<PicoUsd> {
        let rank = (self.sorted.len() * permille).div_ceil(1_000).max(1);
        self.sorted.get(rank - 1).copied()
    }

    /// What the dearest tenth costs together, at least one task.
    pub fn top_tenth(&self) -> PicoUsd {
        let count = self.sorted.len().div_ceil(10);
        self.sorted.iter().rev().take(count).copied().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::{Costs, Ending, Task};
    use crate::money::PicoUsd;

    fn task(cost: i128, ending: Ending) -> Task {
        Task {
            cost: PicoUsd(cost),
            calls: 2,
            ending,
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(rows in prop::collection::vec((0..1_i128 << 50, 0..3_u8), 1..200)) {
            let ending = |of: u8| match of {
                0 => Ending::Succeeded,
                1 => Ending::Failed,
                _ => Ending::Unknown,
            };
            let costs = Costs::of(rows.iter().map(|(cost, of)| task(*cost, ending(*of))));
            let parts = [costs.succeeded, costs.failed, costs.unknown];
            let total: PicoUsd = rows.iter().map(|(cost, _)| PicoUsd(*cost)).sum();
            prop_assert_eq!(costs.all.cost, total);
            prop_assert_eq!(parts.iter().map(|part| part.cost).sum::<PicoUsd>(), total);
            prop_assert_eq!(parts.iter().map(|part| part.tasks).sum::<u64>(), rows.len() as u64);
            let quantiles = [500, 900, 990, 1_000].map(|permille| costs.quantile(permille));
            prop_assert!(quantiles.is_sorted());
            prop_assert!(costs.top_tenth() <= total);
        }
    }

    #[test]
    fn failures_are_paid_by_successes() {
        let rows = [
            (10, Ending::Succeeded),
            (30, Ending::Failed),
            (50, Ending::Failed),
        ];
        let costs = Costs::of(rows.map(|(cost, ending)| task(cost, ending)));
        assert_eq!(costs.per_task(), Some(PicoUsd(30)));
        assert_eq!(costs.per_success(), Some(PicoUsd(90)));
        assert_eq!(costs.quantile(500), Some(PicoUsd(30)));
        assert_eq!(costs.top_tenth(), PicoUsd(50));
        let unknown = Costs::of([task(10, Ending::Unknown), task(10, Ending::Succeeded)]);
        assert_eq!(unknown.per_success(), None);
        assert_eq!(Costs::of([]).quantile(500), None);
    }
}
