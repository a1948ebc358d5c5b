//! A map that holds what was used lately and forgets the rest, in constant time.
//!
//! **Invariant**: never more than `limit` entries, and an entry used within the last `limit / 2`
//! insertions is still there (test `keeps_the_recent_half`).

use std::hash::Hash;

use foldhash::HashMap;

/// Two generations: when the young one is full it becomes the old one, and the old one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            half: (limit / 2).max(1),
        }
    }

    /// Looks without counting as a use.
    pub(crate) fn peek(&self, key: K) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Looks, and keeps what was found for another generation.
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key)?;
            self.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    /// The entry, made if it is not there.
    pub(crate) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(make);
            self.insert(key, value);
        }
        self.young
            .get_mut(&key)
            .expect("it was found or inserted just above")
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.young.remove(&key).or_else(|| self.old.remove(&key))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn keeps_the_recent_half() {
        let mut recent = Recent::new(8);
        for key in 0..100_u32 {
            recent.insert(key, key);
            assert!(recent.len() <= 8);
            assert_eq!(
                recent.peek(key.saturating_sub(3)),
                Some(&key.saturating_sub(3))
            );
            assert!(recent.get_mut(0).is_some(), "used every time");
        }
        assert_eq!(recent.peek(50), None);
    }
}
