//! Links of the documents that point into the repository.
//!
//! **Invariant**: every such link reaches a file, a folder, or a heading (test `dead_links_are_faults`).

use super::{Fault, fault};
use crate::tree::Tree;

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| file.extension() == "md") {
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in targets(line).filter(|target| !reaches(tree, &file.path, target)) {
                faults.push(fault(
                    &file.path,
                    index + 1,
                    format!("the link `{target}` leads nowhere"),
                ));
            }
        }
    }
    faults
}

/// What the links of a line point at, inline `](x)` and by reference `[y]: x`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line
        .match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split([')', ' ']).next());
    let reference = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target.trim());
    inline.chain(reference)
}

fn reaches(tree: &Tree, from: &str, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        from.to_owned()
    } else {
        resolve(from, path)
    };
    let Some(file) = tree.file(&path) else {
        let folder = format!("{path}/");
        return tree
            .files
            .iter()
            .any(|file| path.is_empty() || file.path.starts_with(&folder));
    };
    anchor.is_empty()
        || file.extension() != "md"
        || headings(&file.text).any(|heading| heading == anchor)
}

/// A relative path as seen from the folder of `from`; a leading `/` means the root.
fn resolve(from: &str, path: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = if path.starts_with('/') {
        Vec::new()
    } else {
        folder.split('/').collect()
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

/// The anchors of a document's headings, as the usual viewers make them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn dead_links_are_faults() {
        let check = |text: &str, expect: &[&str]| {
            let other = ("docs/b.md", "# One heading, two\n");
            check(
                faults,
                &[("docs/a.md", text), other, ("README.md", "")],
                expect,
            );
        };
        check(
            "[b](b.md) [r](../README.md) [d](../docs) [w](https://a.example)\n",
            &[],
        );
        check("[b](b.md#one-heading-two)\n", &[]);
        check("\n[c](c.md)\n", &["docs/a.md:2"]);
        check("[b](b.md#three)\n", &["docs/a.md:1"]);
        check("[c]: c.md\n", &["docs/a.md:1"]);
        check("```\n[c](c.md)\n```\n", &[]);
    }
}
