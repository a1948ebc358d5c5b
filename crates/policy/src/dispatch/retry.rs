//! What to do after a leg has failed: the same target, another one, a larger one, or none.
//!
//! **Invariant**: never more legs than allowed, never past the deadline, delays within their bounds
//! for every draw (properties `attempts_are_bounded` and `delays_are_bounded`).

use crate::dispatch::fault::{Credential, Fault};
use crate::dispatch::hedge::Hedging;
use crate::dispatch::patience;
use crate::moment::Moment;

/// Two more legs at a target that failed: the official SDKs' default.
pub const RETRIES: u32 = 2;

/// Six legs in all: two targets with their retries, or six targets.
pub const LEGS_MAX: u32 = 6;

/// 500 ms before the first retry at most; the official SDKs' default.
pub const BACKOFF_MS: u64 = 500;

/// 8 s before any retry at most; the official SDKs' default.
pub const BACKOFF_MS_MAX: u64 = 8_000;

/// 50 ms: even the luckiest draw does not hammer a target that has just failed.
pub const BACKOFF_MS_MIN: u64 = 50;

/// 10 s: a rate limit that asks for more is waited for elsewhere.
pub const WAIT_MS_MAX: u64 = 10_000;

/// 250 ms: spread over which calls return that were all told the same time.
pub const WAIT_JITTER_MS: u64 = 250;

/// 10 min from the first leg until the answer begins: the official SDKs' own timeout.
pub const DEADLINE_MS: u64 = 600_000;

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Legs at one target beyond the first.
    pub retries: u32,
    /// Legs of a call in all.
    pub legs_max: u32,
    /// From the first leg until the answer begins, in milliseconds.
    pub deadline_ms: u64,
    /// The longest that a target's own wish is waited for, in milliseconds.
    pub wait_ms_max: u64,
    /// Over how long calls are spread that were all told the same time, in milliseconds.
    pub wait_jitter_ms: u64,
    /// Before the first retry at a target at most, in milliseconds; it doubles with each.
    pub backoff_ms: u64,
    /// Before any retry at most, in milliseconds.
    pub backoff_ms_max: u64,
    /// How long silence is borne.
    pub patience: patience::Rules,
    /// When a second target is asked beside a silent one; never, by default.
    pub hedging: Option<Hedging>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: RETRIES,
            legs_max: LEGS_MAX,
            deadline_ms: DEADLINE_MS,
            wait_ms_max: WAIT_MS_MAX,
            wait_jitter_ms: WAIT_JITTER_MS,
            backoff_ms: BACKOFF_MS,
            backoff_ms_max: BACKOFF_MS_MAX,
            patience: patience::Rules::default(),
            hedging: None,
        }
    }
}

/// What the client has seen of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Nothing: the call can start anew unnoticed.
    Nothing,
    /// More than nothing: two models' halves are not one answer.
    More,
}

/// Where a call stands when a leg has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Legs sent so far, the failed one included.
    pub legs: u32,
    /// Legs sent to the failed leg's target in a row, that one included.
    pub legs_here: u32,
    /// When the call must have begun to answer.
    pub deadline: Moment,
    /// Whose credential the failed leg carried.
    pub credential: Credential,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same target again.
    SameTarget {
        /// Not before this.
        at: Moment,
    },
    /// Another target, at once.
    NextTarget,
    /// A target with a larger context window, at once.
    LargerWindow,
    /// None: the client is told.
    GiveUp {
        /// Why.
        why: Why,
    },
}

/// Why a call is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The fault is the answer: any target would, or should, say the same.
    Final,
    /// The client has begun to see the answer.
    Visible,
    /// Every leg allowed was sent.
    Attempts,
    /// The time is over.
    Deadline,
    /// No target is left that could take the call.
    NoTarget,
}

/// How a fault is met, limits aside.
enum Reaction {
    Again { after_ms: Option<u64> },
    Elsewhere,
    Larger,
    Never,
}

fn reaction(fault: Fault, credential: Credential) -> Reaction {
    match (fault, credential) {
        (Fault::RateLimited { after_ms } | Fault::Overloaded { after_ms }, _) => {
            Reaction::Again { after_ms }
        }
        (
            Fault::Unconnected
            | Fault::Reset
            | Fault::Failed
            | Fault::Unreadable
            | Fault::Cut
            | Fault::Interrupted,
            _,
        ) => Reaction::Again { after_ms: None },
        // Asking a silent target again multiplies the wait.
        (Fault::Silent | Fault::Stalled | Fault::ModelMissing | Fault::PrefillRejected, _)
        | (Fault::Denied | Fault::Exhausted, Credential::Ours) => Reaction::Elsewhere,
        (Fault::ContextExceeded, _) => Reaction::Larger,
        // A refusal of content is not routed around, and a client's own key is its own affair.
        (Fault::BadRequest | Fault::Refused, _)
        | (Fault::Denied | Fault::Exhausted, Credential::Clients) => Reaction::Never,
    }
}

/// Whether another target may serve the call as well after this fault: its answer is then waited
/// for, if it was asked already.
pub fn is_passing(fault: Fault, credential: Credential) -> bool {
    match reaction(fault, credential) {
        Reaction::Again { .. } | Reaction::Elsewhere => true,
        Reaction::Larger | Reaction::Never => false,
    }
}

/// What to do after a leg has failed; `draw` is a uniformly random number.
pub fn next(
    policy: &Policy,
    state: &State,
    fault: Fault,
    visible: Visible,
    now: Moment,
    draw: u64,
) -> Next {
    let reaction = reaction(fault, state.credential);
    if let Reaction::Never = reaction {
        return Next::GiveUp { why: Why::Final };
    }
    if visible != Visible::Nothing {
        return Next::GiveUp { why: Why::Visible };
    }
    if state.legs >= policy.legs_max {
        return Next::GiveUp { why: Why::Attempts };
    }
    if now >= state.deadline {
        return Next::GiveUp { why: Why::Deadline };
    }
    match reaction {
        Reaction::Larger => Next::LargerWindow,
        Reaction::Again { after_ms } if state.legs_here <= policy.retries => {
            match delay_ms(policy, state.legs_here, after_ms, draw) {
                Some(ms) if now.after(ms) < state.deadline => {
                    Next::SameTarget { at: now.after(ms) }
                }
                _ => Next::NextTarget,
            }
        }
        Reaction::Again { .. } | Reaction::Elsewhere | Reaction::Never => Next::NextTarget,
    }
}

/// How long to wait before the same target is asked again; nothing if it asks for too long.
fn delay_ms(policy: &Policy, legs_here: u32, after_ms: Option<u64>, draw: u64) -> Option<u64> {
    match after_ms {
        Some(ms) if ms > policy.wait_ms_max => None,
        Some(ms) => Some(ms + draw % policy.wait_jitter_ms.saturating_add(1)),
        None => Some(backoff_ms(policy, legs_here, draw)),
    }
}

/// Full jitter: anything up to a bound that doubles with each leg at the target.
pub fn backoff_ms(policy: &Policy, legs_here: u32, draw: u64) -> u64 {
    let doubled = 1 << legs_here.saturating_sub(1).min(30);
    let bound = policy.backoff_ms.saturating_mul(doubled);
    let bound = bound.min(policy.backoff_ms_max);
    (draw % bound.saturating_add(1)).max(BACKOFF_MS_MIN.min(bound))
}

#[cfg(test)]
mod tests {
    use super::{Next, Policy, State, Visible, next};
    use crate::dispatch::fault::{Credential, Fault};
    use crate::moment::Moment;

    const NOW: Moment = Moment(1_000_000);

    const FRESH: State = State {
        legs: 1,
        legs_here: 1,
        deadline: Moment(2_000_000),
        credential: Credential::Ours,
    };

    fn text(next: Next) -> String {
        match next {
            Next::SameTarget { at } => format!("same +{}", at.since(NOW)),
            Next::NextTarget => "next".to_owned(),
            Next::LargerWindow => "larger".to_owned(),
            Next::GiveUp { why } => format!("{why:?}"),
        }
    }

    fn check(state: State, fault: Fault, visible: Visible, expect: &str) {
        let found = next(&Policy::default(), &state, fault, visible, NOW, 100);
        assert_eq!(text(found), expect, "{fault:?} {visible:?} {state:?}");
    }

    #[test]
    fn every_fault_has_its_reaction() {
        for (fault, expect) in [
            (Fault::Unconnected, "same +100"),
            (Fault::Reset, "same +100"),
            (Fault::Silent, "next"),
            (Fault::RateLimited { after_ms: None }, "same +100"),
            (
                Fault::RateLimited {
                    after_ms: Some(2_000),
                },
                "same +2100",
            ),
            (
                Fault::RateLimited {
                    after_ms: Some(10_001),
                },
                "next",
            ),
            (Fault::Overloaded { after_ms: None }, "same +100"),
            (
                Fault::Overloaded {
                    after_ms: Some(1_000),
                },
                "same +1100",
            ),
            (Fault::Failed, "same +100"),
            (Fault::Denied, "next"),
            (Fault::Exhausted, "next"),
            (Fault::ModelMissing, "next"),
            (Fault::BadRequest, "Final"),
            (Fault::ContextExceeded, "larger"),
            (Fault::Refused, "Final"),
            (Fault::PrefillRejected, "next"),
            (Fault::Unreadable, "same +100"),
            (Fault::Cut, "same +100"),
            (Fault::Stalled, "next"),
            (Fault::Interrupted, "same +100"),
        ] {
            check(FRESH, fault, Visible::Nothing, expect);
        }
    }

    #[test]
    fn a_clients_own_key_is_its_own_affair() {
        let credential = Credential::Clients;
        let state = State {
            credential,
            ..FRESH
        };
        check(state, Fault::Denied, Visible::Nothing, "Final");
        check(state, Fault::Exhausted, Visible::Nothing, "Final");
        check(state, Fault::Failed, Visible::Nothing, "same +100");
    }

    #[test]
    fn limits_end_it() {
        let (nothing, failed) = (Visible::Nothing, Fault::Failed);
        let at = |legs, legs_here, left_ms| State {
            legs,
            legs_here,
            deadline: NOW.after(left_ms),
            credential: Credential::Ours,
        };
        check(at(2, 2, 9_000), failed, nothing, "same +100");
        check(at(3, 3, 9_000), failed, nothing, "next");
        check(at(6, 1, 9_000), failed, nothing, "Attempts");
        check(at(1, 1, 0), failed, nothing, "Deadline");
        // No time to wait, but some to ask another.
        check(at(1, 1, 100), failed, nothing, "next");
        check(at(1, 1, 101), failed, nothing, "same +100");
        check(at(6, 3, 0), Fault::BadRequest, nothing, "Final");
    }

    #[test]
    fn what_is_seen_is_not_sent_again() {
        check(FRESH, Fault::Cut, Visible::More, "Visible");
        check(FRESH, Fault::Stalled, Visible::More, "Visible");
        check(FRESH, Fault::Refused, Visible::More, "Final");
    }
}
