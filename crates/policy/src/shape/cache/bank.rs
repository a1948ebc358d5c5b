//! An account of what the lever saved and spent: surcharges are paid out of earlier savings, so that
//! a bad guess cannot be repeated for long.
//!
//! **Invariant**: what is written before anything was read stays within the seed and what traffic adds
//! to it (test `surcharges_stay_within_the_seed` in the simulator).

use super::decide::Held;
use super::memory::{Memory, low, scope};
use super::place::Spots;
use super::walk::Path;
use super::{Mark, Sight, float};
use crate::prices::model::CacheFamily;

/// Surcharges that may be paid before anything was saved, in tokens at the input price: at 3 USD a
/// million 0.39 USD, once for each tenant and model.
const BANK_SEED_TOKENS: f64 = 131_072.0;

/// What every token that was sent adds to the seed, as a part of it: reads come minutes after writes, so
/// that busy traffic would be held up for as long; at most 5 % of its bill is put at risk.
const BANK_SHARE: f64 = 0.05;

/// What traffic adds at most: at 3 USD a million 2.75 USD, once for each tenant and model.
const BANK_SHARE_MAX_TOKENS: f64 = 1_048_576.0 - BANK_SEED_TOKENS;

/// Savings that count for later surcharges: enough for any day's guesses, not for a year's.
const BANK_MAX_TOKENS: f64 = 10_000_000.0;

/// What was saved and spent in one account, in tokens at the input price.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    balance: f64,
    /// What was sent where reads are sure.
    sent: f64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            balance: BANK_SEED_TOKENS,
            sent: 0.0,
        }
    }
}

impl Account {
    fn available(self) -> f64 {
        self.balance + (self.sent * BANK_SHARE).min(BANK_SHARE_MAX_TOKENS)
    }
}

/// Who pays surcharges from one account.
fn account(sight: &Sight<'_>, path: &Path) -> u64 {
    super::worth::hash(&[low(path.tenant), low(scope(sight.target))])
}

/// Books what reading saves and what writing costs more, in tokens at the input price.
pub(super) fn book(memory: &mut Memory, sight: &Sight<'_>, path: &Path, spots: &Spots, held: Held) {
    let read = path.tokens_or_zero(held.live);
    let mut change = float(read) * (1.0 - sight.terms.read_ratio());
    let mut paid = read;
    for Mark { segment, ttl } in &spots.marks {
        let reach = path.tokens(*segment).max(paid);
        let surcharge = sight.terms.write_ratio(*ttl).unwrap_or(1.0) - 1.0;
        change -= float(reach - paid) * surcharge;
        paid = reach;
    }
    let account = memory.banks.entry(account(sight, path), Account::default);
    account.balance = (account.balance + change).min(BANK_MAX_TOKENS);
    // Elsewhere a call may come to another machine, and reads that are counted on may fail.
    if sight.terms.family == CacheFamily::Anthropic {
        account.sent += float(path.total() + sight.rest.0);
    }
}

/// What may be spent on the surcharge of one call, in tokens at the input price.
pub(super) fn available(memory: &Memory, sight: &Sight<'_>, path: &Path) -> f64 {
    let account = memory.banks.peek(account(sight, path));
    account.copied().unwrap_or_default().available()
}
