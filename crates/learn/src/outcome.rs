//! Outcomes: what is known of how targets answered recorded queries.
//!
//! **Invariant**: a row's group and segment are numbered in the order in which they were met, so that
//! nothing depends on names (test `an_answer_is_adequate_beside_the_best`).

use std::collections::BTreeMap;

/// How one target answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// 0..=1.
    pub score: f64,
    /// What the call cost, in USD; unknown for some.
    pub cost_usd: Option<f64>,
}

/// One recorded query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Names it in predictions.
    pub id: String,
    /// Near-duplicates share a group and stay on one side of any split.
    pub group: String,
    /// The kind of traffic: a route, a key, a task.
    pub segment: String,
    /// What the user wrote.
    pub text: String,
    /// By target.
    pub outcomes: BTreeMap<String, Outcome>,
}

impl Row {
    /// The mean score over all targets that answered: how easy the query is.
    #[expect(clippy::cast_precision_loss, reason = "a handful of targets")]
    pub fn ease(&self) -> f64 {
        let sum: f64 = self.outcomes.values().map(|it| it.score).sum();
        sum / self.outcomes.len().max(1) as f64
    }
}

/// Whether a weaker answer is good enough beside a stronger one: as good, or at least half right.
pub fn is_adequate(weak: f64, strong: f64) -> bool {
    weak >= strong.min(0.5) && weak > 0.0
}

/// Numbers names in the order in which they are met.
pub fn numbered<'name>(names: impl Iterator<Item = &'name str>) -> (Vec<usize>, Vec<&'name str>) {
    let (mut known, mut list) = (BTreeMap::new(), Vec::new());
    let numbers = names.map(|name| {
        *known.entry(name).or_insert_with(|| {
            list.push(name);
            list.len() - 1
        })
    });
    let numbers = numbers.collect();
    (numbers, list)
}

#[cfg(test)]
mod tests {
    use super::{is_adequate, numbered};

    #[test]
    fn an_answer_is_adequate_beside_the_best() {
        for (weak, strong, expect) in [
            (1.0, 1.0, true),
            (0.0, 1.0, false),
            (0.0, 0.0, false),
            (0.5, 0.9, true),
            (0.2, 0.1, true),
        ] {
            assert_eq!(is_adequate(weak, strong), expect, "{weak} beside {strong}");
        }
        assert_eq!(numbered(["b", "a", "b"].into_iter()).0, [0, 1, 0]);
    }
}
