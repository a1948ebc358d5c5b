//! Focus: which parts of a long context earn their place for a question.
//!
//! Every signal is lexical and is read in one pass over the text: nothing is stored, downloaded or
//! asked of a model, and the same question and chunks give the same ranking.
//!
//! **Invariant**: what is kept fits the budget, and the order of the chunks does not change (property
//! `what_is_kept_fits_the_budget`).

mod counts;
pub mod documents;
mod pieces;
pub mod signals;
#[cfg(test)]
mod tests;
mod words;

use wire::usage::Tokens;

use signals::{Signals, signals};

/// A part of a context that is kept or left out as a whole: a turn, a line, a passage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk<'t> {
    /// What it says.
    pub text: &'t str,
    /// Who says it; empty if nobody does.
    pub speaker: &'t str,
    /// When it was said, in any notation; empty if that is not known.
    pub date: &'t str,
    /// Chunks of one session, file or document that follow each other have the same number.
    pub group: u32,
    /// What it costs to keep.
    pub tokens: Tokens,
}

/// What a signal's largest value adds to the logarithm of the odds that a chunk is needed, in the order
/// of `signals::SIGNALS`.
///
/// Source: `tokenwise focus eval ../shared/data/traces/longctx/locomo.jsonl.gz`, which prints the
/// weights of all conversations together below the figures for conversations that were left out.
pub const WEIGHTS: Signals = [0.74, 3.386, 2.047, 1.783, 2.735, 5.218, 1.73, -0.868, 0.758];

/// How much each chunk is worth for the question; comparable within one answer only.
pub fn rank(question: &str, chunks: &[Chunk<'_>]) -> Vec<f64> {
    let worth = |signals: &Signals| weigh(signals, &WEIGHTS);
    signals(question, chunks).iter().map(worth).collect()
}

/// The weighted sum of signals.
pub fn weigh(signals: &Signals, weights: &Signals) -> f64 {
    let pairs = signals.iter().zip(weights);
    pairs.map(|(signal, weight)| signal * weight).sum()
}

/// Whether each chunk is kept: the best ones that fit the budget, the earlier of equals first.
pub fn keep(worth: &[f64], chunks: &[Chunk<'_>], budget: Tokens) -> Vec<bool> {
    let mut order: Vec<usize> = (0..chunks.len().min(worth.len())).collect();
    let of = |index: &usize| worth.get(*index).copied().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|one, other| of(other).total_cmp(&of(one)));
    let mut kept = vec![false; chunks.len()];
    let mut left = budget.0;
    for index in order {
        let needed = chunks.get(index).map_or(0, |chunk| chunk.tokens.0);
        if let (Some(rest), Some(kept)) = (left.checked_sub(needed), kept.get_mut(index)) {
            *kept = true;
            left = rest;
        }
    }
    kept
}
