//! `cargo xtask bench`: the side-by-side with other gateways, which is a workspace of its own.
//!
//! **Invariant**: the product's lock file and build never see what the benches depend on.

use std::process::Command;

use crate::cargo::outcome;
use crate::steps::Steps;
use crate::tree::root;

/// Runs `bench/run.sh`, which builds what it needs, with the arguments given.
pub(crate) fn run(steps: &mut Steps, arguments: &[String]) {
    let mut command = Command::new("bash");
    command
        .arg("bench/run.sh")
        .args(arguments)
        .current_dir(root());
    steps.step("bench", "bash bench/run.sh", || outcome(&mut command));
}
