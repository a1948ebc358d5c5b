//! `cargo xtask dist`: a release for what runs for long, optimised by what a demo does.
//!
//! **Invariant**: the two builds differ in nothing but the profile, for one describes the code of the
//! other (test `only_the_profile_differs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::{answers, cargo, succeed, target};
use crate::steps::Steps;
use crate::tree::root;

/// Demos that are profiled: each takes seconds, and three make rare paths less rare.
const DEMOS: usize = 3;

/// Builds, runs demos, and builds anew with their profile.
pub(crate) fn run(steps: &mut Steps, _arguments: &[String]) {
    let what = "cargo build --release, by a profile of `tokenwise demo`";
    let place = steps.place();
    steps.step("dist", what, || match tools() {
        Err(missing) => place.missing(missing),
        Ok(tools) => build(&tools)
            .map(|binary| binary.display().to_string())
            .into(),
    });
}

/// What the compiler itself brings.
struct Tools {
    host: String,
    profdata: PathBuf,
}

fn tools() -> Result<Tools, String> {
    let host = said("rustc", &["--print", "host-tuple"])?;
    let sysroot = PathBuf::from(said("rustc", &["--print", "sysroot"])?);
    let profdata = sysroot.join(format!("lib/rustlib/{host}/bin/llvm-profdata"));
    if answers(&profdata.to_string_lossy(), &["--version"]) {
        return Ok(Tools { host, profdata });
    }
    Err(
        "no llvm-profdata (rustup component add llvm-tools); without a profile: \
         cargo build --release"
            .to_owned(),
    )
}

fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("cannot start {program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().to_owned())
}

/// The place of the finished binary.
fn build(tools: &Tools) -> Result<PathBuf, String> {
    let (target, raw) = (target(), target().join("profile"));
    // Counts of another build would not fit this one.
    drop(std::fs::remove_dir_all(&raw));
    let counting = target.join("counting");
    let generate = format!("-Cprofile-generate={}", raw.display());
    succeed(&mut built(tools, &counting, &generate))?;
    for _ in 0..DEMOS {
        let demo = binary(tools, &counting);
        succeed(Command::new(demo).arg("demo").current_dir(root()))?;
    }
    let merged = raw.join("merged.profdata");
    let mut merge = Command::new(&tools.profdata);
    merge.arg("merge").arg("--output").arg(&merged).arg(&raw);
    succeed(&mut merge)?;
    let profiled = target.join("profiled");
    let apply = format!("-Cprofile-use={}", merged.display());
    succeed(&mut built(tools, &profiled, &apply))?;
    let finished = target.join("dist").join("tokenwise");
    let copied = std::fs::create_dir_all(target.join("dist"))
        .and_then(|()| std::fs::copy(binary(tools, &profiled), &finished));
    copied.map_err(|error| format!("{}: {error}", finished.display()))?;
    Ok(finished)
}

/// A build with one more flag. A target is named, so that build scripts are built without it.
fn built(tools: &Tools, folder: &Path, flag: &str) -> Command {
    let mut command = cargo(&["build", "--release", "--package", "cli", "--target"]);
    command.arg(&tools.host);
    command
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", flag);
    command
}

fn binary(tools: &Tools, folder: &Path) -> PathBuf {
    folder.join(&tools.host).join("release").join("tokenwise")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Tools, built};

    #[test]
    fn only_the_profile_differs() {
        let tools = Tools {
            host: "x86_64-unknown-linux-gnu".to_owned(),
            profdata: PathBuf::from("llvm-profdata"),
        };
        let [counting, profiled] = ["generate", "use"].map(|what| {
            let command = built(&tools, Path::new(what), &format!("-Cprofile-{what}=p"));
            let names: Vec<String> = command
                .get_envs()
                .map(|(name, _)| name.to_string_lossy().into_owned())
                .collect();
            (format!("{:?}", command.get_args()), names)
        });
        assert_eq!(counting, profiled);
        assert!(counting.0.contains("release"), "{counting:?}");
    }
}
