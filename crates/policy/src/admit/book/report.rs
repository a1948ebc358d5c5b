//! What the counters say, for headers, reports and metrics.
//!
//! **Invariant**: a report is in the order of limits and payers, whatever the order of events (test
//! `reports_are_sorted_and_complete`).

use std::sync::Arc;

use super::Book;
use super::hold::{Entry, Of};
use crate::admit::limit::{Limit, Units};
use crate::admit::scope::Scope;
use crate::admit::tally::{Event, Notice, Tally};
use crate::admit::window::Span;
use crate::moment::Moment;

/// How far one limit is used by one payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Whose usage.
    pub scope: Scope,
    /// What is spent and held.
    pub tally: Tally,
    /// The window; its end is when the limit begins anew.
    pub window: Span,
}

impl Usage {
    /// What is neither spent nor held; nothing where the amount is exceeded.
    pub fn left(&self) -> Units {
        let used = self.tally.spent + self.tally.held(self.limit.mode);
        (self.limit.quota.amount() - used).max(Units(0))
    }

    /// Something to tell about the limit.
    pub fn notice(&self, event: Event) -> Notice {
        Notice {
            limit: Arc::clone(&self.limit.id),
            scope: self.scope.clone(),
            measure: self.limit.quota.measure(),
            event,
            amount: self.limit.quota.amount(),
            spent: self.tally.spent,
            window: self.window,
        }
    }

    /// The most by which the calls under way can still exceed the amount: nothing under a hard limit,
    /// as long as calls stay within their worst case.
    pub fn overshoot(&self) -> Units {
        self.tally.overshoot(self.limit.quota.amount())
    }
}

impl Book {
    /// How far the limits of a call with these scopes are used, also where nothing was used yet.
    pub fn usage(&mut self, scopes: &[Scope], now: Moment) -> Vec<Usage> {
        self.advance(now);
        let mut all = Vec::new();
        for entry in self.entries(scopes) {
            if let Some(scope) = scopes.get(entry.scope) {
                let counter = self.payers.find(scope).and_then(|party| party.find(&entry));
                let tally = counter.map(|it| it.tally).unwrap_or_default();
                self.read(scope, &entry, tally, &mut all);
            }
        }
        all
    }

    /// How far every limit is used by everyone, in windows that are not over; by limit and payer.
    /// Costs a walk over all counters.
    pub fn report(&mut self, now: Moment) -> Vec<Usage> {
        let now = self.advance(now);
        let mut all = Vec::new();
        for (scope, party) in self.payers.all() {
            for counter in party.counters().iter().filter(|it| !it.window.is_over(now)) {
                let entry = Entry {
                    scope: 0,
                    meter: counter.meter,
                    window: counter.window,
                };
                self.read(&scope, &entry, counter.tally, &mut all);
            }
        }
        all.sort_by(|one, two| {
            let key = |it: &Usage| (it.limit.id.clone(), it.scope.clone(), it.window);
            key(one).cmp(&key(two))
        });
        all
    }

    /// Calls that hold something.
    pub fn open_holds(&self) -> usize {
        let calls = self.holds.values().filter(|held| held.of == Of::Call);
        calls.count()
    }

    /// Payers that have a counter.
    pub fn payers(&self) -> usize {
        self.payers.all().count()
    }

    fn read(&self, scope: &Scope, entry: &Entry, tally: Tally, all: &mut Vec<Usage>) {
        let rules = self.meter(entry.meter).map(|meter| meter.rules(&scope.id));
        let limits = rules.into_iter().flat_map(super::meter::Rules::limits);
        all.extend(limits.map(|limit| Usage {
            limit: Arc::clone(limit),
            scope: scope.clone(),
            tally,
            window: entry.window,
        }));
    }
}
