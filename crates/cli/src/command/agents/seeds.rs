//! Puts loops of every kind into a recorded task, and says when each is found.
//!
//! **Invariant**: a loop is put in as messages, as an agent of that kind would send them, and found
//! through the same reading as in production (test `seeded_loops_are_found`).

use policy::agents::loops::{CYCLE_STEPS_MAX, Detector, Kind, THRESHOLDS};
use policy::agents::steps::{POLLING, Purpose, Step, step, steps};
use serde_json::{Value, json};

/// A loop to put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seed {
    pub(super) kind: Kind,
    /// Steps of one round.
    length: usize,
}

impl Seed {
    /// Every kind, and circles of every length.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let circles = (2..=CYCLE_STEPS_MAX).map(|length| Self {
            kind: Kind::Cycle,
            length,
        });
        Kind::ALL
            .into_iter()
            .map(|kind| Self { kind, length: 1 })
            .chain(circles)
    }

    pub(super) fn name(self) -> String {
        match (self.kind, self.length) {
            (Kind::Cycle, length) => format!("cycle of {length}"),
            (kind, _) => kind.name().to_owned(),
        }
    }

    /// The step of the loop, counted from 1, with which it reaches its threshold.
    fn threshold(self) -> u64 {
        let limits = THRESHOLDS;
        let length = u64::try_from(self.length).unwrap_or(u64::MAX);
        match self.kind {
            Kind::Cycle if self.length == 1 => limits.same,
            Kind::Cycle => limits.cycle * length,
            Kind::Alternation => limits.alternation * 2,
            Kind::RepeatedError => limits.errors,
            Kind::Monologue => limits.monologue,
            Kind::Stalled => limits.stalled + 1,
            Kind::ContextErrors => limits.context_errors,
        }
    }

    /// Whether the loop is found at most one step after its threshold (before it, if what is repeated
    /// had been repeated already, or is an error whose own threshold is lower), if it is put into these messages
    /// after `before` of their steps; none if the task has too few steps to make it of.
    pub(super) fn found(self, messages: &[Value], before: usize) -> Option<bool> {
        let task = Task::of(messages);
        let kept = task.turns.get(..before)?;
        let end = kept.last().map_or(task.begin, |turn| turn.end);
        let head = messages.get(..end)?;
        let threshold = self.threshold();
        let looped = self.looped(&task, kept, threshold + 2)?;
        let mut detector = Detector::new(THRESHOLDS);
        for step in steps(head, &POLLING) {
            detector.add(&step);
        }
        let read = steps(&looped, &POLLING);
        let first = read.iter().position(|step| detector.add(step).is_some());
        let at = first.and_then(|at| u64::try_from(at + 1).ok());
        Some(at.is_some_and(|at| at <= threshold + 1))
    }

    /// The messages of the loop, `count` steps long.
    fn looped(self, task: &Task<'_>, kept: &[Turn<'_>], count: u64) -> Option<Vec<Value>> {
        let own: Vec<&Turn<'_>> = distinct(kept);
        let circle = match self.kind {
            Kind::Cycle => Some(own.get(..self.length)?),
            Kind::Alternation => Some(own.get(..2)?),
            Kind::RepeatedError | Kind::Monologue | Kind::Stalled | Kind::ContextErrors => None,
        };
        let one = |nth: u64| -> Vec<Value> {
            let turn = circle.and_then(|circle| {
                let place = usize::try_from(nth).unwrap_or_default() % circle.len().max(1);
                circle.get(place).copied()
            });
            match (self.kind, turn) {
                (Kind::Cycle, Some(turn)) => {
                    let said = std::iter::once(turn.said).chain(turn.told);
                    said.cloned().collect()
                }
                (Kind::Alternation, Some(turn)) => {
                    answered(turn.said.clone(), &format!("state {nth} of the loop"))
                }
                (Kind::Monologue, _) => {
                    let said = json!({"role": "assistant", "content": "Let me think about it."});
                    answered(said, &format!("go on, {nth}"))
                }
                (Kind::RepeatedError, _) => {
                    let error = format!("Error: line {nth}: the service refused the connection");
                    answered(task.acted("probe", nth), &error)
                }
                (Kind::Stalled, _) => {
                    answered(task.acted("src/main.rs", nth), "nothing to see here")
                }
                (Kind::ContextErrors, _) => answered(
                    task.acted("next", nth),
                    "Error: prompt is too long: 210000 tokens, the limit is 200000",
                ),
                (Kind::Cycle | Kind::Alternation, None) => Vec::new(),
            }
        };
        // What was told once more is seen, so that a stall begins with its second step.
        Some((0..count).flat_map(one).collect())
    }
}

/// A step as it stands in the messages.
#[derive(Clone, Copy)]
struct Turn<'task> {
    said: &'task Value,
    told: &'task [Value],
    /// The message after it.
    end: usize,
}

struct Task<'task> {
    turns: Vec<Turn<'task>>,
    /// The first step's message.
    begin: usize,
    /// Whether the agent calls tools; else it writes code between fences.
    has_tools: bool,
}

impl<'task> Task<'task> {
    fn of(messages: &'task [Value]) -> Self {
        let is_said = |message: &&Value| message["role"] == "assistant";
        let starts: Vec<usize> = (0..messages.len())
            .filter(|at| messages.get(*at).as_ref().is_some_and(is_said))
            .collect();
        let ends = starts.iter().skip(1).copied().chain([messages.len()]);
        let turn = |(start, end): (&usize, usize)| {
            let (said, told) = messages.get(*start..end)?.split_first()?;
            Some(Turn { said, told, end })
        };
        Self {
            turns: starts.iter().zip(ends).filter_map(turn).collect(),
            begin: starts.first().copied().unwrap_or(messages.len()),
            has_tools: messages.iter().any(|it| it["tool_calls"].is_array()),
        }
    }

    /// A call that differs with each number.
    fn acted(&self, what: &str, nth: u64) -> Value {
        if self.has_tools {
            let arguments = json!({"path": what, "from": nth}).to_string();
            let function = json!({"name": "open", "arguments": arguments});
            let call =
                json!({"id": format!("seed_{nth}"), "type": "function", "function": function});
            json!({"role": "assistant", "content": null, "tool_calls": [call]})
        } else {
            json!({"role": "assistant", "content": format!("```\nopen {what} {nth}\n```")})
        }
    }
}

/// The last steps that worked with tools and differ from each other, newest first.
fn distinct<'turns>(kept: &'turns [Turn<'turns>]) -> Vec<&'turns Turn<'turns>> {
    let mut met = Vec::new();
    let mut found = Vec::new();
    for turn in kept.iter().rev() {
        let Step::Acted(acts) = step(turn.said, turn.told, &POLLING) else {
            continue;
        };
        let calls: Vec<u64> = acts.iter().map(|act| act.call).collect();
        let works = acts.iter().all(|act| act.purpose == Purpose::Work);
        if works && !met.contains(&calls) {
            met.push(calls);
            found.push(turn);
        }
    }
    found
}

/// A step with the same answer to each of its calls.
fn answered(said: Value, text: &str) -> Vec<Value> {
    let told: Vec<Value> = match said["tool_calls"].as_array() {
        Some(calls) => calls
            .iter()
            .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": text}))
            .collect(),
        None => vec![json!({"role": "user", "content": text})],
    };
    std::iter::once(said).chain(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Seed, answered};

    #[test]
    fn seeded_loops_are_found() {
        let call = |at: usize| {
            let function = json!({"name": "read", "arguments": format!("{{\"id\": {at}}}")});
            json!({"role": "assistant", "tool_calls": [{"id": format!("c{at}"), "function": function}]})
        };
        let code =
            |at: usize| json!({"role": "assistant", "content": format!("```\ncat {at}.rs\n```")});
        for said in [&call as &dyn Fn(usize) -> Value, &code] {
            let task = (0..8).flat_map(|at| answered(said(at), &format!("row {at}")));
            let messages: Vec<Value> = task.collect();
            for seed in Seed::all() {
                assert_eq!(seed.found(&messages, 6), Some(true), "{}", seed.name());
                assert_ne!(seed.found(&messages, 1), Some(false), "{}", seed.name());
            }
            assert_eq!(
                Seed::all().last().and_then(|it| it.found(&messages, 2)),
                None
            );
        }
    }
}
