//! Runs cargo and other programs from the root of the repository.
//!
//! **Invariant**: a program that cannot be started is told from one that failed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::outcome::Outcome;
use crate::source::functions;
use crate::tree::{Tree, root};

/// A cargo command over the whole workspace, with the cargo that started us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command in the foreground; its output is the person's to read.
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::passed(""),
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!(
            "cannot start {}: {error}",
            command.get_program().display()
        )),
    }
}

/// Runs a command in the foreground; the error says which command failed.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    match outcome(command) {
        Outcome::Passed(_) => Ok(()),
        Outcome::Skipped(why) | Outcome::Failed(why) => Err(format!("{}: {why}", shown(command))),
    }
}

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a program is installed: whether it answers to these arguments.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the tests of the workspace with a word in their name; it is a failure if there are none.
pub(crate) fn tests_named(word: &str, variables: &[(&str, &str)]) -> Outcome {
    let tree = match Tree::read(&root()) {
        Ok(tree) => tree,
        Err(why) => return Outcome::Failed(why),
    };
    let functions = tree.rust().flat_map(|file| functions(&file.code));
    match functions
        .filter(|function| function.name.contains(word))
        .count()
    {
        0 => Outcome::Failed(format!("no test has `{word}` in its name")),
        _ => outcome(
            cargo(&["test", "--workspace", "--quiet", word]).envs(variables.iter().copied()),
        ),
    }
}

/// The folder that holds what is built: where this very program was built, two folders up.
pub(crate) fn target() -> PathBuf {
    let built = std::env::current_exe().ok();
    let target = built.as_deref().and_then(|path| path.parent()?.parent());
    target.map_or_else(|| root().join("target"), PathBuf::from)
}
