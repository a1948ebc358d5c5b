//! Model check of the book: every schedule of a few calls, with clock ticks, lost calls and a crash at
//! every point.
//!
//! **Invariant**: in no schedule do two scopes exceed their caps, in the book or in truth, and no hold
//! is left when nothing is under way (test `every_schedule_keeps_the_cap`).

use std::hash::{Hash, Hasher};

use policy::admit::book::Book;
use policy::admit::book::hold::{Ask, HoldId, Need, UnknownPrice};
use policy::admit::book::restore::Past;
use policy::admit::limit::{Limit, Mode, Quota, Then, Which};
use policy::admit::scope::{Kind, Scope};
use policy::admit::window::Window;
use policy::moment::Moment;
use policy::money::PicoUsd;
use stateright::{Checker, Model, Property};
use wire::usage::Tokens;

/// What one leg can cost at most.
const WORST: i128 = 4;
/// Room for the first call of two legs, or two calls of one.
const KEY_CAP: i128 = 9;
const TEAM_CAP: i128 = 13;
/// A hold is let go at the second tick after it was reserved.
const EXPIRES_AFTER: u64 = 2;
const TICKS_MAX: u64 = 3;
const LEGS_MAX: u8 = 2;
const CRASHES_MAX: u8 = 1;

/// How far a call is, and what of it would survive a crash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    New,
    Refused,
    /// Held, not yet written down, not sent.
    Held(HoldId),
    /// Held and forgotten by whoever held it: only its expiry helps.
    Lost(HoldId),
    /// Written down, then sent.
    Sent(HoldId, u8),
    /// Found in the ledger after a crash: what it cost is not known.
    Orphan(HoldId, u8),
    /// Settled in the ledger, not yet in the book. The other way round a crash would let two calls
    /// have the same money: the one that gave it back, and is found unsettled, and the one that got it.
    Written(HoldId, i128),
    /// Settled in both.
    Done(i128),
    /// Nothing was sent.
    Over,
}

impl Stage {
    /// What it has really cost, or may have.
    fn truth(self) -> i128 {
        match self {
            Self::Written(_, cost) | Self::Done(cost) => cost,
            Self::Orphan(_, legs) => WORST * i128::from(legs),
            Self::New
            | Self::Refused
            | Self::Held(_)
            | Self::Lost(_)
            | Self::Sent(..)
            | Self::Over => 0,
        }
    }

    /// What the book must have booked for it.
    fn booked(self) -> i128 {
        if let Self::Done(cost) = self { cost } else { 0 }
    }

    /// Whether the book holds something for it.
    fn holds(self) -> bool {
        match self {
            Self::Held(_)
            | Self::Lost(_)
            | Self::Sent(..)
            | Self::Orphan(..)
            | Self::Written(..) => true,
            Self::New | Self::Refused | Self::Done(_) | Self::Over => false,
        }
    }

    /// Whether somebody will still settle or release it.
    fn is_looked_after(self) -> bool {
        self.holds() && !matches!(self, Self::Lost(_))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Call {
    stage: Stage,
    at: u64,
    expires_at: u64,
}

#[derive(Clone, Debug)]
struct State {
    book: Book,
    calls: Vec<Call>,
    now: u64,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Reserve(usize),
    Lose(usize),
    Release(usize),
    Send(usize),
    Raise(usize),
    Settle(usize, i128),
    Commit(usize),
    Recover(usize),
    Tick,
    Crash,
}

impl State {
    /// What decides the future, without the numbers of holds.
    fn essence(&self) -> String {
        let stages = self.calls.iter().map(|call| match call.stage {
            Stage::Held(_) => format!("held until {}", call.expires_at),
            Stage::Lost(_) => format!("lost until {}", call.expires_at),
            Stage::Sent(_, legs) => format!("sent {legs} until {}", call.expires_at),
            Stage::Orphan(_, legs) => format!("orphan {legs} until {}", call.expires_at),
            Stage::Written(_, cost) => format!("written {cost} until {}", call.expires_at),
            stage @ (Stage::New | Stage::Refused | Stage::Done(_) | Stage::Over) => {
                format!("{stage:?}")
            }
        });
        let stages: Vec<_> = stages.collect();
        let report: Vec<_> = self.figures().into_iter().collect();
        format!("{} {} {stages:?} {report:?}", self.now, self.crashes)
    }

    /// Spent and held, by scope.
    fn figures(&self) -> Vec<(i128, i128)> {
        let usage = self.book.clone().usage(&scopes(), Moment(self.now));
        usage
            .iter()
            .map(|it| (it.tally.spent.0, it.tally.held_worst.0))
            .collect()
    }

    fn sum(&self, of: fn(Stage) -> i128) -> i128 {
        self.calls.iter().map(|call| of(call.stage)).sum()
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.essence().hash(hasher);
    }
}

fn scopes() -> [Scope; 2] {
    [Scope::new(Kind::Key, "k"), Scope::new(Kind::Team, "t")]
}

fn need(legs: u8) -> Need {
    Need {
        worst: Some(PicoUsd(WORST * i128::from(legs))),
        expected: None,
        worst_tokens: Tokens(0),
        expected_tokens: Tokens(0),
        unknown_price: UnknownPrice::Block,
    }
}

fn ask(scopes: &[Scope], legs: u8, now: u64) -> Ask<'_> {
    Ask {
        scopes,
        need: need(legs),
        expires_at: Moment(now + EXPIRES_AFTER),
    }
}

fn empty_book(now: u64) -> Book {
    let limit = |kind: Kind, amount| Limit {
        id: kind.name().into(),
        kind,
        which: Which::Each,
        quota: Quota::Usd(PicoUsd(amount), Window::lifetime()),
        mode: Mode::Hard,
        then: Then::Refuse,
    };
    let mut book = Book::default();
    let limits = vec![limit(Kind::Key, KEY_CAP), limit(Kind::Team, TEAM_CAP)];
    book.set_limits(limits, Moment(now)).unwrap();
    book
}

/// A new process: what the ledger has is booked, and what was sent is held again.
fn restart(state: &mut State) {
    let scopes = scopes();
    let now = Moment(state.now);
    let mut book = empty_book(state.now);
    for call in &mut state.calls {
        call.stage = match call.stage {
            Stage::Held(_) | Stage::Lost(_) => Stage::Over,
            Stage::Sent(_, legs) | Stage::Orphan(_, legs) => {
                let ask = ask(&scopes, legs, now.0);
                call.expires_at = ask.expires_at.0;
                Stage::Orphan(book.restore_hold(&ask, Moment(call.at), now), legs)
            }
            Stage::Written(_, cost) | Stage::Done(cost) => {
                let past = Past {
                    scopes: &scopes,
                    at: Moment(call.at),
                    cost: PicoUsd(cost),
                    tokens: Tokens(0),
                    requests: 1,
                };
                book.restore([past], now);
                Stage::Done(cost)
            }
            stage @ (Stage::New | Stage::Refused | Stage::Over) => stage,
        };
    }
    state.book = book;
    state.crashes += 1;
}

struct Schedules {
    calls: usize,
}

impl Model for Schedules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let call = Call {
            stage: Stage::New,
            at: 0,
            expires_at: 0,
        };
        vec![State {
            book: empty_book(0),
            calls: vec![call; self.calls],
            now: 0,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let legs_cost = |legs: u8| WORST * i128::from(legs);
        for (index, call) in state.calls.iter().enumerate() {
            match call.stage {
                Stage::New => actions.push(Action::Reserve(index)),
                Stage::Held(_) => {
                    actions.extend([
                        Action::Lose(index),
                        Action::Release(index),
                        Action::Send(index),
                    ]);
                }
                Stage::Sent(_, legs) => {
                    let costs = [1, legs_cost(legs)];
                    actions.extend(costs.map(|cost| Action::Settle(index, cost)));
                    if legs < LEGS_MAX {
                        actions.push(Action::Raise(index));
                    }
                }
                Stage::Written(..) => actions.push(Action::Commit(index)),
                Stage::Orphan(..) => actions.push(Action::Recover(index)),
                Stage::Refused | Stage::Lost(_) | Stage::Done(_) | Stage::Over => {}
            }
        }
        // Expiry lies beyond the longest call and the recovery after a crash: only what was lost sees it.
        let outlived =
            |call: &Call| !call.stage.is_looked_after() || state.now + 1 < call.expires_at;
        if state.calls.iter().all(outlived) && state.now < TICKS_MAX {
            actions.push(Action::Tick);
        }
        if state.crashes < CRASHES_MAX {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = Moment(state.now);
        let State { book, calls, .. } = &mut state;
        match action {
            Action::Reserve(index) => {
                let scopes = scopes();
                let held = book.reserve(now, &ask(&scopes, 1, now.0));
                calls[index] = Call {
                    stage: held.map_or(Stage::Refused, |(hold, _)| Stage::Held(hold)),
                    at: now.0,
                    expires_at: now.0 + EXPIRES_AFTER,
                };
            }
            Action::Tick => {
                state.now += 1;
                state.book.expire(Moment(state.now));
                for call in &mut state.calls {
                    let expired = state.now >= call.expires_at;
                    if expired && matches!(call.stage, Stage::Lost(_)) {
                        call.stage = Stage::Over;
                    }
                }
            }
            Action::Crash => restart(&mut state),
            Action::Lose(index)
            | Action::Release(index)
            | Action::Send(index)
            | Action::Raise(index)
            | Action::Settle(index, _)
            | Action::Commit(index)
            | Action::Recover(index) => {
                let stage = calls[index].stage;
                calls[index].stage = step(book, now, stage, action)?;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the book stays within the caps", |_, state: &State| {
                let within = |((spent, held), cap): (&(i128, i128), i128)| spent + held <= cap;
                state.figures().iter().zip([KEY_CAP, TEAM_CAP]).all(within)
            }),
            Property::always("the truth stays within the caps", |_, state: &State| {
                state.sum(Stage::truth) <= KEY_CAP.min(TEAM_CAP)
            }),
            Property::always("all that was settled is booked", |_, state: &State| {
                let booked = state.sum(Stage::booked);
                state.figures().iter().all(|(spent, _)| *spent == booked)
            }),
            Property::always("no hold is left at rest", |_, state: &State| {
                let open = state.calls.iter().filter(|call| call.stage.holds());
                let open = open.count();
                let at_rest = state.figures().iter().all(|(_, held)| *held == 0);
                state.book.open_holds() == open && at_rest == (open == 0)
            }),
            Property::sometimes("a call is refused", |_, state: &State| {
                state.calls.iter().any(|call| call.stage == Stage::Refused)
            }),
            Property::sometimes("all calls are settled after a crash", |_, state: &State| {
                state.crashes > 0
                    && state
                        .calls
                        .iter()
                        .all(|call| matches!(call.stage, Stage::Done(_)))
            }),
        ]
    }
}

/// Moves one call on; none where the step changes nothing.
fn step(book: &mut Book, now: Moment, stage: Stage, action: Action) -> Option<Stage> {
    match (stage, action) {
        (Stage::Held(hold), Action::Lose(_)) => Some(Stage::Lost(hold)),
        (Stage::Held(hold), Action::Release(_)) => {
            book.release(now, hold);
            Some(Stage::Over)
        }
        (Stage::Held(hold), Action::Send(_)) => Some(Stage::Sent(hold, 1)),
        (Stage::Sent(hold, legs), Action::Raise(_)) => {
            let raised = book.raise(now, hold, &need(1), Moment(0));
            raised.ok().map(|_| Stage::Sent(hold, legs + 1))
        }
        (Stage::Sent(hold, _), Action::Settle(_, cost)) => Some(Stage::Written(hold, cost)),
        (Stage::Written(hold, cost), Action::Commit(_)) => {
            book.settle(now, hold, Some(PicoUsd(cost)), Tokens(0));
            Some(Stage::Done(cost))
        }
        (Stage::Orphan(hold, legs), Action::Recover(_)) => {
            // What it cost is not known: what was held is booked.
            book.settle(now, hold, None, Tokens(0));
            Some(Stage::Done(WORST * i128::from(legs)))
        }
        _ => None,
    }
}

#[test]
fn every_schedule_keeps_the_cap() {
    for calls in [2, 3] {
        let checker = Schedules { calls }.checker().spawn_bfs().join();
        checker.assert_properties();
        println!("{calls} calls: {} states", checker.unique_state_count());
        assert!(checker.unique_state_count() > 100, "the model moves");
    }
}
