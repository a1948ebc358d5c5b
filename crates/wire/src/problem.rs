//! A failure as a client may see it, before a dialect gives it its shape.

/// The kinds of failure that every dialect has a word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be understood or is not allowed.
    InvalidRequest,
    /// No key, or a wrong one.
    Unauthenticated,
    /// A valid key that may not do this.
    PermissionDenied,
    /// No such model, path or object.
    NotFound,
    /// The body is larger than the limit.
    TooLarge,
    /// Too many requests, or a budget is spent.
    RateLimited,
    /// The upstream or the gateway cannot take more work now.
    Overloaded,
    /// Something took longer than its limit.
    Timeout,
    /// The upstream failed or broke off.
    Upstream,
    /// The gateway failed.
    Internal,
}

/// What went wrong, in words that a client may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub kind: ProblemKind,
    /// A stable machine-readable code, for instance `model_not_found`.
    pub code: &'static str,
    /// What was given, what is allowed, what to do.
    pub message: String,
    /// The request field at fault, as a path (`messages[2].content`).
    pub param: Option<String>,
}
