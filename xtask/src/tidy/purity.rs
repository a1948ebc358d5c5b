//! Purity: what `wire`, `policy`, `sim`, `learn` and `gateway` may not touch.
//!
//! **Invariant**: the pure rooms reach no runtime, network, file, clock, randomness or environment,
//! so that a replay runs the very decisions that production runs (test `pure_rooms_stay_pure`).

use super::arrows::{Section, dependencies};
use super::{Fault, fault};
use crate::source::{imports, line_of, words};
use crate::tree::{File, Tree};

/// Rooms whose code is a function of its arguments.
const PURE_ROOMS: &[&str] = &["learn", "policy", "sim", "wire"];

/// All that a pure room may be built from: no crate here does input or output.
const PURE_CRATES: &[&str] = &[
    "blake3",
    "bpe-openai",
    "foldhash",
    "jiff",
    "memchr",
    "policy",
    "serde",
    "serde_json",
    "thiserror",
    "toml",
    "whichlang",
    "wide",
    "wire",
    "xxhash-rust",
];

/// Paths and names that bring effects into a pure room.
const EFFECTS: &[&str] = &[
    "Instant",
    "RandomState",
    "SystemTime",
    "getrandom",
    "hyper",
    "rand",
    "rusqlite",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
];

/// Paths that block a worker thread of the async room, or tie it to one store.
const BLOCKING: &[&str] = &["rusqlite", "std::fs", "std::thread::sleep"];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in &tree.files {
        let Some(room) = file.room() else { continue };
        let pure = PURE_ROOMS.contains(&room);
        if pure && file.name() == "Cargo.toml" {
            faults.extend(impure_dependencies(file, room));
        } else if pure {
            faults.extend(named(file, EFFECTS, "takes it as an argument"));
        } else if room == "gateway" {
            faults.extend(named(file, BLOCKING, "asks a port of `policy::ports`"));
        }
    }
    faults
}

fn impure_dependencies(file: &File, room: &str) -> Vec<Fault> {
    dependencies(&file.text)
        .into_iter()
        .filter(|it| it.section == Section::Shipped && !PURE_CRATES.contains(&it.name.as_str()))
        .map(|it| {
            fault(
                &file.path,
                it.line,
                format!("`{room}` is pure and must not use `{}`", it.name),
            )
        })
        .collect()
}

fn named(file: &File, banned: &[&str], instead: &str) -> Vec<Fault> {
    let mut lines = Vec::new();
    for name in banned {
        lines.extend(words(&file.shipped, name).map(|at| (line_of(&file.shipped, at), *name)));
    }
    for import in imports(&file.shipped) {
        let hit = banned.iter().find(|name| {
            import.path == **name
                || import
                    .path
                    .strip_prefix(**name)
                    .is_some_and(|rest| rest.starts_with("::"))
        });
        lines.extend(hit.map(|name| (import.line, *name)));
    }
    lines.sort_unstable();
    lines.dedup();
    lines
        .into_iter()
        .map(|(line, name)| {
            fault(
                &file.path,
                line,
                format!("names `{name}`; this room {instead}"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn pure_rooms_stay_pure() {
        let check = |text: &str, expect: &[&str]| {
            check(faults, &[("crates/policy/src/a.rs", text)], expect);
        };
        check(
            "use std::time::Duration;\nuse std::collections::HashMap;\n",
            &[],
        );
        check("//! no tokio\nconst A: &str = \"std::fs\";\n", &[]);
        check(
            "fn f() {\n    let _ = std::fs::read(\"x\");\n}\n",
            &["crates/policy/src/a.rs:2"],
        );
        check("use std::{fmt, env};\n", &["crates/policy/src/a.rs:1"]);
        check(
            "use std::time::{Duration, SystemTime};\n",
            &["crates/policy/src/a.rs:1"],
        );
        check(
            "fn f() { tokio::spawn(g()); }\n",
            &["crates/policy/src/a.rs:1"],
        );
        check("fn f(operand: u8, random: u8) {}\n", &[]);
        check("#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
    }

    #[test]
    fn pure_rooms_depend_on_pure_crates() {
        let check =
            |text: &str, expect: &[&str]| check(faults, &[("crates/sim/Cargo.toml", text)], expect);
        check("[dependencies]\nserde.workspace = true\n", &[]);
        check(
            "[dependencies]\ntokio.workspace = true\n",
            &["crates/sim/Cargo.toml:2"],
        );
        check("[dev-dependencies]\nproptest.workspace = true\n", &[]);
    }

    #[test]
    fn the_async_room_does_not_block() {
        let check = |text: &str, expect: &[&str]| {
            check(faults, &[("crates/gateway/src/a.rs", text)], expect);
        };
        check("use tokio::net::TcpListener;\n", &[]);
        check("use std::fs::File;\n", &["crates/gateway/src/a.rs:1"]);
    }
}
