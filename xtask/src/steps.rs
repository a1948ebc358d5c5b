//! Runs steps one after another and closes with a table of what ran, for how long, and how it ended.
//!
//! **Invariant**: every step that was started is a row, and the last line counts them all (test
//! `a_run_ends_with_its_counts`).

use std::process::ExitCode;
use std::time::Instant;

use crate::outcome::Outcome;

/// Where the command runs, which decides whether a missing tool may be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A person's machine: what cannot run here is skipped, visibly.
    Machine,
    /// Continuous integration: what cannot run is a failure.
    Ci,
}

impl Place {
    /// How a step ends whose tool is missing although it can be installed.
    pub(crate) fn missing(self, why: impl Into<String>) -> Outcome {
        match self {
            Self::Machine => Outcome::Skipped(why.into()),
            Self::Ci => Outcome::Failed(why.into()),
        }
    }
}

/// The steps of one run.
#[derive(Debug)]
pub(crate) struct Steps {
    place: Place,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    what: String,
    seconds: f64,
    outcome: Outcome,
}

/// Reads `CI`, which every common CI service sets.
#[expect(
    clippy::disallowed_methods,
    reason = "the only variable of xtask; `cli/src/env.rs` is for the product"
)]
pub(crate) fn place() -> Place {
    match std::env::var_os("CI") {
        Some(value) if !value.is_empty() && value != "false" && value != "0" => Place::Ci,
        _ => Place::Machine,
    }
}

impl Steps {
    /// No step yet.
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            rows: Vec::new(),
        }
    }

    /// Runs a step; `what` is the command or the work, for the table.
    #[expect(
        clippy::disallowed_methods,
        reason = "times a step for the table; nothing is decided by it"
    )]
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        what: &str,
        action: impl FnOnce() -> Outcome,
    ) {
        say!("\n--- {name}: {what}");
        let start = Instant::now();
        let outcome = action();
        let seconds = start.elapsed().as_secs_f64();
        say!("--- {name}: {outcome}");
        self.rows.push(Row {
            name,
            what: what.to_owned(),
            seconds,
            outcome,
        });
    }

    /// Where the steps run.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Prints the table; failure if any step failed.
    pub(crate) fn finish(self) -> ExitCode {
        say!("\n{}", table(&self.rows));
        let failed = self
            .rows
            .iter()
            .any(|row| matches!(row.outcome, Outcome::Failed(_)));
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn table(rows: &[Row]) -> String {
    let width = |cell: fn(&Row) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let name_width = width(|row| row.name.chars().count());
    let what_width = width(|row| row.what.chars().count());
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for row in rows {
        let Row {
            name,
            what,
            seconds,
            outcome,
        } = row;
        match outcome {
            Outcome::Passed(_) => passed += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::Skipped(_) => skipped += 1,
        }
        lines.push(format!(
            "{name:<name_width$}  {what:<what_width$}  {seconds:>7.1} s  {outcome}"
        ));
    }
    let skipped = if skipped == 0 {
        String::new()
    } else {
        format!(", {skipped} skipped")
    };
    lines.push(format!("\n{passed} passed, {failed} failed{skipped}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Place, Steps, table};

    #[test]
    fn a_run_ends_with_its_counts() {
        let mut steps = Steps::new(Place::Machine);
        steps.step("fmt", "cargo fmt", || Outcome::passed(""));
        steps.step("compat", "npm", || Place::Machine.missing("no npm"));
        assert!(table(&steps.rows).ends_with("\n\n1 passed, 0 failed, 1 skipped"));
        steps.step("deny", "cargo deny", || Outcome::Failed("a licence".into()));
        let text = table(&steps.rows);
        assert!(
            text.ends_with("\n\n1 passed, 1 failed, 1 skipped"),
            "{text}"
        );
        assert!(text.contains("skipped: no npm"), "{text}");
    }

    #[test]
    fn a_missing_tool_fails_in_ci_only() {
        let why = || "no npm".to_owned();
        assert_eq!(Place::Machine.missing(why()), Outcome::Skipped(why()));
        assert_eq!(Place::Ci.missing(why()), Outcome::Failed(why()));
    }
}
