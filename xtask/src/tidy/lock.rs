//! What may not be in the lock file, on machines without `cargo-deny` too.
//!
//! **Invariant**: the binary needs no system library for TLS and no C build beyond SQLite and ring
//! (test `banned_packages_are_faults`).

use super::{Fault, fault};
use crate::tree::Tree;

/// The same packages as in `deny.toml`.
const BANNED: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "native-tls",
    "openssl",
    "openssl-sys",
];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let Some(lock) = tree.file("Cargo.lock") else {
        return Vec::new();
    };
    let banned = |line: &str| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        BANNED.contains(&name).then(|| name.to_owned())
    };
    let lines = lock.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| Some((index, banned(line)?)))
        .map(|(index, name)| {
            fault(
                "Cargo.lock",
                index + 1,
                format!("`{name}` is banned; see deny.toml"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn banned_packages_are_faults() {
        let check = |text: &str, expect: &[&str]| check(faults, &[("Cargo.lock", text)], expect);
        check("[[package]]\nname = \"openssl-probe\"\n", &[]);
        check("[[package]]\nname = \"openssl\"\n", &["Cargo.lock:2"]);
    }
}
