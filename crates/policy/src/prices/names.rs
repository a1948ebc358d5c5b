//! Which model a name means: exactly, with a release date behind it, or by glob.
//!
//! **Invariant**: a name has one meaning; two rows that claim it are refused when the file is read
//! (test `two_rows_for_one_name_are_refused`).

use std::borrow::Cow;
use std::collections::HashMap;

/// An index over the names of one provider's models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    exact: HashMap<String, usize>,
    /// Longest literal text first, so that the narrower glob wins.
    globs: Vec<(String, usize)>,
}

impl Names {
    /// Adds an exact name; false if another model has it.
    pub(crate) fn add(&mut self, name: &str, index: usize) -> bool {
        *self.exact.entry(name.to_ascii_lowercase()).or_insert(index) == index
    }

    /// Adds a glob; false if another model has it.
    pub(crate) fn add_glob(&mut self, glob: &str, index: usize) -> bool {
        let glob = glob.to_ascii_lowercase();
        let free = self
            .globs
            .iter()
            .all(|(known, owner)| *known != glob || *owner == index);
        self.globs.push((glob, index));
        self.globs
            .sort_by_key(|(glob, _)| std::cmp::Reverse(glob.len()));
        free
    }

    /// The model that a name means. Case does not matter: providers write `MiniMax-M3` as they like.
    pub fn find(&self, name: &str) -> Option<usize> {
        let name = &*lowered(name);
        let exact = self
            .exact
            .get(name)
            .or_else(|| self.exact.get(without_date(name)?));
        exact.copied().or_else(|| {
            let glob = self.globs.iter().find(|(glob, _)| glob_fits(glob, name));
            glob.map(|(_, index)| *index)
        })
    }
}

/// A name in small letters, as most already are.
pub(crate) fn lowered(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The name before a release date: `-20251001`, `@20251001` or `-2026-10-21`.
fn without_date(name: &str) -> Option<&str> {
    const SHAPES: [&str; 3] = ["-00000000", "@00000000", "-0000-00-00"];
    SHAPES.iter().find_map(|shape| {
        let cut = name.len().checked_sub(shape.len())?;
        let tail = name.get(cut..)?;
        let fits = tail
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, expected)| match expected {
                b'0' => byte.is_ascii_digit(),
                literal => byte == literal,
            });
        fits.then(|| name.get(..cut)).flatten()
    })
}

/// Whether `name` fits a glob, in which `*` stands for any text.
fn glob_fits(glob: &str, name: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else {
        return glob == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    let mut ends = name
        .char_indices()
        .map(|(index, _)| index)
        .chain([name.len()]);
    ends.any(|index| name.get(index..).is_some_and(|tail| glob_fits(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_exactly_then_dated_then_by_glob() {
        let mut names = Names::default();
        assert!(names.add("claude-opus-5", 0));
        assert!(names.add("claude-opus-5-5", 1));
        assert!(names.add_glob("claude-*", 2));
        assert!(names.add_glob("claude-opus-*-preview", 3));
        for (name, expect) in [
            ("claude-opus-5", Some(0)),
            ("Claude-Opus-5", Some(0)),
            ("claude-opus-5-20260801", Some(0)),
            ("claude-opus-5@20260801", Some(0)),
            ("claude-opus-5-2026-08-01", Some(0)),
            ("claude-opus-5-5", Some(1)),
            ("claude-opus-5-5-20260801", Some(1)),
            ("claude-opus-5-2026080", Some(2)),
            ("claude-opus-6-preview", Some(3)),
            ("gpt-5", None),
            ("", None),
        ] {
            assert_eq!(names.find(name), expect, "{name}");
        }
    }

    #[test]
    fn two_owners_of_a_name_are_noticed() {
        let mut names = Names::default();
        assert!(names.add("a", 0) && names.add("a", 0) && !names.add("A", 1));
        assert!(names.add_glob("a*", 0) && !names.add_glob("a*", 1));
    }
}
