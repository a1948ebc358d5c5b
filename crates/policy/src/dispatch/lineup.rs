//! The targets of a route in order: equal deployments first, fallbacks after them, each with what
//! it can take.
//!
//! **Invariant**: a call goes to a target of its own dialect or to none; fallbacks, unlike the first
//! target, are only asked what they are known to take (property `fallbacks_take_what_they_get`).

use std::num::NonZeroU16;

use wire::dialect::Dialect;
use wire::usage::Tokens;

use crate::dispatch::balance::{self, Choice, Equal, Health};
use crate::dispatch::breaker::Rules;
use crate::dispatch::fault::Credential;
use crate::dispatch::prefill::{self, Prefill};
use crate::moment::Moment;
use crate::prices::PriceBook;

/// 64: one bit each says which were tried. Routes seen in the field have fewer than ten.
pub const CANDIDATES_MAX: usize = 64;

/// What a target can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// What it speaks.
    pub dialect: Dialect,
    /// Its largest input, where known.
    pub window: Option<Tokens>,
    /// What it makes of a last message of the assistant's.
    pub prefill: Prefill,
    /// Whose credential opens it.
    pub credential: Credential,
}

impl Card {
    /// What the price book and the rows of [`prefill`] know of a target.
    pub fn of(
        book: &PriceBook,
        provider: &str,
        model: &str,
        dialect: Dialect,
        credential: Credential,
    ) -> Self {
        Self {
            dialect,
            window: book.find(provider, model).and_then(|model| model.context),
            prefill: prefill::prefill(provider, model, dialect),
            credential,
        }
    }
}

/// One target of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place among the healths.
    pub target: usize,
    /// Equal deployments share a rank; lower ranks are asked first.
    pub rank: u16,
    /// How much of its rank's load it shall bear.
    pub weight: NonZeroU16,
    /// What it can take.
    pub card: Card,
}

/// How a conversation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// With the user's message or a tool's result.
    #[default]
    Others,
    /// With an assistant's message, which the client means to be continued or read.
    Assistant,
}

/// What a call asks of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is written in.
    pub dialect: Dialect,
    /// The size of its input, as estimated; none if nobody counted.
    pub input: Option<Tokens>,
    /// How it ends.
    pub tail: Tail,
}

impl Need {
    /// Whether a target is known to take the call.
    pub fn is_met_by(&self, card: &Card) -> bool {
        let fits = match (self.input, card.window) {
            (Some(input), Some(window)) => input <= window,
            _ => true,
        };
        let ends_well = self.tail == Tail::Others || card.prefill != Prefill::Rejects;
        self.dialect == card.dialect && fits && ends_well
    }
}

/// Which targets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What they must take.
    pub need: Need,
    /// Those that were tried.
    pub tried: Tried,
    /// Their window must be known, and larger than this.
    pub above: Option<Tokens>,
}

impl Wanted {
    /// Whether this target is asked for.
    pub fn includes(&self, index: usize, candidate: &Candidate) -> bool {
        let is_larger = match (self.above, candidate.card.window) {
            (None, _) => true,
            (Some(above), Some(window)) => window > above,
            (Some(_), None) => false,
        };
        !self.tried.has(index) && is_larger && self.need.is_met_by(&candidate.card)
    }
}

/// A set of a lineup's candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// No candidate.
    pub const NONE: Self = Self(0);

    /// Adds a candidate.
    pub fn add(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    /// Whether the candidate is in the set.
    pub fn has(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }
}

fn bit(index: usize) -> u64 {
    let shift = u32::try_from(index).unwrap_or(u32::MAX);
    1_u64.checked_shl(shift).unwrap_or_default()
}

/// Why there is no lineup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineupError {
    /// No candidates.
    #[error("a route without a target; name at least one")]
    Empty,
    /// Too many candidates.
    #[error("a route with {given} targets; at most {CANDIDATES_MAX} are allowed")]
    TooMany {
        /// How many were given.
        given: usize,
    },
}

/// The targets of a route, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineup {
    candidates: Vec<Candidate>,
}

impl Lineup {
    /// Orders candidates by rank; within a rank they stay as given.
    pub fn new(mut candidates: Vec<Candidate>) -> Result<Self, LineupError> {
        match candidates.len() {
            0 => Err(LineupError::Empty),
            given if given > CANDIDATES_MAX => Err(LineupError::TooMany { given }),
            _ => {
                candidates.sort_by_key(|candidate| candidate.rank);
                Ok(Self { candidates })
            }
        }
    }

    /// Every candidate, in order.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The best candidate that is asked for: the first rank that has an open one, or whichever opens
    /// first.
    pub fn pick(
        &self,
        wanted: &Wanted,
        rules: &Rules,
        health: &[Health],
        sticky: Option<usize>,
        now: Moment,
        draw: u64,
    ) -> Option<Choice> {
        let mut barred: Option<(Equal, Moment)> = None;
        let mut from = 0;
        for group in self
            .candidates
            .chunk_by(|one, other| one.rank == other.rank)
        {
            let numbered = (from..).zip(group);
            from += group.len();
            let wanted = numbered.filter(|(index, candidate)| wanted.includes(*index, candidate));
            let equals = wanted.map(|(candidate, it)| Equal {
                candidate,
                target: it.target,
                weight: it.weight,
            });
            match balance::choose(rules, health, equals, sticky, now, draw) {
                Some(Choice::Barred(equal, until)) => {
                    if barred.is_none_or(|(_, earliest)| until < earliest) {
                        barred = Some((equal, until));
                    }
                }
                None => {}
                open => return open,
            }
        }
        barred.map(|(equal, until)| Choice::Barred(equal, until))
    }
}

#[cfg(test)]
mod tests {
    use super::{CANDIDATES_MAX, Candidate, Card, Lineup, LineupError, Need, Tail, Tried};
    use crate::dispatch::fault::Credential;
    use crate::dispatch::prefill::Prefill;
    use crate::prices::PriceBook;
    use std::num::NonZeroU16;
    use wire::dialect::Dialect;
    use wire::usage::Tokens;

    const CARD: Card = Card {
        dialect: Dialect::AnthropicMessages,
        window: Some(Tokens(100)),
        prefill: Prefill::Rejects,
        credential: Credential::Ours,
    };

    const NEED: Need = Need {
        dialect: Dialect::AnthropicMessages,
        input: Some(Tokens(100)),
        tail: Tail::Others,
    };

    #[test]
    fn needs_are_met_or_not() {
        let check = |need: Need, card: Card, expect: bool| {
            assert_eq!(need.is_met_by(&card), expect, "{need:?} {card:?}");
        };
        let dialect = Dialect::OpenAiChat;
        check(NEED, CARD, true);
        check(NEED, Card { dialect, ..CARD }, false);
        let input = Some(Tokens(101));
        check(Need { input, ..NEED }, CARD, false);
        check(
            Need { input, ..NEED },
            Card {
                window: None,
                ..CARD
            },
            true,
        );
        check(
            Need {
                input: None,
                ..NEED
            },
            CARD,
            true,
        );
        for (tail, prefill, expect) in [
            (Tail::Assistant, Prefill::Rejects, false),
            (Tail::Assistant, Prefill::Ignores, true),
            (Tail::Assistant, Prefill::Continues, true),
            (Tail::Others, Prefill::Rejects, true),
        ] {
            check(Need { tail, ..NEED }, Card { prefill, ..CARD }, expect);
        }
    }

    #[test]
    fn lineups_have_one_to_64_candidates() {
        let candidate = Candidate {
            target: 0,
            rank: 0,
            weight: NonZeroU16::MIN,
            card: CARD,
        };
        assert_eq!(Lineup::new(Vec::new()), Err(LineupError::Empty));
        assert!(Lineup::new(vec![candidate; CANDIDATES_MAX]).is_ok());
        let error = Lineup::new(vec![candidate; CANDIDATES_MAX + 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a route with 65 targets; at most 64 are allowed"
        );
        let ranked = Lineup::new(vec![
            Candidate {
                rank: 2,
                ..candidate
            },
            Candidate {
                rank: 1,
                ..candidate
            },
        ]);
        let ranks = ranked.expect("two candidates");
        assert_eq!(ranks.candidates()[0].rank, 1);
    }

    #[test]
    fn candidates_are_told_apart() {
        let mut tried = Tried::default();
        tried.add(63);
        tried.add(0);
        let found: Vec<_> = (0..70).filter(|index| tried.has(*index)).collect();
        assert_eq!(found, [0, 63]);
    }

    #[test]
    fn cards_know_what_the_price_book_knows() {
        let (dialect, ours) = (Dialect::AnthropicMessages, Credential::Ours);
        let of = |model| Card::of(PriceBook::built_in(), "anthropic", model, dialect, ours);
        assert_eq!(of("claude-haiku-4-5").window, Some(Tokens(200_000)));
        assert_eq!(of("claude-haiku-4-5").prefill, Prefill::Continues);
        assert_eq!(of("claude-opus-5-5").window, Some(Tokens(1_000_000)));
        assert_eq!(of("claude-opus-5-5").prefill, Prefill::Rejects);
        assert_eq!(of("claude-of-tomorrow").window, None);
    }
}
