//! Tidy: what the compiler cannot know about this tree, as ordinary tests.
//!
//! **Invariant**: the tree breaks no rule (test `the_tree_is_tidy`), and each rule has a self-test on
//! a small bad tree, so that one that stopped working is seen.

mod arrows;
mod examples;
mod headers;
mod links;
mod lock;
mod names;
mod purity;
mod registries;
mod sizes;
mod uses;
mod words;

use crate::outcome::Outcome;
use crate::tree::{self, Tree};

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    path: String,
    /// Counted from 1.
    line: usize,
    /// What was found, and what to do.
    message: String,
}

struct Rule {
    name: &'static str,
    faults: fn(&Tree) -> Vec<Fault>,
}

/// Sorted by name.
static RULES: &[Rule] = &[
    Rule {
        name: "arrows",
        faults: arrows::faults,
    },
    Rule {
        name: "examples",
        faults: examples::faults,
    },
    Rule {
        name: "headers",
        faults: headers::faults,
    },
    Rule {
        name: "links",
        faults: links::faults,
    },
    Rule {
        name: "lock",
        faults: lock::faults,
    },
    Rule {
        name: "names",
        faults: names::faults,
    },
    Rule {
        name: "purity",
        faults: purity::faults,
    },
    Rule {
        name: "registries",
        faults: registries::faults,
    },
    Rule {
        name: "sizes",
        faults: sizes::faults,
    },
    Rule {
        name: "uses",
        faults: uses::faults,
    },
    Rule {
        name: "words",
        faults: words::faults,
    },
];

/// Runs every rule over the repository and prints what it finds.
pub(crate) fn run() -> Outcome {
    let tree = match Tree::read(&tree::root()) {
        Ok(tree) => tree,
        Err(error) => return Outcome::Failed(error),
    };
    let lines = lines(&tree);
    for line in &lines {
        say!("{line}");
    }
    match lines.len() {
        0 => Outcome::passed(format!(
            "{} rules over {} files",
            RULES.len(),
            tree.files.len()
        )),
        count => Outcome::Failed(format!("{count} faults, listed above")),
    }
}

/// All faults of a tree, one a line, as editors understand them.
fn lines(tree: &Tree) -> Vec<String> {
    let found = RULES.iter().flat_map(|rule| {
        (rule.faults)(tree)
            .into_iter()
            .map(move |it| (rule.name, it))
    });
    found
        .map(|(rule, it)| format!("{}:{}: {} [{rule}]", it.path, it.line, it.message))
        .collect()
}

fn fault(path: &str, line: usize, message: impl Into<String>) -> Fault {
    Fault {
        path: path.to_owned(),
        line,
        message: message.into(),
    }
}

/// Asserts what a rule says about a small tree: the faults as `path:line`.
#[cfg(test)]
fn check(faults: fn(&Tree) -> Vec<Fault>, files: &[(&str, &str)], expect: &[&str]) {
    let found: Vec<String> = faults(&Tree::of(files))
        .into_iter()
        .map(|fault| format!("{}:{}", fault.path, fault.line))
        .collect();
    assert_eq!(found, expect, "{files:?}");
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::tree::{Tree, root};

    #[test]
    fn the_tree_is_tidy() {
        let lines = lines(&Tree::read(&root()).unwrap());
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
