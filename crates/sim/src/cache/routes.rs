//! Which machine of a fleet serves a request: by key or first tokens, until that machine is busy.
//!
//! A key that carries more requests than its limit in a minute overflows to the next machine, whose
//! cache is its own. That the next machine is always the same one is our reading of the guide.
//!
//! **Invariant**: requests below the limit with the same key and start share a machine (test
//! `overflow_goes_to_a_cold_machine` in `automatic`).

use std::collections::{BTreeSet, VecDeque};

use foldhash::HashMap;
use policy::moment::Moment;
use policy::shape::cache::rules;
use wire::prompt::Chain;

use super::Sent;

/// The limit is counted over this time, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Routes between two sweeps of idle ones.
const SWEEP_EVERY: usize = 16_384;

type Route = (u64, Option<u64>, Chain);

/// Requests of the last minute, by route.
#[derive(Debug, Default)]
pub(super) struct Routes {
    sent: HashMap<Route, Machines>,
}

/// One route's machines, numbered in the order in which they were needed.
#[derive(Debug, Default)]
struct Machines {
    /// Requests of the last minute on each.
    busy: Vec<usize>,
    /// Those requests, oldest first, with their machine.
    recent: VecDeque<(Moment, usize)>,
    /// The machines below the limit.
    open: BTreeSet<usize>,
}

impl Machines {
    /// Gives the request to the first machine that has room.
    fn serve(&mut self, at: Moment) -> usize {
        while let Some((sent, machine)) = self.recent.front().copied()
            && at.since(sent) >= WINDOW_MS
        {
            self.recent.pop_front();
            if let Some(busy) = self.busy.get_mut(machine) {
                *busy -= 1;
                self.open.insert(machine);
            }
        }
        let machine = self.open.first().copied().unwrap_or(self.busy.len());
        if machine == self.busy.len() {
            self.busy.push(0);
            self.open.insert(machine);
        }
        if let Some(busy) = self.busy.get_mut(machine) {
            *busy += 1;
            if *busy >= rules::KEY_REQUESTS_PER_MINUTE {
                self.open.remove(&machine);
            }
        }
        self.recent.push_back((at, machine));
        machine
    }

    fn is_busy(&self, at: Moment) -> bool {
        let last = self.recent.back();
        last.is_some_and(|(last, _)| at.since(*last) < WINDOW_MS)
    }
}

impl Routes {
    /// The place on the machine that serves this request.
    pub(super) fn place(&mut self, sent: &Sent, at: Moment) -> u64 {
        let mut bytes = 0;
        let has_reached = |bytes: u64, tokens: u64| match bytes {
            0 => tokens >= rules::ROUTED_TOKENS.0,
            bytes => bytes >= rules::ROUTED_BYTES,
        };
        let start = sent
            .pieces
            .iter()
            .zip(sent.through())
            .position(|(piece, tokens)| {
                bytes += piece.bytes;
                has_reached(bytes, tokens)
            });
        let start = start
            .and_then(|index| sent.pieces.get(index))
            .or(sent.pieces.last());
        let route = (
            sent.place,
            sent.key,
            start.map(|piece| piece.chain).unwrap_or_default(),
        );
        if self.sent.len() >= SWEEP_EVERY {
            self.sent.retain(|_, machines| machines.is_busy(at));
        }
        let machine = self.sent.entry(route).or_default().serve(at);
        let (place, key, Chain(chain)) = route;
        let [low, high] = [chain & u128::from(u64::MAX), chain >> 64];
        let numbers = [u128::from(place), u128::from(key.unwrap_or(0)), low, high];
        let mixed = numbers.iter().fold(machine as u128, |sum, number| {
            (sum.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        });
        u64::try_from(mixed >> 64).unwrap_or_default()
    }
}
