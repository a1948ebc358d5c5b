//! Routing keys: one for each shared head, split into shards before a key gets too busy.
//!
//! **Invariant**: no key carries more than [`rules::KEY_REQUESTS_PER_MINUTE`] requests in any minute,
//! and a session stays on its shard while that has room (test `keys_stay_under_the_limit`).

use std::collections::VecDeque;

use super::recent::Recent;
use super::rules;
use super::worth::hash;
use crate::moment::Moment;

/// Heads whose shards are remembered.
const HEADS_MAX: usize = 16_384;

/// The limit is counted over this time, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// While several sessions take turns, a new one is put on a shard only up to this many requests in
/// the last minute, so that those already there have room to go on.
const ROOM_FOR_SESSION: usize = 10;

/// One shard's requests of the last minute.
#[derive(Clone, Debug, Default)]
struct Shard {
    sent: VecDeque<u64>,
    /// Whether a session came back after another one: they run at the same time.
    is_shared: bool,
}

impl Shard {
    /// Looks again at who took turns; a shard has few requests.
    fn look(&mut self) {
        let mut sessions: Vec<u64> = self.sent.iter().copied().collect();
        let turns = sessions.chunk_by(PartialEq::eq).count();
        sessions.sort_unstable();
        sessions.dedup();
        self.is_shared = turns > sessions.len();
    }
}

/// The shards of one head. What a call costs does not grow with their number.
#[derive(Clone, Debug, Default)]
struct Head {
    shards: Vec<Shard>,
    /// Requests of the last minute, oldest first, and their shards.
    sent: VecDeque<(Moment, usize)>,
    /// Shards on which sessions take turns.
    shared: usize,
    /// No shard before these has room, for a new session and for any request.
    full_before: [usize; 2],
}

impl Head {
    /// Forgets what is older than the window.
    fn forget(&mut self, at: Moment) {
        while let Some(&(first, index)) = self.sent.front() {
            if at.since(first) < WINDOW_MS {
                break;
            }
            self.sent.pop_front();
            self.change(index, |shard| {
                shard.sent.pop_front();
            });
            self.full_before = self.full_before.map(|before| before.min(index));
        }
    }

    fn take(&mut self, index: usize, session: u64, at: Moment) {
        if index >= self.shards.len() {
            self.shards.resize_with(index + 1, Shard::default);
        }
        self.sent.push_back((at, index));
        self.change(index, |shard| shard.sent.push_back(session));
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Shard)) {
        if let Some(shard) = self.shards.get_mut(index) {
            self.shared -= usize::from(shard.is_shared);
            change(shard);
            shard.look();
            self.shared += usize::from(shard.is_shared);
        }
    }

    /// The first shard with fewer than `most` requests.
    fn first_with_room(&mut self, most: usize) -> usize {
        let kind = usize::from(most == rules::KEY_REQUESTS_PER_MINUTE);
        let before = self.full_before[kind];
        let behind = self.shards.get(before..).unwrap_or_default();
        let free = behind.iter().position(|shard| shard.sent.len() < most);
        let index = before + free.unwrap_or(behind.len());
        self.full_before[kind] = index;
        index
    }
}

/// The shards of all heads.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    heads: Recent<u64, Head>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            heads: Recent::new(HEADS_MAX),
        }
    }
}

impl Keys {
    /// The shard for a call of a session that began on `home`, if it began before.
    ///
    /// Sessions that follow one another fill shard after shard, so that each finds the head of the
    /// one before; sessions that take turns keep to shards of their own.
    pub(super) fn shard(&mut self, head: u64, session: u64, home: Option<u32>, at: Moment) -> u32 {
        let head = self.heads.entry(head, Head::default);
        head.forget(at);
        let is_shared = head.shared > 0;
        let home = home
            .filter(|_| is_shared)
            .and_then(|home| usize::try_from(home).ok());
        let most = if is_shared && home.is_none() {
            ROOM_FOR_SESSION
        } else {
            rules::KEY_REQUESTS_PER_MINUTE
        };
        let has_room = |index: &usize| {
            let shard = head.shards.get(*index);
            shard.is_none_or(|shard| shard.sent.len() < most)
        };
        let index = match home.filter(has_room) {
            Some(home) => home,
            None => head.first_with_room(most),
        };
        head.take(index, session, at);
        u32::try_from(index).unwrap_or(u32::MAX)
    }
}

/// The key's text; it tells nothing about the tenant or the prompt.
pub(super) fn name(tenant: u128, head: u64, shard: u32) -> String {
    let [low, high] = [
        super::memory::low(tenant),
        super::memory::low(tenant.rotate_left(64)),
    ];
    format!("tw-{:016x}-{shard}", hash(&[low, high, head]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Keys;
    use crate::moment::Moment;

    /// `sessions` sessions that each send every `every_ms`, for ten minutes.
    fn check(sessions: u64, every_ms: u64, shards_at_most: u32) {
        let mut keys = Keys::default();
        let mut homes: HashMap<u64, u32> = HashMap::new();
        let mut sent: HashMap<u32, Vec<u64>> = HashMap::new();
        let mut calls: Vec<(u64, u64)> = (0..sessions)
            .flat_map(|session| {
                let offset = session * every_ms / sessions;
                (0..600_000 / every_ms).map(move |turn| (turn * every_ms + offset, session))
            })
            .collect();
        calls.sort_unstable();
        for (at, session) in calls {
            let shard = keys.shard(1, session, homes.get(&session).copied(), Moment(at));
            homes.entry(session).or_insert(shard);
            sent.entry(shard).or_default().push(at);
        }
        for (shard, times) in &sent {
            assert!(
                *shard < shards_at_most,
                "{sessions} sessions: shard {shard}"
            );
            for window in times.windows(16) {
                assert!(
                    window[15] - window[0] >= 60_000,
                    "{sessions} sessions: {window:?}"
                );
            }
        }
    }

    #[test]
    fn keys_stay_under_the_limit() {
        check(1, 10_000, 1);
        check(1, 3_000, 2);
        check(10, 10_000, 12);
        check(40, 3_000, 80);
    }
}
