//! Payers and their counters.
//!
//! **Invariant**: a counter goes only when it can matter no more: nothing is held in it, and its window
//! is over or nothing was spent (test `idle_payers_are_forgotten`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Left;
use super::hold::Entry;
use super::meter::MeterId;
use crate::admit::limit::{Limit, Units};
use crate::admit::scope::{Kind, Scope};
use crate::admit::tally::{Event, MARKS, Notice, Tally, marks_reached};
use crate::admit::window::Span;
use crate::moment::Moment;

/// Set beside the number of marks once it was told that a limit would have refused.
const TOLD_REFUSAL: u8 = 0x80;

/// What one meter counted of one payer in one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    pub(super) meter: MeterId,
    pub(super) window: Span,
    pub(super) tally: Tally,
    /// Holds that are part of it.
    pub(super) open: u32,
    /// By mode of the limit: how many marks were told.
    told: [u8; 3],
}

impl Counter {
    /// Whether it can still decide anything.
    pub(super) fn matters(&self, now: Moment) -> bool {
        let used = self.tally.spent != Units(0) || self.window.end.is_some();
        self.open > 0 || (used && !self.window.is_over(now))
    }

    /// Tells the marks that were passed since they were last told.
    pub(super) fn tell_marks(&mut self, limit: &Limit, scope: &Scope, notices: &mut Vec<Notice>) {
        let reached = marks_reached(self.tally.spent, limit.quota.amount());
        let Some(told) = self.told.get_mut(limit.mode as usize) else {
            return;
        };
        let before = *told & !TOLD_REFUSAL;
        // An edit can also raise the amount: a mark that is ahead again is told again.
        *told = reached | (*told & TOLD_REFUSAL);
        let passed = MARKS.iter().take(reached.into()).skip(before.into());
        notices.extend(passed.map(|mark| self.notice(limit, scope, Event::Reached(*mark))));
    }

    /// Tells, once, that a limit would have refused.
    pub(super) fn tell_refusal(&mut self, limit: &Limit, scope: &Scope, notices: &mut Vec<Notice>) {
        let Some(told) = self.told.get_mut(limit.mode as usize) else {
            return;
        };
        if *told & TOLD_REFUSAL == 0 {
            *told |= TOLD_REFUSAL;
            notices.push(self.notice(limit, scope, Event::WouldRefuse));
        }
    }

    fn notice(&self, limit: &Limit, scope: &Scope, event: Event) -> Notice {
        Notice {
            limit: Arc::clone(&limit.id),
            scope: scope.clone(),
            measure: limit.quota.measure(),
            event,
            amount: limit.quota.amount(),
            spent: self.tally.spent,
            window: self.window,
        }
    }
}

/// The counters of one payer: few, and looked through in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Party(Vec<Counter>);

impl Party {
    pub(super) fn counters(&self) -> &[Counter] {
        &self.0
    }

    pub(super) fn find(&self, entry: &Entry) -> Option<&Counter> {
        self.place(entry).and_then(|place| self.0.get(place))
    }

    fn place(&self, entry: &Entry) -> Option<usize> {
        let same = |it: &Counter| it.meter == entry.meter && it.window.start == entry.window.start;
        self.0.iter().position(same)
    }
}

/// All payers, and when to look whether they can be forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Payers {
    /// By kind and id.
    parties: [HashMap<Arc<str>, Party>; Kind::ALL.len()],
    /// By the end of a window: who has a counter in it.
    due: BTreeMap<Moment, Vec<Scope>>,
}

impl Payers {
    pub(super) fn find(&self, scope: &Scope) -> Option<&Party> {
        self.parties.get(scope.kind.index())?.get(&scope.id)
    }

    pub(super) fn find_mut(&mut self, scope: &Scope, entry: &Entry) -> Option<&mut Counter> {
        let parties = self.parties.get_mut(scope.kind.index())?;
        let party = parties.get_mut(&scope.id)?;
        party.place(entry).and_then(|place| party.0.get_mut(place))
    }

    /// The counter of an entry, opened if it is not there.
    pub(super) fn open(&mut self, scope: &Scope, entry: &Entry) -> Option<&mut Counter> {
        let parties = self.parties.get_mut(scope.kind.index())?;
        if !parties.contains_key(&scope.id) {
            parties.insert(Arc::clone(&scope.id), Party::default());
        }
        let party = parties.get_mut(&scope.id)?;
        let place = if let Some(place) = party.place(entry) {
            place
        } else {
            if let Some(end) = entry.window.end {
                self.due.entry(end).or_default().push(scope.clone());
            }
            party.0.push(Counter {
                meter: entry.meter,
                window: entry.window,
                tally: Tally::default(),
                open: 0,
                told: [0; 3],
            });
            party.0.len() - 1
        };
        party.0.get_mut(place)
    }

    /// Every payer, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Scope, &Party)> {
        let kinds = Kind::ALL.into_iter().zip(&self.parties);
        kinds.flat_map(|(kind, parties)| {
            parties
                .iter()
                .map(move |(id, party)| (Scope::new(kind, Arc::clone(id)), party))
        })
    }

    /// Drops a payer's counters that matter no more, and the payer with the last of them.
    pub(super) fn tidy(&mut self, now: Moment, scope: &Scope) {
        let Some(parties) = self.parties.get_mut(scope.kind.index()) else {
            return;
        };
        if let Some(party) = parties.get_mut(&scope.id) {
            party.0.retain(|counter| counter.matters(now));
            if party.0.is_empty() {
                parties.remove(&scope.id);
            }
        }
    }

    /// Tidies up after windows that are over, `most` payers at a time.
    pub(super) fn tidy_due(&mut self, now: Moment, most: usize) -> Left {
        for _ in 0..most {
            let Some(mut first) = self.due.first_entry().filter(|it| *it.key() <= now) else {
                return Left::Nothing;
            };
            if let Some(scope) = first.get_mut().pop() {
                self.tidy(now, &scope);
            } else {
                first.remove();
            }
        }
        Left::Some
    }
}
