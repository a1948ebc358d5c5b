//! Finds agents that go in circles, call by call.
//!
//! It keeps hashes of the last steps only, and reading a transcript again gives what reading it once
//! gave, so that it works without memory between requests.
//!
//! **Invariant**: steps that never repeat anything are never flagged (test
//! `without_repetition_nothing_is_found`); a loop is found by the step that makes it one (test
//! `loops_of_every_kind_are_found`).

use std::collections::VecDeque;

use super::steps::{Purpose, Step};

/// 5 calls: longer circles were not seen in recorded tasks, and each length is one more chance of a
/// false alarm.
pub const CYCLE_STEPS_MAX: usize = 5;

/// 256 results: what a task saw before that, it may well have to look up again.
const SEEN_MAX: usize = 256;

/// How often something must repeat before it is a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// The same call with the same result, in a row.
    pub same: u64,
    /// The same two to five calls with the same results, in turn.
    pub cycle: u64,
    /// The same two calls in turn, whatever comes back.
    pub alternation: u64,
    /// The same error in a row, whatever was called.
    pub errors: u64,
    /// The same text in a row, without a call.
    pub monologue: u64,
    /// Calls on the same file in a row that bring only what was seen before.
    pub stalled: u64,
    /// Prompts that were too long, among the last ten steps.
    pub context_errors: u64,
}

/// From here on a task is said to go in circles: of 760 recorded tasks that succeeded three are, and
/// all three did; docs/agents.md has the figures.
pub const THRESHOLDS: Thresholds = Thresholds {
    same: 4,
    cycle: 3,
    alternation: 6,
    errors: 5,
    monologue: 4,
    stalled: 6,
    context_errors: 3,
};

/// From here on a task may be stopped: of 760 recorded tasks that succeeded none went so far.
pub const CERTAIN: Thresholds = Thresholds {
    same: 8,
    cycle: 4,
    alternation: 8,
    errors: 6,
    monologue: 6,
    stalled: 8,
    context_errors: 4,
};

/// 10 steps: an agent that shortens its prompt and goes on has no second such error within them.
const CONTEXT_STEPS: u64 = 10;

/// What kind of loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The same calls with the same results.
    Cycle,
    /// Two calls in turn with differing results, as of an edit that is made and unmade.
    Alternation,
    /// The same error from call to call.
    RepeatedError,
    /// The same words without a call.
    Monologue,
    /// Calls on one file that bring nothing new.
    Stalled,
    /// One prompt after the other that is too long.
    ContextErrors,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Cycle,
        Self::Alternation,
        Self::RepeatedError,
        Self::Monologue,
        Self::Stalled,
        Self::ContextErrors,
    ];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cycle => "cycle",
            Self::Alternation => "alternation",
            Self::RepeatedError => "repeated_error",
            Self::Monologue => "monologue",
            Self::Stalled => "stalled",
            Self::ContextErrors => "context_errors",
        }
    }
}

/// A loop that an agent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// Steps of one round.
    pub length: usize,
    /// Rounds, the first included.
    pub repeats: u64,
    /// The step with which it began, counted from 0.
    pub since: u64,
}

impl Finding {
    /// A sentence that the agent can read.
    pub fn wording(self) -> String {
        let Self {
            kind,
            length,
            repeats,
            since,
        } = self;
        let step = since + 1;
        let (what, advice) = match kind {
            Kind::Cycle if length == 1 => (
                format!("you made the same call {repeats} times and got the same result"),
                "use what it said, or try something else",
            ),
            Kind::Cycle => (
                format!(
                    "you went through the same {length} calls {repeats} times with the same results"
                ),
                "try something else",
            ),
            Kind::Alternation => (
                format!("you went back and forth between the same two calls {repeats} times"),
                "decide for one, or find out first why neither is enough",
            ),
            Kind::RepeatedError => (
                format!("{repeats} calls in a row failed with the same error"),
                "read the error and change the approach",
            ),
            Kind::Monologue => (
                format!("you said the same {repeats} times without calling a tool"),
                "call a tool or end the task",
            ),
            Kind::Stalled => (
                format!("{repeats} calls in a row on the same file brought nothing new"),
                "look elsewhere, or act on what is known",
            ),
            Kind::ContextErrors => (
                format!("{repeats} prompts were too long"),
                "shorten the history before you go on",
            ),
        };
        format!("since step {step} {what}; {advice}, and say so if the task cannot be done")
    }
}

/// What of a step is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// Calls alone, or the text.
    calls: u64,
    /// Calls and results.
    whole: u64,
    purpose: Option<Purpose>,
}

/// Watches one task.
#[derive(Clone, Debug)]
pub struct Detector {
    thresholds: Thresholds,
    steps: u64,
    /// The last marks, newest last.
    marks: VecDeque<Mark>,
    /// For each length, how many steps in a row equal the one that many before.
    cycles: [u64; CYCLE_STEPS_MAX],
    alternation: u64,
    error: Option<u64>,
    errors: u64,
    monologue: u64,
    file: Option<u64>,
    stalled: u64,
    /// Results, and the file, oldest first.
    seen: VecDeque<u64>,
    /// The steps of the last context errors.
    context_errors: VecDeque<u64>,
}

impl Detector {
    /// Before the first step.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            steps: 0,
            marks: VecDeque::new(),
            cycles: [0; CYCLE_STEPS_MAX],
            alternation: 0,
            error: None,
            errors: 0,
            monologue: 0,
            file: None,
            stalled: 0,
            seen: VecDeque::new(),
            context_errors: VecDeque::new(),
        }
    }

    /// What a whole transcript ends in.
    pub fn read(thresholds: Thresholds, steps: &[Step]) -> Option<Finding> {
        let mut detector = Self::new(thresholds);
        steps.iter().fold(None, |_, step| detector.add(step))
    }

    /// How many steps it saw.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Adds a step with its results; says which loop the task is in, if any.
    pub fn add(&mut self, step: &Step) -> Option<Finding> {
        self.steps += 1;
        let mark = mark(step);
        self.count_cycles(mark);
        self.count_errors(step);
        self.count_stalled(step);
        self.monologue = match step {
            Step::Spoke { .. }
                if self
                    .marks
                    .back()
                    .is_some_and(|last| last.calls == mark.calls) =>
            {
                self.monologue + 1
            }
            Step::Spoke { .. } => 1,
            Step::Acted(_) | Step::ContextError => 0,
        };
        if *step == Step::ContextError {
            self.context_errors.push_back(self.steps);
        }
        while self
            .context_errors
            .front()
            .is_some_and(|at| at + CONTEXT_STEPS <= self.steps)
        {
            self.context_errors.pop_front();
        }
        self.marks.push_back(mark);
        if self.marks.len() > CYCLE_STEPS_MAX {
            self.marks.pop_front();
        }
        self.finding(step)
    }

    /// The mark of so many steps ago, the next step being 0 ago.
    fn ago(&self, steps: usize) -> Option<Mark> {
        self.marks
            .len()
            .checked_sub(steps)
            .and_then(|at| self.marks.get(at))
            .copied()
    }

    fn count_cycles(&mut self, mark: Mark) {
        for length in 1..=CYCLE_STEPS_MAX {
            let repeats = mark.purpose == Some(Purpose::Work)
                && self.ago(length).is_some_and(|earlier| earlier == mark);
            if let Some(count) = self.cycles.get_mut(length - 1) {
                *count = if repeats { *count + 1 } else { 0 };
            }
        }
        let two_ago = self
            .ago(2)
            .is_some_and(|earlier| earlier.calls == mark.calls);
        let differs = self
            .ago(1)
            .is_some_and(|earlier| earlier.calls != mark.calls);
        let works = mark.purpose == Some(Purpose::Work);
        self.alternation = if works && two_ago && differs {
            self.alternation + 1
        } else {
            0
        };
    }

    fn count_errors(&mut self, step: &Step) {
        let error = match step {
            Step::Acted(acts) => acts.first().and_then(|act| act.error),
            Step::Spoke { .. } | Step::ContextError => None,
        };
        self.errors = match error {
            Some(_) if error == self.error => self.errors + 1,
            Some(_) => 1,
            None => 0,
        };
        self.error = error;
    }

    fn count_stalled(&mut self, step: &Step) {
        let Step::Acted(acts) = step else {
            self.stalled = 0;
            self.file = None;
            return;
        };
        let file = acts.first().and_then(|act| act.file);
        let one_file = file.is_some() && acts.iter().all(|act| act.file == file);
        let mut is_new = false;
        for result in acts.iter().filter_map(|act| act.result) {
            if !self.seen.contains(&result) {
                is_new = true;
                self.seen.push_back(result);
            }
        }
        while self.seen.len() > SEEN_MAX {
            self.seen.pop_front();
        }
        let goes_on = one_file && file == self.file && !is_new;
        self.stalled = if goes_on { self.stalled + 1 } else { 0 };
        self.file = file;
    }

    /// The loop that the last step is part of.
    fn finding(&self, step: &Step) -> Option<Finding> {
        let Thresholds {
            same,
            cycle,
            alternation,
            errors,
            monologue,
            stalled,
            context_errors,
        } = self.thresholds;
        let found = |kind, length: usize, repeats: u64, steps: u64| Finding {
            kind,
            length,
            repeats,
            since: self.steps.saturating_sub(steps),
        };
        for (count, length) in self.cycles.iter().zip(1_usize..) {
            let long = u64::try_from(length).unwrap_or(u64::MAX);
            let repeats = count / long + 1;
            if repeats >= if length == 1 { same } else { cycle } {
                return Some(found(Kind::Cycle, length, repeats, count + long));
            }
        }
        if self.monologue >= monologue {
            return Some(found(Kind::Monologue, 1, self.monologue, self.monologue));
        }
        if *step == Step::ContextError {
            let count = u64::try_from(self.context_errors.len()).unwrap_or(u64::MAX);
            let first = self.context_errors.front().copied().unwrap_or(self.steps);
            if count >= context_errors {
                let steps = self.steps + 1 - first;
                return Some(found(Kind::ContextErrors, 1, count, steps));
            }
        }
        if self.errors >= errors {
            return Some(found(Kind::RepeatedError, 1, self.errors, self.errors));
        }
        let rounds = self.alternation / 2 + 1;
        if rounds >= alternation {
            return Some(found(Kind::Alternation, 2, rounds, self.alternation + 2));
        }
        (self.stalled >= stalled).then(|| found(Kind::Stalled, 1, self.stalled, self.stalled))
    }
}

/// What of a step is compared.
fn mark(step: &Step) -> Mark {
    let mix = |hash: u64, next: u64| {
        (hash ^ next)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    };
    match step {
        Step::Acted(acts) => {
            let calls = acts.iter().fold(1, |hash, act| mix(hash, act.call));
            let results = acts.iter().map(|act| act.result.unwrap_or_default());
            let waits = acts.iter().any(|act| act.purpose == Purpose::Wait);
            Mark {
                calls,
                whole: results.fold(calls, mix),
                purpose: Some(if waits { Purpose::Wait } else { Purpose::Work }),
            }
        }
        Step::Spoke { text, answer } => Mark {
            calls: *text,
            whole: mix(*text, answer.unwrap_or_default()),
            purpose: None,
        },
        Step::ContextError => Mark::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Detector, Finding, Kind, THRESHOLDS};
    use crate::agents::steps::{Act, Purpose, Step};

    fn act(call: u64, result: u64) -> Act {
        Act {
            call,
            result: Some(result),
            error: None,
            file: None,
            purpose: Purpose::Work,
        }
    }

    /// Steps that share nothing with each other.
    fn distinct(from: u64, count: u64) -> Vec<Step> {
        let step = |at: u64| match at % 7 {
            0 => Step::Spoke {
                text: at,
                answer: Some(at),
            },
            _ => Step::Acted(vec![Act {
                error: at.is_multiple_of(3).then_some(at),
                file: Some(at % 2),
                ..act(at, at)
            }]),
        };
        (from..from + count).map(step).collect()
    }

    /// A loop of a kind, `rounds` long, and the step of it that must be found at the latest.
    fn seeded(kind: Kind, length: u64, rounds: u64) -> (Vec<Step>, u64) {
        let far = 1 << 40;
        let one = |act: Act| Step::Acted(vec![act]);
        let steps = 0..rounds * length;
        let limits = THRESHOLDS;
        match kind {
            Kind::Cycle => {
                let repeats = if length == 1 {
                    limits.same
                } else {
                    limits.cycle
                };
                let step = |at: u64| one(act(far + at % length, far + at % length));
                (steps.map(step).collect(), repeats * length)
            }
            Kind::Alternation => {
                let step = |at: u64| one(act(far + at % 2, far + at));
                (steps.map(step).collect(), limits.alternation * 2)
            }
            Kind::RepeatedError => {
                let step = |at: u64| Act {
                    error: Some(far),
                    ..act(far + at, far + at)
                };
                (steps.map(|at| one(step(at))).collect(), limits.errors)
            }
            Kind::Monologue => {
                let step = |at: u64| Step::Spoke {
                    text: far,
                    answer: Some(at),
                };
                (steps.map(step).collect(), limits.monologue)
            }
            Kind::Stalled => {
                let step = |at: u64| Act {
                    file: Some(far),
                    ..act(far + at, far)
                };
                (steps.map(|at| one(step(at))).collect(), limits.stalled + 1)
            }
            Kind::ContextErrors => (
                steps.map(|_| Step::ContextError).collect(),
                limits.context_errors,
            ),
        }
    }

    fn kinds() -> impl Strategy<Value = (Kind, u64)> {
        (prop::sample::select(&Kind::ALL[..]), 1..=5_u64)
    }

    proptest! {
        #[test]
        fn without_repetition_nothing_is_found(count in 0..400_u64) {
            let mut detector = Detector::new(THRESHOLDS);
            for step in distinct(1, count) {
                prop_assert_eq!(detector.add(&step), None);
            }
        }

        #[test]
        fn loops_of_every_kind_are_found((kind, length) in kinds(), before in 0..80_u64) {
            let (steps, latest) = seeded(kind, length, 20);
            let mut detector = Detector::new(THRESHOLDS);
            for step in distinct(1, before) {
                prop_assert_eq!(detector.add(&step), None);
            }
            let findings: Vec<Option<Finding>> = steps.iter().map(|step| detector.add(step)).collect();
            let at = findings.iter().position(Option::is_some).map_or(u64::MAX, |at| at as u64 + 1);
            // A monologue of one text, said before the loop began, may be found a step early.
            prop_assert!(at <= latest + 1 && at + 1 >= latest, "{kind:?} {length}: {at} not {latest}");
            let first = findings.into_iter().flatten().next();
            prop_assert_eq!(first.map(|it| it.kind), Some(kind));
            let since = first.map_or(0, |it| it.since);
            prop_assert!(since.abs_diff(before) <= 1, "{since} for {before}");
        }

        #[test]
        fn reading_again_finds_the_same(
            (kind, length) in kinds(), before in 0..20_u64, rounds in 1..12_u64,
        ) {
            let mut steps = distinct(1, before);
            steps.extend(seeded(kind, length, rounds).0);
            let mut detector = Detector::new(THRESHOLDS);
            for (index, step) in steps.iter().enumerate() {
                let found = detector.add(step);
                prop_assert_eq!(Detector::read(THRESHOLDS, &steps[..=index]), found);
            }
        }

        #[test]
        fn memory_is_bounded(count in 300..2_000_u64) {
            let mut detector = Detector::new(THRESHOLDS);
            for step in distinct(1, count) {
                detector.add(&step);
            }
            prop_assert!(detector.seen.len() <= super::SEEN_MAX);
            prop_assert!(detector.marks.len() <= super::CYCLE_STEPS_MAX);
        }
    }

    #[test]
    fn waiting_is_no_loop() {
        let waits = Act {
            purpose: Purpose::Wait,
            ..act(1, 1)
        };
        let steps = vec![Step::Acted(vec![waits]); 50];
        assert_eq!(Detector::read(THRESHOLDS, &steps), None);
    }

    #[test]
    fn wordings_can_be_read() {
        let finding = Finding {
            kind: Kind::Cycle,
            length: 1,
            repeats: 4,
            since: 2,
        };
        assert_eq!(
            finding.wording(),
            "since step 3 you made the same call 4 times and got the same result; use what it said, or \
             try something else, and say so if the task cannot be done"
        );
    }
}
