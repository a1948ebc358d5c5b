//! What is told of budgets: refusals for clients, notices for headers and events.
//!
//! **Invariant**: a client is told to try again by itself only where a minute's patience may help
//! (test `patience_is_only_asked_for_where_it_helps`).

use policy::admit::book::report::Usage;
use policy::admit::limit::LimitId;
use policy::admit::scope::Scope;
use policy::admit::tally::{Event, MARKS, Notice, Price, Relief, Spent, marks_reached};
use policy::moment::Moment;
use policy::refusal::{Reason, Refusal};

/// 1 s: calls under way settle one after another, and each lets something go.
const SETTLING_RETRY_S: u64 = 1;

/// 60 s: clients' libraries wait as long by themselves, and no longer.
const PATIENCE_MAX_S: u64 = 60;

/// A limit without room, as the client reads it.
pub fn refused(spent: &Spent, now: Moment) -> Refusal {
    let retry_after_s = match spent.relief {
        Relief::Settling => Some(SETTLING_RETRY_S),
        Relief::NextWindow | Relief::Nothing => spent.retry_after_seconds(now),
    };
    let advice = match (spent.price, spent.relief, retry_after_s) {
        (Price::Blocked, ..) => {
            "what it costs is not known, for its model has no price, or it names none; add one with \
             `prices.files`, or set `budget_rules.unknown_price`"
                .to_owned()
        }
        (_, Relief::Nothing, _) => "send a smaller call, or ask for a higher limit".to_owned(),
        (_, Relief::Settling, _) => "try again when calls under way are over".to_owned(),
        (_, Relief::NextWindow, Some(seconds)) => {
            format!("there is room again in {seconds} s")
        }
        (_, Relief::NextWindow, None) => "ask for a higher limit".to_owned(),
    };
    let reason = match retry_after_s {
        Some(seconds) if seconds <= PATIENCE_MAX_S => Reason::RateLimited,
        Some(_) | None => Reason::BudgetSpent,
    };
    let mut refusal = Refusal::new(reason, format!("{spent}; {advice}"));
    refusal.retry_after_s = retry_after_s;
    refusal
}

/// What a notice says in a header: `limit=team-day; team=blue; would-refuse`.
pub fn told(notice: &Notice) -> String {
    words(&notice.limit, &notice.scope, &event(notice.event))
}

/// What a limit says of itself in a header once half of it is used: `limit=team-day; team=blue;
/// reached=80%`.
pub fn standing(usage: &Usage) -> Option<String> {
    let reached = marks_reached(usage.tally.spent, usage.limit.quota.amount());
    let mark = MARKS.iter().take(reached.into()).next_back()?;
    Some(words(
        &usage.limit.id,
        &usage.scope,
        &event(Event::Reached(*mark)),
    ))
}

/// An event's name, in headers and metrics.
pub fn event(event: Event) -> String {
    match event {
        Event::Reached(percent) => format!("reached={percent}%"),
        Event::WouldRefuse => "would-refuse".to_owned(),
        Event::Degraded(step) => format!("degraded={}", step.name()),
    }
}

fn words(limit: &LimitId, scope: &Scope, event: &str) -> String {
    format!("limit={limit}; {}={}; {event}", scope.kind.name(), scope.id)
}

#[cfg(test)]
mod tests {
    use policy::admit::limit::{Measure, Then, Units};
    use policy::admit::scope::Kind;
    use policy::admit::window::Span;

    use super::*;

    #[test]
    fn patience_is_only_asked_for_where_it_helps() {
        let now = Moment(1_000_000);
        let spent = |measure, relief, end: Option<u64>| Spent {
            limit: "a".into(),
            scope: Scope::new(Kind::Key, "k"),
            measure,
            amount: Units(5),
            spent: Units(5),
            held: Units(0),
            asked: Units(1),
            window: Span {
                start: Moment(0),
                end: end.map(|seconds| now.after(seconds * 1_000)),
            },
            relief,
            then: Then::Refuse,
            price: Price::Known,
        };
        let limited = |seconds| (Reason::RateLimited, Some(seconds));
        let over = |seconds| (Reason::BudgetSpent, seconds);
        for (measure, relief, end, expect) in [
            (Measure::Requests, Relief::NextWindow, Some(60), limited(60)),
            (Measure::Tokens, Relief::NextWindow, Some(7), limited(7)),
            (
                Measure::Requests,
                Relief::NextWindow,
                Some(61),
                over(Some(61)),
            ),
            (
                Measure::Usd,
                Relief::NextWindow,
                Some(3_600),
                over(Some(3_600)),
            ),
            (Measure::Usd, Relief::Settling, Some(3_600), limited(1)),
            (Measure::Concurrency, Relief::Settling, None, limited(1)),
            (Measure::Concurrency, Relief::Nothing, None, over(None)),
            (Measure::Usd, Relief::Nothing, Some(30), over(None)),
        ] {
            let refusal = refused(&spent(measure, relief, end), now);
            let found = (refusal.reason, refusal.retry_after_s);
            assert_eq!(found, expect, "{measure:?} {relief:?} {end:?}");
        }
    }
}
