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
    sent: VecDeque<(Moment, u64)>,
}

impl Shard {
    fn has_room(&self, most: usize) -> bool {
        self.sent.len() < most
    }

    /// Whether a session came back after another one: they run at the same time.
    fn is_shared(&self) -> bool {
        let sessions: Vec<u64> = self.sent.iter().map(|(_, session)| *session).collect();
        let turns = sessions.chunk_by(PartialEq::eq).count();
        let mut distinct = sessions;
        distinct.sort_unstable();
        distinct.dedup();
        turns > distinct.len()
    }
}

/// The shards of all heads.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    heads: Recent<u64, Vec<Shard>>,
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
        let shards = self.heads.entry(head, Vec::new);
        for Shard { sent } in &mut *shards {
            while sent
                .front()
                .is_some_and(|(first, _)| at.since(*first) >= WINDOW_MS)
            {
                sent.pop_front();
            }
        }
        let is_shared = shards.iter().any(Shard::is_shared);
        let home = home
            .filter(|_| is_shared)
            .and_then(|home| usize::try_from(home).ok());
        let most = if is_shared && home.is_none() {
            ROOM_FOR_SESSION
        } else {
            rules::KEY_REQUESTS_PER_MINUTE
        };
        let has_room = |index: &usize| shards.get(*index).is_none_or(|shard| shard.has_room(most));
        let free = || shards.iter().position(|shard| shard.has_room(most));
        let index = home.filter(has_room).or_else(free).unwrap_or(shards.len());
        if index >= shards.len() {
            shards.resize_with(index + 1, Shard::default);
        }
        if let Some(shard) = shards.get_mut(index) {
            shard.sent.push_back((at, session));
        }
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
