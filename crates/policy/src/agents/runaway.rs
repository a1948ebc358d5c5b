//! Runaway: a task that spends much faster than tasks of its own kind ever did.
//!
//! What a kind of task spends in a minute is learned from its tasks; a task is compared with that at
//! each of its calls, over the last minute, so that an alarm comes with the first call that is too
//! much. Minutes that raised an alarm teach nothing.
//!
//! **Invariant**: no task is called a runaway before enough minutes of its kind were seen, and one that
//! spends so many times the most usual is called one within a minute (tests
//! `nothing_is_said_before_enough_was_seen` and `a_runaway_is_seen_within_a_minute`).

use crate::lately::Lately;
use crate::moment::Moment;
use crate::money::PicoUsd;
use crate::sketch::Sketch;

/// 60 s: what "spends so much a minute" looks at.
const MINUTE_MS: u64 = 60_000;

/// 12 parts of five seconds: the last minute is forgotten bit by bit.
const PARTS: usize = 12;

const PART_MS: u64 = MINUTE_MS / PARTS as u64;

/// 100 minutes: the 99th in a hundred is what tasks are compared with, and takes that many to be one of
/// them.
pub const MINUTES_MIN: u64 = 100;

/// 990 of 1 000 minutes of a kind of task spend no more than what is called usual.
const USUAL_PERMILLE: u64 = 990;

/// 4 096 tasks in a generation: those that were active in the last minutes.
const TASKS_MAX: usize = 4_096;

/// 1 024 kinds in a generation: prompts that services use, each with a history of some kB.
const KINDS_MAX: usize = 1_024;

/// 10 min: an alarm that nobody heeded is raised again.
const AGAIN_MS: u64 = 600_000;

/// Micro-dollars in which histories count: 10⁶ pico-dollars.
const MICRO: i128 = 1_000_000;

/// When a task counts as a runaway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many times what is usual.
    pub times: u32,
    /// A task that spends less in a minute is never one.
    pub least: PicoUsd,
}

impl Default for Rules {
    /// Five times what all but one in a hundred minutes of its kind spend, and no less than a dollar.
    fn default() -> Self {
        Self {
            times: 5,
            least: PicoUsd(1_000_000_000_000),
        }
    }
}

/// A task that spends too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it spent in the last minute.
    pub spent: PicoUsd,
    /// What all but one in a hundred minutes of its kind spend at most.
    pub usual: PicoUsd,
    /// How many minutes of its kind were seen.
    pub minutes: u64,
}

/// What was spent lately, and by whom.
#[derive(Clone, Debug)]
pub struct Guard {
    tasks: Lately<Spending>,
    kinds: Lately<Sketch>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            tasks: Lately::new(TASKS_MAX),
            kinds: Lately::new(KINDS_MAX),
        }
    }
}

/// The last minute of a task.
#[derive(Clone, Copy, Debug)]
struct Spending {
    /// The part of time that the newest part of the minute is.
    newest: u64,
    /// Spent in each part, at its number modulo their count.
    parts: [PicoUsd; PARTS],
    /// The minute that will be history: since when, and what was spent in it.
    begun: Moment,
    minute: PicoUsd,
    /// Whether it raised an alarm, and when.
    alarmed: Option<Moment>,
}

impl Spending {
    fn new(at: Moment) -> Self {
        Self {
            newest: at.0 / PART_MS,
            parts: [PicoUsd::ZERO; PARTS],
            begun: at,
            minute: PicoUsd::ZERO,
            alarmed: None,
        }
    }

    /// Forgets what is older than a minute.
    fn advance(&mut self, at: Moment) {
        let now = at.0 / PART_MS;
        let passed = now.saturating_sub(self.newest).min(PARTS as u64);
        for step in 1..=passed {
            *self.part_mut(self.newest + step) = PicoUsd::ZERO;
        }
        self.newest = self.newest.max(now);
    }

    fn part_mut(&mut self, part: u64) -> &mut PicoUsd {
        #[expect(clippy::cast_possible_truncation, reason = "below their count")]
        let place = (part % PARTS as u64) as usize;
        &mut self.parts[place]
    }
}

impl Guard {
    /// A call of a task was settled at this cost. Tasks and their kinds go by number. Gives an alarm if
    /// that makes the task a runaway, once in ten minutes.
    pub fn spent(
        &mut self,
        (task, kind): (u64, u64),
        cost: PicoUsd,
        at: Moment,
        rules: Rules,
    ) -> Option<Alarm> {
        let known = self.tasks.get(task);
        let mut spending = known.unwrap_or_else(|| Spending::new(at));
        if at.since(spending.begun) >= MINUTE_MS {
            self.learn(kind, &spending);
            spending.begun = at;
            spending.minute = PicoUsd::ZERO;
        }
        spending.advance(at);
        spending.minute += cost;
        let newest = spending.newest;
        *spending.part_mut(newest) += cost;
        let alarm = self.judge(kind, &spending, rules);
        let is_told = |since: Moment| at.since(since) < AGAIN_MS;
        let alarm = alarm.filter(|_| !spending.alarmed.is_some_and(is_told));
        if alarm.is_some() {
            spending.alarmed = Some(at);
        }
        self.tasks.put(task, spending);
        alarm
    }

    /// Keeps a minute that is over, unless it is what nobody should get used to.
    fn learn(&mut self, kind: u64, spending: &Spending) {
        let is_usual = spending.alarmed.is_none_or(|at| at < spending.begun);
        if is_usual && spending.minute > PicoUsd::ZERO {
            let mut seen = self.kinds.get(kind).unwrap_or_default();
            seen.add(u64::try_from(spending.minute.0 / MICRO).unwrap_or(u64::MAX));
            self.kinds.put(kind, seen);
        }
    }

    fn judge(&self, kind: u64, spending: &Spending, rules: Rules) -> Option<Alarm> {
        let seen = self.kinds.peek(kind)?;
        let usual = seen.quantile(USUAL_PERMILLE)?;
        let alarm = Alarm {
            spent: spending.parts.iter().sum(),
            usual: PicoUsd(i128::from(usual) * MICRO),
            minutes: seen.total(),
        };
        let is_one = alarm.minutes >= MINUTES_MIN
            && alarm.spent >= rules.least
            && alarm.spent > alarm.usual.each(u64::from(rules.times));
        is_one.then_some(alarm)
    }
}

#[cfg(test)]
mod tests {
    use super::{Guard, MINUTE_MS, MINUTES_MIN, Rules};
    use crate::moment::Moment;
    use crate::money::PicoUsd;

    const RULES: Rules = Rules {
        times: 5,
        least: PicoUsd(1_000_000_000_000),
    };

    const CENT: PicoUsd = PicoUsd(10_000_000_000);

    /// Tasks of a kind that spend ten cents a minute each, in calls of a cent.
    fn taught(minutes: u64) -> (Guard, Moment) {
        let mut guard = Guard::default();
        let mut at = Moment(1_800_000_000_000);
        for minute in 0..=minutes {
            for call in 0..10 {
                at = at.after(MINUTE_MS / 10);
                let task = minute / 10;
                assert_eq!(
                    guard.spent((task, 7), CENT, at, RULES),
                    None,
                    "{minute}, {call}"
                );
            }
        }
        (guard, at)
    }

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let (mut guard, at) = taught(MINUTES_MIN / 2);
        for _ in 0..1_000 {
            assert_eq!(guard.spent((999, 7), CENT, at, RULES), None);
        }
    }

    #[test]
    fn a_runaway_is_seen_within_a_minute() {
        let (mut guard, begun) = taught(2 * MINUTES_MIN);
        let mut alarms = Vec::new();
        // Ten calls a second, sixty times the usual.
        for call in 0..600_u64 {
            let at = begun.after(call * 100);
            if let Some(alarm) = guard.spent((999, 7), CENT, at, RULES) {
                alarms.push((call, alarm));
            }
        }
        let [(call, alarm)] = alarms.as_slice() else {
            panic!("one alarm in a minute: {alarms:?}");
        };
        assert_eq!(*call, 99, "with the call that makes it a dollar");
        assert_eq!(alarm.spent, PicoUsd(1_000_000_000_000));
        assert!(alarm.usual <= PicoUsd(110_000_000_000), "{alarm:?}");
        // Another kind of task knows nothing of it, and a slow one of this kind is left alone.
        let later = begun.after(11 * MINUTE_MS);
        assert_eq!(
            guard.spent((1_000, 8), CENT.each(1_000), later, RULES),
            None
        );
        assert_eq!(guard.spent((1_001, 7), CENT.each(50), later, RULES), None);
        // It goes on, and ten minutes later somebody is told again.
        assert!(
            guard
                .spent((999, 7), CENT.each(200), later, RULES)
                .is_some()
        );
    }

    #[test]
    fn what_was_spent_a_minute_ago_is_over() {
        let (mut guard, begun) = taught(2 * MINUTES_MIN);
        for step in 0..40 {
            let at = begun.after(step * MINUTE_MS / 2);
            assert_eq!(
                guard.spent((999, 7), CENT.each(45), at, RULES),
                None,
                "{step}"
            );
        }
    }
}
