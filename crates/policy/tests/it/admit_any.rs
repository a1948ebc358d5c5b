//! The book over any interleaving of calls, clocks, edits and restarts, beside a plain list of all calls.
//!
//! **Invariant**: what the book says equals what the list adds up to, after every step.

use policy::admit::book::hold::{Ask, HoldId, Need};
use policy::admit::book::restore::Past;
use policy::admit::book::{Book, Ended, NotRaised};
use policy::admit::limit::{Limit, Measure, Mode, Quota, Units};
use policy::admit::scope::Kind;
use policy::admit::tally::{Charge, Price, overshoot_bound};
use policy::admit::window::{Period, Window, Zone};
use policy::moment::Moment;
use policy::money::PicoUsd;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use wire::usage::Tokens;

use crate::admit_book::{HOUR, NOW, book, limit, need, only, reserve, scopes, usd};

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        who: usize,
        worst: i128,
        expected: i128,
        lasts: u64,
    },
    Raise {
        call: usize,
        worst: i128,
    },
    Settle {
        call: usize,
        share: u8,
    },
    SettleUnknown {
        call: usize,
    },
    Release {
        call: usize,
    },
    Jump {
        to: u64,
    },
    Edit {
        limits: usize,
    },
    Restart,
}

const WHO: [&str; 4] = [
    "organisation:o team:s key:a user:u",
    "organisation:o team:s key:b user:v task:p task:c",
    "organisation:o team:t key:c user:u tag:x tag:x",
    "key:a user:w",
];

/// What each set of limits adds to the amounts of the one before.
const GROWTH: i128 = 3;

/// The first set that lacks a limit.
const LACKING: usize = 3;

/// Sets of limits over all measures, whose amounts grow from set to set; each of the later ones lacks
/// another limit.
fn limits(which: usize) -> Vec<Limit> {
    let grown = |amount: i128| amount + i128::try_from(which).unwrap() * GROWTH;
    let count = |amount: i128| u64::try_from(grown(amount)).unwrap();
    let hour = || Window::new(Period::Hour, Zone::named("Asia/Kolkata").unwrap());
    let ever = Quota::Usd(PicoUsd(grown(60)), Window::lifetime());
    let mut all = vec![
        limit("org", Kind::Organisation, Mode::Hard, usd(grown(120))),
        limit(
            "key",
            Kind::Key,
            Mode::Hard,
            Quota::Usd(PicoUsd(grown(70)), hour()),
        ),
        limit("task", Kind::Task, Mode::Hard, ever),
        limit("tag", Kind::Tag, Mode::Observe, usd(grown(20))),
        limit(
            "at once",
            Kind::User,
            Mode::Hard,
            Quota::Concurrency(count(4)),
        ),
        limit(
            "calls",
            Kind::User,
            Mode::Hard,
            Quota::Requests(count(8), hour()),
        ),
        limit(
            "tokens",
            Kind::Team,
            Mode::Hard,
            Quota::Tokens(Tokens(count(100)), hour()),
        ),
        only(
            "w",
            limit("w", Kind::User, Mode::Hard, Quota::Concurrency(count(1))),
        ),
    ];
    if which >= LACKING {
        all.remove(which - LACKING);
    }
    all
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = 0..12_usize;
    let reserve = (0..WHO.len(), 0..40_i128, 0..40_i128, 1..3 * HOUR).prop_map(
        |(who, worst, expected, lasts)| Step::Reserve {
            who,
            worst,
            expected,
            lasts,
        },
    );
    let step = prop_oneof![
        6 => reserve,
        2 => (call.clone(), 0..30_i128).prop_map(|(call, worst)| Step::Raise { call, worst }),
        5 => (call.clone(), any::<u8>()).prop_map(|(call, share)| Step::Settle { call, share }),
        1 => call.clone().prop_map(|call| Step::SettleUnknown { call }),
        1 => call.prop_map(|call| Step::Release { call }),
        2 => (0..20 * HOUR).prop_map(|to| Step::Jump { to }),
        1 => (0..LACKING + 8).prop_map(|limits| Step::Edit { limits }),
        1 => proptest::strategy::Just(Step::Restart),
    ];
    vec(step, 1..60)
}

/// A call as a plain list keeps it.
#[derive(Clone, Debug)]
struct Call {
    who: usize,
    at: Moment,
    expires_at: Moment,
    hold: HoldId,
    worst: i128,
    expected: i128,
    worst_tokens: u64,
    /// What it settled for: money and tokens.
    used: Option<(i128, u64)>,
    gone: bool,
}

impl Call {
    fn is_open(&self, now: Moment) -> bool {
        !self.gone && self.used.is_none() && now < self.expires_at
    }
}

/// The book beside a list of all calls.
struct World {
    book: Book,
    calls: Vec<Call>,
    now: Moment,
    limits: usize,
    /// The set with the largest amounts so far.
    largest: usize,
    /// A call settled after its hold had expired, or a limit was missing for a time: either way more
    /// may be spent than a limit allows.
    loose: bool,
}

impl World {
    fn new() -> Self {
        Self {
            book: book(limits(0)),
            calls: Vec::new(),
            now: NOW,
            limits: 0,
            largest: 0,
            loose: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Reserve {
                who,
                worst,
                expected,
                lasts,
            } => {
                let ask = Ask {
                    scopes: &scopes(WHO[who]),
                    need: need(worst, expected),
                    expires_at: self.now.after(lasts),
                };
                match self.book.reserve(self.now, &ask) {
                    Ok((hold, _)) => self.calls.push(Call {
                        who,
                        at: self.now,
                        expires_at: ask.expires_at,
                        hold,
                        worst,
                        expected: expected.min(worst),
                        worst_tokens: 10,
                        used: None,
                        gone: false,
                    }),
                    Err(spent) => assert!(spent.spent + spent.held + spent.asked > spent.amount),
                }
            }
            Step::Raise { call, worst } => {
                let Some(call) = self.calls.get_mut(call) else {
                    return;
                };
                let open = call.is_open(self.now);
                match self
                    .book
                    .raise(self.now, call.hold, &need(worst, worst), NOW)
                {
                    Ok(_) => {
                        assert!(open);
                        call.worst += worst;
                        call.expected += worst;
                        call.worst_tokens += 10;
                    }
                    Err(NotRaised::Gone) => assert!(!open),
                    Err(NotRaised::Spent(_)) => assert!(open),
                }
            }
            Step::Settle { call, share } => {
                self.settle(call, |worst| Some(worst * i128::from(share) / 255));
            }
            Step::SettleUnknown { call } => self.settle(call, |_| None),
            Step::Release { call } => {
                let Some(call) = self.calls.get_mut(call) else {
                    return;
                };
                self.book.release(self.now, call.hold);
                call.gone = call.used.is_none();
            }
            Step::Jump { to } => {
                let to = Moment(NOW.0 - HOUR + to);
                self.book.expire(to);
                self.now = self.now.max(to);
            }
            Step::Edit { limits: to } => {
                let gaps = self.book.set_limits(limits(to), self.now).unwrap();
                self.limits = to;
                self.largest = self.largest.max(to);
                self.loose |= to >= LACKING;
                for gap in gaps {
                    self.past(|book, past, now| book.fill(&gap, [past], now));
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn settle(&mut self, call: usize, cost: impl Fn(i128) -> Option<i128>) {
        let Some(call) = self.calls.get_mut(call) else {
            return;
        };
        let cost = cost(call.worst);
        let (ended, _) = self
            .book
            .settle(self.now, call.hold, cost.map(PicoUsd), Tokens(7));
        let first = call.used.is_none() && !call.gone;
        if first {
            call.used = Some((cost.unwrap_or(call.worst), 7));
        }
        assert_eq!(ended == Ended::Repeated, !first);
        self.loose |= ended == Ended::Late;
    }

    fn past(&mut self, mut take: impl FnMut(&mut Book, Past<'_>, Moment)) {
        for call in &self.calls {
            if let Some((cost, tokens)) = call.used {
                let past = Past {
                    scopes: &scopes(WHO[call.who]),
                    at: call.at,
                    cost: PicoUsd(cost),
                    tokens: Tokens(tokens),
                    requests: 1,
                };
                take(&mut self.book, past, self.now);
            }
        }
    }

    /// A new book from the rows; expired holds are not in them any more.
    fn restart(&mut self) {
        self.book = Book::default();
        self.book.set_limits(limits(self.limits), self.now).unwrap();
        self.past(|book, past, now| book.restore([past], now));
        let now = self.now;
        for call in &mut self.calls {
            if call.is_open(now) {
                let need = Need {
                    worst_tokens: Tokens(call.worst_tokens),
                    ..need(call.worst, call.expected)
                };
                let ask = Ask {
                    scopes: &scopes(WHO[call.who]),
                    need,
                    expires_at: call.expires_at,
                };
                call.hold = self.book.restore_hold(&ask, call.at, now);
            } else {
                call.hold = HoldId(u64::MAX);
                call.gone |= call.used.is_none();
            }
        }
    }

    /// Compares every figure with the list, and every hard limit with what is spent and held.
    fn check(&mut self) {
        for who in WHO {
            for usage in self.book.usage(&scopes(who), self.now) {
                let measure = usage.limit.quota.measure();
                let mine = self.calls.iter().filter(|call| {
                    scopes(WHO[call.who]).contains(&usage.scope) && usage.window.contains(call.at)
                });
                let mut expect = (0, 0);
                for call in mine {
                    let (worst, used) = match measure {
                        Measure::Usd => (call.worst, call.used.map_or(0, |it| it.0)),
                        Measure::Tokens => (
                            call.worst_tokens.into(),
                            call.used.map_or(0, |it| it.1.into()),
                        ),
                        Measure::Requests => (1, i128::from(call.used.is_some())),
                        Measure::Concurrency => (1, 0),
                    };
                    expect.0 += used;
                    expect.1 += if call.is_open(self.now) { worst } else { 0 };
                }
                let tally = usage.tally;
                let figures = (tally.spent.0, tally.held_worst.0);
                assert_eq!(figures, expect, "{} of {}", usage.limit, usage.scope);
            }
        }
    }

    /// No hard limit is exceeded, not even if every call under way costs its worst.
    fn check_caps(&mut self) {
        let growth = i128::try_from(self.largest - self.limits).unwrap() * GROWTH;
        for usage in self.book.report(self.now) {
            if usage.limit.mode == Mode::Hard && !self.loose {
                let cap = usage.limit.quota.amount() + Units(growth);
                assert!(
                    usage.tally.spent + usage.tally.held_worst <= cap,
                    "{usage:?}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn hard_limits_hold_and_nothing_is_lost(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
            world.check_caps();
        }
        // At rest nothing is held.
        for call in 0..world.calls.len() {
            if call % 2 == 0 {
                world.settle(call, Some);
            }
        }
        world.now = world.now.after(3 * HOUR);
        world.book.expire(world.now);
        world.check();
        assert_eq!(world.book.open_holds(), 0);
        let held = world.book.report(world.now).iter().any(|it| it.tally.held_worst != Units(0));
        assert!(!held);
    }

    #[test]
    fn soft_limits_are_exceeded_by_no_more_than_the_bound(
        calls in vec((1..50_i128, 0..50_i128, any::<u8>(), 0..6_usize), 1..40),
    ) {
        let mut book = book(vec![limit("it", Kind::Key, Mode::Soft, usd(100))]);
        let mut open: Vec<(HoldId, i128, Charge)> = Vec::new();
        let mut bound = Units(0);
        let settle = |book: &mut Book, (hold, cost, _): (HoldId, i128, Charge)| {
            book.settle(NOW, hold, Some(PicoUsd(cost)), Tokens(1));
        };
        for (worst, expected, share, pick) in calls {
            let charge = Charge {
                worst: Units(worst),
                expected: Units(expected.min(worst)),
                price: Price::Known,
            };
            if let Ok((hold, _)) = reserve(&mut book, NOW, "key:k", need(worst, expected)) {
                open.push((hold, worst * i128::from(share) / 255, charge));
                let charges: Vec<Charge> = open.iter().map(|it| it.2).collect();
                bound = overshoot_bound(&charges);
            }
            if pick < open.len() {
                settle(&mut book, open.swap_remove(pick));
            }
            let usage = book.usage(&scopes("key:k"), NOW);
            assert!(usage[0].tally.spent <= Units(100) + bound);
            assert!(usage[0].overshoot() <= bound, "{:?} {bound:?}", usage[0]);
        }
    }
}
