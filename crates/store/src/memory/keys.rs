//! Keys in memory, and who changed them.
//!
//! **Invariant**: every change of a key raises the version (store conformance,
//! `key_changes_are_noticed`).

use policy::moment::Moment;
use policy::ports::{AuditEntry, Fault, KeyRecord, Keys, Payers, Previous, Stop};

use super::{Memory, State};
use crate::error::StoreError;

impl Memory {
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
    /// The key with this hash, be it the secret's or the previous one's.
    fn key(&self, hash: &[u8; 32]) -> Option<&KeyRecord> {
        let has = |key: &&KeyRecord| hashes(key).any(|known| known == *hash);
        self.keys.iter().find(has)
    }
}

/// The hashes of a key's secrets.
fn hashes(key: &KeyRecord) -> impl Iterator<Item = [u8; 32]> {
    let previous = key.previous.map(|previous| previous.hash);
    [key.hash].into_iter().chain(previous)
}

impl Keys for Memory {
    fn create(&self, key: &KeyRecord) -> Result<(), Fault> {
        let mut state = self.lock();
        let same_id = state.keys.iter().any(|known| known.id == key.id);
        if same_id || hashes(key).any(|hash| state.key(&hash).is_some()) {
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
        Ok(self.lock().key(hash).cloned())
    }

    fn disable(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| key.disabled_at = key.disabled_at.or(Some(at))))
    }

    fn enable(&self, id: &str) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| key.disabled_at = None))
    }

    fn expire(&self, id: &str, at: Moment) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| key.expires_at = Some(at)))
    }

    fn rotate(&self, id: &str, hash: &[u8; 32], until: Moment) -> Result<Option<KeyRecord>, Fault> {
        let mut state = self.lock();
        let taken = state.key(hash).is_some();
        let Some(key) = state.keys.iter_mut().find(|key| key.id == id) else {
            return Ok(None);
        };
        if taken {
            return Err(StoreError::SecretTaken { id: id.to_owned() }.into());
        }
        let replaced = std::mem::replace(&mut key.hash, *hash);
        key.previous = Some(Previous {
            hash: replaced,
            until,
        });
        let key = key.clone();
        state.key_changes += 1;
        Ok(Some(key))
    }

    fn assign(
        &self,
        id: &str,
        payers: &Payers,
        models: &[String],
    ) -> Result<Option<KeyRecord>, Fault> {
        Ok(self.change_key(id, |key| {
            key.payers = payers.clone();
            key.models = models.to_vec();
        }))
    }

    fn audit(&self, entry: &AuditEntry) -> Result<(), Fault> {
        self.lock().audit.push(entry.clone());
        Ok(())
    }

    fn audits(&self, count: u32) -> Result<Vec<AuditEntry>, Fault> {
        let state = self.lock();
        let latest = state.audit.iter().rev().take(count as usize);
        Ok(latest.cloned().collect())
    }

    fn stop(&self, what: &Stop, at: Moment) -> Result<bool, Fault> {
        let mut state = self.lock();
        let is_new = state.stops.iter().all(|(stopped, _)| stopped != what);
        if is_new {
            state.stops.push((what.clone(), at));
            state.key_changes += 1;
        }
        Ok(is_new)
    }

    fn resume(&self, what: &Stop) -> Result<bool, Fault> {
        let mut state = self.lock();
        let before = state.stops.len();
        state.stops.retain(|(stopped, _)| stopped != what);
        let was_stopped = state.stops.len() < before;
        state.key_changes += u64::from(was_stopped);
        Ok(was_stopped)
    }

    fn stops(&self) -> Result<Vec<(Stop, Moment)>, Fault> {
        Ok(self.lock().stops.clone())
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
