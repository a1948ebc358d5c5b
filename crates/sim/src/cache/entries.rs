//! What a cache holds: prefixes with the time from which and until which they can be read.
//!
//! **Invariant**: expired entries are swept, so that memory follows the traffic of one lifetime
//! (test `expired_entries_are_swept`).

use foldhash::HashMap;
use policy::moment::Moment;
use wire::prompt::Chain;

/// Insertions between two sweeps: rare enough to cost nothing, often enough to stay small.
const SWEEP_EVERY: u32 = 65_536;

/// One prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// From when on it can be read.
    pub(super) ready: Moment,
    /// Until when it can be read.
    pub(super) until: Moment,
    /// How long a read keeps it.
    pub(super) lifetime_ms: u64,
}

/// Prefixes by place.
#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: HashMap<(u64, Chain), Entry>,
    inserted: u32,
}

impl Entries {
    /// Whether the prefix can be read at this moment.
    pub(super) fn is_live(&self, place: u64, chain: Chain, at: Moment) -> bool {
        let entry = self.entries.get(&(place, chain));
        entry.is_some_and(|entry| entry.ready <= at && at <= entry.until)
    }

    /// Starts a live entry's lifetime anew; false if there is none.
    pub(super) fn refresh(&mut self, place: u64, chain: Chain, at: Moment) -> bool {
        match self.entries.get_mut(&(place, chain)) {
            Some(entry) if at <= entry.until => {
                entry.until = entry.until.max(at.after(entry.lifetime_ms));
                true
            }
            Some(_) | None => false,
        }
    }

    /// Keeps a prefix, unless it is there already: then it is refreshed.
    pub(super) fn keep(&mut self, place: u64, chain: Chain, at: Moment, entry: Entry) {
        if self.refresh(place, chain, at) {
            if let Some(old) = self.entries.get_mut(&(place, chain)) {
                old.ready = old.ready.min(entry.ready);
            }
            return;
        }
        self.inserted += 1;
        if self.inserted >= SWEEP_EVERY {
            self.inserted = 0;
            self.entries.retain(|_, entry| at <= entry.until);
        }
        self.entries.insert((place, chain), entry);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use wire::prompt::Chain;

    use super::{Entries, Entry, SWEEP_EVERY};

    #[test]
    fn expired_entries_are_swept() {
        let mut entries = Entries::default();
        for at in 0..u64::from(SWEEP_EVERY) * 3 {
            let at = Moment(at);
            let entry = Entry {
                ready: at,
                until: at.after(10),
                lifetime_ms: 10,
            };
            entries.keep(1, Chain(u128::from(at.0)), at, entry);
        }
        assert!(entries.len() <= usize::try_from(SWEEP_EVERY).unwrap_or(0) + 11);
    }
}
