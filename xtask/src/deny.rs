//! `cargo xtask deny`: what the dependencies bring along, by the rules of `deny.toml`.
//!
//! **Invariant**: the banned packages are also checked by tidy, so that a machine without
//! `cargo-deny` still refuses them (test `banned_packages_are_faults`).

use crate::cargo::{answers, cargo, outcome};
use crate::outcome::Outcome;
use crate::steps::Steps;

/// Licences, bans and sources, then advisories, which need a database from the network.
pub(crate) fn run(steps: &mut Steps, _arguments: &[String]) {
    // `cargo install cargo-deny` builds for longer than all other steps together, so it is not
    // installed on the fly, and its absence is a skip everywhere.
    if !answers("cargo", &["deny", "--version"]) {
        let why =
            "cargo-deny is not installed (cargo install cargo-deny); tidy has checked Cargo.lock";
        steps.step("deny", "cargo deny check", || {
            Outcome::Skipped(why.to_owned())
        });
        return;
    }
    let offline = [
        "deny",
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ];
    steps.step("deny", "cargo deny check bans licenses sources", || {
        outcome(&mut cargo(&offline))
    });
    let fetched = answers("cargo", &["deny", "--workspace", "fetch", "db"]);
    steps.step("advisories", "cargo deny check advisories", || {
        if fetched {
            outcome(&mut cargo(&["deny", "--workspace", "check", "advisories"]))
        } else {
            Outcome::Skipped("the advisory database cannot be fetched from here".to_owned())
        }
    });
}
