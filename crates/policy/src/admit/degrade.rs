//! Degrade: what a limit that prefers a lesser answer to none does before it refuses.
//!
//! In order: less effort, a cheaper target, a refusal. Less effort holds no less money, for the worst
//! case is the longest answer whatever the effort; it makes the rest last longer, and is therefore
//! due early. A cheaper target is due where the call does not fit as it is. A soft limit fits until
//! all of it is used and then refuses whatever costs anything, so that under one a cheaper target is
//! due shortly before.
//!
//! **Invariant**: a limit that says `refuse` degrades nothing, and one that only observes changes
//! nothing (test `steps_are_due_at_their_marks`).

use crate::admit::book::report::Usage;
use crate::admit::limit::{LimitId, Mode, Then, Units};
use crate::admit::tally::Event;

/// 80 %: from this mark on, calls are asked to think less. A fifth of the amount is left for what
/// cannot think less.
const EFFORT_FROM_PERCENT: i128 = 80;

/// 95 %: from this mark on, a soft limit sends calls to a cheaper target.
const TARGET_FROM_PERCENT: i128 = 95;

/// 95 %: from this mark on, agents are asked to finish. A twentieth of the amount is left for that.
const WRAP_UP_FROM_PERCENT: i128 = 95;

/// What is done to a call, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The model is asked to think less.
    Effort,
    /// It goes to a cheaper target.
    Target,
    /// An agent is asked to finish, beside whatever else is done.
    WrapUp,
}

impl Step {
    /// The name in notes, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Effort => "effort",
            Self::Target => "target",
            Self::WrapUp => "wrap_up",
        }
    }

    /// What there is to tell of it.
    pub const fn event(self) -> Event {
        Event::Degraded(self)
    }
}

/// A step that is due before a call asks for its money, and the limit that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The furthest step; those before it are due as well.
    pub step: Step,
    /// The limit, as far as it is used.
    pub usage: Usage,
}

/// The first of these limits that is so far used that an agent should finish, if it is one that wants
/// that.
pub fn ending(
    usages: impl IntoIterator<Item = Usage>,
    wants: impl Fn(&LimitId) -> bool,
) -> Option<Usage> {
    let mut usages = usages.into_iter();
    usages.find(|usage| {
        let limit = &usage.limit;
        limit.mode != Mode::Observe && wants(&limit.id) && is_used(usage, WRAP_UP_FROM_PERCENT)
    })
}

/// Whether so much of a limit is used.
fn is_used(usage: &Usage, percent: i128) -> bool {
    let (Units(spent), Units(amount)) = (usage.tally.spent, usage.limit.quota.amount());
    spent.saturating_mul(100) >= amount.saturating_mul(percent)
}

/// What the limits of a call want done to it, as far as they are used.
pub fn due(usages: impl IntoIterator<Item = Usage>) -> Option<Due> {
    let due = usages.into_iter().filter_map(|usage| {
        let step = step(&usage)?;
        Some(Due { step, usage })
    });
    // The first one of those that go furthest, so that the answer does not depend on chance.
    due.reduce(|first, other| {
        if other.step > first.step {
            other
        } else {
            first
        }
    })
}

fn step(usage: &Usage) -> Option<Step> {
    let limit = &usage.limit;
    if limit.then != Then::Degrade || limit.mode == Mode::Observe {
        return None;
    }
    if limit.mode == Mode::Soft && is_used(usage, TARGET_FROM_PERCENT) {
        Some(Step::Target)
    } else {
        is_used(usage, EFFORT_FROM_PERCENT).then_some(Step::Effort)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Mode, Step, Then, Units, Usage, due, ending};
    use crate::admit::limit::{Limit, Quota, Which};
    use crate::admit::scope::{Kind, Scope};
    use crate::admit::tally::Tally;
    use crate::admit::window::{Period, Window, Zone};
    use crate::moment::Moment;
    use crate::money::PicoUsd;

    fn usage(mode: Mode, then: Then, spent: i128) -> Usage {
        let window = Window::new(Period::Day, Zone::UTC);
        Usage {
            scope: Scope::new(Kind::Key, "k"),
            tally: Tally {
                spent: Units(spent),
                ..Tally::default()
            },
            window: window.span(Moment(0)),
            limit: Arc::new(Limit {
                id: "a".into(),
                kind: Kind::Key,
                which: Which::Each,
                quota: Quota::Usd(PicoUsd(1_000), window),
                mode,
                then,
            }),
        }
    }

    #[test]
    fn steps_are_due_at_their_marks() {
        use Mode::{Hard, Observe, Soft};
        for (mode, then, spent, expect) in [
            (Hard, Then::Refuse, 1_000, None),
            (Observe, Then::Degrade, 1_000, None),
            (Hard, Then::Degrade, 799, None),
            (Hard, Then::Degrade, 800, Some(Step::Effort)),
            (Hard, Then::Degrade, 1_000, Some(Step::Effort)),
            (Soft, Then::Degrade, 949, Some(Step::Effort)),
            (Soft, Then::Degrade, 950, Some(Step::Target)),
        ] {
            let found = due([usage(mode, then, spent)]).map(|due| due.step);
            assert_eq!(found, expect, "{mode:?} {then:?} {spent}");
        }
        for (mode, spent, wants, expect) in [
            (Hard, 949, true, false),
            (Hard, 950, true, true),
            (Soft, 1_200, true, true),
            (Hard, 1_000, false, false),
            (Observe, 1_000, true, false),
        ] {
            let ends = ending([usage(mode, Then::Refuse, spent)], |_| wants).is_some();
            assert_eq!(ends, expect, "{mode:?} {spent}");
        }
        let both = [
            usage(Hard, Then::Degrade, 900),
            usage(Soft, Then::Degrade, 990),
        ];
        assert_eq!(due(both).map(|due| due.step), Some(Step::Target));
    }
}
