//! Registries are plain slices in alphabetical order, so that two people adding a row do not collide.
//!
//! **Invariant**: a registry that the rule no longer finds is a fault too (test
//! `registries_are_alphabetical`).

use super::{Fault, fault};
use crate::tree::Tree;

/// A file, the slice in it, and what a row starts its key with.
struct Registry {
    path: &'static str,
    slice: &'static str,
    key: &'static str,
}

static REGISTRIES: &[Registry] = &[
    Registry {
        path: "crates/wire/src/provider.rs",
        slice: "static PROVIDERS:",
        key: " id: \"",
    },
    Registry {
        path: "xtask/src/main.rs",
        slice: "static COMMANDS:",
        key: " name: \"",
    },
    Registry {
        path: "xtask/src/tidy/mod.rs",
        slice: "static RULES:",
        key: " name: \"",
    },
];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    REGISTRIES
        .iter()
        .flat_map(|registry| registry.faults(tree))
        .collect()
}

impl Registry {
    fn faults(&self, tree: &Tree) -> Vec<Fault> {
        let text = tree.file(self.path).map_or("", |file| file.text.as_str());
        let lines = text
            .lines()
            .enumerate()
            .skip_while(|(_, line)| !line.contains(self.slice));
        let rows = lines.take_while(|(_, line)| *line != "];");
        let ids = rows.filter_map(|(index, line)| {
            let (_, rest) = line
                .split_once(self.key)
                .filter(|_| !line.trim_start().starts_with("//"))?;
            Some((index, rest.split('"').next()?))
        });
        let ids: Vec<(usize, &str)> = ids.collect();
        if ids.is_empty() {
            let message = format!(
                "no `{}` with rows of `{}`; follow it in REGISTRIES",
                self.slice, self.key
            );
            return vec![fault(self.path, 1, message)];
        }
        let wrong = ids.windows(2).filter(|pair| pair[0].1 >= pair[1].1);
        let says = |before, id| {
            format!("`{id}` stands after `{before}`; rows are alphabetical and unique")
        };
        wrong
            .map(|pair| fault(self.path, pair[1].0 + 1, says(pair[0].1, pair[1].1)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::{REGISTRIES, Tree};

    #[test]
    fn registries_are_alphabetical() {
        let registry = &REGISTRIES[0];
        let check = |text: &str, expect: &[&str]| {
            check(
                |tree: &Tree| REGISTRIES[0].faults(tree),
                &[(registry.path, text)],
                expect,
            );
        };
        let slice = |rows: &str| {
            format!(
                "const X: P = P {{ id: \"z\" }};\npub static PROVIDERS: &[P] = &[\n{rows}];\nP {{ id: \"a\" }}"
            )
        };
        check(&slice("P { id: \"a\" },\nP { id: \"b\" },\n"), &[]);
        check(
            &slice("P { id: \"b\" },\nP { id: \"a\" },\n"),
            &["crates/wire/src/provider.rs:4"],
        );
        check(
            &slice("P { id: \"a\" },\nP { id: \"a\" },\n"),
            &["crates/wire/src/provider.rs:4"],
        );
        check(&slice("P { id: \"b\" },\n// id: \"a\"\n"), &[]);
        check(&slice(""), &["crates/wire/src/provider.rs:1"]);
        check("fn f() {}\n", &["crates/wire/src/provider.rs:1"]);
    }
}
