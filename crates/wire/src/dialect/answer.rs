//! What a whole answer says about itself, in either dialect.
//!
//! **Invariant**: reading cannot fail; what is absent or unreadable is `None`, and absent usage is
//! never zero usage (tests in each dialect's `response.rs`).

use crate::usage::Usage;

/// The facts of a whole JSON answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the body is JSON; nothing else is known of one that is not.
    pub is_json: bool,
    /// What the provider says it metered.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// Why it stopped (`finish_reason`, `stop_reason`), of the first choice.
    pub stop: Option<String>,
    /// Whether the body is an error.
    pub is_error: bool,
    /// The error's message.
    pub error: Option<String>,
    /// Bytes of text, arguments and visible thinking, for estimates where usage is missing.
    pub output_bytes: u64,
}
