//! Why a call is not served: one reason for each different reaction of the caller.
//!
//! **Invariant**: every reason has a status and a shape in every dialect (the exhaustive match in
//! `gateway::relay::refuse`).

/// The reasons, each with its own status code in `relay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body cannot be understood.
    BadRequest,
    /// No key, or one that is not known, expired or disabled.
    Unauthenticated,
    /// No such path.
    UnknownRoute,
    /// The path is right, but what it names does not exist.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// No provider is configured for this model.
    UnknownModel,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The client took too long to send its request.
    SlowClient,
    /// The key may not call this model.
    ModelNotAllowed,
    /// Too many calls for now.
    RateLimited,
    /// A budget is spent.
    BudgetSpent,
    /// An operator stopped the key, or everything.
    Stopped,
    /// A part of the prompt is larger than its route allows.
    ContextTooLarge,
    /// The agent goes in circles, and its route stops those that do.
    Looping,
    /// The upstream could not be reached or did not answer in time.
    UpstreamUnreachable,
    /// The upstream could not be reached or did not answer in time, and was tried again already.
    UpstreamGivenUp,
    /// The ledger cannot write fast enough to take another call.
    LedgerBehind,
    /// The gateway is stopping.
    ShuttingDown,
    /// A fault of ours.
    Internal,
}

/// A call that is not served, in words that the client may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What was given, what is allowed, what to do.
    pub message: String,
    /// The request field at fault, as a path.
    pub param: Option<String>,
    /// When it may work again, in whole seconds, where that is known.
    pub retry_after_s: Option<u64>,
    /// The method that the path takes, where another one was used.
    pub allowed_method: Option<String>,
}

impl Refusal {
    /// A refusal without a field at fault.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            param: None,
            retry_after_s: None,
            allowed_method: None,
        }
    }
}
