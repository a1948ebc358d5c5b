//! Says why a session lost cached input: what changed, down to the first byte, and what it cost.
//!
//! To name a byte, the latest body of a few hundred sessions is kept in memory, never written
//! anywhere; for older sessions the segment is named without the byte.
//!
//! **Invariant**: a prompt that continues its session's latest one within the lifetime is never
//! called a miss (test `growing_conversations_are_no_misses`).

use std::fmt;

use wire::prompt::Part;
use wire::usage::Tokens;

use super::memory::{Memory, scope};
use super::recent::Recent;
use super::session::{Known, Stood};
use super::walk::{Path, horizon_ms};
use super::{Sight, Ticket};
use crate::money::PicoUsd;

/// Sessions whose latest body is kept; with [`KEPT_BYTES_MAX`] 32 MiB in all.
const KEPT_SESSIONS_MAX: usize = 256;

/// Bytes of a body that are kept: tools and system text, where most accidents happen, come first.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// A provider that reads less than this part of what was expected has lost the entry.
const EVICTED_BELOW_PERCENT: u64 = 50;

/// Latest bodies by session.
#[derive(Debug)]
pub(super) struct Kept {
    bodies: Recent<u64, Box<[u8]>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            bodies: Recent::new(KEPT_SESSIONS_MAX),
        }
    }
}

impl Kept {
    pub(super) fn keep(&mut self, session: u64, body: &[u8]) {
        if !body.is_empty() {
            let kept = body.get(..KEPT_BYTES_MAX).unwrap_or(body);
            self.bodies.insert(session, kept.into());
        }
    }
}

/// Why input that had been sent before was paid for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The session moved to another model, provider or account.
    TargetChanged,
    /// The client changed a part of what it had sent.
    Changed(Part),
    /// The session was idle for longer than the entry lives.
    Idle {
        /// Since the previous call.
        idle_ms: u64,
        /// How long the entry lived.
        lifetime_ms: u64,
    },
    /// It is shorter than the provider keeps.
    BelowMinimum,
    /// It had not been written, because a write did not seem to pay.
    NotWritten,
    /// The provider should still have held it, but did not read it.
    Evicted,
}

/// Where a prompt first differs from the session's previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part.
    pub part: Part,
    /// Index in its list.
    pub index: u32,
    /// Index of the block.
    pub block: u32,
    /// The first byte that differs, counted from the segment's start; none if the earlier body is
    /// no longer kept.
    pub byte: Option<usize>,
}

/// What a session lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Why.
    pub cause: Cause,
    /// Where, if a change was the cause.
    pub difference: Option<Difference>,
    /// Tokens that could have been read.
    pub tokens: Tokens,
    /// What they cost more than reading them.
    pub cost: PicoUsd,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            index,
            block,
            byte,
        } = self;
        match part {
            Part::Tools => write!(f, "tools[{index}]")?,
            Part::System => write!(f, "system[{index}]")?,
            Part::Messages => write!(f, "messages[{index}].content[{block}]")?,
        }
        byte.map_or(Ok(()), |byte| write!(f, " at byte {byte}"))
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::TargetChanged => f.write_str("the session moved to another model")?,
            Cause::Changed(Part::Tools) => f.write_str("tools changed")?,
            Cause::Changed(Part::System) => f.write_str("system text changed")?,
            Cause::Changed(Part::Messages) => f.write_str("earlier messages changed")?,
            Cause::Idle {
                idle_ms,
                lifetime_ms,
            } => {
                write!(f, "idle {} s > {} s", idle_ms / 1_000, lifetime_ms / 1_000)?;
            }
            Cause::BelowMinimum => f.write_str("shorter than the provider keeps")?,
            Cause::NotWritten => f.write_str("not written before")?,
            Cause::Evicted => f.write_str("the provider dropped it early")?,
        }
        if let Some(difference) = self.difference {
            write!(f, ": {difference}")?;
        }
        write!(
            f,
            "; {} tokens paid again, {} more than read",
            self.tokens, self.cost
        )
    }
}

/// What the session lost of its previous prompt, given how many tokens can be read.
pub(super) fn miss(
    memory: &Memory,
    sight: &Sight<'_>,
    path: &Path,
    known: &Known,
    readable: u64,
) -> Option<Miss> {
    let previous = known.previous.as_ref()?;
    let lost = previous.tokens.min(path.total()).saturating_sub(readable);
    if lost < sight.terms.minimum.0.max(1) {
        return None;
    }
    let idle_ms = sight.at.since(previous.last);
    let lifetime_ms = horizon_ms(sight);
    let difference = (known.common < previous.prompt.len())
        .then(|| difference(memory, sight, known, &previous.prompt))
        .flatten();
    let cause = if previous.target != scope(sight.target) {
        Cause::TargetChanged
    } else if let Some(difference) = difference {
        Cause::Changed(difference.part)
    } else if idle_ms > lifetime_ms {
        Cause::Idle {
            idle_ms,
            lifetime_ms,
        }
    } else if previous.tokens < sight.terms.minimum.0 {
        Cause::BelowMinimum
    } else {
        Cause::NotWritten
    };
    Some(Miss {
        cause,
        difference,
        tokens: Tokens(lost),
        cost: regret(sight.terms, Tokens(lost)),
    })
}

/// What plain input costs more than reading it.
fn regret(terms: super::Terms, tokens: Tokens) -> PicoUsd {
    let cost = |price: Option<crate::money::Price>| price.unwrap_or_default().cost(tokens);
    terms.rates.read.map_or(PicoUsd::ZERO, |read| {
        cost(terms.rates.input) - cost(Some(read))
    })
}

fn difference(
    memory: &Memory,
    sight: &Sight<'_>,
    known: &Known,
    before: &[Stood],
) -> Option<Difference> {
    let stood = before.get(known.common)?;
    let now = sight.prompt.segments.get(known.common);
    let Stood {
        part, index, block, ..
    } = *stood;
    let bytes = memory
        .kept
        .bodies
        .peek(known.key)
        .and_then(|body| body.get(stood.span.clone()));
    let byte = bytes.and_then(|bytes| {
        let now = sight.body.get(now?.span.clone())?;
        let shorter = bytes.len().min(now.len());
        let differs = bytes.iter().zip(now).position(|(one, other)| one != other);
        differs.or((bytes.len() != now.len()).then_some(shorter))
    });
    Some(Difference {
        part,
        index,
        block,
        byte,
    })
}

/// The miss that only the usage shows: the provider read much less than it should have held.
pub(super) fn evicted(ticket: &Ticket, input: Tokens, read: Tokens) -> Option<Miss> {
    let expected = ticket.expected_read.0.min(input.0);
    let is_short = read.0 * 100 < expected * EVICTED_BELOW_PERCENT;
    is_short.then(|| {
        let tokens = Tokens(expected - read.0);
        Miss {
            cause: Cause::Evicted,
            difference: None,
            tokens,
            cost: regret(ticket.terms, tokens),
        }
    })
}
