//! What a tenant's traffic has shown: prefixes, what the provider should still hold, sessions.
//!
//! Everything is bounded and forgotten oldest first; nothing is read back from a store, so a fresh
//! process starts with its priors and is right again after a few calls.
//!
//! **Invariant**: memory does not grow beyond its limits, whatever the traffic (test
//! `memory_is_bounded`).

use wire::prompt::{Chain, Prompt};
use wire::usage::{Tokens, Ttl, Usage};
use xxhash_rust::xxh3::xxh3_128;

use super::bank::Account;
use super::estimate::{Counted, Counting, Estimator};
use super::explain::{Kept, Miss};
use super::keys::Keys;
use super::recent::Recent;
use super::session::Session;
use super::worth::{Follow, Worth};
use super::{Sight, Ticket, explain};
use crate::moment::Moment;

/// Prefixes that are remembered: at about 150 bytes each, 39 MB.
const PREFIXES_MAX: usize = 262_144;

/// Provider entries that are remembered: a busy gateway writes a few each call.
const ENTRIES_MAX: usize = 131_072;

/// Sessions that are remembered: their chains and sizes take about 5 kB each, 80 MB in all.
const SESSIONS_MAX: usize = 16_384;

/// Tenants and targets whose balance is remembered.
const BANKS_MAX: usize = 8_192;

/// Heads whose way of rewriting history is remembered.
const HABITS_MAX: usize = 8_192;

/// What is known about one prefix of a tenant's prompts.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// How often it was sent.
    pub(super) seen: u32,
    /// How often within the horizon of the time before.
    pub(super) again: u32,
    /// When it was last sent.
    pub(super) last: Moment,
    /// If it ended a prompt: the turn of that prompt.
    pub(super) end_turn: Option<u32>,
    /// The follow-up of the call that sent it last.
    pub(super) follow: Option<Follow>,
    /// Sessions whose latest prompt ends here.
    pub(super) ends: Vec<u64>,
    /// The session that sent it last.
    pub(super) owner: u64,
    /// Sessions that sent it, as far as noticed.
    pub(super) sessions: u32,
    /// Prompts that ended here.
    pub(super) ended: u32,
    /// Sessions whose first prompt went on from here.
    pub(super) passed: u32,
    /// Tokens of the segment that ends it, as scanned.
    pub(super) size: u64,
    /// How the target counted it that counted it last.
    counted: Option<Counted>,
    /// Pauses between uses, by length.
    pub(super) pauses: Pauses,
}

impl Node {
    /// More conversations go through here than end here: it is what many begin with, and whoever once
    /// sent no more than that is no more likely to have sent the next than anybody else.
    pub(super) fn is_beginning(&self) -> bool {
        self.passed > self.ended
    }

    fn counted_by(&self, target: u64) -> Option<Counted> {
        self.counted.filter(|counted| counted.target == target)
    }
}

/// Pauses between uses of a prefix, sorted by what they mean for a lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses {
    /// Within the short lifetime.
    pub(super) short: u32,
    /// Beyond it, within the long one.
    pub(super) middle: u32,
    /// Beyond both.
    pub(super) long: u32,
}

impl Pauses {
    pub(super) fn note(&mut self, pause_ms: u64, short: Ttl, long: Ttl) {
        let count = match pause_ms {
            ms if ms <= short.millis() => &mut self.short,
            ms if ms <= long.millis() => &mut self.middle,
            _ => &mut self.long,
        };
        *count = count.saturating_add(1);
    }
}

/// What the provider should hold, as far as we know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// From the first byte of the answer on; none while it is being written.
    pub(super) ready: Option<Moment>,
    /// When the writing call was sent.
    pub(super) sent: Moment,
    /// When it expires.
    pub(super) until: Moment,
    /// The deepest prefix that the same call writes; it names that call to those who wait.
    pub(super) lead: Chain,
    /// Its lifetime, which every read starts anew.
    pub(super) ttl: Ttl,
}

/// How calls with one head rewrite their history, by turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habit {
    /// Transitions that only appended.
    pub(super) appended: u32,
    /// Transitions that changed earlier segments.
    pub(super) rewrote: u32,
    /// Segments of the earlier prompt that the latest such transition changed.
    pub(super) tail: u32,
}

/// What the traffic has shown so far.
#[derive(Debug)]
pub struct Memory {
    pub(super) nodes: Recent<u128, Node>,
    pub(super) entries: Recent<u128, Entry>,
    pub(super) sessions: Recent<u64, Session>,
    pub(super) by_user: Recent<u64, u64>,
    pub(super) habits: Recent<u64, Habit>,
    pub(super) worth: Worth,
    pub(super) banks: Recent<u64, Account>,
    pub(super) keys: Keys,
    pub(super) kept: Kept,
    estimator: Estimator,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            nodes: Recent::new(PREFIXES_MAX),
            entries: Recent::new(ENTRIES_MAX),
            sessions: Recent::new(SESSIONS_MAX),
            by_user: Recent::new(SESSIONS_MAX),
            habits: Recent::new(HABITS_MAX),
            worth: Worth::default(),
            banks: Recent::new(BANKS_MAX),
            keys: Keys::default(),
            kept: Kept::default(),
            estimator: Estimator::default(),
        }
    }
}

/// Mixes a name into the keys of a map, so that tenants and targets never meet.
pub(super) fn scope(name: &str) -> u128 {
    xxh3_128(name.as_bytes())
}

/// The key of a prefix within a scope.
pub(super) fn within(scope: u128, chain: Chain) -> u128 {
    scope.rotate_left(1) ^ chain.0
}

/// The low half of a key.
pub(super) fn low(key: u128) -> u64 {
    u64::try_from(key & u128::from(u64::MAX)).unwrap_or_default()
}

impl Memory {
    /// Tokens of each segment: as the target has counted them, or else estimated. Known prefixes are not
    /// scanned again.
    pub fn sizes(&self, tenant: &str, target: &str, prompt: &Prompt, body: &[u8]) -> Vec<Tokens> {
        let (tenant, target) = (scope(tenant), low(scope(target)));
        let sizes = prompt.segments.iter().map(|segment| {
            let node = self.nodes.peek(within(tenant, segment.chain));
            let known = node.map(|node| node.size).filter(|size| *size > 0);
            let size = known.unwrap_or_else(|| {
                let bytes = body.get(segment.span.clone()).unwrap_or_default();
                super::estimate::scan(bytes)
            });
            match node.and_then(|node| node.counted_by(target)) {
                Some(counted) => counted.scale(size),
                None => self.estimator.scale(target, size),
            }
        });
        sizes.collect()
    }

    /// What is to be learned from the report of a call's input, from the sizes that it is believed to
    /// have.
    pub(super) fn counting(&self, sight: &Sight<'_>) -> Option<Counting> {
        if sight.body.is_empty() {
            return None;
        }
        let (tenant, target) = (scope(sight.tenant), low(scope(sight.target)));
        let mut counting = Counting::of(&self.estimator, target);
        for (segment, size) in sight.prompt.segments.iter().zip(sight.sizes) {
            let key = within(tenant, segment.chain);
            let node = self.nodes.peek(key);
            counting.add(key, *size, node.and_then(|node| node.counted_by(target)));
        }
        Some(counting)
    }

    /// The first byte of the answer has arrived: what the call writes can be read from now on.
    pub fn began(&mut self, ticket: &Ticket, at: Moment) {
        for key in &ticket.entries {
            if let Some(entry) = self.entries.get_mut(*key) {
                entry.ready.get_or_insert(at);
            }
        }
    }

    /// The upstream did not take the call: nothing was written.
    pub fn failed(&mut self, ticket: &Ticket) {
        for key in &ticket.entries {
            if self
                .entries
                .peek(*key)
                .is_some_and(|entry| entry.ready.is_none())
            {
                self.entries.remove(*key);
            }
        }
    }

    /// The call is over and its usage known: learns how the model counts and what it holds, and says
    /// what was lost if the provider read much less than it should still have held.
    pub fn settled(&mut self, ticket: &Ticket, usage: &Usage) -> Option<Miss> {
        let (input, read) = (usage.input(), usage.cache_read);
        // Nothing was kept: the prompt is shorter than was estimated.
        if read + usage.cache_write.total() == Tokens(0) {
            for key in &ticket.entries {
                self.entries.remove(*key);
            }
        }
        if let Some(counting) = &ticket.counting {
            self.estimator
                .learn(ticket.target, counting.estimated(), input);
            if let Some(counted) = counting.counted(ticket.target, input) {
                for key in &counting.fresh {
                    if let Some(node) = self.nodes.get_mut(*key) {
                        node.counted = Some(counted);
                    }
                }
            }
        }
        explain::evicted(ticket, input, read)
    }
}
