//! `cargo xtask test`: everything that guards the main branch, in one command.
//!
//! **Invariant**: `.ci/run` calls this and nothing else, so that CI cannot know more than a
//! contributor can.

use std::process::Command;

use crate::cargo::{answers, cargo, outcome, target};
use crate::outcome::Outcome;
use crate::steps::Steps;
use crate::tree::root;
use crate::{check, compat, deny};

/// All steps, even after one failed: the table shows the whole picture.
pub(crate) fn run(steps: &mut Steps, _arguments: &[String]) {
    check::run(steps, &[]);
    if answers("cargo", &["nextest", "--version"]) {
        let nextest = ["nextest", "run", "--workspace", "--no-fail-fast"];
        let what = "cargo nextest run: units, properties, transcripts";
        steps.step("tests", what, || outcome(&mut cargo(&nextest)));
    } else {
        let tests = [
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            "--quiet",
        ];
        let what = "cargo test: units, properties, transcripts";
        steps.step("tests", what, || outcome(&mut cargo(&tests)));
    }
    let documented = ["test", "--workspace", "--doc", "--quiet"];
    steps.step("doc tests", "cargo test --workspace --doc", || {
        outcome(&mut cargo(&documented))
    });
    let benches = ["check", "--quiet", "--manifest-path", "bench/Cargo.toml"];
    steps.step("benches", "cargo check in bench/", || {
        outcome(cargo(&benches).env("CARGO_TARGET_DIR", target()))
    });
    let release = ["build", "--release", "--quiet", "--package", "cli"];
    steps.step("release", "cargo build --release", || {
        outcome(&mut cargo(&release))
    });
    steps.step("demo", "tokenwise demo", demo);
    compat::run(steps, &[]);
    deny::run(steps, &[]);
}

/// The demo needs no key, network or service, so a failure is ours.
fn demo() -> Outcome {
    outcome(
        Command::new(target().join("release/tokenwise"))
            .arg("demo")
            .current_dir(root()),
    )
}
