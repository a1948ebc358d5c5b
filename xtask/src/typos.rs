//! Spelling, by the word list of `typos.toml`.
//!
//! **Invariant**: the version is pinned, so that a new word list does not fail an old commit.

use std::process::Command;

use crate::cargo::{answers, outcome, succeed, target};
use crate::steps::Steps;
use crate::tree::root;

/// The checker as the Python registry packages it.
const PACKAGE: &str = "typos==1.52.0";

/// Checks the tree with `typos`, which is installed into the target folder when missing.
pub(crate) fn run(steps: &mut Steps) {
    let place = steps.place();
    steps.step("typos", "typos", || match install() {
        Ok(program) => outcome(Command::new(program).current_dir(root())),
        Err(why) => place.missing(why),
    });
}

fn install() -> Result<String, String> {
    let folder = target().join("typos");
    let program = folder.join("bin/typos").to_string_lossy().into_owned();
    if !answers(&program, &["--version"]) {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        succeed(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ]))?;
    }
    Ok(program)
}
