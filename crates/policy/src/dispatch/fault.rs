//! What can go wrong on a leg: one fault for each different reaction.
//!
//! **Invariant**: every fault has one blame, one charge and one effect on the breaker (test
//! `every_fault_is_accounted_for`).

use crate::dispatch::breaker::Outcome;
use crate::moment::Moment;

/// Why a leg brought no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: nothing was sent.
    Unconnected,
    /// The connection broke before the head of an answer; the upstream may have seen the call.
    Reset,
    /// No first token in time: the target is alive or not, but waiting longer does not tell.
    Silent,
    /// Too many requests or tokens for the account (429).
    RateLimited {
        /// How long to stay away, where the upstream says so.
        after_ms: Option<u64>,
    },
    /// The upstream is short of capacity (503, 529).
    Overloaded {
        /// How long to stay away, where the upstream says so.
        after_ms: Option<u64>,
    },
    /// The upstream failed in a way that may pass (408, 409, 500, 502, 504).
    Failed,
    /// The credential is not accepted (401, 403).
    Denied,
    /// The account has no money or quota left: waiting does not help.
    Exhausted,
    /// The upstream has no such model (404).
    ModelMissing,
    /// The request itself is wrong (400 and other 4xx).
    BadRequest,
    /// The request is longer than the model's context window.
    ContextExceeded,
    /// A content filter refused.
    Refused,
    /// The model takes no conversation that ends with an assistant's message.
    PrefillRejected,
    /// An answer that is not what the dialect promises.
    Unreadable,
    /// The stream ended in the middle of the answer.
    Cut,
    /// The stream fell silent in the middle of the answer.
    Stalled,
    /// The stream carried an error that says no more than that.
    Interrupted,
}

/// Whose fault it is, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client's request cannot be served as it is.
    Client,
    /// The upstream did not do its part.
    Upstream,
    /// We hold a credential or name a model that the upstream does not know.
    Gateway,
}

impl Blame {
    /// The name in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

/// Whose credential a leg carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// One that the operator configured.
    #[default]
    Ours,
    /// The client's own, passed on.
    Clients,
}

/// What a failed leg may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nothing: providers do not bill what they refuse or never got.
    Nothing,
    /// The upstream may have worked on it unseen: at most the input and what it wrote unread.
    Unseen,
    /// What came until the fault is billed, and more of it may be.
    SoFar,
}

/// What an operator must repair, because no retry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// A configured credential is not accepted.
    CredentialDenied,
    /// An account has run dry.
    AccountExhausted,
    /// A configured model does not exist.
    ModelMissing,
}

impl Fault {
    /// Every fault, without a time to wait.
    pub const ALL: [Self; 17] = [
        Self::Unconnected,
        Self::Reset,
        Self::Silent,
        Self::RateLimited { after_ms: None },
        Self::Overloaded { after_ms: None },
        Self::Failed,
        Self::Denied,
        Self::Exhausted,
        Self::ModelMissing,
        Self::BadRequest,
        Self::ContextExceeded,
        Self::Refused,
        Self::PrefillRejected,
        Self::Unreadable,
        Self::Cut,
        Self::Stalled,
        Self::Interrupted,
    ];

    /// The name in the ledger and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unconnected => "unconnected",
            Self::Reset => "reset",
            Self::Silent => "silent",
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded { .. } => "overloaded",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Exhausted => "exhausted",
            Self::ModelMissing => "model_missing",
            Self::BadRequest => "bad_request",
            Self::ContextExceeded => "context_exceeded",
            Self::Refused => "refused",
            Self::PrefillRejected => "prefill_rejected",
            Self::Unreadable => "unreadable",
            Self::Cut => "cut",
            Self::Stalled => "stalled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whose fault it is.
    pub const fn blame(self, credential: Credential) -> Blame {
        match (self, credential) {
            (
                Self::BadRequest | Self::ContextExceeded | Self::Refused | Self::PrefillRejected,
                _,
            )
            | (Self::Denied | Self::Exhausted, Credential::Clients) => Blame::Client,
            (Self::Denied | Self::Exhausted, Credential::Ours) | (Self::ModelMissing, _) => {
                Blame::Gateway
            }
            (
                Self::Unconnected
                | Self::Reset
                | Self::Silent
                | Self::RateLimited { .. }
                | Self::Overloaded { .. }
                | Self::Failed
                | Self::Unreadable
                | Self::Cut
                | Self::Stalled
                | Self::Interrupted,
                _,
            ) => Blame::Upstream,
        }
    }

    /// What the leg may cost.
    pub const fn charge(self) -> Charge {
        match self {
            Self::Reset | Self::Silent => Charge::Unseen,
            Self::Unreadable | Self::Cut | Self::Stalled | Self::Interrupted => Charge::SoFar,
            Self::Unconnected
            | Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::Failed
            | Self::Denied
            | Self::Exhausted
            | Self::ModelMissing
            | Self::BadRequest
            | Self::ContextExceeded
            | Self::Refused
            | Self::PrefillRejected => Charge::Nothing,
        }
    }

    /// What the operator must hear of; nothing, if time or the client can repair it.
    pub const fn alarm(self, credential: Credential) -> Option<Alarm> {
        match (self, credential) {
            (Self::Denied, Credential::Ours) => Some(Alarm::CredentialDenied),
            (Self::Exhausted, Credential::Ours) => Some(Alarm::AccountExhausted),
            (Self::ModelMissing, _) => Some(Alarm::ModelMissing),
            _ => None,
        }
    }

    /// How long the upstream asked to be left alone.
    pub const fn after_ms(self) -> Option<u64> {
        if let Self::RateLimited { after_ms } | Self::Overloaded { after_ms } = self {
            after_ms
        } else {
            None
        }
    }

    /// What the target's breaker learns from it: a client's fault says nothing about the target,
    /// and a 429 that names a time is a healthy target that wants peace until then.
    pub const fn outcome(self, credential: Credential, now: Moment) -> Outcome {
        match (self, credential) {
            (Self::RateLimited { after_ms: Some(ms) }, Credential::Ours) => Outcome::Rest {
                until: now.after(ms),
            },
            // A client's own account says nothing about the calls of others.
            (Self::RateLimited { .. } | Self::Denied | Self::Exhausted, Credential::Clients)
            | (
                Self::BadRequest | Self::ContextExceeded | Self::Refused | Self::PrefillRejected,
                _,
            ) => Outcome::Nothing,
            (
                Self::RateLimited { after_ms: None } | Self::Denied | Self::Exhausted,
                Credential::Ours,
            )
            | (
                Self::Unconnected
                | Self::Reset
                | Self::Silent
                | Self::Overloaded { .. }
                | Self::Failed
                | Self::ModelMissing
                | Self::Unreadable
                | Self::Cut
                | Self::Stalled
                | Self::Interrupted,
                _,
            ) => Outcome::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarm, Blame, Charge, Credential, Fault};
    use crate::dispatch::breaker::Outcome;
    use crate::moment::Moment;

    #[test]
    fn every_fault_is_accounted_for() {
        let (client, upstream, gateway) = (Blame::Client, Blame::Upstream, Blame::Gateway);
        let (nothing, unseen, so_far) = (Charge::Nothing, Charge::Unseen, Charge::SoFar);
        let (bad, unknown) = (Outcome::Bad, Outcome::Nothing);
        let rows = [
            ("unconnected", upstream, nothing, bad),
            ("reset", upstream, unseen, bad),
            ("silent", upstream, unseen, bad),
            ("rate_limited", upstream, nothing, bad),
            ("overloaded", upstream, nothing, bad),
            ("failed", upstream, nothing, bad),
            ("denied", gateway, nothing, bad),
            ("exhausted", gateway, nothing, bad),
            ("model_missing", gateway, nothing, bad),
            ("bad_request", client, nothing, unknown),
            ("context_exceeded", client, nothing, unknown),
            ("refused", client, nothing, unknown),
            ("prefill_rejected", client, nothing, unknown),
            ("unreadable", upstream, so_far, bad),
            ("cut", upstream, so_far, bad),
            ("stalled", upstream, so_far, bad),
            ("interrupted", upstream, so_far, bad),
        ];
        let ours = Credential::Ours;
        let found = Fault::ALL.map(|fault| {
            let outcome = fault.outcome(ours, Moment(0));
            (fault.name(), fault.blame(ours), fault.charge(), outcome)
        });
        assert_eq!(found, rows);
    }

    #[test]
    fn a_limit_that_names_its_end_is_a_rest() {
        let after_ms = Some(2_000);
        let limited = Fault::RateLimited { after_ms };
        let until = Moment(2_007);
        let outcome = |credential| limited.outcome(credential, Moment(7));
        assert_eq!(outcome(Credential::Ours), Outcome::Rest { until });
        assert_eq!(outcome(Credential::Clients), Outcome::Nothing);
        let overloaded = Fault::Overloaded { after_ms };
        let outcome = overloaded.outcome(Credential::Ours, Moment(7));
        assert_eq!(outcome, Outcome::Bad, "it says that it fails");
    }

    #[test]
    fn only_what_an_operator_can_repair_alarms() {
        let alarms = |credential| {
            let alarms = Fault::ALL.map(|fault| fault.alarm(credential));
            alarms.into_iter().flatten().collect::<Vec<_>>()
        };
        let all = [
            Alarm::CredentialDenied,
            Alarm::AccountExhausted,
            Alarm::ModelMissing,
        ];
        assert_eq!(alarms(Credential::Ours), all);
        assert_eq!(alarms(Credential::Clients), [Alarm::ModelMissing]);
        assert_eq!(Fault::Denied.blame(Credential::Clients), Blame::Client);
    }
}
