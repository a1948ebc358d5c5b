//! How long to wait for a target: for its first token, and for each one after it.
//!
//! Waiting is cheap while nobody else could answer, and dear once somebody could. A model that
//! thinks is silent for long and not ill; what a target usually takes says more than any constant.
//!
//! **Invariant**: never longer than what is left of the call, and never shorter than the floor
//! unless nothing is left (property `patience_is_bounded`).

use crate::moment::Moment;

/// 10 min: the official SDKs' own timeout; where nobody else could answer, we wait as they do.
pub const FIRST_TOKEN_MS_MAX: u64 = 600_000;

/// 12 s: healthy chat models stream their first token in one to five seconds.
pub const FIRST_TOKEN_MS: u64 = 12_000;

/// 2 min: a model that thinks, or answers in one piece, may be silent for as long.
pub const FIRST_TOKEN_MS_THINKING: u64 = 120_000;

/// Eight times what it usually takes: beyond that a target is ill, not slow.
const TYPICAL_TIMES: u64 = 8;

/// 30 s between two pieces of a stream, pings and comments included: a reader has given up by then.
pub const STALL_MS: u64 = 30_000;

/// 2 min between two pieces of a stream, for models that think in between.
pub const STALL_MS_THINKING: u64 = 120_000;

/// 10 s: a model that thinks for longer shows signs of life, which the client must see in time.
pub const KEPT_BACK_MS: u64 = 10_000;

/// How patient a gateway is, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Until the first token of a target that stands alone.
    pub first_token_ms_max: u64,
    /// Until the first token while others could answer, at least.
    pub first_token_ms: u64,
    /// The same of models that think.
    pub first_token_ms_thinking: u64,
    /// Between two pieces of a stream.
    pub stall_ms: u64,
    /// The same of models that think.
    pub stall_ms_thinking: u64,
    /// From the first piece of a stream until the client must see it, though it shows nothing yet.
    pub kept_back_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            first_token_ms_max: FIRST_TOKEN_MS_MAX,
            first_token_ms: FIRST_TOKEN_MS,
            first_token_ms_thinking: FIRST_TOKEN_MS_THINKING,
            stall_ms: STALL_MS,
            stall_ms_thinking: STALL_MS_THINKING,
            kept_back_ms: KEPT_BACK_MS,
        }
    }
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As a stream of visible tokens from the start.
    Prompt,
    /// After silence: the model thinks first, or the answer comes in one piece.
    Thinking,
}

/// Whether somebody else could answer the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Another target is left.
    Possible,
    /// This is the last one.
    Nobody,
}

/// Limits on silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until the first token, from sending on.
    pub first_token_ms: u64,
    /// Between two pieces of an answer that has begun.
    pub stall_ms: u64,
    /// From the first piece of a stream until the client must see it.
    pub kept_back_ms: u64,
}

impl Rules {
    /// The limits of one leg; `typical_ms` is what the target usually takes to the first token.
    pub fn patience(
        &self,
        pace: Pace,
        elsewhere: Elsewhere,
        typical_ms: Option<u64>,
        now: Moment,
        deadline: Moment,
    ) -> Patience {
        let (floor_ms, stall_ms) = match pace {
            Pace::Prompt => (self.first_token_ms, self.stall_ms),
            Pace::Thinking => (self.first_token_ms_thinking, self.stall_ms_thinking),
        };
        let first_token_ms = match elsewhere {
            Elsewhere::Nobody => self.first_token_ms_max,
            Elsewhere::Possible => {
                let usual = typical_ms.unwrap_or_default();
                let usual = usual.saturating_mul(TYPICAL_TIMES);
                usual.max(floor_ms).min(self.first_token_ms_max)
            }
        };
        Patience {
            first_token_ms: first_token_ms.min(deadline.since(now)),
            stall_ms,
            kept_back_ms: self.kept_back_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Elsewhere, Pace, Rules};
    use crate::moment::Moment;

    #[test]
    fn patience_follows_what_is_usual_and_who_else_there_is() {
        let (prompt, thinking) = (Pace::Prompt, Pace::Thinking);
        let (possible, nobody) = (Elsewhere::Possible, Elsewhere::Nobody);
        for (pace, elsewhere, typical_ms, left_ms, expect) in [
            (prompt, possible, None, 900_000, 12_000),
            (prompt, possible, Some(800), 900_000, 12_000),
            (prompt, possible, Some(5_000), 900_000, 40_000),
            (prompt, possible, Some(500_000), 900_000, 600_000),
            (prompt, possible, None, 3_000, 3_000),
            (prompt, nobody, Some(800), 900_000, 600_000),
            (thinking, possible, None, 900_000, 120_000),
            (thinking, possible, Some(40_000), 900_000, 320_000),
            (thinking, nobody, None, 30_000, 30_000),
        ] {
            let deadline = Moment(7 + left_ms);
            let rules = Rules::default();
            let limits = rules.patience(pace, elsewhere, typical_ms, Moment(7), deadline);
            assert_eq!(limits.first_token_ms, expect, "{pace:?} {elsewhere:?}");
        }
    }
}
