//! `cargo xtask check`: what can be said in a minute, without running the product.
//!
//! **Invariant**: its steps are the first steps of `test`, so that a tree that fails here fails there.

use crate::cargo::{cargo, outcome};
use crate::steps::Steps;
use crate::{tidy, typos};

/// Format, tidy, spelling, lints: the cheapest first.
pub(crate) fn run(steps: &mut Steps, _arguments: &[String]) {
    steps.step("fmt", "cargo fmt --all --check", || {
        outcome(&mut cargo(&["fmt", "--all", "--check"]))
    });
    steps.step("tidy", "rules of xtask/src/tidy", tidy::run);
    typos::run(steps);
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let what = "cargo clippy --workspace --all-targets -- -D warnings";
    steps.step("clippy", what, || outcome(&mut cargo(&clippy)));
}
