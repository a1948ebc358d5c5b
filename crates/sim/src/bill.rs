//! Usage and money of many calls, added up.
//!
//! **Invariant**: sums are exact (property `splits_add_up`), and an unpriced call is an error, never 0.

use policy::money::PicoUsd;
use policy::prices::bill::Bill;
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
    /// The part of it that was paid for input.
    pub input_cost: PicoUsd,
}

impl Sum {
    /// Adds one call.
    pub fn add(&mut self, usage: &Usage, bill: &Bill) {
        self.input.uncached += usage.uncached;
        self.input.read += usage.cache_read;
        for ttl in Ttl::ALL {
            *self.input.written.of_mut(ttl) += usage.cache_write.of(ttl);
        }
        self.output += usage.output;
        let cost = bill.total();
        self.cost += cost;
        self.input_cost += cost - bill.output - bill.audio_output;
    }
}
