//! What a call is charged to: an organisation, a team, a key, a user and so on.
//!
//! **Invariant**: `Kind::ALL` is in the order of `Kind`, so that a kind is an index (test
//! `kinds_are_indices`).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What sort of thing pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The whole of an organisation.
    Organisation,
    /// A team of an organisation.
    Team,
    /// A key, by its public id.
    Key,
    /// A person or service that the client names.
    User,
    /// A conversation.
    Session,
    /// A piece of work, which may be part of another one.
    Task,
    /// A label of the client's.
    Tag,
    /// A model, by each of its names: the client's for it, the target's own, and `provider/model`.
    Model,
}

impl Kind {
    /// Every kind, from the widest to the narrowest payer, then labels.
    pub const ALL: [Self; 8] = [
        Self::Organisation,
        Self::Team,
        Self::Key,
        Self::User,
        Self::Session,
        Self::Task,
        Self::Tag,
        Self::Model,
    ];

    /// The name in configuration, headers and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Key => "key",
            Self::User => "user",
            Self::Session => "session",
            Self::Task => "task",
            Self::Tag => "tag",
            Self::Model => "model",
        }
    }

    /// The place in a table with one row for each kind.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// One payer. A call is charged to all of its scopes: the caller gives the whole chain, parents
/// included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// What sort of thing it is.
    pub kind: Kind,
    /// Which one; unique within its kind. Cheap to clone.
    pub id: Arc<str>,
}

impl Scope {
    /// The scope of this kind and id.
    pub fn new(kind: Kind, id: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            id: id.into(),
        }
    }
}

impl fmt::Display for Scope {
    /// For people: ``key `key_1` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.name(), self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Scope};

    #[test]
    fn kinds_are_indices() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index, "{}", kind.name());
        }
        assert_eq!(Scope::new(Kind::Team, "blue").to_string(), "team `blue`");
    }
}
