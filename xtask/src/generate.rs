//! `cargo xtask gen`: rewrites the files that are made from the code.
//!
//! **Invariant**: the tests that compare such a file with the code are the ones that write it, so
//! what is generated and what is checked cannot differ.

use crate::cargo::tests_named;
use crate::steps::Steps;

/// Runs the drift tests (each has `generated` in its name) with `UPDATE=1`, which makes them write.
pub(crate) fn run(steps: &mut Steps, _arguments: &[String]) {
    let what = "UPDATE=1 cargo test --workspace generated";
    steps.step("gen", what, || tests_named("generated", &[("UPDATE", "1")]));
}
