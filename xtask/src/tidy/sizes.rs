//! How long a file and a function may be.
//!
//! **Invariant**: the limits are hard; what must be longer is a catalogue and stands in a list
//! (test `long_files_and_functions_are_faults`).

use super::{Fault, fault};
use crate::source::functions;
use crate::tree::Tree;

/// Files longer than this are not read in one go; the style asks for 500.
const FILE_LINES_MAX: usize = 600;

/// Functions longer than this do more than one thing; the style asks for 70, clippy stops at 80.
const FUNCTION_CODE_LINES_MAX: usize = 80;

/// Files that are lists of like rows, and are looked up rather than read.
const CATALOGUES: &[&str] = &["crates/wire/src/provider.rs"];

/// The load generator and the mock provider stand alone, are read as one text each, and are no part
/// of what is shipped.
const INSTRUMENTS: &str = "bench/";

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree
        .rust()
        .filter(|file| !file.path.starts_with(INSTRUMENTS))
    {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX && !CATALOGUES.contains(&file.path.as_str()) {
            let message =
                format!("{lines} lines, at most {FILE_LINES_MAX}; split the file by what it does");
            faults.push(fault(&file.path, 1, message));
        }
        for function in functions(&file.code) {
            if function.code_lines > FUNCTION_CODE_LINES_MAX {
                let message = format!(
                    "`{}` has {} lines of code, at most {FUNCTION_CODE_LINES_MAX}; name its parts",
                    function.name, function.code_lines
                );
                faults.push(fault(&file.path, function.line, message));
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
    fn long_files_and_functions_are_faults() {
        let check =
            |path: &str, text: &str, expect: &[&str]| check(faults, &[(path, text)], expect);
        check("a.rs", &"//\n".repeat(600), &[]);
        check("a.rs", &"//\n".repeat(601), &["a.rs:1"]);
        check("crates/wire/src/provider.rs", &"//\n".repeat(601), &[]);
        check("bench/load/src/main.rs", &"//\n".repeat(601), &[]);
        check(
            "a.rs",
            &format!("\nfn f() {{\n{}}}\n", "g();\n".repeat(80)),
            &[],
        );
        check(
            "a.rs",
            &format!("\nfn f() {{\n{}}}\n", "g();\n".repeat(81)),
            &["a.rs:2"],
        );
        check(
            "a.rs",
            &format!("\nfn f() {{\n{}}}\n", "// why\n".repeat(81)),
            &[],
        );
    }
}
