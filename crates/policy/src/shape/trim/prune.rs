//! Pruning: old results of tools are left out where that pays for the cache that it destroys.
//!
//! A prompt cache reads what is as it was before. Leaving out an old result makes everything behind it
//! new: it is written again, at the price of a write, and every later call reads less. With reads at a
//! tenth of the input price that pays only for a large share of a long conversation, or where the
//! window or a price cliff leaves no choice.
//!
//! Whether it pays follows from the texts so far and nothing else, text by text. So what was left out
//! once is left out of every later call of the conversation, after a restart and by any replica.
//!
//! **Invariant**: an edit is made only if it pays with a safety factor or is forced; it leaves out no
//! error, none of the newest results, and none that a later text refers to (tests
//! `an_edit_pays_or_is_forced` and, in `trim::tests`, `what_was_left_out_stays_left_out`).

use std::collections::BTreeSet;

use wire::prompt::{Chain, Prompt};
use wire::usage::{Tokens, Ttl};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::moment::Moment;
use crate::money::Price;
use crate::prices::model::Model;

/// A third of the predicted calls must already pay. With a half and with two thirds, recorded SWE agents
/// saved less and lost more with Sonnet 4.6 beyond 8 000 tokens: 5.96 and 5.04 instead of 6.98 %, with 17
/// and 21 instead of 8 of 260 over 1 % dearer (`tokenwise replay --prune`).
const SAFETY: (i128, i128) = (3, 1);

/// The newest 5 results are kept: of 1 817 recorded steps that took their arguments from earlier
/// results, 91 % had all of them in the newest 5 (`../shared/facts/traces.md`).
const KEPT_NEWEST: usize = 5;

/// 100 tokens: what stands for a result has some 30, and a shorter one is not worth a gap.
const RESULT_TOKENS_MIN: u64 = 100;

/// Where an edit is forced it still leaves out a quarter of what stands behind it: a prompt that is
/// edited a little with every call is never read from a cache.
const FORCED_PARTS: u64 = 4;

/// 90 %: where the makers' own agents compact at the latest (`../shared/facts/providers.md` F.2).
const FULL_PERCENT: u64 = 90;

/// 95 %: estimates of input tokens seldom err by more (`prices::model`).
const CLIFF_PERCENT: u64 = 95;

/// Keeps identities of edited prompts apart from all others.
const EDITED: u64 = 0x7072_756e_6564;

/// Prices relative to plain input, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratios {
    /// Of a read from the cache.
    pub read: u64,
    /// Of a write to it.
    pub write: u64,
}

/// When old results are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Not before there are more than so many tokens of results.
    pub beyond: Tokens,
    /// What reading and writing cost.
    pub ratios: Ratios,
    /// An input that the prompt must not reach if that can be helped: most of the window.
    pub full: Option<Tokens>,
    /// An input that the prompt should stay below: a little less than a price cliff.
    pub cliff: Option<Tokens>,
}

/// What leaving out comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weighed {
    /// Tokens that are left out.
    pub(super) omitted: Tokens,
    /// Tokens from the first one that is left out to the end, as they were sent.
    pub(super) behind: Tokens,
    /// The whole prompt, as it was sent.
    pub(super) prompt: Tokens,
    /// Calls of the conversation so far.
    pub(super) calls: u64,
}

impl Prune {
    /// For a model at its prices: none where they are not known.
    pub fn of(model: &Model, now: Moment, beyond: Tokens) -> Option<Self> {
        let rates = model.rates(now, Tokens(0), None).ok()?;
        let input = rates.input?.micro_usd_per_mtok();
        let relative = |price: Option<Price>| {
            let price = price.map_or(input, Price::micro_usd_per_mtok);
            (input > 0).then(|| price.saturating_mul(1_000) / input)
        };
        let writes = Ttl::ALL.iter().filter_map(|ttl| rates.write(*ttl));
        let write = writes.min_by_key(|price| price.micro_usd_per_mtok());
        let part = |tokens: Tokens, percent: u64| Tokens(tokens.0 / 100 * percent);
        Some(Self {
            beyond,
            ratios: Ratios {
                read: relative(rates.read)?,
                write: relative(write)?,
            },
            full: model.context.map(|window| part(window, FULL_PERCENT)),
            cliff: model.edge(now).map(|edge| part(edge, CLIFF_PERCENT)),
        })
    }

    /// Whether it is done.
    ///
    /// The calls to come are taken to be as many as there were: how long a conversation goes on is
    /// known best by how long it has gone on, and nothing else is the same on every replica.
    pub(super) fn is_due(&self, weighed: &Weighed) -> bool {
        weighed.omitted.0 > 0 && (self.pays(weighed) || self.is_forced(weighed))
    }

    /// `n > 1 + (w(1 − ρ) − r) / (rρ)` for `ρ = omitted / behind`, with the safety factor on `n`
    /// (`../shared/facts/providers.md` F.3), in whole numbers.
    fn pays(&self, weighed: &Weighed) -> bool {
        let of = |tokens: Tokens| i128::from(tokens.0);
        let (omitted, behind) = (of(weighed.omitted), of(weighed.behind));
        let (read, write) = (i128::from(self.ratios.read), i128::from(self.ratios.write));
        let lost = write * (behind - omitted) - read * behind;
        let (factor, over) = SAFETY;
        let later = i128::from(weighed.calls) * over - factor;
        later * read * omitted > factor * lost
    }

    fn is_forced(&self, weighed: &Weighed) -> bool {
        let after = weighed.prompt.0.saturating_sub(weighed.omitted.0);
        let reaches = |edge: Option<Tokens>| edge.is_some_and(|edge| weighed.prompt >= edge);
        let helps = |edge: Option<Tokens>| edge.is_some_and(|edge| after < edge.0);
        let is_large = weighed.omitted.0.saturating_mul(FORCED_PARTS) >= weighed.behind.0;
        is_large && (reaches(self.full) || reaches(self.cliff) && helps(self.cliff))
    }
}

/// A result of a tool that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) passage: usize,
    pub(super) tokens: Tokens,
    pub(super) is_error: bool,
    pub(super) is_pruned: bool,
}

/// The passages that may be left out, given which passages each one refers to.
pub(super) fn candidates<'r>(
    results: &[Sent],
    refers: impl Fn(usize) -> &'r [usize],
    passages: usize,
) -> BTreeSet<usize> {
    let kept = results.iter().rev().take(KEPT_NEWEST);
    let newest: BTreeSet<usize> = kept.map(|result| result.passage).collect();
    let old = results.iter().filter(|result| {
        !result.is_pruned
            && !result.is_error
            && result.tokens.0 >= RESULT_TOKENS_MIN
            && !newest.contains(&result.passage)
    });
    let mut old: BTreeSet<usize> = old.map(|result| result.passage).collect();
    let gone: BTreeSet<usize> = results
        .iter()
        .filter(|result| result.is_pruned)
        .map(|result| result.passage)
        .collect();
    // From the newest to the oldest, so that who refers to a text is settled before the text is.
    for passage in (0..passages).rev() {
        if old.contains(&passage) || gone.contains(&passage) {
            continue;
        }
        for referred in refers(passage) {
            old.remove(referred);
        }
    }
    old
}

/// The identities of a prompt's prefixes as they are sent: from a result on that was left out, in these
/// segments, they are others than the client's.
pub fn chains_as_sent(prompt: &Prompt, pruned: &[usize]) -> Vec<Chain> {
    let mut edits = 0;
    let chains = prompt.segments.iter().enumerate().map(|(place, segment)| {
        if pruned.binary_search(&place).is_ok() {
            edits ^= xxh3_128_with_seed(&segment.chain.0.to_le_bytes(), EDITED);
        }
        Chain(segment.chain.0 ^ edits)
    });
    chains.collect()
}

/// What stands for a result that was left out.
pub(super) fn stub(result: &str, tokens: Tokens) -> String {
    let words = format!(
        "{tokens} tokens were left out here to save room; call the tool again if they are needed"
    );
    if result.trim_start().starts_with(['{', '[']) {
        format!(r#"{{"note":"{words}"}}"#)
    } else {
        format!("[{words}]")
    }
}

#[cfg(test)]
mod tests {
    use wire::dialect::Dialect;

    use super::*;

    fn prune(read: u64, write: u64) -> Prune {
        Prune {
            beyond: Tokens(0),
            ratios: Ratios { read, write },
            full: Some(Tokens(900)),
            cliff: Some(Tokens(500)),
        }
    }

    const fn weighed(percent: u64, calls: u64) -> Weighed {
        Weighed {
            omitted: Tokens(percent),
            behind: Tokens(100),
            prompt: Tokens(200),
            calls,
        }
    }

    /// The rows of the facts' table, times the safety factor.
    #[test]
    fn an_edit_pays_or_is_forced() {
        for (read, write, percent, calls) in [
            (100, 1_250, 50, 12),
            (50, 1_250, 50, 24),
            (25, 1_250, 50, 49),
            (100, 1_000, 50, 9),
            (100, 1_250, 20, 46),
            (100, 1_250, 70, 5),
        ] {
            let least =
                (1..1_000).find(|calls| prune(read, write).is_due(&weighed(percent, *calls)));
            let least = least.expect("it pays some day");
            // The table rounds to whole calls.
            let expect = calls * 3;
            assert!(
                least.abs_diff(expect) <= 2,
                "{read} {write} {percent}: {least} {expect}"
            );
        }
        // Nothing that is left out gains nothing; without a cache, everything gains at once.
        assert!(!prune(100, 1_250).is_due(&weighed(0, 1_000)));
        assert!(prune(1_000, 1_000).is_due(&weighed(1, 2)));
        let at = |prompt, omitted| Weighed {
            prompt: Tokens(prompt),
            ..weighed(omitted, 1)
        };
        let prune = prune(100, 1_250);
        for (prompt, omitted, expect) in [
            (499, 50, false),
            (500, 50, true),
            // Too little, or not below the cliff.
            (500, 24, false),
            (560, 50, false),
            (900, 50, true),
            (900, 24, false),
        ] {
            assert_eq!(
                prune.is_due(&at(prompt, omitted)),
                expect,
                "{prompt} {omitted}"
            );
        }
    }

    #[test]
    fn what_is_referred_to_stays() {
        let sent = |passage: usize| Sent {
            passage,
            tokens: Tokens(if passage == 2 { 99 } else { 100 }),
            is_error: passage == 1,
            is_pruned: passage == 0,
        };
        let results: Vec<Sent> = (0..12).map(sent).collect();
        let refers: Vec<Vec<usize>> = (0..12)
            .map(|passage| match passage {
                11 => vec![5, 11],
                // Left out itself, so that nobody misses what it refers to.
                6 => vec![4],
                _ => Vec::new(),
            })
            .collect();
        let found = candidates(&results, |passage| &refers[passage], 12);
        assert_eq!(found, BTreeSet::from([3, 4, 6]));
    }

    #[test]
    fn an_edit_changes_all_that_follows() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"a"},
            {"role":"user","content":"b"},{"role":"user","content":"c"}]}"#;
        let request = Dialect::OpenAiChat.read(body.as_bytes()).unwrap();
        let prompt = &request.prompt;
        let chains = |pruned: &[usize]| chains_as_sent(prompt, pruned);
        let same = |one: &[usize], other: &[usize]| {
            let (one, other) = (chains(one), chains(other));
            let alike = one.iter().zip(&other).map(|(one, other)| one == other);
            alike.collect::<Vec<bool>>()
        };
        assert_eq!(same(&[], &[1]), [true, false, false]);
        assert_eq!(same(&[0], &[]), [false; 3]);
        assert_eq!(same(&[1], &[1, 2]), [true, true, false]);
        let client: Vec<Chain> = prompt.segments.iter().map(|it| it.chain).collect();
        assert_eq!(chains(&[]), client);
    }

    #[test]
    fn json_stays_json() {
        let left_out = stub(" {\"a\":1}", Tokens(7));
        assert!(serde_json::from_str::<serde_json::Value>(&left_out).is_ok());
        assert!(stub("text", Tokens(7)).starts_with("[7 tokens"));
    }
}
