//! Every Rust file says what it is for before anything else.
//!
//! **Invariant**: a header that names a test names one that exists, so that no invariant is
//! guarded by a word (test `headers_open_files_and_name_real_tests`).

use super::{Fault, fault};
use crate::source::functions;
use crate::tree::{File, Tree};

/// The words after which a header names its guard.
const GUARDS: &[&str] = &["test `", "tests `", "property `", "properties `"];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    // Properties stand inside a macro of `proptest`, and are found like any other function.
    let mut names: Vec<String> = Vec::new();
    for file in tree.rust() {
        names.extend(
            functions(&file.code)
                .into_iter()
                .map(|function| function.name),
        );
    }
    for file in tree.rust() {
        if !file.text.starts_with("//!") {
            faults.push(fault(
                &file.path,
                1,
                "does not open with `//!`; say what the file is for",
            ));
        }
        for name in guards(file) {
            if !names.contains(&name) {
                faults.push(fault(
                    &file.path,
                    1,
                    format!("its header names the test `{name}`, which does not exist"),
                ));
            }
        }
    }
    faults
}

/// The tests that a header names: all names of a list after a guard word.
fn guards(file: &File) -> Vec<String> {
    let header: Vec<&str> = file
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let header = header.join(" ");
    let mut names = Vec::new();
    for guard in GUARDS {
        for (at, _) in header.match_indices(guard) {
            let list = &header[at + guard.len() - 1..];
            names.extend(quoted_list(list));
        }
    }
    names
}

/// The names of a list such as "`a`, `b` and `c`", up to the first other word.
fn quoted_list(mut text: &str) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(rest) = text.strip_prefix('`') {
        let Some((name, after)) = rest.split_once('`') else {
            break;
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        names.push(name.to_owned());
        text = after
            .trim_start_matches(", ")
            .trim_start_matches(" and ")
            .trim_start_matches("and ");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn headers_open_files_and_name_real_tests() {
        let check =
            |text: &str, expect: &[&str]| check(faults, &[("crates/a/src/b.rs", text)], expect);
        check("//! What it is for.\n", &[]);
        check("use a::b;\n", &["crates/a/src/b.rs:1"]);
        check("//! For x (test `it_holds`).\nfn it_holds() {}\n", &[]);
        check(
            "//! For x (test\n//! `it_holds`).\nfn other() {}\n",
            &["crates/a/src/b.rs:1"],
        );
        check(
            "//! For x (tests `a`, `b` and `c`).\nfn a() {}\nfn b() {}\n",
            &["crates/a/src/b.rs:1"],
        );
        check("//! A test speaks to `Thing`.\n", &[]);
    }
}
