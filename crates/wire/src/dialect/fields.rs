//! The checks that both dialects make on a request's fields, and the error that they share.
//!
//! **Invariant**: an error names the field as a path, what was given and what is allowed (rows
//! `refusals_name_field_given_and_allowed` in each dialect's `request.rs`).

use std::ops::Range;

use crate::json::{JsonError, Node, Shape, Tape};
use crate::problem::{Problem, ProblemKind};
use crate::usage::Tokens;

/// Why a request cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The body is not JSON.
    #[error("the request body is not JSON: {0}")]
    NotJson(JsonError),
    /// A field that must be there is not.
    #[error("`{param}` is missing; it must be {allowed}")]
    Missing {
        /// Path of the field.
        param: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("`{param}` is {given}; it must be {allowed}")]
    Wrong {
        /// Path of the field.
        param: String,
        /// What was given.
        given: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The outermost value is not an object.
    #[error("the request body is {given}; it must be a JSON object")]
    NotObject {
        /// What was given.
        given: &'static str,
    },
}

impl ReadError {
    /// The same, as a client may see it.
    pub fn problem(&self) -> Problem {
        let (code, param) = match self {
            Self::NotJson(_) => ("invalid_json", None),
            Self::NotObject { .. } => ("invalid_body", None),
            Self::Missing { param, .. } => ("missing_field", Some(param.clone())),
            Self::Wrong { param, .. } => ("invalid_value", Some(param.clone())),
        };
        Problem {
            kind: ProblemKind::InvalidRequest,
            code,
            message: self.to_string(),
            param,
        }
    }

    /// A field whose value is of the wrong kind.
    pub(super) fn wrong(param: impl Into<String>, given: Node<'_>, allowed: &'static str) -> Self {
        let given = match given.shape() {
            // Short scalars say more than their kind.
            Shape::True | Shape::False | Shape::Number => given.raw().chars().take(40).collect(),
            Shape::Plain | Shape::Escaped if given.raw() == "\"\"" => "an empty string".to_owned(),
            Shape::Null | Shape::Plain | Shape::Escaped | Shape::Array | Shape::Object => {
                given.shape_name().to_owned()
            }
        };
        Self::Wrong {
            param: param.into(),
            given,
            allowed,
        }
    }
}

/// Where a field that takes an edit stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is not there.
    #[default]
    Absent,
    /// It is there as `null`, at these bytes.
    Null(Range<usize>),
    /// It has a value, at these bytes.
    Given(Range<usize>),
}

impl Presence {
    pub(super) fn of(node: Option<Node<'_>>) -> Self {
        match node {
            None => Self::Absent,
            Some(node) if node.is_null() => Self::Null(node.span()),
            Some(node) => Self::Given(node.span()),
        }
    }

    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

/// Reads the body's tape and checks that it is an object.
pub(super) fn read_object(body: &[u8]) -> Result<Tape<'_>, ReadError> {
    let tape = Tape::read(body).map_err(ReadError::NotJson)?;
    if !tape.root().is_object() {
        return Err(ReadError::NotObject {
            given: tape.root().shape_name(),
        });
    }
    Ok(tape)
}

/// The member of that name; `null` counts as absent, as the providers read optional fields.
pub(super) fn given<'t>(object: Node<'t>, key: &str) -> Option<Node<'t>> {
    object.get(key).filter(|node| !node.is_null())
}

/// A string member, where there is one.
pub(super) fn text(object: Node<'_>, key: &str) -> Option<String> {
    Some(object.get(key)?.as_str()?.into_owned())
}

/// The model's name and the span of its string, quotes included.
pub(super) fn model(root: Node<'_>) -> Result<(String, Range<usize>), ReadError> {
    const ALLOWED: &str = "the name of a model, as a string";
    let Some(node) = root.get("model") else {
        return Err(ReadError::Missing {
            param: "model".to_owned(),
            allowed: ALLOWED,
        });
    };
    match node.as_str() {
        Some(name) if !name.is_empty() => Ok((name.into_owned(), node.span())),
        _ => Err(ReadError::wrong("model", node, ALLOWED)),
    }
}

/// An optional boolean; absent is false.
pub(super) fn flag(root: Node<'_>, key: &'static str) -> Result<bool, ReadError> {
    let Some(node) = given(root, key) else {
        return Ok(false);
    };
    node.as_bool()
        .ok_or_else(|| ReadError::wrong(key, node, "true or false"))
}

/// An optional count of tokens of at least `least`.
pub(super) fn tokens(
    root: Node<'_>,
    key: &'static str,
    least: u64,
) -> Result<Option<Tokens>, ReadError> {
    let Some(node) = given(root, key) else {
        return Ok(None);
    };
    let allowed = if least == 0 {
        "a whole number of 0 or more"
    } else {
        "a whole number of 1 or more"
    };
    match node.as_u64() {
        Some(count) if count >= least => Ok(Some(Tokens(count))),
        _ => Err(ReadError::wrong(key, node, allowed)),
    }
}

/// An optional array.
pub(super) fn list<'t>(root: Node<'t>, key: &'static str) -> Result<Option<Node<'t>>, ReadError> {
    let Some(node) = given(root, key) else {
        return Ok(None);
    };
    if node.is_array() {
        Ok(Some(node))
    } else {
        Err(ReadError::wrong(key, node, "an array"))
    }
}

/// An optional object.
pub(super) fn object<'t>(root: Node<'t>, key: &'static str) -> Result<Option<Node<'t>>, ReadError> {
    let Some(node) = given(root, key) else {
        return Ok(None);
    };
    if node.is_object() {
        Ok(Some(node))
    } else {
        Err(ReadError::wrong(key, node, "an object"))
    }
}

/// The messages, each checked to be an object with a role.
pub(super) fn messages(root: Node<'_>) -> Result<Vec<Message<'_>>, ReadError> {
    const ALLOWED: &str = "an array of messages";
    let Some(list) = root.get("messages") else {
        return Err(ReadError::Missing {
            param: "messages".to_owned(),
            allowed: ALLOWED,
        });
    };
    if !list.is_array() {
        return Err(ReadError::wrong("messages", list, ALLOWED));
    }
    list.items()
        .enumerate()
        .map(|(index, node)| Message::read(index, node))
        .collect()
}

/// One message of the conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'t> {
    /// The whole object.
    pub(super) node: Node<'t>,
    /// The role's string.
    pub(super) role: Node<'t>,
    /// String, array or `null`.
    pub(super) content: Option<Node<'t>>,
}

impl<'t> Message<'t> {
    fn read(index: usize, node: Node<'t>) -> Result<Self, ReadError> {
        const ROLE: &str = "a role, as a string";
        if !node.is_object() {
            let param = format!("messages[{index}]");
            return Err(ReadError::wrong(param, node, "an object"));
        }
        let param = || format!("messages[{index}].role");
        let Some(role) = node.get("role") else {
            return Err(ReadError::Missing {
                param: param(),
                allowed: ROLE,
            });
        };
        if !role.is_string() {
            return Err(ReadError::wrong(param(), role, ROLE));
        }
        let content = node.get("content");
        match content {
            Some(content) if !(content.is_string() || content.is_array() || content.is_null()) => {
                let param = format!("messages[{index}].content");
                Err(ReadError::wrong(
                    param,
                    content,
                    "a string or an array of content blocks",
                ))
            }
            _ => Ok(Self {
                node,
                role,
                content,
            }),
        }
    }
}
