//! What a leg can cost at most, and what it is expected to cost, before it is sent.
//!
//! **Invariant**: a leg whose usage stays within its bounds never costs more than its worst case
//! (property `no_usage_within_the_bounds_costs_more`).

use std::collections::BTreeSet;

use wire::usage::{Tokens, Ttl, Usage};

use crate::moment::Moment;
use crate::money::PicoUsd;
use crate::prices::bill::{Bill, Class, Unpriced};
use crate::prices::model::{Model, Rates};

/// The longest output of any model in the price book: a client that names no limit, on a model whose
/// limit is not known, may get as much (test `no_known_output_is_longer_than_the_ceiling`).
pub const OUTPUT_CEILING: Tokens = Tokens(393_216);

/// What providers put around a prompt and count as input: role markers, and the instructions that
/// come with tools, which are some hundred tokens.
pub const FRAME: Tokens = Tokens(1_024);

/// Five minutes: between the reservation and the moment at which the leg is priced, special hours or
/// a new price list may begin.
pub const PRICED_WITHIN_MS: u64 = 300_000;

/// How a prompt was counted, and so how far the provider's count may exceed ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counting {
    /// By the provider: it cannot be more.
    UpperBound,
    /// In bytes, of which every token has at least one: it cannot be more, and is mostly far less.
    Bytes,
    /// With a public vocabulary, perhaps that of another model.
    Vocabulary,
    /// By classes of bytes, without a vocabulary. Not for prompts of an adversary: long runs of mixed
    /// white space have more tokens than any margin covers; count those in bytes.
    Estimate,
}

impl Counting {
    /// The margin as percent of the count.
    const fn percent(self) -> u64 {
        match self {
            Self::UpperBound | Self::Bytes => 100,
            Self::Vocabulary => VOCABULARY_PERCENT,
            Self::Estimate => ESTIMATE_PERCENT,
        }
    }
}

/// A margin and not a bound: makers do not publish their newest vocabularies, and those differ from
/// the public ones by more than a half, on code more than on prose.
const VOCABULARY_PERCENT: u64 = 200;

/// Random letters have 3.1 to 3.9 tokens for each one estimated, in the vocabularies `o200k` and
/// `cl100k`; prose, code and JSON have 0.8 to 0.9.
const ESTIMATE_PERCENT: u64 = 400;

/// What a leg's usage is bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// The target's row of the price book.
    pub model: &'a Model,
    /// The prompt as counted.
    pub prompt: Tokens,
    /// How it was counted.
    pub counting: Counting,
    /// The most that comes on top and is not in the count: images, files, pages that the provider's
    /// own tools fetch.
    pub added: Tokens,
    /// The longest answer that the client allows; without one, the model's.
    pub output: Option<Tokens>,
    /// How many answers it asks for.
    pub choices: u64,
    /// Lifetimes for which the prompt may be written to the provider's cache.
    pub writes: &'a [Ttl],
    /// Tiers that the request may be served with.
    pub tiers: Tiers<'a>,
    /// Whether the request can carry or ask for sound.
    pub sound: Sound,
    /// The most web searches that it may make.
    pub searches: u64,
    /// The region that it is served from, where that has a factor.
    pub region: Option<&'a str>,
    /// When it is reserved.
    pub at: Moment,
}

/// Tiers that a request may be served with: the response decides, so the dearest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers<'a> {
    /// One of these, as responses name them.
    These(&'a [&'a str]),
    /// Any that the price book knows, where the provider's account settings decide.
    Any,
}

/// Whether tokens of sound, with their own prices, can occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// Only text and images.
    None,
    /// Sound, in or out.
    Possible,
}

impl Leg<'_> {
    /// The most input tokens that the provider can count: more than a model takes is refused by it,
    /// and not billed.
    pub fn input_bound(&self) -> Tokens {
        let counted = self.prompt.0.saturating_mul(self.counting.percent());
        let bound = Tokens(counted.div_ceil(100)) + self.added + FRAME;
        match self.counting {
            Counting::Bytes => bound.min(input_limit(self.model).unwrap_or(bound)),
            Counting::UpperBound | Counting::Vocabulary | Counting::Estimate => bound,
        }
    }

    /// What is known to be the least that the provider counts, in view of its price steps.
    fn counted(&self) -> Tokens {
        match self.counting {
            Counting::Bytes => Tokens(0),
            Counting::UpperBound | Counting::Vocabulary | Counting::Estimate => {
                self.prompt + self.added
            }
        }
    }

    /// The most output tokens: the client's limit or the model's, whichever is known and smaller, for
    /// each answer.
    pub fn output_bound(&self) -> Tokens {
        let known = [self.output, self.model.output_limit];
        let smallest = known.into_iter().flatten().min();
        let each = smallest.unwrap_or(OUTPUT_CEILING);
        Tokens(each.0.saturating_mul(self.choices))
    }
}

/// The largest input that a model takes, where it is known. A price for more shows that it is not.
pub fn input_limit(model: &Model) -> Option<Tokens> {
    let context = model.context?;
    let rows = model.windows.iter().flat_map(|window| &window.rows);
    let dearest = rows.map(|row| row.from_input).max();
    dearest.is_none_or(|from| from < context).then_some(context)
}

/// The most that a leg can cost: all input in its dearest class, the longest answer, the dearest size
/// that the input can have, tier and hour; or why that is not known.
///
/// An input whose count lies beyond the known prices is not priced; one that only its margin carries
/// there, or that is only known in bytes, is priced at the last known rate.
pub fn worst(leg: &Leg<'_>) -> Result<PicoUsd, Unpriced> {
    let mut dearest = PicoUsd::ZERO;
    for at in [leg.at, leg.at.after(PRICED_WITHIN_MS)] {
        for tier in tiers(leg, at) {
            for rates in steps(leg, at, tier)? {
                dearest = dearest.max(at_rates(leg, &rates)?);
            }
        }
    }
    Ok(dearest)
}

/// What a leg is expected to cost if it answers with `output` tokens and reads nothing from a cache;
/// never more than its worst case.
pub fn expected(leg: &Leg<'_>, output: Tokens) -> Result<PicoUsd, Unpriced> {
    let tier = match leg.tiers {
        Tiers::These(names) => names.first().map(|name| (*name).to_owned()),
        Tiers::Any => None,
    };
    let usage = Usage {
        uncached: leg.prompt + leg.added,
        output: output.min(leg.output_bound()),
        tier,
        ..Usage::default()
    };
    let bill = match leg.region {
        Some(region) => leg.model.cost_in(region, &usage, leg.at)?,
        None => leg.model.cost(&usage, leg.at)?,
    };
    Ok(bill.total().min(worst(leg)?))
}

/// Names of the tiers that may serve the leg: those asked for, or one name of each known.
fn tiers<'a>(leg: &Leg<'a>, at: Moment) -> Vec<&'a str> {
    match leg.tiers {
        Tiers::These(names) => names.to_vec(),
        Tiers::Any => {
            let rows = leg.model.window(at).map_or(&[][..], |it| &it.rows);
            let names: BTreeSet<&str> = rows
                .iter()
                .filter_map(|row| row.tiers.first().map(String::as_str))
                .collect();
            names.into_iter().collect()
        }
    }
}

/// The rates of every size that the input can turn out to have.
fn steps(leg: &Leg<'_>, at: Moment, tier: &str) -> Result<Vec<Rates>, Unpriced> {
    let rows = leg.model.window(at).map_or(&[][..], |it| &it.rows);
    let bound = leg.input_bound();
    let edges: BTreeSet<Tokens> = rows
        .iter()
        .map(|row| row.from_input)
        .filter(|from| *from <= bound)
        .collect();
    // The count itself must have a price; sizes that only the margin reaches may have none.
    leg.model.rates(at, leg.counted(), Some(tier))?;
    let known = edges.into_iter().chain([bound]);
    Ok(known
        .filter_map(|size| leg.model.rates(at, size, Some(tier)).ok())
        .collect())
}

/// The most that the leg can cost at these rates.
fn at_rates(leg: &Leg<'_>, rates: &Rates) -> Result<PicoUsd, Unpriced> {
    let unknown = |class: Class| Unpriced::Class {
        model: leg.model.id.clone(),
        class: class.name(),
    };
    let plain = [Class::Input, Class::CacheRead];
    let writes = leg.writes.iter().map(|ttl| Class::CacheWrite(*ttl));
    let heard = (leg.sound == Sound::Possible).then_some(Class::AudioInput);
    let inputs = plain.into_iter().chain(writes).chain(heard);
    let input = inputs.filter_map(|class| rates.price(class)).max();
    let spoken = (leg.sound == Sound::Possible).then_some(Class::AudioOutput);
    let outputs = [Class::Output].into_iter().chain(spoken);
    let output = outputs.filter_map(|class| rates.price(class)).max();
    let tokens = leg.output_bound();
    let answer = match output {
        Some(price) => price.cost(tokens),
        None if tokens == Tokens(0) => PicoUsd::ZERO,
        None => return Err(unknown(Class::Output)),
    };
    let prompt = input.ok_or_else(|| unknown(Class::Input))?;
    let mut bill = Bill {
        input: prompt.cost(leg.input_bound()),
        output: answer,
        ..Bill::default()
    };
    if let Some(region) = leg.region {
        let ratio = leg.model.regions.get(region);
        let ratio = ratio.ok_or_else(|| Unpriced::Region {
            model: leg.model.id.clone(),
            region: region.to_owned(),
        })?;
        bill = bill.in_region(*ratio);
    }
    if leg.searches > 0 {
        let each = rates.web_search.ok_or_else(|| Unpriced::Class {
            model: leg.model.id.clone(),
            class: "web_search",
        })?;
        bill.web_search = each.each(leg.searches);
    }
    Ok(bill.total())
}
