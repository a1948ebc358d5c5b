//! The arrows between rooms, read from their manifests.
//!
//! **Invariant**: `cli → {gateway, learn, sim, store} → policy → wire`, `gateway` may ask `sim` and
//! never names `store`, and nothing ships `testkit` (test `arrows_only_point_down`).

use super::{Fault, fault};
use crate::tree::Tree;

/// What each room may depend on in the shipped binary.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "cli",
        &["gateway", "learn", "policy", "sim", "store", "wire"],
    ),
    ("gateway", &["policy", "sim", "wire"]),
    ("learn", &["policy"]),
    ("policy", &["wire"]),
    ("sim", &["policy", "wire"]),
    ("store", &["policy", "wire"]),
    ("testkit", &["gateway", "policy", "sim", "store", "wire"]),
    ("wire", &[]),
];

/// Where a dependency is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Part of what is built for users, build scripts included.
    Shipped,
    /// Tests and examples only.
    Tests,
}

/// One dependency of a manifest.
pub(super) struct Dependency {
    /// Counted from 1.
    pub(super) line: usize,
    /// As the manifest names it.
    pub(super) name: String,
    /// Whether it ships.
    pub(super) section: Section,
}

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| file.name() == "Cargo.toml") {
        let Some(room) = file.room() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            faults.push(fault(
                &file.path,
                1,
                format!("room `{room}` has no line in ARROWS; add it"),
            ));
            continue;
        };
        for dependency in dependencies(&file.text) {
            let name = dependency.name.as_str();
            let is_room = ARROWS.iter().any(|(room, _)| *room == name);
            let for_tests = dependency.section == Section::Tests && name == "testkit";
            if is_room && !allowed.contains(&name) && !for_tests {
                let message = format!("`{room}` must not depend on `{name}`; allowed: {allowed:?}");
                faults.push(fault(&file.path, dependency.line, message));
            }
        }
    }
    faults
}

/// The dependencies that a manifest declares, in any of the spellings that cargo reads.
pub(super) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut open_section = None;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        let mut add = |name: &str, section| {
            found.push(Dependency {
                line: index + 1,
                name: name.to_owned(),
                section,
            });
        };
        if let Some(header) = line.strip_prefix('[') {
            open_section = None;
            let header = header.trim_end_matches(']');
            let Some((table, after)) = header.split_once("dependencies") else {
                continue;
            };
            let section = if table.ends_with("dev-") {
                Section::Tests
            } else {
                Section::Shipped
            };
            match after.strip_prefix('.') {
                Some(name) => add(name, section),
                None => open_section = Some(section),
            }
        } else if let Some(section) = open_section
            && let Some(end) = line.find(['.', '=', ' '])
            && !line.starts_with('#')
        {
            add(&line[..end], section);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn arrows_only_point_down() {
        let check =
            |path: &str, text: &str, expect: &[&str]| check(faults, &[(path, text)], expect);
        let wire = "crates/wire/Cargo.toml";
        check(wire, "[dependencies]\nserde.workspace = true\n", &[]);
        check(
            wire,
            "[dependencies]\npolicy.workspace = true\n",
            &["crates/wire/Cargo.toml:2"],
        );
        check(
            wire,
            "[dependencies]\n# policy\n\npolicy = { path = \"../policy\" }\n",
            &["crates/wire/Cargo.toml:4"],
        );
        check(
            wire,
            "[dependencies.policy]\npath = \"../policy\"\n",
            &["crates/wire/Cargo.toml:1"],
        );
        check(
            wire,
            "[target.'cfg(unix)'.dependencies]\nsim.workspace = true\n",
            &["crates/wire/Cargo.toml:2"],
        );
        check(
            wire,
            "[build-dependencies]\nsim.workspace = true\n",
            &["crates/wire/Cargo.toml:2"],
        );
        check(wire, "[features]\npolicy = []\n", &[]);
    }

    #[test]
    fn gateway_never_names_store_and_nothing_ships_testkit() {
        let check = |text: &str, expect: &[&str]| {
            check(faults, &[("crates/gateway/Cargo.toml", text)], expect);
        };
        check("[dependencies]\nsim.workspace = true\n", &[]);
        check(
            "[dependencies]\nstore.workspace = true\n",
            &["crates/gateway/Cargo.toml:2"],
        );
        check(
            "[dev-dependencies]\nstore.workspace = true\n",
            &["crates/gateway/Cargo.toml:2"],
        );
        check("[dev-dependencies]\ntestkit.workspace = true\n", &[]);
        check(
            "[dependencies]\ntestkit.workspace = true\n",
            &["crates/gateway/Cargo.toml:2"],
        );
    }

    #[test]
    fn a_new_room_must_be_placed() {
        check(
            faults,
            &[("crates/attic/Cargo.toml", "[package]\n")],
            &["crates/attic/Cargo.toml:1"],
        );
    }
}
