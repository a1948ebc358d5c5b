//! `cargo xtask transcripts`: the stories in which the whole gateway speaks over real connections.
//!
//! **Invariant**: expectations are rewritten only when asked with `--update`, for the diff to be
//! reviewed as prose.

use crate::cargo::tests_named;
use crate::steps::Steps;

/// Runs the tests with `transcript` in their name.
pub(crate) fn run(steps: &mut Steps, arguments: &[String]) {
    let update = arguments.iter().any(|argument| argument == "--update");
    let (what, variables): (_, &[_]) = if update {
        (
            "UPDATE=1 cargo test --workspace transcript",
            &[("UPDATE", "1")],
        )
    } else {
        ("cargo test --workspace transcript", &[])
    };
    steps.step("transcripts", what, || tests_named("transcript", variables));
}
