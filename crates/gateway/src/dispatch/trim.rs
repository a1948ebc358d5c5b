//! The trim lever on live traffic: what a conversation's results of tools are sent as.
//!
//! What becomes of a text is decided by `policy::shape::trim` from the request alone, so that a restart
//! or another replica changes nothing. Remembered is only how each conversation was sent last, for the
//! day on which the configuration changes.
//!
//! **Invariant**: what a conversation has sent in full is never sent trimmed while it is warm, and the
//! other way round (test `a_conversation_keeps_its_bytes_when_the_lever_is_switched` in
//! `tests/it/trim.rs`).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use policy::lately::Lately;
use policy::shape::context::budget::{Step, beyond};
use policy::shape::edited::Edited;
use policy::shape::trim::prune::Prune;
use policy::shape::trim::session::{Held, Thinking, Why, decide};
use policy::shape::trim::terms::Terms;
use policy::shape::trim::{Count, Progress, Trimmed, VERSION, trim_on};
use policy::think::capability::Table;
use serde::Serialize;
use wire::dialect::Dialect;
use wire::dialect::request::Request;
use wire::prompt::Kind;
use wire::splice::Splice;
use wire::usage::{CacheWrites, Tokens, Ttl, Usage};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::life::Service;
use crate::route::Plan;
use crate::route::place::Placed;
use crate::setup::LeverMode;

/// 4 bytes a token, where nobody has said how to count.
const BYTES_PER_TOKEN: u64 = 4;

/// 32 conversations in each of two generations are kept ready to go on. A body of 200 kB has some 5 000
/// lines of about 100 bytes in its index, and at most its own size in texts: below 1 MB, so 64 MB in all.
/// Others are worked through anew, with the same result.
const READY_MAX: usize = 32;

/// How tokens are counted.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Tokens of a text.
    pub tokens: fn(&str) -> u64,
    /// Tokens that a text has more than another one that was made of it; below zero if it has fewer.
    pub more: fn(&str, &Edited) -> i64,
}

/// Where nobody has said how.
const BY_BYTES: Counter = Counter {
    tokens: |text| text.len() as u64 / BYTES_PER_TOKEN,
    more: |text, edited| {
        let [before, after] = [text, &edited.text].map(|text| (BY_BYTES.tokens)(text));
        before.cast_signed() - after.cast_signed()
    },
};

/// What the trim lever knows.
#[derive(Debug)]
pub struct TrimLever {
    held: Mutex<Lately<Held>>,
    /// What the next call of a conversation goes on from; taken while a call works on it.
    ready: Mutex<Lately<Arc<Mutex<Option<Progress>>>>>,
    /// Tokens by the hash of a text: a conversation says again what it said before.
    counted: Mutex<Lately<Tokens>>,
    /// How many more one text has than another, by the hashes of both.
    compared: Mutex<Lately<i64>>,
    counter: OnceLock<Counter>,
}

impl Default for TrimLever {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            ready: Mutex::new(Lately::new(READY_MAX)),
            counted: Mutex::default(),
            compared: Mutex::default(),
            counter: OnceLock::new(),
        }
    }
}

impl TrimLever {
    /// Counts with a vocabulary; the first one that is given stays.
    pub fn count_with(&self, counter: Counter) {
        self.counter.get_or_init(|| counter);
    }

    fn counter(&self) -> Counter {
        self.counter.get().copied().unwrap_or(BY_BYTES)
    }
}

impl TrimLever {
    /// Trims a call of a conversation, on from where the call before has left off.
    fn trim(&self, request: &Request<'_>, conversation: u64, terms: Terms) -> Trimmed {
        let known = lock(&self.ready).get(conversation);
        let place = known.unwrap_or_else(|| {
            let place = Arc::new(Mutex::new(None));
            lock(&self.ready).put(conversation, Arc::clone(&place));
            place
        });
        let progress = lock(&place).take().filter(|it| it.terms() == terms);
        let mut progress = progress.unwrap_or_else(|| Progress::new(terms));
        let trimmed = trim_on(request, &mut progress, &mut Counted(self));
        *lock(&place) = Some(progress);
        trimmed
    }
}

/// Counts each text once, and compares each two of them once.
pub(super) struct Counted<'l>(pub(super) &'l TrimLever);

impl Count for Counted<'_> {
    fn tokens(&mut self, text: &str) -> Tokens {
        let hash = xxh3_64(text.as_bytes());
        let known = lock(&self.0.counted).get(hash);
        known.unwrap_or_else(|| {
            let tokens = Tokens((self.0.counter().tokens)(text));
            lock(&self.0.counted).put(hash, tokens);
            tokens
        })
    }

    fn more(&mut self, text: &str, edited: &Edited) -> i64 {
        let hash = xxh3_64_with_seed(edited.text.as_bytes(), xxh3_64(text.as_bytes()));
        let known = lock(&self.0.compared).get(hash);
        known.unwrap_or_else(|| {
            let more = (self.0.counter().more)(text, edited);
            lock(&self.0.compared).put(hash, more);
            more
        })
    }
}

/// What trimming does to one call.
#[derive(Clone, Debug)]
pub struct Trimming {
    /// Edits that are sent; none where it only observes.
    pub splice: Splice,
    /// Input tokens that are not sent.
    pub saved: Tokens,
    /// Tokens of results as they are sent, where budgets have them counted.
    pub results: Option<Tokens>,
    /// The segments of results that are left out whole.
    pub pruned: Vec<usize>,
    /// Whether some of them were still sent with the call before.
    pub edits: bool,
    /// What is written down.
    pub notes: TrimNotes,
}

/// What is written down about a call's trimming.
#[derive(Clone, Debug, Serialize)]
pub struct TrimNotes {
    lever: &'static str,
    /// What it is sent as.
    sent: String,
    /// What the route asks for.
    wanted: String,
    version: u32,
    /// Input tokens that it saves, or would.
    tokens: u64,
    texts: usize,
    by: Vec<Saved>,
    /// Old results that are left out whole, or would be.
    #[serde(skip_serializing_if = "is_none")]
    pruned: usize,
    /// Whether the history is edited with this call: what follows is written to the cache anew.
    #[serde(skip_serializing_if = "is_false")]
    edits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
const fn is_none(count: &usize) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Clone, Debug, Serialize)]
struct Saved {
    technique: &'static str,
    tokens: u64,
}

/// What is done with a call's texts, and what would be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decided {
    /// What is done.
    pub sent: Terms,
    /// What the route asks for.
    wanted: Terms,
    /// What it would ask for were the lever on.
    asked: Terms,
    began: bool,
}

impl Decided {
    /// What is looked at: where nothing is done, what would be.
    pub fn looked_at(&self) -> Terms {
        if self.sent.is_nothing() {
            self.asked
        } else {
            self.sent
        }
    }
}

/// Decides how a call of a conversation is sent.
pub fn decided(service: &Service<'_>, request: &Request<'_>, placed: &Placed) -> Decided {
    let Service { gateway, .. } = *service;
    let (lever, now) = (&gateway.trimming, gateway.clock.now());
    let mode = placed.trim.mode;
    let asked = match mode {
        LeverMode::Off => Terms::default(),
        LeverMode::Observe | LeverMode::On => terms(service, request, placed),
    };
    let wanted = match mode {
        LeverMode::On => asked,
        LeverMode::Off | LeverMode::Observe => Terms::default(),
    };
    let mut held = lock(&lever.held);
    let known = held.get(placed.conversation);
    let (sent, why) = decide(wanted, known, thinking(request, placed), now);
    held.put(
        placed.conversation,
        Held {
            terms: sent,
            at: now,
        },
    );
    Decided {
        sent,
        wanted,
        asked,
        began: why == Why::Began,
    }
}

/// Trims a call. Gives nothing where no route speaks of it and it is sent in full.
pub fn trimming(service: &Service<'_>, request: &Request<'_>, placed: &Placed) -> Option<Trimming> {
    let lever = &service.gateway.trimming;
    let decided = placed.decided;
    let looked_at = decided.looked_at();
    if !looked_at.trims() {
        return None;
    }
    let is_sent = !decided.sent.is_nothing();
    let Trimmed {
        splice,
        saved,
        results,
        pruned,
        edits,
    } = lever.trim(request, placed.conversation, looked_at);
    let tokens: Tokens = saved.values().copied().sum();
    let notes = TrimNotes {
        lever: placed.trim.mode.name(),
        sent: decided.sent.name(),
        wanted: decided.wanted.name(),
        version: VERSION,
        tokens: tokens.0,
        texts: splice.edits().len(),
        by: saved
            .iter()
            .map(|(technique, tokens)| Saved {
                technique: technique.name(),
                tokens: tokens.0,
            })
            .collect(),
        pruned: pruned.len(),
        edits,
        why: decided
            .began
            .then_some("the session began so, and its prefix may still be warm"),
    };
    Some(Trimming {
        splice: if is_sent { splice } else { Splice::default() },
        saved: if is_sent { tokens } else { Tokens(0) },
        results: results.filter(|_| is_sent),
        pruned: if is_sent { pruned } else { Vec::new() },
        edits: edits && is_sent,
        notes,
    })
}

/// What a route asks for: its level, and what its budgets do with results.
fn terms(service: &Service<'_>, request: &Request<'_>, placed: &Placed) -> Terms {
    let terms = Terms {
        level: placed.trim.level,
        folded_beyond: beyond(&placed.budgets, Step::Compress),
        prune: beyond(&placed.budgets, Step::Prune)
            .filter(|_| may_edit(request, placed))
            .and_then(|beyond| prune(service, placed, beyond)),
        focus: placed.trim.focus,
        cached_from: Tokens(0),
    };
    let first = placed.route.first();
    let model = first.and_then(|plan| {
        service
            .setup
            .prices
            .find(&plan.upstream.prices, &plan.model)
    });
    terms.cached_from(model.and_then(|model| model.cache.minimum))
}

/// When old results are left out: none where the first target's prices are not known.
fn prune(service: &Service<'_>, placed: &Placed, beyond: Tokens) -> Option<Prune> {
    let Service { gateway, setup, .. } = *service;
    let plan = placed.route.first()?;
    let model = setup.prices.find(&plan.upstream.prices, &plan.model)?;
    Prune::of(model, gateway.clock.now(), beyond)
}

/// Whether history may be edited at all: never before a model that binds thinking to what is before it,
/// or of which that is not known. In OpenAI's chat dialect no thinking travels that could be bound.
fn may_edit(request: &Request<'_>, placed: &Placed) -> bool {
    let is_free = |plan: &Plan| {
        let known = Table::built_in().find(&plan.upstream.prices, &plan.model);
        known.is_some_and(|capability| !capability.binds_prefix)
    };
    request.dialect == Dialect::OpenAiChat || placed.route.plans.iter().all(is_free)
}

/// Whether thinking in the conversation is bound to the bytes before it.
fn thinking(request: &Request<'_>, placed: &Placed) -> Thinking {
    let segments = &request.prompt.segments;
    let thinks = segments.iter().any(|it| it.kind == Kind::Thinking);
    let binds = || {
        placed.route.plans.iter().any(|plan| {
            let known = Table::built_in().find(&plan.upstream.prices, &plan.model);
            known.is_none_or(|capability| capability.binds_prefix)
        })
    };
    if thinks && binds() {
        Thinking::Bound
    } else {
        Thinking::Free
    }
}

impl Trimming {
    /// Declares the edits of the body.
    pub fn declare(&self, splice: &mut Splice) {
        for edit in self.splice.edits() {
            splice.replace(edit.range.clone(), edit.text.clone(), edit.reason);
        }
    }

    /// The sizes of the segments as they are sent, from those of the client's body.
    pub fn sizes(&self, request: &Request<'_>, sizes: &[Tokens]) -> Vec<Tokens> {
        let segments = request.prompt.segments.iter().zip(sizes);
        let omitted = self.omitted(request).into_iter();
        let shorter = segments.zip(omitted).map(|((segment, size), omitted)| {
            let bytes = (segment.span.len() as u64).max(1);
            Tokens(size.0 - size.0 * omitted.min(bytes) / bytes)
        });
        shorter.collect()
    }

    /// The same with what was saved in each put back, so that their sums differ by just that.
    pub fn put_back(&self, request: &Request<'_>, sizes: &[Tokens]) -> Vec<Tokens> {
        let omitted = self.omitted(request);
        let all = omitted.iter().sum::<u64>().max(1);
        let (mut so_far, mut given) = (0, 0);
        let whole = sizes.iter().zip(omitted).map(|(size, omitted)| {
            so_far += omitted;
            let due = u128::from(self.saved.0) * u128::from(so_far) / u128::from(all);
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            let more = due - given;
            given = due;
            Tokens(size.0 + more)
        });
        whole.collect()
    }

    /// Bytes that are left out of each segment.
    fn omitted(&self, request: &Request<'_>) -> Vec<u64> {
        let mut edits = self.splice.edits().iter().peekable();
        let of_segment = request.prompt.segments.iter().map(|segment| {
            let mut omitted = 0;
            while let Some(edit) = edits.next_if(|edit| edit.range.end <= segment.span.end) {
                omitted += edit.range.len().saturating_sub(edit.text.len()) as u64;
            }
            omitted
        });
        of_segment.collect()
    }
}

/// The usage had this much more been sent, paid as the rest of the input was: what is said where no cache
/// lever knows better. None if that is nothing.
pub fn with_more(usage: &Usage, more: Tokens) -> Option<Usage> {
    if more == Tokens(0) || usage.input() == Tokens(0) {
        return None;
    }
    let known = usage.uncached + usage.cache_read + usage.cache_write.total();
    let (whole, total) = (u128::from(known.0.max(1)), u128::from((known + more).0));
    let scale = |tokens: Tokens| {
        let scaled = u128::from(tokens.0) * total / whole;
        Tokens(u64::try_from(scaled).unwrap_or(u64::MAX))
    };
    let cache_read = scale(usage.cache_read);
    let mut cache_write = CacheWrites::default();
    for ttl in Ttl::ALL {
        *cache_write.of_mut(ttl) = scale(usage.cache_write.of(ttl));
    }
    let cached = cache_read + cache_write.total();
    Some(Usage {
        uncached: Tokens((known + more).0.saturating_sub(cached.0)),
        cache_read,
        cache_write,
        ..usage.clone()
    })
}

/// The guarded value, also after a panic elsewhere: a count may be missing then, and is made again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Tokens, Usage, with_more};

    #[test]
    fn more_is_paid_as_the_rest_is() {
        let usage = |uncached, read| Usage {
            uncached: Tokens(uncached),
            cache_read: Tokens(read),
            output: Tokens(7),
            ..Usage::default()
        };
        assert_eq!(with_more(&usage(10, 90), Tokens(100)), Some(usage(20, 180)));
        assert_eq!(with_more(&usage(0, 0), Tokens(5)), None);
        assert_eq!(with_more(&usage(3, 4), Tokens(0)), None);
    }
}
