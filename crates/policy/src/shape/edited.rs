//! A text that was made of another one, and which parts of that one it has kept: only the others have to
//! be counted to say how much shorter it is.
//!
//! **Invariant**: what is kept stands in both texts, in the same order (test
//! `parts_are_kept_where_they_stand`, and for whole conversations every property in `trim::tests`, whose
//! counter looks).

use std::ops::Range;

/// A part of a text that another one has, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Where it begins in the text.
    pub from: usize,
    /// Where it begins in the text that was made of it.
    pub at: usize,
    /// How long it is.
    pub bytes: usize,
}

/// A text that was made of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// What it says.
    pub text: String,
    /// The parts that it has kept; nothing need be known of them.
    pub kept: Vec<Kept>,
}

impl From<String> for Edited {
    /// Of which nothing is known to be kept.
    fn from(text: String) -> Self {
        let kept = Vec::new();
        Self { text, kept }
    }
}

/// Writes a text from parts of another one, from its beginning to its end, and from other words.
#[derive(Clone, Debug)]
pub struct Writer<'t> {
    original: &'t str,
    /// What is kept and not yet written, so that neighbouring parts are written in one.
    pending: Range<usize>,
    edited: Edited,
}

impl<'t> Writer<'t> {
    /// Nothing is written so far.
    pub fn of(original: &'t str) -> Self {
        Self {
            original,
            pending: 0..0,
            edited: Edited::default(),
        }
    }

    /// Writes a part of the original that stands behind all that was kept before.
    pub fn keep(&mut self, part: Range<usize>) {
        if self.pending.end != part.start {
            self.write_pending();
            self.pending.start = part.start;
        }
        self.pending.end = part.end;
    }

    /// Writes other words.
    pub fn say(&mut self, words: &str) {
        self.write_pending();
        self.edited.text.push_str(words);
    }

    fn write_pending(&mut self) {
        let part = self.original.get(self.pending.clone()).unwrap_or_default();
        if !part.is_empty() {
            if self.edited.text.is_empty() {
                self.edited.text.reserve(self.original.len());
            }
            self.edited.kept.push(Kept {
                from: self.pending.start,
                at: self.edited.text.len(),
                bytes: part.len(),
            });
            self.edited.text.push_str(part);
        }
        self.pending.start = self.pending.end;
    }

    /// All that was written.
    pub fn finish(mut self) -> Edited {
        self.write_pending();
        self.edited
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, Writer};

    #[test]
    fn parts_are_kept_where_they_stand() {
        let kept = |from, at, bytes| Kept { from, at, bytes };
        let mut writer = Writer::of("one two three four");
        writer.keep(0..3);
        writer.keep(3..4);
        writer.say("and ");
        writer.say("then ");
        writer.keep(8..8);
        writer.keep(14..18);
        let edited = writer.finish();
        assert_eq!(edited.text, "one and then four");
        assert_eq!(edited.kept, [kept(0, 0, 4), kept(14, 13, 4)]);
        assert_eq!(Writer::of("one").finish(), super::Edited::default());
    }
}
