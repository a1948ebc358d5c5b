//! A map that forgets what nobody asked for lately.
//!
//! **Invariant**: it never holds more than two generations, and what was put in last stays (test
//! `the_latest_stay`).

use foldhash::HashMap;

/// 65 536 conversations in a generation: some 3 MB for small values; those that went on lately, and
/// at most as many before them.
pub const CONVERSATIONS_MAX: usize = 65_536;

/// Values by the number of a conversation.
#[derive(Clone, Debug)]
pub struct Lately<V> {
    most: usize,
    now: HashMap<u64, V>,
    before: HashMap<u64, V>,
}

impl<V: Clone> Lately<V> {
    /// A map with at most so many entries in each of its two generations.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            now: HashMap::default(),
            before: HashMap::default(),
        }
    }

    /// Remembers a value.
    pub fn put(&mut self, conversation: u64, value: V) {
        if self.now.len() >= self.most && !self.now.contains_key(&conversation) {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(conversation, value);
    }

    /// The value, if it is still remembered.
    pub fn get(&self, conversation: u64) -> Option<V> {
        self.peek(conversation).cloned()
    }

    /// The same, to look at.
    pub fn peek(&self, conversation: u64) -> Option<&V> {
        let found = self.now.get(&conversation);
        found.or_else(|| self.before.get(&conversation))
    }
}

impl<V: Clone> Default for Lately<V> {
    fn default() -> Self {
        Self::new(CONVERSATIONS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Lately;

    #[test]
    fn the_latest_stay() {
        let most = 100;
        let mut lately = Lately::new(most);
        for conversation in 0..3 * most as u64 {
            lately.put(conversation, 1);
            lately.put(7, 2);
        }
        assert!(lately.now.len() <= most && lately.before.len() <= most);
        assert_eq!(lately.get(7), Some(2));
        assert_eq!(lately.get(3 * most as u64 - 1), Some(1));
        assert_eq!(lately.get(8), None);
    }
}
