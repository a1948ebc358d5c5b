//! Sessions: how long conversations go on, and by how much they grow, as seen so far.
//!
//! A session need not be seen to end: what counts is how many of those that came to a call came to
//! the next.
//!
//! **Invariant**: an expectation lies between what the prior says and what was seen, and more calls
//! seen never make fewer expected (test `seen_sessions_replace_the_prior`).

use wire::usage::Tokens;

/// 64: how many further calls are looked at; beyond, a warm prefix has long paid.
pub const CALLS_AHEAD_MAX: usize = 64;

/// 8 sessions: as much as the prior counts.
const PRIOR_SESSIONS: f64 = 8.0;

/// What kind of conversation a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It defines tools: an agent, which calls again with each result.
    Agent,
    /// It does not: somebody asks.
    Chat,
}

impl Kind {
    /// Of a call with or without tools.
    pub const fn of(has_tools: bool) -> Self {
        if has_tools { Self::Agent } else { Self::Chat }
    }

    /// The chance that another call follows, before anything was seen: a guess (ten calls of an agent,
    /// hardly two of a chat) that a few sessions outweigh.
    const fn goes_on(self) -> f64 {
        match self {
            Self::Agent => 0.9,
            Self::Chat => 0.4,
        }
    }

    /// What a further call has more input than the one before, that one's answer included, and its own
    /// answer, in tokens, before anything was seen: a guess, too.
    const fn step(self) -> (f64, f64) {
        match self {
            Self::Agent => (800.0, 200.0),
            Self::Chat => (1_350.0, 350.0),
        }
    }
}

/// What is to be expected of the rest of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Calls that still follow.
    pub calls: f64,
    /// What each has more input than the one before it, that one's answer included.
    pub grows: Tokens,
    /// What each is answered with.
    pub answers: Tokens,
}

/// 4 bytes a token, before anything was counted: text and code in most languages.
const BYTES_PER_TOKEN: f64 = 4.0;

/// 8 000 tokens: as much as the prior counts. The first calls that were counted outweigh it.
const PRIOR_TOKENS: f64 = 8_000.0;

/// What is left of earlier sizes with each new one: some 100 calls count.
const FADES: f64 = 0.99;

/// Counts of one kind of conversation.
#[derive(Clone, Debug)]
struct Counts {
    /// Bytes and tokens of the calls whose input was counted.
    sized: (f64, f64),
    /// Sessions that came to their first, second, … call.
    reached: [f64; CALLS_AHEAD_MAX],
    grown: Mean,
    answered: Mean,
}

/// A mean that begins at a prior.
#[derive(Clone, Copy, Debug)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn prior(mean: f64) -> Self {
        Self {
            sum: mean * PRIOR_SESSIONS,
            weight: PRIOR_SESSIONS,
        }
    }

    fn add(&mut self, seen: Tokens) {
        self.sum += as_f64(seen);
        self.weight += 1.0;
    }

    fn tokens(self) -> Tokens {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of token counts"
        )]
        Tokens((self.sum / self.weight).round() as u64)
    }
}

impl Counts {
    fn of(kind: Kind) -> Self {
        let mut reached = [0.0; CALLS_AHEAD_MAX];
        let mut left = PRIOR_SESSIONS;
        for count in &mut reached {
            *count = left;
            left *= kind.goes_on();
        }
        let (grows, answers) = kind.step();
        Self {
            sized: (PRIOR_TOKENS * BYTES_PER_TOKEN, PRIOR_TOKENS),
            reached,
            grown: Mean::prior(grows),
            answered: Mean::prior(answers),
        }
    }
}

/// What was seen of all conversations.
#[derive(Clone, Debug)]
pub struct Sessions {
    agent: Counts,
    chat: Counts,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            agent: Counts::of(Kind::Agent),
            chat: Counts::of(Kind::Chat),
        }
    }
}

impl Sessions {
    /// A session came to its call of this number, counted from 1; all but the first add so much to
    /// the input before them.
    pub fn came_to(&mut self, kind: Kind, call: usize, grown: Option<Tokens>) {
        let counts = self.counts_mut(kind);
        if let Some(count) = counts.reached.get_mut(call.saturating_sub(1)) {
            *count += 1.0;
        }
        if let Some(grown) = grown {
            counts.grown.add(grown);
        }
    }

    /// The input of a body of so many bytes, by what bodies of this kind were counted at.
    pub fn size(&self, kind: Kind, bytes: u64) -> Tokens {
        let (seen, tokens) = self.counts(kind).sized;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an estimate of a token count"
        )]
        Tokens((bytes as f64 * tokens / seen).round() as u64)
    }

    /// A body of so many bytes was counted at so many tokens.
    pub fn sized(&mut self, kind: Kind, bytes: u64, tokens: Tokens) {
        let sized = &mut self.counts_mut(kind).sized;
        // Fading keeps up with what clients send now.
        sized.0 = sized.0 * FADES + as_f64(Tokens(bytes));
        sized.1 = sized.1 * FADES + as_f64(tokens);
    }

    /// A call was answered with so many tokens.
    pub fn answered(&mut self, kind: Kind, tokens: Tokens) {
        self.counts_mut(kind).answered.add(tokens);
    }

    /// What follows the call of this number, counted from 1.
    pub fn outlook(&self, kind: Kind, call: usize) -> Outlook {
        let counts = self.counts(kind);
        let here = call.clamp(1, CALLS_AHEAD_MAX - 1);
        let reached = counts.reached.get(here - 1).copied().unwrap_or(1.0);
        let further: f64 = counts.reached.iter().skip(here).sum();
        Outlook {
            calls: further / reached.max(f64::MIN_POSITIVE),
            grows: counts.grown.tokens(),
            answers: counts.answered.tokens(),
        }
    }

    fn counts(&self, kind: Kind) -> &Counts {
        match kind {
            Kind::Agent => &self.agent,
            Kind::Chat => &self.chat,
        }
    }

    fn counts_mut(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Agent => &mut self.agent,
            Kind::Chat => &mut self.chat,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^53"
)]
fn as_f64(tokens: Tokens) -> f64 {
    tokens.0 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that are expected to follow the first of a chat, after some sessions of this length.
    fn after(sessions: usize, length: usize) -> f64 {
        let mut seen = Sessions::default();
        for _ in 0..sessions {
            for call in 1..=length {
                seen.came_to(Kind::Chat, call, (call > 1).then_some(Tokens(100)));
                seen.answered(Kind::Chat, Tokens(50));
            }
        }
        seen.outlook(Kind::Chat, 1).calls
    }

    #[test]
    fn seen_sessions_replace_the_prior() {
        let prior = after(0, 0);
        assert!((0.6..0.7).contains(&prior), "{prior}");
        let (few, many) = (after(8, 5), after(800, 5));
        assert!(prior < few && few < many, "{prior} {few} {many}");
        assert!((3.9..4.0).contains(&many), "{many}");
        assert!(after(800, 1) < 0.01);
    }

    #[test]
    fn sizes_follow_what_was_counted() {
        let mut seen = Sessions::default();
        assert_eq!(seen.size(Kind::Agent, 4_000), Tokens(1_000));
        for _ in 0..300 {
            seen.sized(Kind::Agent, 50_000, Tokens(10_000));
        }
        assert_eq!(seen.size(Kind::Agent, 5_000), Tokens(1_000));
        assert_eq!(seen.size(Kind::Chat, 4_000), Tokens(1_000));
    }

    #[test]
    fn steps_move_towards_what_was_seen() {
        let mut seen = Sessions::default();
        let prior = seen.outlook(Kind::Agent, 3);
        for _ in 0..1_000 {
            seen.came_to(Kind::Agent, 4, Some(Tokens(3_000)));
            seen.answered(Kind::Agent, Tokens(20));
        }
        let outlook = seen.outlook(Kind::Agent, 3);
        assert_eq!((prior.grows, prior.answers), (Tokens(800), Tokens(200)));
        assert!(outlook.grows > Tokens(2_900) && outlook.answers < Tokens(25));
    }
}
