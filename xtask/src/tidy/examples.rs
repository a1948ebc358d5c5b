//! Every example configuration is parsed by a test.
//!
//! **Invariant**: a file in `examples/` whose name no test says is a fault (test
//! `unnamed_examples_are_faults`).

use super::{Fault, fault};
use crate::tree::{File, Tree};

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let examples = tree
        .files
        .iter()
        .filter(|file| file.path.starts_with("examples/") && file.extension() == "toml");
    examples
        .filter(|example| {
            !tree
                .rust()
                .any(|file| test_lines(file).any(|line| line.contains(example.name())))
        })
        .map(|example| fault(&example.path, 1, "no test names this file; parse it in one"))
        .collect()
}

/// The lines of a file that belong to tests, as they were written.
fn test_lines(file: &File) -> impl Iterator<Item = &str> {
    let shipped = file
        .shipped
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None));
    let lines = file.text.lines().zip(file.code.lines()).zip(shipped);
    lines
        .filter(|((_, code), shipped)| *shipped != Some(*code))
        .map(|((text, _), _)| text)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn unnamed_examples_are_faults() {
        let check = |path: &str, text: &str, expect: &[&str]| {
            check(faults, &[("examples/prod.toml", ""), (path, text)], expect);
        };
        check("crates/cli/src/a.rs", "", &["examples/prod.toml:1"]);
        check(
            "crates/cli/src/a.rs",
            "const A: &str = \"prod.toml\";\n",
            &["examples/prod.toml:1"],
        );
        check(
            "crates/cli/src/a.rs",
            "#[cfg(test)]\nmod tests {\n const A: &str = \"prod.toml\";\n}\n",
            &[],
        );
        check(
            "crates/cli/tests/it/main.rs",
            "const A: &str = \"prod.toml\";\n",
            &[],
        );
    }
}
