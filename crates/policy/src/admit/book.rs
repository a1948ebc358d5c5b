//! The book: who spent and holds how much, for one process.
//!
//! The caller keeps it behind a lock; each method is one atomic step. Time never runs backwards in
//! it: a moment before the latest one counts as the latest, so that a clock that is set back opens no
//! window twice.
//!
//! Memory: a counter goes when its window is over and nothing is held in it. Lifetime counters stay:
//! there are as many as ids were ever seen of a kind with such a limit, so names that clients make up
//! (users, sessions, tasks, tags) are better limited by windows. Meters are never dropped: there is
//! one for each kind, measure, period and time zone that limits ever named.
//!
//! **Invariant**: a call is held in all its counters or in none, and what it settles for is booked
//! once, in the windows in which it was reserved (property `hard_limits_hold_and_nothing_is_lost`).

pub mod hold;
pub mod meter;
mod party;
pub mod report;
pub mod restore;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use wire::usage::Tokens;

use crate::admit::book::hold::{Actual, Ask, Charges, Entry, Hold, HoldId, LegOf, Need, Of};
use crate::admit::book::meter::{Gap, Meter, MeterId};
use crate::admit::book::party::{Party, Payers};
use crate::admit::limit::{self, Limit, LimitError, Measure, Mode, Units};
use crate::admit::scope::{Kind, Scope};
use crate::admit::tally::{Notice, Price, Spent, Verdict, judge, refusal};
use crate::moment::Moment;
use crate::money::PicoUsd;

/// A day: an expired hold is remembered for as long, since no call lasts longer.
const LATE_MS: u64 = 86_400_000;

/// Expired holds that are remembered at most: some 1 kB each, if they are part of thirty counters.
const LATE_MAX: usize = 16_384;

/// Payers looked at in one step of tidying up, each for less than a microsecond: a call that waits for
/// the lock does not feel it.
const TIDY_MAX: usize = 64;

/// What happened that somebody should look at; counts start with the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Legs that asked without a known price.
    pub unpriced: u64,
    /// Calls whose cost stayed unknown; what was held for them was booked.
    pub unknown_costs: u64,
    /// Calls that cost more than was held for them.
    pub beyond_worst: u64,
    /// Holds that expired.
    pub expired: u64,
    /// Calls that settled after their hold had expired; they were booked.
    pub late: u64,
    /// Settlings of holds that are not, or no longer, there; they changed nothing.
    pub repeated: u64,
    /// Expired holds that were given up on: should they settle, only the ledger knows.
    pub forgotten: u64,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// In time.
    InTime,
    /// After it had expired; it was booked all the same.
    Late,
    /// It had ended before: nothing changed.
    Repeated,
}

/// What a step of tidying up leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// Nothing until the next window is over.
    Nothing,
    /// Payers that were not looked at yet.
    Some,
}

/// Why a hold was not raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRaised {
    /// A limit has no room. The hold is as it was.
    #[error(transparent)]
    Spent(Box<Spent>),
    /// The hold expired or ended: nothing may be sent on its account.
    #[error("the money held for this call was let go; start the call anew")]
    Gone,
}

/// Counters of all payers, holds of all calls under way, and the limits on them.
///
/// ```
/// use policy::admit::book::Book;
/// use policy::admit::book::hold::{Ask, Need};
/// use policy::admit::limit::{Limit, Mode, Quota, Then, Which};
/// use policy::admit::scope::{Kind, Scope};
/// use policy::admit::window::{Period, Window, Zone};
/// use policy::moment::Moment;
/// use wire::usage::Tokens;
///
/// let daily = Window::new(Period::Day, Zone::named("Europe/Berlin").unwrap());
/// let limit = Limit {
///     id: "default".into(),
///     kind: Kind::User,
///     which: Which::Each,
///     quota: Quota::Usd("5".parse().unwrap(), daily),
///     mode: Mode::Hard,
///     then: Then::Refuse,
/// };
/// let now = Moment(1_795_514_400_000);
/// let mut book = Book::default();
/// book.set_limits(vec![limit], now).unwrap();
///
/// let ann = [Scope::new(Kind::User, "ann")];
/// let ask = |worst: &str| Ask {
///     scopes: &ann,
///     need: Need { worst: worst.parse().ok(), ..Need::default() },
///     expires_at: now.after(600_000),
/// };
/// let (hold, _) = book.reserve(now, &ask("4")).unwrap();
/// assert!(book.reserve(now, &ask("2")).is_err());
/// book.settle(now, hold, "0.5".parse().ok(), Tokens(1_000));
/// assert!(book.reserve(now, &ask("2")).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Book {
    now: Moment,
    /// The first end of a meter's window.
    turns_at: Option<Moment>,
    meters: Vec<Meter>,
    /// By kind: the meters that count something.
    active: [Vec<MeterId>; Kind::ALL.len()],
    payers: Payers,
    holds: HashMap<HoldId, Hold>,
    expiries: BTreeSet<(Moment, HoldId)>,
    late: HashMap<HoldId, Hold>,
    late_order: VecDeque<(Moment, HoldId)>,
    next_hold: u64,
    counts: Counts,
}

impl Book {
    /// Replaces the limits. Usage stays: counters belong to what they count, not to an amount.
    ///
    /// Calls under way are counted by the new limits too. What was settled earlier in a window that
    /// nobody counted is missing: the gaps say what to [`Book::fill`] from the ledger.
    pub fn set_limits(&mut self, limits: Vec<Limit>, now: Moment) -> Result<Vec<Gap>, LimitError> {
        limit::check(&limits)?;
        let now = self.advance(now);
        self.meters.iter_mut().for_each(Meter::clear);
        for limit in limits.into_iter().map(Arc::new) {
            let found = self.meters.iter_mut().find(|it| it.counts_for(&limit));
            if let Some(meter) = found {
                meter.add(limit);
            } else {
                let mut meter = Meter::new(&limit, now);
                meter.add(limit);
                self.meters.push(meter);
            }
        }
        self.index();
        let meters = (0_u32..).map(MeterId).zip(&self.meters);
        let gaps: Vec<Gap> = meters.flat_map(|(id, meter)| meter.gaps(id)).collect();
        self.join(&gaps);
        Ok(gaps)
    }

    /// What happened that somebody should look at.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Holds what a call may use, in every counter of every scope; or nothing anywhere, if a limit
    /// has no room.
    ///
    /// Costs two hash lookups a scope and a few comparisons a counter; allocates the hold.
    pub fn reserve(
        &mut self,
        now: Moment,
        ask: &Ask<'_>,
    ) -> Result<(HoldId, Vec<Notice>), Box<Spent>> {
        self.count_unpriced(&Charges::of(&ask.need, LegOf::NewCall));
        self.reserve_for(Of::Call, now, ask)
    }

    /// Holds what one leg of a call may use where the leg alone is charged, beside the hold of its
    /// call: at the names of its target. It counts as one request, and raises no alarm.
    pub fn reserve_leg(
        &mut self,
        now: Moment,
        ask: &Ask<'_>,
    ) -> Result<(HoldId, Vec<Notice>), Box<Spent>> {
        self.reserve_for(Of::Leg, now, ask)
    }

    fn reserve_for(
        &mut self,
        of: Of,
        now: Moment,
        ask: &Ask<'_>,
    ) -> Result<(HoldId, Vec<Notice>), Box<Spent>> {
        let now = self.advance(now);
        let charges = Charges::of(&ask.need, LegOf::NewCall);
        let entries = self.entries(ask.scopes);
        let observed = self.judge(ask.scopes, &entries, &charges)?;
        let hold = Hold {
            of,
            scopes: ask.scopes.into(),
            entries,
            charges,
            reserved_at: now,
            expires_at: ask.expires_at,
        };
        self.charge(&hold, &hold.entries);
        let notices = self.tell_refusals(&hold, &observed);
        Ok((self.keep(hold), notices))
    }

    /// Holds more for a further leg of the same call, in the windows in which it was reserved.
    pub fn raise(
        &mut self,
        now: Moment,
        hold: HoldId,
        more: &Need,
        expires_at: Moment,
    ) -> Result<Vec<Notice>, NotRaised> {
        self.advance(now);
        let more = Charges::of(more, LegOf::CallUnderWay);
        self.count_unpriced(&more);
        let Some(mut held) = self.holds.remove(&hold) else {
            return Err(NotRaised::Gone);
        };
        let verdict = self.judge(&held.scopes, &held.entries, &more);
        if verdict.is_ok() {
            for (scope, entry) in held.parts() {
                let charge = *more.of_measure(self.measure(entry.meter));
                if let Some(counter) = self.payers.open(scope, entry) {
                    counter.tally.hold(charge);
                }
            }
            held.charges = held.charges.with(&more);
            self.expiries.remove(&(held.expires_at, hold));
            held.expires_at = held.expires_at.max(expires_at);
            self.expiries.insert((held.expires_at, hold));
        }
        let notices = verdict.map(|observed| self.tell_refusals(&held, &observed));
        self.holds.insert(hold, held);
        notices.map_err(NotRaised::Spent)
    }

    /// Replaces a hold by what the call used, in the windows in which it was reserved, once.
    ///
    /// Call it once the ledger has the call: money that the book gives back may be held by another
    /// call at once, and after a crash the ledger must not find both of them open.
    ///
    /// A cost that stays unknown is booked as what was held for it. A hold that has expired is booked
    /// and counted; one that has ended before is only counted.
    pub fn settle(
        &mut self,
        now: Moment,
        hold: HoldId,
        cost: Option<PicoUsd>,
        tokens: Tokens,
    ) -> (Ended, Vec<Notice>) {
        let now = self.advance(now);
        let (ended, Some(held)) = self.take(hold) else {
            return (Ended::Repeated, Vec::new());
        };
        let worst = held.charges.of_measure(Measure::Usd).worst;
        match (held.of, cost) {
            (Of::Call, None) => self.counts.unknown_costs += 1,
            (Of::Call, Some(cost)) if Units::from(cost) > worst => self.counts.beyond_worst += 1,
            (Of::Call, Some(_)) | (Of::Leg, _) => {}
        }
        let used = Actual::of(cost, tokens, &held.charges);
        (ended, self.close(now, &held, ended, &used))
    }

    /// Lets a hold go of which nothing was used.
    pub fn release(&mut self, now: Moment, hold: HoldId) -> Ended {
        let now = self.advance(now);
        let (ended, Some(held)) = self.take(hold) else {
            return Ended::Repeated;
        };
        self.close(now, &held, ended, &Actual::NOTHING);
        ended
    }

    /// Lets the holds go that have expired by now, and drops counters that matter no more, some at a
    /// time. Call it each second or so, and again, after others had the lock, while some are left.
    pub fn expire(&mut self, now: Moment) -> Left {
        let now = self.advance(now);
        self.payers.tidy_due(now, TIDY_MAX)
    }

    /// Moves to this moment, or stays at a later one; lets expired holds go.
    fn advance(&mut self, now: Moment) -> Moment {
        self.now = self.now.max(now);
        let now = self.now;
        if self.turns_at.is_some_and(|end| end <= now) {
            self.meters.iter_mut().for_each(|meter| meter.advance(now));
            self.index();
        }
        while let Some((at, hold)) = self.expiries.first().copied()
            && at <= now
        {
            self.expiries.pop_first();
            if let Some(held) = self.holds.remove(&hold) {
                self.counts.expired += u64::from(held.of == Of::Call);
                self.close(now, &held, Ended::InTime, &Actual::NOTHING);
                self.late.insert(hold, held);
                self.late_order.push_back((now, hold));
            }
        }
        while let Some((since, hold)) = self.late_order.front().copied()
            && (now.since(since) >= LATE_MS || self.late_order.len() > LATE_MAX)
        {
            self.late_order.pop_front();
            let forgotten = self.late.remove(&hold);
            let is_call = forgotten.is_some_and(|held| held.of == Of::Call);
            self.counts.forgotten += u64::from(is_call);
        }
        now
    }

    /// Works out which meters count and when the first window ends.
    fn index(&mut self) {
        for kind in Kind::ALL {
            if let Some(active) = self.active.get_mut(kind.index()) {
                active.clear();
                let meters = (0_u32..).map(MeterId).zip(&self.meters);
                let counting = meters.filter(|(_, it)| it.kind == kind && !it.is_idle());
                active.extend(counting.map(|(id, _)| id));
            }
        }
        self.turns_at = self.meters.iter().filter_map(|it| it.span.end).min();
    }

    fn count_unpriced(&mut self, charges: &Charges) {
        let known = charges.of_measure(Measure::Usd).price == Price::Known;
        self.counts.unpriced += u64::from(!known);
    }

    /// Every counter that a call with these scopes belongs to now.
    fn entries(&self, scopes: &[Scope]) -> Vec<Entry> {
        let meters = scopes.iter().map(|it| self.active_of(it.kind).len()).sum();
        let mut entries = Vec::with_capacity(meters);
        for (index, scope) in scopes.iter().enumerate() {
            if scopes.iter().take(index).any(|earlier| earlier == scope) {
                continue;
            }
            for id in self.active_of(scope.kind) {
                if let Some(meter) = self.meter(*id).filter(|it| it.counts(&scope.id)) {
                    entries.push(Entry {
                        scope: index,
                        meter: *id,
                        window: meter.span,
                    });
                }
            }
        }
        entries
    }

    /// Judges a charge in every counter: the limits that only observe and would have refused, or the
    /// refusal that is hardest to get around.
    fn judge(
        &self,
        scopes: &[Scope],
        entries: &[Entry],
        charges: &Charges,
    ) -> Result<Vec<(usize, Arc<Limit>)>, Box<Spent>> {
        let mut observed = Vec::new();
        let mut refused: Option<Box<Spent>> = None;
        let mut payer: Option<(usize, Option<&Party>)> = None;
        for (place, entry) in entries.iter().enumerate() {
            let (Some(scope), Some(meter)) = (scopes.get(entry.scope), self.meter(entry.meter))
            else {
                continue;
            };
            let party = match payer {
                Some((index, party)) if index == entry.scope => party,
                _ => self.payers.find(scope),
            };
            payer = Some((entry.scope, party));
            let counter = party.and_then(|it| it.find(entry));
            let tally = counter.map(|it| it.tally).unwrap_or_default();
            let charge = charges.of_measure(meter.measure);
            for limit in meter.rules(&scope.id).limits() {
                let amount = limit.quota.amount();
                let Verdict::Full(relief) = judge(limit.mode, amount, &tally, charge) else {
                    continue;
                };
                if limit.mode == Mode::Observe {
                    observed.push((place, Arc::clone(limit)));
                    continue;
                }
                let spent = refusal(limit, scope, (&tally, entry.window), charge, relief);
                refused = Some(Box::new(match refused {
                    Some(other) => other.worse(spent),
                    None => spent,
                }));
            }
        }
        refused.map_or(Ok(observed), Err)
    }

    /// Holds a call's charges in these counters, which are opened if need be.
    fn charge(&mut self, hold: &Hold, entries: &[Entry]) {
        for entry in entries {
            let charge = *hold.charges.of_measure(self.measure(entry.meter));
            if let Some(scope) = hold.scopes.get(entry.scope)
                && let Some(counter) = self.payers.open(scope, entry)
            {
                counter.tally.hold(charge);
                counter.open += 1;
            }
        }
    }

    /// Keeps a hold that is charged.
    fn keep(&mut self, hold: Hold) -> HoldId {
        let id = HoldId(self.next_hold);
        self.next_hold += 1;
        self.expiries.insert((hold.expires_at, id));
        self.holds.insert(id, hold);
        id
    }

    /// Takes a hold off the books, expired or not.
    fn take(&mut self, hold: HoldId) -> (Ended, Option<Hold>) {
        if let Some(held) = self.holds.remove(&hold) {
            self.expiries.remove(&(held.expires_at, hold));
            return (Ended::InTime, Some(held));
        }
        if let Some(held) = self.late.remove(&hold) {
            self.counts.late += u64::from(held.of == Of::Call);
            return (Ended::Late, Some(held));
        }
        self.counts.repeated += 1;
        (Ended::Repeated, None)
    }

    /// Lets a hold go in its counters, if it is still in them, and books what was used.
    fn close(&mut self, now: Moment, held: &Hold, ended: Ended, used: &Actual) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (scope, entry) in held.parts() {
            let Some(meter) = self.meters.get(entry.meter.index()) else {
                continue;
            };
            let used = used.of_measure(meter.measure);
            let counter = if used == Units(0) || entry.window.is_over(now) {
                // Nothing is opened for nothing, or for a window that no verdict reads again.
                self.payers.find_mut(scope, entry)
            } else {
                self.payers.open(scope, entry)
            };
            let Some(counter) = counter else { continue };
            // An expired hold is in its counters no more.
            if ended == Ended::InTime {
                counter
                    .tally
                    .let_go(*held.charges.of_measure(meter.measure));
                counter.open = counter.open.saturating_sub(1);
            }
            counter.tally.spent = counter.tally.spent + used;
            for limit in meter.rules(&scope.id).limits() {
                counter.tell_marks(limit, scope, &mut notices);
            }
            if !counter.matters(now) {
                self.payers.tidy(now, scope);
            }
        }
        notices
    }

    /// Tells of the limits that would have refused a hold, had they been meant.
    fn tell_refusals(&mut self, held: &Hold, observed: &[(usize, Arc<Limit>)]) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (place, limit) in observed {
            if let Some(entry) = held.entries.get(*place)
                && let Some(scope) = held.scopes.get(entry.scope)
                && let Some(counter) = self.payers.open(scope, entry)
            {
                counter.tell_refusal(limit, scope, &mut notices);
            }
        }
        notices
    }

    fn meter(&self, id: MeterId) -> Option<&Meter> {
        self.meters.get(id.index())
    }

    fn measure(&self, id: MeterId) -> Measure {
        self.meter(id).map_or(Measure::Usd, |meter| meter.measure)
    }

    fn active_of(&self, kind: Kind) -> &[MeterId] {
        self.active.get(kind.index()).map_or(&[], Vec::as_slice)
    }
}
