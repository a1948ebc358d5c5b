//! A circuit breaker for one target: keeps calls away while it fails, and lets a few try again.
//!
//! **Invariant**: memory is constant, a breaker that stands open lets a probe through in bounded
//! time, and never more than [`Rules::probes`] at once (properties `a_probe_always_comes` and
//! `probes_are_bounded`).

use crate::moment::Moment;

/// The outcomes that a breaker remembers: one bit each.
const WINDOW: u32 = 32;

/// 2 min: older outcomes say nothing about now, so a quiet target starts anew.
const STALE_MS: u64 = 120_000;

/// 60 s: a target that breaks again sooner has not recovered, and rests longer.
const CALM_MS: u64 = 60_000;

/// 60 s: a probe of which nothing was heard for so long no longer keeps others out.
const PROBE_PATIENCE_MS: u64 = 60_000;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that open it; more than one call makes with its retries.
    pub streak: u32,
    /// Outcomes that a share is taken of at least.
    pub share_minimum: u32,
    /// The share of failures that opens it, in percent.
    pub share_percent: u32,
    /// The first time that it stands open, in milliseconds, before jitter.
    pub open_ms: u64,
    /// The longest, in milliseconds: a recovery is noticed within it.
    pub open_ms_max: u64,
    /// Probes under way at once.
    pub probes: u32,
    /// Probes in a row that must succeed.
    pub successes: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            streak: 5,
            share_minimum: 10,
            share_percent: 50,
            open_ms: 2_000,
            open_ms_max: 20_000,
            probes: 1,
            successes: 2,
        }
    }
}

/// What became of a call, as far as it tells of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target answers.
    Good,
    /// It does not.
    Bad,
    /// It is well, and asks to be left alone until then.
    Rest {
        /// The end of the rest.
        until: Moment,
    },
    /// Nothing is known: the client was wrong, or went away.
    Nothing,
}

/// Leave to send one call; to be handed back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Permit {
    /// The target is well as far as known.
    Normal,
    /// The call tries whether the target is back.
    Probe {
        /// The trial that it belongs to: later trials do not hear of it.
        trial: u32,
    },
    /// Not now.
    Barred {
        /// When to ask again.
        until: Moment,
    },
}

/// What [`Breaker::admit`] would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Calls pass.
    Normal,
    /// One call may probe.
    Due,
    /// Nothing passes.
    Barred {
        /// When to ask again.
        until: Moment,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Flowing,
    Open {
        until: Moment,
    },
    Trying {
        out: u32,
        good: u32,
        since: Moment,
    },
}

/// The breaker of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// The latest outcomes, newest in the lowest bit; 1 is a failure.
    outcomes: u32,
    /// How many of those bits are outcomes.
    seen: u32,
    /// Failures since the last success.
    streak: u32,
    /// When the last outcome came.
    last: Moment,
    /// When it last began to flow again.
    healed: Moment,
    /// How often the time open has doubled.
    doublings: u32,
    /// The trial that is or was under way.
    trial: u32,
    /// Until when the target asked for rest.
    rest_until: Moment,
}

impl Breaker {
    /// Whether a call would be turned away at this moment.
    pub fn is_barred(&self, rules: &Rules, now: Moment) -> bool {
        matches!(self.standing(rules, now), Standing::Barred { .. })
    }

    /// What a call would be told, without asking for leave.
    pub fn standing(&self, rules: &Rules, now: Moment) -> Standing {
        let state = match self.state {
            State::Flowing => Standing::Normal,
            State::Open { until } if now < until => Standing::Barred { until },
            State::Open { .. } => Standing::Due,
            State::Trying { out, .. } if out < rules.probes => Standing::Due,
            State::Trying { since, .. } => {
                let until = since.after(PROBE_PATIENCE_MS);
                if now < until {
                    Standing::Barred { until }
                } else {
                    Standing::Due
                }
            }
        };
        match state {
            Standing::Barred { until } => Standing::Barred {
                until: until.max(self.rest_until),
            },
            Standing::Normal | Standing::Due if now < self.rest_until => Standing::Barred {
                until: self.rest_until,
            },
            Standing::Normal | Standing::Due => state,
        }
    }

    /// Asks for leave to send a call at `now`.
    pub fn admit(&mut self, rules: &Rules, now: Moment) -> Permit {
        match self.standing(rules, now) {
            Standing::Normal => Permit::Normal,
            Standing::Due => self.probe(rules, now),
            Standing::Barred { until } => Permit::Barred { until },
        }
    }

    /// Leave to send a call although the target is barred: where nobody else is left, a broken
    /// target is better than none.
    pub fn force(&mut self, rules: &Rules, now: Moment) -> Permit {
        match self.state {
            State::Flowing => Permit::Normal,
            State::Open { .. } | State::Trying { .. } => self.probe(rules, now),
        }
    }

    fn probe(&mut self, rules: &Rules, now: Moment) -> Permit {
        let (out, good) = match self.state {
            State::Trying { out, good, since }
                if out < rules.probes || now < since.after(PROBE_PATIENCE_MS) =>
            {
                (out, good)
            }
            State::Flowing | State::Open { .. } | State::Trying { .. } => {
                self.trial = self.trial.wrapping_add(1);
                (0, 0)
            }
        };
        self.state = State::Trying {
            out: out.saturating_add(1),
            good,
            since: now,
        };
        Permit::Probe { trial: self.trial }
    }

    /// Takes a permit back with what became of its call; `draw` spreads the time that it opens for.
    pub fn record(
        &mut self,
        rules: &Rules,
        permit: Permit,
        outcome: Outcome,
        now: Moment,
        draw: u64,
    ) {
        if let Outcome::Rest { until } = outcome {
            self.rest_until = self.rest_until.max(until);
        }
        match (permit, self.state) {
            (Permit::Normal, State::Flowing) => self.note(rules, outcome, now, draw),
            (Permit::Probe { trial }, State::Trying { out, good, since })
                if trial == self.trial =>
            {
                let out = out.saturating_sub(1);
                match outcome {
                    Outcome::Good if good + 1 >= rules.successes => self.heal(now),
                    Outcome::Bad => self.open(rules, now, draw),
                    Outcome::Good | Outcome::Rest { .. } | Outcome::Nothing => {
                        let good = good + u32::from(outcome == Outcome::Good);
                        self.state = State::Trying { out, good, since };
                    }
                }
            }
            // A call from before the trial does not decide it.
            (Permit::Normal | Permit::Probe { .. } | Permit::Barred { .. }, _) => {}
        }
    }

    /// Takes back a permit whose call tells nothing: the client hung up.
    pub fn forget(&mut self, rules: &Rules, permit: Permit, now: Moment) {
        self.record(rules, permit, Outcome::Nothing, now, 0);
    }

    /// Failures since the last success.
    pub const fn failures_in_a_row(&self) -> u32 {
        self.streak
    }

    /// Until when the target asked to be left alone; the past if it did not.
    pub const fn rest_until(&self) -> Moment {
        self.rest_until
    }

    fn note(&mut self, rules: &Rules, outcome: Outcome, now: Moment, draw: u64) {
        let is_bad = match outcome {
            Outcome::Good => false,
            Outcome::Bad => true,
            Outcome::Rest { .. } | Outcome::Nothing => return,
        };
        if now.since(self.last) > STALE_MS {
            (self.outcomes, self.seen, self.streak) = (0, 0, 0);
        }
        self.last = self.last.max(now);
        self.outcomes = self.outcomes << 1 | u32::from(is_bad);
        self.seen = (self.seen + 1).min(WINDOW);
        self.streak = if is_bad {
            self.streak.saturating_add(1)
        } else {
            0
        };
        let failures = self.outcomes.count_ones();
        let too_many =
            self.seen >= rules.share_minimum && failures * 100 >= rules.share_percent * self.seen;
        if is_bad && (too_many || self.streak >= rules.streak) {
            self.open(rules, now, draw);
        }
    }

    /// Opens for half to the whole of a time that doubles while the target does not recover.
    fn open(&mut self, rules: &Rules, now: Moment, draw: u64) {
        let still_ill = match self.state {
            State::Flowing => self.healed > Moment(0) && now.since(self.healed) < CALM_MS,
            State::Open { .. } | State::Trying { .. } => true,
        };
        self.doublings = if still_ill {
            self.doublings.saturating_add(1)
        } else {
            0
        };
        let doubled = rules.open_ms.saturating_mul(1 << self.doublings.min(30));
        let longest = doubled.min(rules.open_ms_max);
        let shortest = longest / 2;
        let open_ms = shortest + draw % (longest - shortest + 1);
        self.state = State::Open {
            until: now.after(open_ms),
        };
    }

    fn heal(&mut self, now: Moment) {
        self.state = State::Flowing;
        self.healed = now;
        (self.outcomes, self.seen, self.streak) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, Outcome, Permit, Rules, Standing};
    use crate::moment::Moment;

    const RULES: Rules = Rules {
        streak: 3,
        share_minimum: 4,
        share_percent: 50,
        open_ms: 1_000,
        open_ms_max: 4_000,
        probes: 1,
        successes: 2,
    };

    /// Plays a story, one letter a call, 10 ms apart: `g`ood, `b`ad, `n`othing, `r`est of 100 ms.
    fn play(story: &str) -> (Breaker, Moment) {
        let mut breaker = Breaker::default();
        let mut now = Moment(1_000_000);
        for letter in story.chars() {
            now = now.after(10);
            let permit = breaker.admit(&RULES, now);
            let outcome = match letter {
                'g' => Outcome::Good,
                'b' => Outcome::Bad,
                'n' => Outcome::Nothing,
                _ => Outcome::Rest {
                    until: now.after(100),
                },
            };
            breaker.record(&RULES, permit, outcome, now, 7);
        }
        (breaker, now)
    }

    #[test]
    fn breakers_open_on_streaks_and_shares() {
        for (story, flows) in [
            ("bb", true),
            ("bbb", false),
            ("bbgbb", false),
            ("bgb", true),
            ("bgbg", true),
            ("bgbgb", false),
            ("gggggggggb", true),
            ("bbnb", false),
            ("nnnnnnnnnn", true),
            ("rbbb", true),
        ] {
            let (breaker, now) = play(story);
            // Past any rest, before any breaker is due.
            let standing = breaker.standing(&RULES, now.after(150));
            assert_eq!(standing == Standing::Normal, flows, "{story}");
        }
    }

    #[test]
    fn rest_bars_until_its_end_and_is_no_failure() {
        let (breaker, now) = play("r");
        let until = now.after(100);
        assert_eq!(breaker.standing(&RULES, now), Standing::Barred { until });
        assert_eq!(breaker.standing(&RULES, until), Standing::Normal);
        assert_eq!(breaker.failures_in_a_row(), 0);
    }

    #[test]
    fn probes_close_or_reopen() {
        let (mut breaker, now) = play("bbb");
        let now = now.after(1_000);
        let permit = breaker.admit(&RULES, now);
        assert!(matches!(permit, Permit::Probe { .. }), "{permit:?}");
        let second = breaker.admit(&RULES, now);
        assert!(matches!(second, Permit::Barred { .. }), "one at once");
        breaker.record(&RULES, permit, Outcome::Good, now, 0);
        assert_eq!(
            breaker.standing(&RULES, now),
            Standing::Due,
            "two successes"
        );
        // Each trial that fails opens it for half to the whole of a time that doubles to its limit.
        let mut at = now;
        for longest in [2_000, 4_000, 4_000] {
            let permit = breaker.admit(&RULES, at);
            assert!(matches!(permit, Permit::Probe { .. }), "{permit:?}");
            breaker.record(&RULES, permit, Outcome::Bad, at, 12_345_678);
            let Standing::Barred { until } = breaker.standing(&RULES, at) else {
                unreachable!("it has just opened");
            };
            let open_ms = until.since(at);
            assert!((longest / 2..=longest).contains(&open_ms), "{open_ms}");
            at = until;
        }
    }

    #[test]
    fn a_forgotten_probe_frees_its_place() {
        let (mut breaker, now) = play("bbb");
        let now = now.after(1_000);
        let permit = breaker.admit(&RULES, now);
        breaker.forget(&RULES, permit, now);
        assert_eq!(breaker.standing(&RULES, now), Standing::Due);
        // A lost one frees it after a while, and is not heard any more.
        let lost = breaker.admit(&RULES, now);
        let later = now.after(super::PROBE_PATIENCE_MS);
        let next = breaker.admit(&RULES, later);
        assert!(matches!(next, Permit::Probe { .. }), "{next:?}");
        breaker.record(&RULES, lost, Outcome::Bad, later, 0);
        breaker.record(&RULES, next, Outcome::Good, later, 0);
        let last = breaker.admit(&RULES, later);
        breaker.record(&RULES, last, Outcome::Good, later, 0);
        assert_eq!(breaker.standing(&RULES, later), Standing::Normal);
    }

    #[test]
    fn calls_from_before_the_trial_do_not_decide_it() {
        let mut breaker = Breaker::default();
        let early = breaker.admit(&RULES, Moment(5));
        for _ in 0..3 {
            let permit = breaker.admit(&RULES, Moment(5));
            breaker.record(&RULES, permit, Outcome::Bad, Moment(5), 7);
        }
        let open = breaker.standing(&RULES, Moment(6));
        for outcome in [Outcome::Good, Outcome::Bad, Outcome::Bad, Outcome::Bad] {
            breaker.record(&RULES, early, outcome, Moment(6), 0);
            assert_eq!(breaker.standing(&RULES, Moment(6)), open);
        }
        let due = Moment(2_000);
        let probe = breaker.admit(&RULES, due);
        breaker.record(&RULES, early, Outcome::Bad, due, 0);
        breaker.record(&RULES, probe, Outcome::Good, due, 0);
        assert_eq!(breaker.standing(&RULES, due), Standing::Due);
    }

    #[test]
    fn a_forced_call_is_a_probe() {
        let (mut breaker, now) = play("bbb");
        let permit = breaker.force(&RULES, now);
        breaker.record(&RULES, permit, Outcome::Good, now, 0);
        let permit = breaker.admit(&RULES, now);
        breaker.record(&RULES, permit, Outcome::Good, now, 0);
        assert_eq!(breaker.standing(&RULES, now), Standing::Normal);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut breaker, now) = play("bb");
        let later = now.after(super::STALE_MS + 1);
        let permit = breaker.admit(&RULES, later);
        breaker.record(&RULES, permit, Outcome::Bad, later, 0);
        assert_eq!(breaker.standing(&RULES, later), Standing::Normal);
    }
}
