//! An account of what the lever saved and spent: surcharges are paid out of earlier savings, so that
//! a bad guess cannot be repeated for long.
//!
//! **Invariant**: what is written before anything was read stays within the seed (test
//! `surcharges_stay_within_the_seed` in the simulator).

use super::decide::Held;
use super::memory::{Memory, low, scope};
use super::place::Spots;
use super::walk::Path;
use super::{Mark, Sight, float};

/// Surcharges that may be paid before anything was saved, in tokens at the input price: at 3 USD a
/// million 0.39 USD, once for each tenant and model.
const BANK_SEED_TOKENS: f64 = 131_072.0;

/// Savings that count for later surcharges: enough for any day's guesses, not for a year's.
const BANK_MAX_TOKENS: f64 = 10_000_000.0;

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
    let bank = memory
        .banks
        .entry(account(sight, path), || BANK_SEED_TOKENS);
    *bank = (*bank + change).min(BANK_MAX_TOKENS);
}

/// What may be spent on the surcharge of one call, in tokens at the input price.
pub(super) fn balance(memory: &Memory, sight: &Sight<'_>, path: &Path) -> f64 {
    memory
        .banks
        .peek(account(sight, path))
        .copied()
        .unwrap_or(BANK_SEED_TOKENS)
}
