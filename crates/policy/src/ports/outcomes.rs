//! How good answers were: what clients say of settled calls, kept for the router to learn from, and
//! what was noted of settled calls themselves.
//!
//! **Invariant**: a call is judged once; what was said of it stays (store conformance,
//! `a_call_is_judged_once`).

use super::{CallId, Fault};
use crate::moment::Moment;

/// A settled call, as far as its judge needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The public id of the key that it came with.
    pub key: String,
    /// The provider whose answer the client got.
    pub provider: String,
    /// Its model, as the upstream knows it.
    pub model: String,
    /// The notes of the call: a JSON object.
    pub notes: String,
}

/// How good the answer to a call was.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Which call.
    pub call: CallId,
    /// When it was judged.
    pub at: Moment,
    /// From 0, useless, to 1, as good as wanted.
    pub score: f64,
    /// Who answered, as `provider/model`.
    pub target: String,
    /// The kinds of traffic that the call belongs to, from the most general on.
    pub kinds: Vec<u64>,
}

/// What was noted of a settled call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which call.
    pub call: CallId,
    /// When it was settled.
    pub at: Moment,
    /// The notes: a JSON object.
    pub notes: String,
}

/// Where outcomes are kept.
pub trait Outcomes: Send + Sync {
    /// The settled call with this id; `None` if there is none, or it is not settled yet.
    fn settled(&self, call: &CallId) -> Result<Option<Judged>, Fault>;

    /// Keeps an outcome. False if the call was judged before, which then stands.
    fn judge(&self, outcome: &Outcome) -> Result<bool, Fault>;

    /// The latest outcomes, the oldest of them first.
    fn latest(&self, count: u32) -> Result<Vec<Outcome>, Fault>;

    /// Those of the latest so many settled calls whose notes contain this text, the oldest first.
    fn noted(&self, text: &str, among: u32) -> Result<Vec<Noted>, Fault>;
}
