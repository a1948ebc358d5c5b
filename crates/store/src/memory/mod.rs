//! The store in memory, for the demo, for replay and for tests: the same promises, until it is
//! dropped.
//!
//! **Invariant**: it passes the same conformance suite as the file (`tests/it/main.rs`).

mod keys;
mod outcomes;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::ports::outcomes::Outcome;
use policy::ports::read::{
    By, Calls, Filter, LedgerReader, Slice, Spending, SpendingAt, SpentBy, StoredCall, Totals,
    opening_of, recovery_of,
};
use policy::ports::{
    Acknowledge, AuditEntry, CallId, CallOpened, CallRaised, CallSettled, End, Fault, KeyRecord,
    Ledger, LedgerHealth, Stop,
};
use wire::usage::Tokens;

use crate::MINUTE_MS;
use crate::range::{self, Fit};

/// Calls and keys in memory. Every settling is committed when [`Ledger::settle`] returns.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were opened.
    calls: Vec<StoredCall>,
    places: HashMap<CallId, usize>,
    keys: Vec<KeyRecord>,
    key_changes: u64,
    /// Oldest first.
    audit: Vec<AuditEntry>,
    stops: Vec<(Stop, Moment)>,
    /// Oldest first.
    outcomes: Vec<Outcome>,
    health: LedgerHealth,
}

impl Memory {
    /// Closes every open call as a start after a crash would, and returns how many there were.
    pub fn recover(&self, now: Moment) -> u64 {
        let mut recovered = 0;
        for call in self
            .lock()
            .calls
            .iter_mut()
            .filter(|call| call.settled.is_none())
        {
            call.settled = Some(recovery_of(call.opened.call.clone(), now));
            recovered += 1;
        }
        recovered
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls that ended, or did not end, so and whose hold lasts beyond `now`.
    fn holding(
        &self,
        now: Moment,
        ended: impl Fn(Option<&CallSettled>) -> bool,
    ) -> Vec<CallOpened> {
        let is_wanted = |call: &&StoredCall| {
            ended(call.settled.as_ref()) && call.opened.held.is_some_and(|held| held.until > now)
        };
        let state = self.lock();
        let calls = state.calls.iter().filter(is_wanted);
        calls.map(|call| call.opened.clone()).collect()
    }

    /// The first admitted call at or after a place, and the place after it.
    fn next(&self, filter: &Filter, from: usize) -> Option<(StoredCall, usize)> {
        let state = self.lock();
        let rest = state.calls.iter().enumerate().skip(from);
        let (place, call) = { rest }.find(|(_, call)| filter.admits(&call.opened))?;
        Some((call.clone(), place + 1))
    }
}

impl State {
    /// The call's place, opened if it was not there.
    fn place(&mut self, opened: impl FnOnce() -> CallOpened, call: &CallId) -> usize {
        if let Some(place) = self.places.get(call) {
            return *place;
        }
        let place = self.calls.len();
        self.calls.push(StoredCall {
            opened: opened(),
            settled: None,
        });
        self.places.insert(call.clone(), place);
        place
    }
}

/// The part that a call belongs to, with nothing spent.
fn nothing_of(opened: &CallOpened) -> Spending {
    Spending {
        key: opened.key.clone(),
        session: opened.session.clone(),
        task: opened.task.clone(),
        model: opened.model.clone(),
        payers: opened.payers.clone(),
        at: opened.at,
        cost: PicoUsd::ZERO,
        tokens: Tokens(0),
        calls: 0,
    }
}

fn spend(part: &mut Spending, opened: &CallOpened, settled: &CallSettled) {
    let held = || opened.held.and_then(|held| held.usd);
    part.at = part.at.min(opened.at);
    part.cost += settled.cost.or_else(held).unwrap_or_default();
    for leg in &settled.legs {
        part.tokens += leg.usage.input() + leg.usage.output;
    }
    part.calls += 1;
}

impl Ledger for Memory {
    fn open(&self, mut call: CallOpened) {
        let fit = range::fit_opening(&mut call);
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        let (before, id) = (state.calls.len(), call.call.clone());
        state.place(|| call, &id);
        state.health.repeated += u64::from(state.calls.len() == before);
    }

    fn raise(&self, mut raised: CallRaised) {
        let fit = range::fit_held(&mut raised.held);
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        let place = state.places.get(&raised.call).copied();
        let call = place.and_then(|place| state.calls.get_mut(place));
        if let Some(call) = call.filter(|call| call.settled.is_none()) {
            call.opened.held = Some(raised.held);
            call.opened.target = Some(raised.target);
        }
    }

    fn settle(&self, mut settled: CallSettled, acknowledge: Acknowledge) {
        let fit = range::fit(&mut settled);
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        let place = state.place(|| opening_of(&settled), &settled.call);
        let open = state
            .calls
            .get_mut(place)
            .filter(|call| call.settled.is_none());
        if let Some(call) = open {
            call.settled = Some(settled);
            state.health.settled += 1;
            state.health.commits += 1;
        } else {
            state.health.repeated += 1;
        }
        drop(state);
        acknowledge();
    }

    fn health(&self) -> LedgerHealth {
        self.lock().health.clone()
    }
}

impl LedgerReader for Memory {
    fn call(&self, call: &CallId) -> Result<Option<StoredCall>, Fault> {
        let state = self.lock();
        Ok(state
            .places
            .get(call)
            .and_then(|place| state.calls.get(*place))
            .cloned())
    }

    fn latest(&self, count: u32) -> Result<Vec<StoredCall>, Fault> {
        Ok(self
            .lock()
            .calls
            .iter()
            .rev()
            .take(count as usize)
            .cloned()
            .collect())
    }

    fn totals(&self, filter: &Filter) -> Result<Totals, Fault> {
        let mut totals = Totals::default();
        let state = self.lock();
        for call in state
            .calls
            .iter()
            .filter(|call| filter.admits(&call.opened))
        {
            totals.count(call);
        }
        Ok(totals)
    }

    fn breakdown(&self, filter: &Filter, by: By) -> Result<Vec<Slice>, Fault> {
        let mut parts: BTreeMap<Option<String>, Totals> = BTreeMap::new();
        let state = self.lock();
        for call in state
            .calls
            .iter()
            .filter(|call| filter.admits(&call.opened))
        {
            parts.entry(by.label(&call.opened)).or_default().count(call);
        }
        Ok(parts
            .into_iter()
            .map(|(label, totals)| Slice { label, totals })
            .collect())
    }

    fn calls(&self, filter: &Filter) -> Calls<'_> {
        let filter = filter.clone();
        let mut from = 0;
        Box::new(std::iter::from_fn(move || {
            let (call, next) = self.next(&filter, from)?;
            from = next;
            Some(Ok(call))
        }))
    }

    fn spending(&self, of: &SpentBy, take: &mut dyn FnMut(Spending)) -> Result<(), Fault> {
        let state = self.lock();
        let mut parts = HashMap::new();
        for StoredCall { opened, settled } in &state.calls {
            let settled = settled.as_ref().filter(|it| it.end.counts());
            if let Some(settled) = settled.filter(|settled| of.admits(opened, settled)) {
                let call = (&opened.key, &opened.session, &opened.task, &opened.model);
                let part = (call, &opened.payers, opened.at.0 / MINUTE_MS);
                let part = parts.entry(part).or_insert_with(|| nothing_of(opened));
                spend(part, opened, settled);
            }
        }
        parts.into_values().for_each(take);
        Ok(())
    }

    fn spending_at(&self, of: &SpentBy, take: &mut dyn FnMut(SpendingAt)) -> Result<(), Fault> {
        let state = self.lock();
        let mut parts: BTreeMap<_, SpendingAt> = BTreeMap::new();
        for StoredCall { opened, settled } in &state.calls {
            let settled = settled.as_ref().filter(|it| it.end.counts());
            let Some(settled) = settled.filter(|settled| of.admits(opened, settled)) else {
                continue;
            };
            let held = opened.held.and_then(|held| held.usd);
            for leg in &settled.legs {
                let minute = opened.at.0 / MINUTE_MS;
                let part = (&opened.model, &leg.provider, &leg.model, minute);
                let part = parts.entry(part).or_insert_with(|| SpendingAt {
                    asked: opened.model.clone(),
                    provider: leg.provider.clone(),
                    model: leg.model.clone(),
                    at: opened.at,
                    cost: PicoUsd::ZERO,
                    tokens: Tokens(0),
                    legs: 0,
                });
                part.at = part.at.min(opened.at);
                part.cost += leg.cost.or(held).unwrap_or_default();
                part.tokens += leg.usage.input() + leg.usage.output;
                part.legs += 1;
            }
        }
        parts.into_values().for_each(take);
        Ok(())
    }

    fn cut_off(&self, now: Moment) -> Result<Vec<CallOpened>, Fault> {
        let is_recovered = |settled: &CallSettled| settled.end == End::Recovered;
        Ok(self.holding(now, |settled| settled.is_some_and(is_recovered)))
    }

    fn under_way(&self, now: Moment) -> Result<Vec<CallOpened>, Fault> {
        Ok(self.holding(now, |settled| settled.is_none()))
    }
}
