//! Usage and money of many calls, added up.
//!
//! **Invariant**: sums are exact, and an unpriced call is an error, never 0.

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::bill::Unpriced;
use policy::prices::model::Model;
use wire::usage::{Tokens, Ttl, Usage};

use crate::cache::InputSplit;

/// What some calls used and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Input by class.
    pub input: InputSplit,
    /// Output.
    pub output: Tokens,
    /// The cost.
    pub cost: PicoUsd,
}

impl Sum {
    /// Adds one call.
    pub fn add(&mut self, usage: &Usage, cost: PicoUsd) {
        self.input.uncached += usage.uncached;
        self.input.read += usage.cache_read;
        for ttl in Ttl::ALL {
            *self.input.written.of_mut(ttl) += usage.cache_write.of(ttl);
        }
        self.output += usage.output;
        self.cost = self.cost + cost;
    }
}

/// What a usage costs at a model's prices.
pub fn cost(model: &Model, usage: &Usage, at: Moment) -> Result<PicoUsd, Unpriced> {
    Ok(model.cost(usage, at)?.total())
}
