//! What a request's messages say of the agent that sent them: the loop that it is in, and where it was
//! told so.
//!
//! A client that sends its history again sends it without what was added to it. So whatever was added is
//! found again from the messages before it, and the prompt cache holds.
//!
//! **Invariant**: what is added to a message follows from the messages up to it, whatever comes later
//! (test `nudges_stay_where_they_were`).

use serde_json::Value;

use super::loops::{CERTAIN, Detector, Finding, THRESHOLDS};
use super::steps::located;

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

/// Reads a request's messages; `polling` names tools that may repeat.
pub fn look(messages: &[Value], polling: &[&str]) -> Look {
    let mut reported = Detector::new(THRESHOLDS);
    let mut certain = Detector::new(CERTAIN);
    let mut look = Look::default();
    let mut last: Option<u64> = None;
    for (step, answered) in located(messages, polling) {
        look.certain = certain.add(&step);
        look.found = reported.add(&step);
        let Some(finding) = look.found else {
            last = None;
            continue;
        };
        let is_due = last.is_none_or(|last| reported.steps() - last >= NUDGE_STEPS);
        if let Some(message) = answered.filter(|_| is_due) {
            last = Some(reported.steps());
            look.nudges.push(Nudge {
                message,
                text: format!("\n\n[note from the gateway: {}]", finding.wording()),
            });
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::{Look, look};
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
