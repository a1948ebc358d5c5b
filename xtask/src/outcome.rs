//! How a step ended.
//!
//! **Invariant**: a step that did not run says why.

use std::fmt;

/// How a step ended, with what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it is for; the note may be empty.
    Passed(String),
    /// It could not run here, and may be left out.
    Skipped(String),
    /// It ran and found a fault, or could not run where it must.
    Failed(String),
}

impl Outcome {
    /// A pass with a note.
    pub(crate) fn passed(note: impl Into<String>) -> Self {
        Self::Passed(note.into())
    }
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(note) => Self::Passed(note),
            Err(why) => Self::Failed(why),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, note) = match self {
            Self::Passed(note) => ("passed", note),
            Self::Skipped(why) => ("skipped", why),
            Self::Failed(why) => ("failed", why),
        };
        if note.is_empty() {
            write!(formatter, "{word}")
        } else {
            write!(formatter, "{word}: {note}")
        }
    }
}
