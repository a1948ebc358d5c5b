//! Declared edits over the original body: every byte that is not inside an edit stays as it came.
//!
//! **Invariant**: outside the declared ranges the result equals the original, and undoing the edits
//! gives the original back (property `splice_touches_only_declared_spans`).

use std::borrow::Cow;
use std::ops::Range;

/// Why bytes are changed; shown by `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A cache marker, or the wrapping that carries it.
    CacheMarker,
    /// A cache key or cache option.
    CacheOption,
    /// Usage is asked for on a stream.
    AskUsage,
    /// The model's name as the upstream knows it.
    ModelName,
    /// How hard the model is to think.
    Reasoning,
    /// A text that says the same in fewer tokens.
    Trimmed,
    /// Documents that do not earn their place for a question.
    Focused,
    /// A word to an agent that goes in circles.
    Nudge,
    /// Another answer to the same question is asked for.
    Sample,
}

/// Replace `range` of the original by `text` (an empty range is an insertion).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes of the original body.
    pub range: Range<usize>,
    /// What stands there instead.
    pub text: Cow<'static, str>,
    /// Why.
    pub reason: Reason,
}

/// A set of edits to one body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// Sorted by range, without overlap; insertions at one offset in the order they were declared.
    edits: Vec<Edit>,
}

impl Splice {
    /// Declares `text` to be inserted before the byte at `at`, after what was inserted there before.
    pub fn insert(&mut self, at: usize, text: impl Into<Cow<'static, str>>, reason: Reason) {
        self.replace(at..at, text, reason);
    }

    /// Declares `text` to stand where `range` stood.
    ///
    /// A range that overlaps an earlier one is not declared: the first word stands.
    pub fn replace(
        &mut self,
        range: Range<usize>,
        text: impl Into<Cow<'static, str>>,
        reason: Reason,
    ) {
        let place = self
            .edits
            .partition_point(|edit| comes_before(&edit.range, &range));
        let before = place.checked_sub(1).and_then(|index| self.edits.get(index));
        let is_free = before.is_none_or(|edit| edit.range.end <= range.start)
            && self
                .edits
                .get(place)
                .is_none_or(|edit| range.end <= edit.range.start);
        if is_free && range.start <= range.end {
            self.edits.insert(
                place,
                Edit {
                    range,
                    text: text.into(),
                    reason,
                },
            );
        }
    }

    /// Declares `escaped` at the end of the string that ends, quote included, before the byte at
    /// `end`: in front of its closing quote, or of that of the text that stands in its place.
    pub fn append_to_string(&mut self, end: usize, escaped: &str, reason: Reason) {
        let covers = |edit: &&mut Edit| !edit.range.is_empty() && edit.range.end == end;
        if let Some(edit) = self.edits.iter_mut().find(covers) {
            let text = edit.text.to_mut();
            if text.ends_with('"') {
                text.insert_str(text.len() - 1, escaped);
            }
            return;
        }
        if let Some(quote) = end.checked_sub(1) {
            self.insert(quote, escaped.to_owned(), reason);
        }
    }

    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The edits, first to last.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The edited body, in one allocation.
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let added: usize = self.edits.iter().map(|edit| edit.text.len()).sum();
        let mut edited = Vec::with_capacity(body.len() + added);
        let mut kept_to = 0;
        for Edit { range, text, .. } in &self.edits {
            edited.extend_from_slice(body.get(kept_to..range.start).unwrap_or_default());
            edited.extend_from_slice(text.as_bytes());
            kept_to = range.end;
        }
        edited.extend_from_slice(body.get(kept_to..).unwrap_or_default());
        edited
    }

    /// The edits that turn the edited body back into `body`, as ranges of the edited body and the
    /// bytes of `body` that belong there.
    pub fn undo<'b>(&self, body: &'b [u8]) -> Vec<(Range<usize>, &'b [u8])> {
        let (mut added, mut removed) = (0, 0);
        let reversed = self.edits.iter().map(|Edit { range, text, .. }| {
            let start = range.start + added - removed;
            added += text.len();
            removed += range.len();
            (
                start..start + text.len(),
                body.get(range.clone()).unwrap_or_default(),
            )
        });
        reversed.collect()
    }
}

/// Whether an edit of `earlier`, declared before one of `later`, also stands before it.
fn comes_before(earlier: &Range<usize>, later: &Range<usize>) -> bool {
    // An insertion stands before a replacement that begins at the same byte.
    earlier.start < later.start || (earlier.start == later.start && earlier.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Reason, Splice};

    fn check(edits: &[(usize, usize, &'static str)], expect: &str) {
        let mut splice = Splice::default();
        for (start, end, text) in edits {
            splice.replace(*start..*end, *text, Reason::CacheMarker);
        }
        assert_eq!(
            String::from_utf8_lossy(&splice.apply(b"0123456789")),
            expect
        );
    }

    #[test]
    fn edits_stand_where_declared() {
        check(&[], "0123456789");
        check(&[(0, 0, "a"), (0, 0, "b")], "ab0123456789");
        check(&[(10, 10, "b"), (0, 0, "a")], "a0123456789b");
        check(&[(3, 5, "x"), (3, 3, "y"), (5, 5, "z")], "012yxz56789");
        check(&[(3, 3, "y"), (3, 5, "x"), (3, 3, "z")], "012yzx56789");
        check(
            &[(2, 6, "x"), (4, 8, "lost"), (3, 3, "lost"), (6, 7, "y")],
            "01xy789",
        );
    }

    proptest! {
        #[test]
        fn splice_touches_only_declared_spans(
            body in prop::collection::vec(any::<u8>(), 0..60),
            wanted in prop::collection::vec((0..60_usize, 0..8_usize, "[a-z]{0,5}"), 0..8),
        ) {
            let mut splice = Splice::default();
            for (start, length, text) in wanted {
                let start = start.min(body.len());
                let end = (start + length).min(body.len());
                splice.replace(start..end, text, Reason::CacheMarker);
            }
            let edited = splice.apply(&body);
            let mut restored = edited.clone();
            for (range, original) in splice.undo(&body).into_iter().rev() {
                restored.splice(range, original.iter().copied());
            }
            prop_assert_eq!(restored, &body[..]);

            // Walks both bodies: what no edit names is equal.
            let (mut old, mut new) = (0, 0);
            for edit in splice.edits() {
                let kept = edit.range.start - old;
                prop_assert_eq!(&body[old..old + kept], &edited[new..new + kept]);
                prop_assert_eq!(edit.text.as_bytes(), &edited[new + kept..][..edit.text.len()]);
                old = edit.range.end;
                new += kept + edit.text.len();
            }
            prop_assert_eq!(&body[old..], &edited[new..]);
        }
    }
}
