//! Names that say nothing about what is inside.
//!
//! **Invariant**: no file, folder or type is called by one of `EMPTY_NAMES` (test
//! `empty_names_are_faults`).

use super::{Fault, fault};
use crate::source::{line_of, words};
use crate::tree::Tree;

/// A home for anything is a home for everything.
const EMPTY_NAMES: &[&str] = &[
    "common", "core", "helpers", "manager", "misc", "types", "util", "utils",
];

/// What introduces the name of a type or module.
const KEYWORDS: &[&str] = &["enum", "mod", "struct", "trait", "type", "union"];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.rust() {
        for part in file.path.split('/') {
            let stem = part.trim_end_matches(".rs");
            if EMPTY_NAMES.contains(&stem) {
                faults.push(fault(
                    &file.path,
                    1,
                    format!("`{stem}` names nothing; say what is inside"),
                ));
            }
        }
        for keyword in KEYWORDS {
            for at in words(&file.code, keyword) {
                let name = file.code[at + keyword.len()..].trim_start();
                let name: String = name
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if EMPTY_NAMES.contains(&name.to_lowercase().as_str()) {
                    let message = format!("`{name}` names nothing; say what it is");
                    faults.push(fault(&file.path, line_of(&file.code, at), message));
                }
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn empty_names_are_faults() {
        let check =
            |path: &str, text: &str, expect: &[&str]| check(faults, &[(path, text)], expect);
        check(
            "crates/wire/src/sse.rs",
            "mod cut;\nstruct CoreLoop;\n",
            &[],
        );
        check(
            "crates/wire/src/util.rs",
            "",
            &["crates/wire/src/util.rs:1"],
        );
        check("crates/core/src/a.rs", "", &["crates/core/src/a.rs:1"]);
        check("a.rs", "\nmod utils { }\n", &["a.rs:2"]);
        check("a.rs", "struct Manager<T>(T);\n", &["a.rs:1"]);
    }
}
