//! What a request's messages say of the agent that sent them: the loop that it is in, and where it was
//! told so.
//!
//! A client that sends its history again sends it without what was added to it. So whatever was added is
//! found again from the messages before it, and the prompt cache holds.
//!
//! **Invariant**: what is added to a message follows from the messages up to it, whatever comes later
//! (test `nudges_stay_where_they_were`), and reading on gives what reading all gives (test
//! `reading_on_is_reading_all`).

use serde_json::Value;

use super::loops::{CERTAIN, Detector, Finding, THRESHOLDS};
use super::steps::{Step, located};

/// 4 steps: as many as it takes until the same call is a loop.
const NUDGE_STEPS: u64 = 4;

/// 3 steps: no loop is found in fewer.
pub const STEPS_MIN: usize = 3;

/// A word to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nudge {
    /// The message at whose end it stands.
    pub message: usize,
    /// What it says.
    pub text: String,
}

/// What the messages say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The loop that the last step is part of.
    pub found: Option<Finding>,
    /// The same, if it has gone on for so long that the task may be stopped.
    pub certain: Option<Finding>,
    /// What the agent is told, in order; at the first step of each loop that is reported and at every
    /// fourth one from there on.
    pub nudges: Vec<Nudge>,
}

/// What was read of a task, up to its last step, which may still grow.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Messages that need not be read again.
    read: usize,
    reported: Detector,
    certain: Detector,
    nudges: Vec<Nudge>,
    /// The step of the last nudge in the loop that goes on.
    last: Option<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            read: 0,
            reported: Detector::new(THRESHOLDS),
            certain: Detector::new(CERTAIN),
            nudges: Vec::new(),
            last: None,
        }
    }
}

impl Progress {
    /// How many messages were read: reading goes on with the next.
    pub const fn read(&self) -> usize {
        self.read
    }

    fn add(&mut self, step: &Step, answered: Option<usize>) -> (Option<Finding>, Option<Finding>) {
        let certain = self.certain.add(step);
        let found = self.reported.add(step);
        let Some(finding) = found else {
            self.last = None;
            return (found, certain);
        };
        let steps = self.reported.steps();
        let is_due = self.last.is_none_or(|last| steps - last >= NUDGE_STEPS);
        if let Some(message) = answered.filter(|_| is_due) {
            self.last = Some(steps);
            self.nudges.push(Nudge {
                message,
                text: format!("\n\n[note from the gateway: {}]", finding.wording()),
            });
        }
        (found, certain)
    }
}

/// Reads a request's messages; `polling` names tools that may repeat.
pub fn look(messages: &[Value], polling: &[&str]) -> Look {
    go_on(Progress::default(), messages, polling).0
}

/// Reads on: `messages` are those behind what was read. Gives the same as reading all of them, and
/// what need not be read again when the task goes on.
pub fn go_on(before: Progress, messages: &[Value], polling: &[&str]) -> (Look, Progress) {
    let begun = before.read;
    let mut steps = located(messages, polling).into_iter();
    let Some(last) = steps.next_back() else {
        let nudges = before.nudges.clone();
        let look = Look {
            nudges,
            ..Look::default()
        };
        return (look, before);
    };
    let place = |located: usize| begun + located;
    let mut progress = before;
    for located in steps {
        progress.add(&located.step, located.answered.map(place));
    }
    progress.read = place(last.message);
    let mut whole = progress.clone();
    let (found, certain) = whole.add(&last.step, last.answered.map(place));
    let look = Look {
        found,
        certain,
        nudges: whole.nudges,
    };
    (look, progress)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::{Look, Progress, go_on, look};
    use crate::agents::steps::POLLING;

    fn called(what: usize) -> [Value; 2] {
        let call = json!({"id": "c", "function": {"name": "read", "arguments": what.to_string()}});
        [
            json!({"role": "assistant", "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "c", "content": format!("it is {what}")}),
        ]
    }

    fn task(calls: &[usize]) -> Vec<Value> {
        let ask = json!({"role": "user", "content": "do it"});
        let calls = calls.iter().flat_map(|what| called(*what));
        std::iter::once(ask).chain(calls).collect()
    }

    #[test]
    fn an_agent_is_told_when_a_loop_begins_and_again() {
        let calls = [1, 2, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 4, 4];
        let ends: Vec<Look> = (1..=calls.len())
            .map(|end| look(&task(&calls[..end]), &POLLING))
            .collect();
        assert_eq!(ends[5].nudges, []);
        let told =
            |end: usize| -> Vec<usize> { ends[end].nudges.iter().map(|it| it.message).collect() };
        // The fourth call is the seventh step, whose result is the fourteenth message after the task.
        assert_eq!(
            (told(6), told(9), told(11)),
            (vec![14], vec![14], vec![14, 22])
        );
        assert_eq!(told(13), told(11));
        assert!(ends[6].found.is_some() && ends[6].certain.is_none());
        assert!(ends[10].certain.is_some() && ends[12].found.is_none());
        let text = &ends[6].nudges[0].text;
        assert!(
            text.contains("since step 4 you made the same call 4 times"),
            "{text}"
        );
        assert_eq!(look(&[], &POLLING), Look::default());
    }

    proptest! {
        #[test]
        fn reading_on_is_reading_all(
            calls in prop::collection::vec(0..3_usize, 0..40),
            cuts in prop::collection::vec(0..82_usize, 0..6),
        ) {
            let messages = task(&calls);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(messages.len())).collect();
            cuts.sort_unstable();
            cuts.push(messages.len());
            let mut progress = Progress::default();
            for cut in cuts {
                let rest = &messages[progress.read()..cut];
                let (found, on) = go_on(progress, rest, &POLLING);
                prop_assert_eq!(found, look(&messages[..cut], &POLLING), "up to {}", cut);
                progress = on;
            }
        }

        #[test]
        fn nudges_stay_where_they_were(calls in prop::collection::vec(0..3_usize, 0..40)) {
            let messages = task(&calls);
            let whole = look(&messages, &POLLING).nudges;
            for end in 0..=calls.len() {
                let until = 1 + 2 * end;
                let earlier = look(&messages[..until], &POLLING).nudges;
                let kept: Vec<_> = whole.iter().filter(|it| it.message < until).cloned().collect();
                prop_assert_eq!(earlier, kept);
            }
            prop_assert!(whole.is_sorted_by_key(|it| it.message));
        }
    }
}
