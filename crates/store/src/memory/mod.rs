//! The store in memory, for the demo, for replay and for tests: the same promises, until it is
//! dropped.
//!
//! **Invariant**: it passes the same conformance suite as the file (`tests/it/memory.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::moment::Moment;
use policy::ports::read::{
    By, Calls, Filter, LedgerReader, Slice, StoredCall, Totals, opening_of, recovery_of,
};
use policy::ports::{
    Acknowledge, CallId, CallOpened, CallSettled, Fault, KeyRecord, Keys, Ledger, LedgerHealth,
};

use crate::error::StoreError;
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

    /// The first admitted call at or after a place, and the place after it.
    fn next(&self, filter: &Filter, from: usize) -> Option<(StoredCall, usize)> {
        let state = self.lock();
        let rest = state.calls.iter().enumerate().skip(from);
        let (place, call) = { rest }.find(|(_, call)| filter.admits(&call.opened))?;
        Some((call.clone(), place + 1))
    }

    fn change_key(&self, id: &str, change: impl FnOnce(&mut KeyRecord)) -> Option<KeyRecord> {
        let mut state = self.lock();
        let key = state.keys.iter_mut().find(|key| key.id == id)?;
        change(key);
        let key = key.clone();
        state.key_changes += 1;
        Some(key)
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

impl Ledger for Memory {
    fn open(&self, call: CallOpened) {
        let mut state = self.lock();
        let (before, id) = (state.calls.len(), call.call.clone());
        state.place(|| call, &id);
        state.health.repeated += u64::from(state.calls.len() == before);
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
}

impl Keys for Memory {
    fn create(&self, key: &KeyRecord) -> Result<(), Fault> {
        let mut state = self.lock();
        if state
            .keys
            .iter()
            .any(|known| known.id == key.id || known.hash == key.hash)
        {
            return Err(StoreError::KeyExists { id: key.id.clone() }.into());
        }
        state.keys.push(key.clone());
        state.key_changes += 1;
        Ok(())
    }

    fn list(&self) -> Result<Vec<KeyRecord>, Fault> {
        let mut keys = self.lock().keys.clone();
        keys.sort_by(|left, right| (left.created_at, &left.id).cmp(&(right.created_at, &right.id)));
        Ok(keys)
    }

    fn find(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, Fault> {
        Ok(self
            .lock()
            .keys
            .iter()
            .find(|key| key.hash == *hash)
            .cloned())
    }

    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| key.disabled_at = key.disabled_at.or(Some(at))))
    }

    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| key.expires_at = Some(at)))
    }

    fn active(&self, now: Moment) -> Result<Vec<KeyRecord>, Fault> {
        let mut keys = self.list()?;
        keys.retain(|key| key.is_active(now));
        Ok(keys)
    }

    fn version(&self) -> Result<u64, Fault> {
        Ok(self.lock().key_changes)
    }
}
