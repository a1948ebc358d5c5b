//! Words that may not stay in the tree: unfinished work, and paths of somebody's machine.
//!
//! **Invariant**: the banned words are put together from pieces here, so that this file may be
//! judged by its own rule (test `unfinished_work_and_machine_paths_are_faults`).

use super::{Fault, fault};
use crate::source::{line_of, words};
use crate::tree::Tree;

/// Work that was put off; whole words, in any text.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Rust that panics for want of work, or hides a test.
const UNFINISHED_RUST: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[", "ignore"),
];

/// Folders of one machine; in any text, unless they continue a longer path or an address.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp/", "bash_jobs"),
    concat!("/ro", "ot/"),
];

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in &tree.files {
        let mut report = |at: usize, word: &str, instead: &str| {
            faults.push(fault(
                &file.path,
                line_of(&file.text, at),
                format!("says `{word}`; {instead}"),
            ));
        };
        for word in UNFINISHED {
            words(&file.text, word).for_each(|at| report(at, word, "finish it, or file an issue"));
        }
        for word in UNFINISHED_RUST {
            file.code
                .match_indices(word)
                .for_each(|(at, _)| report(at, word, "finish it"));
        }
        for word in MACHINE_PATHS {
            let stands_alone = |at: usize| {
                let before = file.text[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-~".contains(c))
            };
            file.text
                .match_indices(word)
                .filter(|(at, _)| stands_alone(*at))
                .for_each(|(at, _)| report(at, word, "the path exists on one machine only"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::{MACHINE_PATHS, UNFINISHED, UNFINISHED_RUST, faults};

    #[test]
    fn unfinished_work_and_machine_paths_are_faults() {
        for word in UNFINISHED {
            check(
                faults,
                &[("docs/a.md", &format!("\na {word}: b\n"))],
                &["docs/a.md:2"],
            );
            check(faults, &[("docs/a.md", &format!("a{word}S\n"))], &[]);
        }
        for word in UNFINISHED_RUST {
            check(faults, &[("a.rs", &format!("\n {word}) ]\n"))], &["a.rs:2"]);
        }
        for word in MACHINE_PATHS {
            check(faults, &[("a.sh", &format!("cd {word}x\n"))], &["a.sh:1"]);
            check(
                faults,
                &[("a.md", &format!("https://a.example{word}x\n"))],
                &[],
            );
        }
    }
}
