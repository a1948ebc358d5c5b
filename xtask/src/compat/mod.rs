//! `cargo xtask compat`: the official SDKs, driven through the real binary against a simulated provider.
//!
//! Every scenario of `compat/` runs twice, straight to the simulator and through the gateway; both
//! times the SDK must have parsed the same objects.
//!
//! **Invariant**: SDK versions are pinned, and a language that cannot be driven here is a visible
//! row of the table (test `a_binary_must_be_built_or_named`).

mod sdk;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{outcome, target};
use crate::outcome::Outcome;
use crate::steps::Steps;
use crate::tree::root;
use sdk::{KITS, Kit};
use server::Stage;

/// Drives each language's SDKs; `--binary PATH` chooses another binary than the newest build.
pub(crate) fn run(steps: &mut Steps, arguments: &[String]) {
    let place = steps.place();
    let binary = binary(arguments, &target());
    for kit in KITS {
        steps.step(kit.step, kit.what, || {
            let binary = match &binary {
                Ok(binary) => binary,
                Err(why) => return Outcome::Failed(why.clone()),
            };
            match kit.install(&folder()) {
                Ok(()) => drive(kit, binary).into(),
                Err(why) => place.missing(why),
            }
        });
    }
}

/// Where SDKs are installed and results are kept.
fn folder() -> PathBuf {
    target().join("compat")
}

/// The binary named by the arguments, else the newer of the release and debug builds.
fn binary(arguments: &[String], target: &Path) -> Result<PathBuf, String> {
    if let Some(position) = arguments.iter().position(|argument| argument == "--binary") {
        return match arguments.get(position + 1) {
            // The servers run in a folder of their own, where a relative path leads elsewhere.
            Some(path) => std::path::absolute(path).map_err(|error| format!("{path}: {error}")),
            None => Err("--binary names nothing; give the path of a tokenwise binary".to_owned()),
        };
    }
    let builds = ["release", "debug"].map(|profile| target.join(profile).join("tokenwise"));
    let built = builds
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)));
    let newest = built.max_by_key(|(modified, _)| *modified);
    newest.map(|(_, path)| path).ok_or_else(|| {
        format!(
            "no tokenwise binary in {}; build it first (cargo build --release)",
            target.display()
        )
    })
}

/// Runs the scenarios of a language both ways and compares what the SDKs parsed.
fn drive(kit: &Kit, binary: &Path) -> Result<String, String> {
    let results = folder().join("results");
    fs::create_dir_all(&results)
        .map_err(|error| format!("cannot create {}: {error}", results.display()))?;
    let stage = Stage::open(binary, &results)?;
    let mut names = Vec::new();
    for (name, dialect, driver) in kit.drivers {
        for (via, base, key) in [
            ("direct", stage.simulator_address(), server::PROVIDER_KEY),
            ("gateway", stage.gateway_address(), stage.client_key()),
        ] {
            let base = format!("{base}{}", dialect.base_path());
            let file = results.join(format!("{name}.{via}.jsonl"));
            let out = fs::File::create(&file)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            let mut command = kit.driver(&folder(), driver);
            command
                .args([via, &base, key])
                .stdin(Stdio::null())
                .stdout(out);
            if let Outcome::Failed(why) = outcome(&mut command) {
                return Err(format!(
                    "{driver} via {via}: {why}; see {}",
                    results.display()
                ));
            }
        }
        names.push(*name);
    }
    let mut compare = Command::new("python3");
    compare
        .arg(root().join("compat/compare.py"))
        .arg(&results)
        .args(&names);
    match outcome(&mut compare) {
        Outcome::Passed(_) => Ok(names.join(", ")),
        Outcome::Skipped(why) | Outcome::Failed(why) => Err(format!(
            "scenarios listed above ({why}); logs and objects in {}",
            results.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::binary;
    use std::path::Path;

    #[test]
    fn a_binary_must_be_built_or_named() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let nowhere = Path::new("no-such-folder");
        assert!(
            binary(&words(&[]), nowhere)
                .unwrap_err()
                .contains("build it first")
        );
        assert!(
            binary(&words(&["--binary"]), nowhere)
                .unwrap_err()
                .contains("names nothing")
        );
        let named = binary(&words(&["--binary", "x"]), nowhere).unwrap();
        assert!(named.is_absolute() && named.ends_with("x"), "{named:?}");
    }
}
