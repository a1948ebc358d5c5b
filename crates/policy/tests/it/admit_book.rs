//! The book in single stories.
//!
//! **Invariant**: each story ends with the figures that a reader would write down.

use policy::admit::book::hold::{Ask, HoldId, Need, UnknownPrice};
use policy::admit::book::report::Usage;
use policy::admit::book::restore::Past;
use policy::admit::book::{Book, Ended, Left, NotRaised};
use policy::admit::limit::{Limit, Measure, Mode, Quota, Then, Units, Which};
use policy::admit::scope::{Kind, Scope};
use policy::admit::tally::{Event, Notice, Relief, Spent};
use policy::admit::window::{Period, Window, Zone};
use policy::moment::Moment;
use policy::money::PicoUsd;
use wire::usage::Tokens;

pub(crate) const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// 2026-11-24 10:00 UTC.
pub(crate) const NOW: Moment = Moment(1_795_514_400_000);

fn day() -> Window {
    Window::new(Period::Day, Zone::UTC)
}

pub(crate) fn usd(amount: i128) -> Quota {
    Quota::Usd(PicoUsd(amount), day())
}

pub(crate) fn limit(id: &str, kind: Kind, mode: Mode, quota: Quota) -> Limit {
    Limit {
        id: id.into(),
        kind,
        which: Which::Each,
        quota,
        mode,
        then: Then::Refuse,
    }
}

pub(crate) fn only(who: &str, limit: Limit) -> Limit {
    Limit {
        which: Which::One(who.into()),
        ..limit
    }
}

pub(crate) fn book(limits: Vec<Limit>) -> Book {
    let mut book = Book::default();
    book.set_limits(limits, NOW).unwrap();
    book
}

pub(crate) fn need(worst: i128, expected: i128) -> Need {
    Need {
        worst: Some(PicoUsd(worst)),
        expected: Some(PicoUsd(expected)),
        worst_tokens: Tokens(10),
        expected_tokens: Tokens(5),
        unknown_price: UnknownPrice::Block,
    }
}

fn scope(text: &str) -> Scope {
    let (kind, id) = text.split_once(':').unwrap();
    let kind = Kind::ALL.into_iter().find(|it| it.name() == kind).unwrap();
    Scope::new(kind, id)
}

pub(crate) fn scopes(text: &str) -> Vec<Scope> {
    text.split_whitespace().map(scope).collect()
}

pub(crate) fn reserve(
    book: &mut Book,
    at: Moment,
    who: &str,
    need: Need,
) -> Result<(HoldId, Vec<Notice>), Box<Spent>> {
    let ask = Ask {
        scopes: &scopes(who),
        need,
        expires_at: at.after(HOUR),
    };
    book.reserve(at, &ask)
}

fn hold(book: &mut Book, who: &str, worst: i128) -> HoldId {
    reserve(book, NOW, who, need(worst, worst)).unwrap().0
}

/// Books a cost at once.
fn spend(book: &mut Book, at: Moment, who: &str, cost: i128) -> Vec<Notice> {
    let (hold, _) = reserve(book, at, who, need(cost, cost)).unwrap();
    book.settle(at, hold, Some(PicoUsd(cost)), Tokens(1)).1
}

/// `spent+held`, for the first limit of a payer.
fn figures(book: &mut Book, at: Moment, who: &str) -> String {
    let usage = book.usage(&[scope(who)], at);
    let first: &Usage = usage.first().unwrap();
    format!("{}+{}", first.tally.spent.0, first.tally.held_worst.0)
}

#[test]
fn a_call_is_held_everywhere_or_nowhere() {
    let mut book = book(vec![
        limit("team", Kind::Team, Mode::Hard, usd(100)),
        limit("key", Kind::Key, Mode::Hard, usd(60)),
    ]);
    hold(&mut book, "team:t key:a", 50);
    let refused = reserve(&mut book, NOW, "team:t key:b", need(51, 51)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "limit `team` of team `t` has no room: $0.00 of $0.0000000001 spent, $0.00000000005 held, \
         $0.000000000051 asked"
    );
    assert_eq!(
        (refused.relief, refused.then),
        (Relief::Settling, Then::Refuse)
    );
    assert_eq!(figures(&mut book, NOW, "team:t"), "0+50");
    assert_eq!(figures(&mut book, NOW, "key:b"), "0+0");
    // Of two that refuse, the one that is harder to get around is told.
    let refused = reserve(&mut book, NOW, "team:t key:b", need(61, 61)).unwrap_err();
    assert_eq!((&*refused.limit, refused.relief), ("key", Relief::Nothing));
    hold(&mut book, "team:t key:b", 50);
    assert_eq!(figures(&mut book, NOW, "team:t"), "0+100");
}

#[test]
fn an_unknown_user_has_the_default_budget_from_the_first_call() {
    let mut book = book(vec![
        limit("default", Kind::User, Mode::Hard, usd(10)),
        only("ann", limit("ann", Kind::User, Mode::Hard, usd(30))),
        only("bob", limit("bob", Kind::User, Mode::Soft, usd(5))),
    ]);
    for (who, worst, expect) in [
        ("user:new", 11, Err("default")),
        ("user:new", 10, Ok(())),
        ("user:ann", 11, Ok(())),
        ("user:ann", 20, Err("ann")),
        // What is said of one user stands in place of the default, in any mode.
        ("user:bob", 11, Ok(())),
        ("user:bob", 11, Err("bob")),
    ] {
        let held = reserve(&mut book, NOW, who, need(worst, worst));
        let held = held.map(|_| ()).map_err(|spent| spent.limit.to_string());
        assert_eq!(held, expect.map_err(str::to_owned), "{who} {worst}");
    }
}

#[test]
fn every_measure_is_counted() {
    let minute = || Window::new(Period::Minute, Zone::UTC);
    for (quota, calls, measure) in [
        (usd(30), 3, Measure::Usd),
        (Quota::Tokens(Tokens(25), minute()), 2, Measure::Tokens),
        (Quota::Requests(4, minute()), 4, Measure::Requests),
        (Quota::Concurrency(1), 1, Measure::Concurrency),
    ] {
        let mut book = book(vec![limit("it", Kind::Key, Mode::Hard, quota)]);
        let mut holds = Vec::new();
        let refused = loop {
            match reserve(&mut book, NOW, "key:k", need(10, 10)) {
                Ok((hold, _)) => holds.push(hold),
                Err(refused) => break refused,
            }
        };
        assert_eq!((holds.len(), refused.measure), (calls, measure));
        assert_eq!(refused.relief, Relief::Settling, "{measure:?}");
        // A further leg is not a further call.
        if matches!(measure, Measure::Requests | Measure::Concurrency) {
            book.raise(NOW, holds[0], &need(10, 10), NOW).unwrap();
        }
        for hold in holds {
            book.settle(NOW, hold, Some(PicoUsd(10)), Tokens(10));
        }
        let again = reserve(&mut book, NOW, "key:k", need(10, 10));
        assert_eq!(
            again.is_ok(),
            measure == Measure::Concurrency,
            "{measure:?}"
        );
        assert!(reserve(&mut book, NOW.after(DAY), "key:k", need(10, 10)).is_ok());
    }
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let lifetime = Quota::Usd(PicoUsd(10), Window::lifetime());
    for (quota, spent, asked, relief, seconds) in [
        (usd(10), 5, 6, Relief::NextWindow, Some(14 * 3_600)),
        (usd(10), 5, 11, Relief::Nothing, None),
        (lifetime, 5, 6, Relief::Nothing, None),
    ] {
        let mut book = book(vec![limit("it", Kind::Key, Mode::Hard, quota)]);
        spend(&mut book, NOW, "key:k", spent);
        let refused = reserve(&mut book, NOW, "key:k", need(asked, asked)).unwrap_err();
        assert_eq!(
            (refused.relief, refused.retry_after_seconds(NOW)),
            (relief, seconds)
        );
    }
}

#[test]
fn soft_limits_hold_what_is_expected() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Soft, usd(10))]);
    let first = reserve(&mut book, NOW, "key:k", need(100, 9)).unwrap().0;
    let second = reserve(&mut book, NOW, "key:k", need(100, 9)).unwrap().0;
    let refused = reserve(&mut book, NOW, "key:k", need(100, 1)).unwrap_err();
    assert_eq!((refused.held, refused.asked), (Units(18), Units(1)));
    // The worst that can come: both cost 100.
    let usage = book.usage(&scopes("key:k"), NOW);
    assert_eq!(usage[0].overshoot(), Units(190));
    for hold in [first, second] {
        book.settle(NOW, hold, Some(PicoUsd(100)), Tokens(1));
    }
    assert_eq!(figures(&mut book, NOW, "key:k"), "200+0");
}

#[test]
fn observing_refuses_nothing_and_tells_once() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Observe, usd(10))]);
    let mut events = Vec::new();
    for _ in 0..3 {
        let (hold, told) = reserve(&mut book, NOW, "key:k", need(10, 10)).unwrap();
        events.extend(told);
        events.extend(book.settle(NOW, hold, Some(PicoUsd(10)), Tokens(1)).1);
    }
    let events: Vec<Event> = events.into_iter().map(|notice| notice.event).collect();
    let marks = [50, 80, 95, 100].map(Event::Reached);
    assert_eq!(events, [&marks[..], &[Event::WouldRefuse]].concat());
}

#[test]
fn marks_are_told_once_in_a_window() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Soft, usd(100))]);
    let mut check = |at: Moment, cost, expect: &[u8]| {
        let told = spend(&mut book, at, "key:k", cost);
        let expect: Vec<_> = expect.iter().map(|mark| Event::Reached(*mark)).collect();
        assert_eq!(told.iter().map(|it| it.event).collect::<Vec<_>>(), expect);
    };
    check(NOW, 49, &[]);
    check(NOW, 1, &[50]);
    check(NOW, 10, &[]);
    check(NOW, 36, &[80, 95]);
    check(NOW, 4, &[100]);
    check(NOW.after(DAY), 60, &[50]);
    // Held money tells nothing: it may come back.
    hold(&mut book, "key:j", 99);
    assert_eq!(spend(&mut book, NOW, "key:j", 1), []);
}

#[test]
fn marks_that_were_told_before_a_restart_are_not_told_again() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Soft, usd(100))]);
    let past = Past {
        scopes: &scopes("key:k"),
        at: NOW,
        cost: PicoUsd(60),
        tokens: Tokens(1),
        requests: 1,
    };
    book.restore([past], NOW);
    let told = spend(&mut book, NOW, "key:k", 25);
    assert_eq!(told.len(), 1, "80 only");
}

#[test]
fn an_edit_of_the_amount_moves_the_marks() {
    let soft = |amount| vec![limit("it", Kind::Key, Mode::Soft, usd(amount))];
    let mut book = book(soft(100));
    assert_eq!(spend(&mut book, NOW, "key:k", 60).len(), 1);
    book.set_limits(soft(1_000), NOW).unwrap();
    assert_eq!(spend(&mut book, NOW, "key:k", 1).len(), 0);
    assert_eq!(spend(&mut book, NOW, "key:k", 440).len(), 1, "half again");
}

#[test]
fn an_unknown_price_follows_the_operator() {
    let unknown = |unknown_price| Need {
        worst: None,
        unknown_price,
        ..need(0, 0)
    };
    for (policy, mode, expect) in [
        (UnknownPrice::Block, Mode::Hard, "refused"),
        (UnknownPrice::Block, Mode::Soft, "refused"),
        (UnknownPrice::Block, Mode::Observe, "0+0 then 0+0"),
        (UnknownPrice::Allow, Mode::Hard, "0+0 then 0+0"),
        (
            UnknownPrice::HoldAtCeiling(PicoUsd(7)),
            Mode::Hard,
            "0+7 then 7+0",
        ),
        (
            UnknownPrice::HoldAtCeiling(PicoUsd(11)),
            Mode::Hard,
            "refused",
        ),
    ] {
        let mut book = book(vec![limit("it", Kind::Key, mode, usd(10))]);
        let story = match reserve(&mut book, NOW, "key:k", unknown(policy)) {
            Err(_) => "refused".to_owned(),
            Ok((hold, _)) => {
                let before = figures(&mut book, NOW, "key:k");
                book.settle(NOW, hold, None, Tokens(3));
                assert_eq!(book.counts().unknown_costs, 1);
                format!("{before} then {}", figures(&mut book, NOW, "key:k"))
            }
        };
        assert_eq!(story, expect, "{policy:?} {mode:?}");
        assert_eq!(book.counts().unpriced, 1);
    }
    // Where money is not limited, nothing is blocked.
    let mut book = book(vec![limit(
        "it",
        Kind::Key,
        Mode::Hard,
        Quota::Concurrency(1),
    )]);
    assert!(reserve(&mut book, NOW, "key:k", unknown(UnknownPrice::Block)).is_ok());
}

#[test]
fn a_further_leg_holds_more_or_changes_nothing() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Hard, usd(100))]);
    let first = hold(&mut book, "key:k", 40);
    book.raise(NOW, first, &need(50, 50), NOW).unwrap();
    assert_eq!(figures(&mut book, NOW, "key:k"), "0+90");
    let refused = book.raise(NOW, first, &need(11, 11), NOW).unwrap_err();
    assert!(matches!(refused, NotRaised::Spent(_)));
    assert_eq!(figures(&mut book, NOW, "key:k"), "0+90");
    book.settle(NOW, first, Some(PicoUsd(85)), Tokens(1));
    assert_eq!(figures(&mut book, NOW, "key:k"), "85+0");
    assert_eq!(book.counts().beyond_worst, 0);
    assert_eq!(
        book.raise(NOW, first, &need(1, 1), NOW),
        Err(NotRaised::Gone)
    );
}

#[test]
fn a_call_is_settled_once_and_never_lost() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Hard, usd(100))]);
    let settle = |book: &mut Book, at, hold| book.settle(at, hold, Some(PicoUsd(30)), Tokens(1)).0;
    let first = hold(&mut book, "key:k", 40);
    assert_eq!(settle(&mut book, NOW, first), Ended::InTime);
    assert_eq!(settle(&mut book, NOW, first), Ended::Repeated);
    assert_eq!(book.release(NOW, first), Ended::Repeated);
    assert_eq!(figures(&mut book, NOW, "key:k"), "30+0");
    // Expired, then settled: booked all the same.
    let second = hold(&mut book, "key:k", 40);
    book.expire(NOW.after(HOUR - 1));
    assert_eq!(figures(&mut book, NOW, "key:k"), "30+40");
    book.expire(NOW.after(HOUR));
    assert_eq!(figures(&mut book, NOW, "key:k"), "30+0");
    assert_eq!(settle(&mut book, NOW.after(HOUR), second), Ended::Late);
    assert_eq!(settle(&mut book, NOW.after(HOUR), second), Ended::Repeated);
    assert_eq!(figures(&mut book, NOW, "key:k"), "60+0");
    let later = NOW.after(HOUR);
    let (third, _) = reserve(&mut book, later, "key:k", need(40, 40)).unwrap();
    assert_eq!(book.release(later, third), Ended::InTime);
    let (fourth, _) = reserve(&mut book, later, "key:k", need(20, 20)).unwrap();
    assert_eq!(settle(&mut book, later, fourth), Ended::InTime);
    let counts = book.counts();
    let seen = (
        counts.expired,
        counts.late,
        counts.repeated,
        counts.beyond_worst,
    );
    assert_eq!(seen, (1, 1, 3, 1));
    // A day after it expired, only the ledger knows.
    let (fifth, _) = reserve(&mut book, later, "key:j", need(1, 1)).unwrap();
    book.expire(NOW.after(2 * HOUR));
    book.expire(NOW.after(2 * HOUR + DAY));
    assert_eq!(settle(&mut book, NOW, fifth), Ended::Repeated);
    assert_eq!(book.counts().forgotten, 1);
}

#[test]
fn a_call_is_booked_in_the_window_that_held_it() {
    let mut book = book(vec![limit("it", Kind::Key, Mode::Hard, usd(100))]);
    let midnight = NOW.after(14 * HOUR);
    let late = Moment(midnight.0 - 1);
    let (held, _) = reserve(&mut book, late, "key:k", need(90, 90)).unwrap();
    // The next day has all its money, whatever the old one still owes.
    let (fresh, _) = reserve(&mut book, midnight, "key:k", need(100, 100)).unwrap();
    book.settle(midnight, held, Some(PicoUsd(80)), Tokens(1));
    assert_eq!(figures(&mut book, midnight, "key:k"), "0+100");
    book.settle(midnight, fresh, Some(PicoUsd(70)), Tokens(1));
    assert_eq!(figures(&mut book, midnight, "key:k"), "70+0");
    // A clock that is set back opens no window twice.
    assert_eq!(figures(&mut book, NOW, "key:k"), "70+0");
}

#[test]
fn edits_never_reset_usage() {
    let hard = |id: &str, amount| limit(id, Kind::Key, Mode::Hard, usd(amount));
    let mut book = book(vec![hard("it", 100)]);
    spend(&mut book, NOW, "key:k", 40);
    let open = hold(&mut book, "key:k", 30);
    let mut edit = |limits, expect: &str| {
        assert!(book.set_limits(limits, NOW).unwrap().is_empty(), "{expect}");
        if !expect.is_empty() {
            assert_eq!(figures(&mut book, NOW, "key:k"), expect);
        }
    };
    edit(vec![hard("renamed", 50)], "40+30");
    edit(vec![only("k", hard("own", 50)), hard("all", 10)], "40+30");
    edit(Vec::new(), "");
    book.settle(NOW, open, Some(PicoUsd(25)), Tokens(1));
    spend(&mut book, NOW, "key:k", 5);
    spend(&mut book, NOW, "key:other", 5);
    assert!(
        book.set_limits(vec![hard("back", 100)], NOW)
            .unwrap()
            .is_empty()
    );
    assert_eq!(figures(&mut book, NOW, "key:k"), "70+0");
    assert_eq!(figures(&mut book, NOW, "key:other"), "5+0");
    // What no limit reads is counted until its window ends, and no longer.
    book.set_limits(Vec::new(), NOW).unwrap();
    let tomorrow = NOW.after(DAY);
    while book.expire(tomorrow) == Left::Some {}
    spend(&mut book, tomorrow, "key:k", 5);
    assert_eq!(book.payers(), 0);
}

#[test]
fn a_limit_that_begins_to_count_is_filled_from_the_ledger() {
    let mut book = book(vec![only("k", limit("k", Kind::Key, Mode::Hard, usd(100)))]);
    spend(&mut book, NOW, "key:k user:u", 40);
    let open = hold(&mut book, "key:j user:u", 30);
    let ask = Ask {
        scopes: &scopes("key:late user:u"),
        need: need(9, 9),
        expires_at: NOW,
    };
    let (expired, _) = book.reserve(NOW, &ask).unwrap();
    let all = vec![
        limit("key", Kind::Key, Mode::Hard, usd(100)),
        limit("user", Kind::User, Mode::Hard, usd(100)),
    ];
    let gaps = book.set_limits(all, NOW).unwrap();
    assert_eq!(gaps.len(), 2);
    for (at, who, cost) in [
        (NOW, "key:k user:u", 40),
        (NOW, "key:j user:v", 7),
        (Moment(NOW.0 - DAY), "key:j user:v", 1_000),
    ] {
        let past = Past {
            scopes: &scopes(who),
            at,
            cost: PicoUsd(cost),
            tokens: Tokens(1),
            requests: 1,
        };
        for gap in &gaps {
            book.fill(gap, [past], NOW);
        }
    }
    let mut check =
        |who: &str, expect: &str| assert_eq!(figures(&mut book, NOW, who), expect, "{who}");
    check("key:k", "40+0");
    check("key:j", "7+30");
    check("user:u", "40+30");
    check("user:v", "7+0");
    check("key:late", "0+0");
    assert_eq!(
        book.settle(NOW, expired, Some(PicoUsd(8)), Tokens(1)).0,
        Ended::Late
    );
    assert_eq!(figures(&mut book, NOW, "key:late"), "8+0");
    assert_eq!(figures(&mut book, NOW, "user:u"), "48+30");
    book.settle(NOW, open, Some(PicoUsd(20)), Tokens(1));
    assert_eq!(figures(&mut book, NOW, "user:u"), "68+0");
}

#[test]
fn idle_payers_are_forgotten() {
    let mut book = book(vec![
        limit("session", Kind::Session, Mode::Hard, usd(100)),
        limit("busy", Kind::User, Mode::Hard, Quota::Concurrency(9)),
        limit(
            "ever",
            Kind::Key,
            Mode::Hard,
            Quota::Usd(PicoUsd(9_999), Window::lifetime()),
        ),
    ]);
    for index in 0..1_000 {
        let who = format!("session:{index} user:{index} key:k");
        spend(&mut book, NOW, &who, 1);
    }
    assert_eq!(
        book.payers(),
        1_001,
        "calls under way leave no trace, days last"
    );
    let (open, _) = reserve(&mut book, NOW.after(14 * HOUR - 1), "session:7", need(1, 1)).unwrap();
    while book.expire(NOW.after(14 * HOUR)) == Left::Some {}
    assert_eq!(book.payers(), 2, "one still holds, one is for ever");
    book.settle(NOW.after(14 * HOUR), open, Some(PicoUsd(1)), Tokens(1));
    assert_eq!(book.payers(), 1);
    // Who is refused leaves nothing either.
    for index in 0..10 {
        let who = format!("session:{index}");
        assert!(reserve(&mut book, NOW, &who, need(101, 101)).is_err());
    }
    assert_eq!(book.payers(), 1);
}

#[test]
fn reports_are_sorted_and_complete() {
    let mut book = book(vec![
        limit("b", Kind::Key, Mode::Hard, usd(100)),
        limit("a", Kind::Key, Mode::Soft, usd(50)),
    ]);
    for who in ["key:z", "key:y", "key:x key:x"] {
        spend(&mut book, NOW, who, 10);
    }
    let report = book.report(NOW);
    let lines = report.iter().map(|it| {
        let end = it.window.end.unwrap().since(NOW) / HOUR;
        format!("{} {} {} {end}h", it.limit.id, it.scope, it.left().0)
    });
    let expect = [
        "a key `x` 40 14h",
        "a key `y` 40 14h",
        "a key `z` 40 14h",
        "b key `x` 90 14h",
        "b key `y` 90 14h",
        "b key `z` 90 14h",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expect);
}
