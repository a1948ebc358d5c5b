//! Admit: money and limits of the calls under way, and what of them a restart must know.
//!
//! **Invariant**: what was held is settled or released exactly once, with the call's receipt
//! (test `hard_budgets_are_never_exceeded`).

pub mod holds;
pub mod payers;
pub mod seen;
pub mod stops;
pub mod told;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::admit::book::Book;
use policy::admit::book::hold::{Ask, HoldId, Need, UnknownPrice};
use policy::admit::book::meter::Gap;
use policy::admit::book::report::Usage;
use policy::admit::book::restore::Past;
use policy::admit::degrade::{self, Due};
use policy::admit::limit::LimitId;
use policy::admit::scope::Scope;
use policy::admit::tally::{Notice, Spent};
use policy::moment::Moment;
use policy::ports::read::{Spending, SpendingAt, SpentBy};
use policy::ports::{CallId, CallOpened, Held, Leg};
use policy::refusal::Refusal;

use crate::admit::payers::{all, at_target, at_target_of_spending, scopes, scopes_of_spending};
use crate::admit::seen::Seen;
use crate::metrics::BudgetCounters;
use crate::setup::Budgets;

/// A day: no call lasts longer. Every receipt gives its hold back when it ends, so that this is for
/// receipts that are lost, which none should be.
const HOLD_MS: u64 = 86_400_000;

/// An hour: what becomes of a call that a crash cuts off is decided by then, and nobody will tell.
const UNSURE_MS: u64 = 3_600_000;

/// 10 min after a restart: whatever a cut-off call was billed, nobody will ever tell us more.
const RESTORED_HOLD_MS: u64 = 600_000;

/// Who holds and has spent what.
#[derive(Debug, Default)]
pub struct Accounts {
    kept: Mutex<Kept>,
    /// Whether there is any limit: without one, nothing is counted.
    limited: AtomicBool,
    seen: Mutex<Seen>,
    counters: BudgetCounters,
}

/// The book, and which call each of its holds belongs to.
#[derive(Debug, Default)]
struct Kept {
    book: Book,
    calls: HashMap<HoldId, CallId>,
}

/// Usage that limits begin to count with an edit, and that only the ledger knows.
#[derive(Debug, Default)]
pub struct Gaps {
    counters: Vec<Gap>,
    /// When the edit was made.
    at: Moment,
    /// The calls that were under way then: they are counted from then on.
    under_way: Vec<CallId>,
}

impl Gaps {
    /// The calls that are missing: those that were over when the edit was made. None if nothing is.
    pub fn missing(&self) -> Option<SpentBy> {
        let since = self.counters.iter().map(|gap| gap.window.start).min()?;
        Some(SpentBy {
            since,
            settled_by: Some(self.at),
            except: self.under_way.clone(),
        })
    }
}

impl Accounts {
    /// Accounts that count what happens here.
    pub fn counting(counters: BudgetCounters) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// Takes the limits of a setup, which has checked them; usage stays. What limits count from now
    /// on and nobody counted before is to be read from the ledger ([`Gaps::missing`]) and given to
    /// [`Accounts::fill`].
    pub fn set(&self, budgets: &Budgets, now: Moment) -> Gaps {
        let limits = budgets.limits.clone();
        let limited = !limits.is_empty();
        let mut kept = self.lock();
        let gaps = match kept.book.set_limits(limits, now) {
            Ok(gaps) => gaps,
            Err(error) => {
                tracing::error!(%error, "the limits contradict each other; those before stay");
                return Gaps::default();
            }
        };
        self.limited.store(limited, Ordering::Release);
        Gaps {
            under_way: kept.calls.values().cloned().collect(),
            counters: gaps,
            at: now,
        }
    }

    /// Takes in a part of what an edit made to count.
    pub fn fill(&self, gaps: &Gaps, sum: Sum<'_>, now: Moment) {
        let scopes = sum.scopes();
        let mut kept = self.lock();
        for gap in &gaps.counters {
            kept.book.fill(gap, [sum.past(&scopes)], now);
        }
    }

    /// Takes in a part of what the ledger knows to be spent.
    pub fn restore(&self, sum: Sum<'_>, now: Moment) {
        let scopes = sum.scopes();
        self.lock().book.restore([sum.past(&scopes)], now);
    }

    /// Takes in what may have been spent besides: what calls hold that nobody has settled.
    pub fn restore_holds(&self, cut_off: &[CallOpened], now: Moment) {
        let mut kept = self.lock();
        let book = &mut kept.book;
        for opened in cut_off {
            let Some(held) = opened.held else { continue };
            let need = Need {
                worst: held.usd,
                worst_tokens: held.tokens,
                expected_tokens: held.tokens,
                unknown_price: UnknownPrice::Allow,
                ..Need::default()
            };
            let scopes = scopes(opened);
            let ask = Ask {
                scopes: &scopes,
                need,
                expires_at: now.after(RESTORED_HOLD_MS),
            };
            book.restore_hold(&ask, opened.at, now);
            // Which leg took how much nobody knows: all of it may be the last one's.
            let scopes = at_target(opened);
            let ask = Ask {
                scopes: &scopes,
                ..ask
            };
            book.restore_leg_hold(&ask, opened.at, now);
        }
    }

    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    /// The same need with what calls to this target lately used in place of the worst, once enough
    /// were seen.
    pub fn expecting(&self, need: Need, provider: &str, model: &str) -> Need {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.q99(provider, model) {
            Some(used) => Need {
                expected: Some(used.usd),
                expected_tokens: used.tokens,
                ..need
            },
            None => need,
        }
    }

    /// Learns what a leg used.
    pub fn saw(&self, leg: &Leg) {
        if self.is_limited() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.saw(leg);
        }
    }

    /// What the limits of a call want done to it before it asks for its money.
    pub fn due(&self, opened: &CallOpened, now: Moment) -> Option<Due> {
        degrade::due(self.lock().book.usage(&all(opened), now))
    }

    /// The first of these limits by which a call's agent should finish.
    pub fn ending(
        &self,
        opened: &CallOpened,
        now: Moment,
        wanted: &BTreeSet<LimitId>,
    ) -> Option<Usage> {
        let usages = self.lock().book.usage(&all(opened), now);
        degrade::ending(usages, |id| wanted.contains(id))
    }

    /// Counts what limits told.
    pub fn told(&self, notices: &[Notice]) {
        self.counters.told(notices);
    }

    /// Lets go what has expired, and forgets what matters no more. Every call does the same; this is
    /// for times without any.
    pub fn expire(&self, now: Moment) {
        if self.is_limited() {
            self.step(now, |_| ());
        }
    }

    /// How far every limit is used.
    pub fn report(&self, now: Moment) -> Vec<Usage> {
        self.lock().book.report(now)
    }

    /// What the limits of a call say of themselves, each that is half used or more.
    pub fn standing(&self, opened: &CallOpened, now: Moment) -> Vec<String> {
        let usage = self.lock().book.usage(&all(opened), now);
        usage.iter().filter_map(told::standing).collect()
    }

    /// Calls that hold something.
    pub fn open_holds(&self) -> usize {
        self.lock().book.open_holds()
    }

    /// One step of the book. What expired or is over by then goes first, a little each time.
    fn step<R>(&self, now: Moment, decide: impl FnOnce(&mut Kept) -> R) -> R {
        let mut kept = self.lock();
        let before = kept.book.counts();
        kept.book.expire(now);
        let result = decide(&mut kept);
        let after = kept.book.counts();
        drop(kept);
        if before != after {
            self.counters.alarmed(&before, &after);
        }
        result
    }

    /// The refusal of a call for which a limit has no room, and nothing lesser either.
    pub fn refuse(&self, spent: &Spent, now: Moment) -> Refusal {
        self.counters.refused(spent);
        told::refused(spent, now)
    }

    /// A panic elsewhere leaves the book between two steps, each of which is whole.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the ledger keeps of a hold, for a process that has to start without this one's memory.
pub const fn held(need: &Need, now: Moment) -> Held {
    Held {
        usd: need.most(),
        tokens: need.worst_tokens,
        until: now.after(UNSURE_MS),
    }
}

/// A part of what settled calls used, as the ledger sums it.
#[derive(Clone, Copy, Debug)]
pub enum Sum<'a> {
    /// By calls with the same payers.
    Calls(&'a Spending),
    /// By legs to the same target.
    Legs(&'a SpendingAt),
}

impl Sum<'_> {
    fn scopes(self) -> Vec<Scope> {
        match self {
            Self::Calls(spent) => scopes_of_spending(spent),
            Self::Legs(spent) => at_target_of_spending(spent),
        }
    }

    fn past(self, scopes: &[Scope]) -> Past<'_> {
        let (at, cost, tokens, requests) = match self {
            Self::Calls(spent) => (spent.at, spent.cost, spent.tokens, spent.calls),
            Self::Legs(spent) => (spent.at, spent.cost, spent.tokens, spent.legs),
        };
        Past {
            scopes,
            at,
            cost,
            tokens,
            requests,
        }
    }
}
