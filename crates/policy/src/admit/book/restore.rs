//! Filling a book from the ledger: at start, and when an edit begins to count what nobody counted.
//!
//! **Invariant**: a book that is restored from the rows of another one gives the same verdicts (model
//! check `every_schedule_keeps_the_cap`).

use wire::usage::Tokens;

use super::Book;
use super::hold::{Actual, Ask, Charges, Entry, Hold, HoldId, LegOf, Of};
use super::meter::{Gap, MeterId};
use crate::admit::limit::Units;
use crate::admit::scope::Scope;
use crate::admit::window::Span;
use crate::moment::Moment;
use crate::money::PicoUsd;

/// What settled calls used, as the ledger has it: one call, or a sum of calls with the same scopes
/// that were reserved within one minute.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What they were charged to.
    pub scopes: &'a [Scope],
    /// When they were reserved.
    pub at: Moment,
    /// What they cost; for a cost that stayed unknown, what was held.
    pub cost: PicoUsd,
    /// What they used, input and output.
    pub tokens: Tokens,
    /// How many calls.
    pub requests: u64,
}

impl Book {
    /// Books what settled before this book began. Windows that are over by `now` are left out.
    pub fn restore<'a>(&mut self, rows: impl IntoIterator<Item = Past<'a>>, now: Moment) {
        self.advance(now);
        for row in rows {
            for entry in self.entries_at(row.scopes, row.at) {
                self.book_past(&row, &entry);
            }
        }
    }

    /// Books what a gap misses, from rows that settled before the edit that opened it. Rows and
    /// payers that do not belong to the gap are left out.
    pub fn fill<'a>(&mut self, gap: &Gap, rows: impl IntoIterator<Item = Past<'a>>, now: Moment) {
        self.advance(now);
        for row in rows {
            for entry in self.entries_at(row.scopes, row.at) {
                let scope = row.scopes.get(entry.scope);
                let misses = scope.is_some_and(|it| gap.misses(it.kind, &it.id));
                if misses && entry.meter == gap.meter && entry.window == gap.window {
                    self.book_past(&row, &entry);
                }
            }
        }
    }

    /// Takes back the hold of a call that was under way, reserved at `at`: its outcome is not known,
    /// so its money stays held until it is settled, released or expires. Its expiry must lie beyond
    /// the recovery, not where the first process had put it: money that is let go before the call is
    /// settled may be given to another one, and then both are booked.
    pub fn restore_hold(&mut self, ask: &Ask<'_>, at: Moment, now: Moment) -> HoldId {
        self.restore_for(Of::Call, ask, at, now)
    }

    /// The same for its last leg, where that alone is charged.
    pub fn restore_leg_hold(&mut self, ask: &Ask<'_>, at: Moment, now: Moment) -> HoldId {
        self.restore_for(Of::Leg, ask, at, now)
    }

    fn restore_for(&mut self, of: Of, ask: &Ask<'_>, at: Moment, now: Moment) -> HoldId {
        self.advance(now);
        let hold = Hold {
            of,
            scopes: ask.scopes.into(),
            entries: self.entries_at(ask.scopes, at),
            charges: Charges::of(&ask.need, LegOf::NewCall),
            reserved_at: at,
            expires_at: ask.expires_at,
        };
        self.charge(&hold, &hold.entries);
        self.keep(hold)
    }

    /// The counters of a call that was reserved at `at`, as far as their windows are not over.
    fn entries_at(&self, scopes: &[Scope], at: Moment) -> Vec<Entry> {
        let mut entries = self.entries(scopes);
        entries.retain(|entry| entry.window.contains(at));
        entries
    }

    /// Books a row in one counter. Marks that it passed were told when it settled.
    fn book_past(&mut self, row: &Past<'_>, entry: &Entry) {
        let used = Actual::past(row.cost, row.tokens, row.requests);
        let Some((scope, meter)) = row
            .scopes
            .get(entry.scope)
            .zip(self.meters.get(entry.meter.index()))
        else {
            return;
        };
        let used = used.of_measure(meter.measure);
        if used == Units(0) {
            return;
        }
        if let Some(counter) = self.payers.open(scope, entry) {
            counter.tally.spent = counter.tally.spent + used;
            for limit in meter.rules(&scope.id).limits() {
                counter.tell_marks(limit, scope, &mut Vec::new());
            }
        }
    }

    /// Lets calls under way count where an edit began to; those whose hold has expired, once they
    /// settle.
    pub(super) fn join(&mut self, gaps: &[Gap]) {
        let mut holds = std::mem::take(&mut self.holds);
        for hold in holds.values_mut() {
            let added = self.added(hold, gaps);
            self.charge(hold, &added);
            hold.entries.extend(added);
        }
        self.holds = holds;
        let mut late = std::mem::take(&mut self.late);
        for hold in late.values_mut() {
            hold.entries.extend(self.added(hold, gaps));
        }
        self.late = late;
    }

    /// The counters that a hold gains.
    fn added(&self, hold: &Hold, gaps: &[Gap]) -> Vec<Entry> {
        let now = self.entries_at(&hold.scopes, hold.reserved_at);
        let gained = |entry: &Entry| {
            let scope = hold.scopes.get(entry.scope);
            let missed = |gap: &Gap| {
                gap.meter == entry.meter && scope.is_some_and(|it| gap.misses(it.kind, &it.id))
            };
            let there = |other: &Entry| same_counter(other, entry.scope, entry.meter, entry.window);
            gaps.iter().any(missed) && !hold.entries.iter().any(there)
        };
        now.into_iter().filter(gained).collect()
    }
}

fn same_counter(entry: &Entry, scope: usize, meter: MeterId, window: Span) -> bool {
    entry.scope == scope && entry.meter == meter && entry.window == window
}
