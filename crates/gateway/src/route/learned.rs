//! Learned: what outcomes have taught of targets, and where outcomes are kept.
//!
//! **Invariant**: what is believed after a restart is what was believed before, up to the outcomes
//! that are no longer read (test `outcomes_outlive_a_restart` in `tests/it/cheaper.rs`).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use policy::ports::Fault;
use policy::ports::outcomes::{Outcome, Outcomes};
use policy::route::posterior::{Belief, Posterior};
use xxhash_rust::xxh3::xxh3_64;

/// 20 000 outcomes are read at a start: ten times what a kind of traffic remembers.
const OUTCOMES_READ: u32 = 20_000;

/// What the gateway has learned.
#[derive(Default)]
pub struct Learned {
    posterior: Mutex<Posterior>,
    store: OnceLock<Arc<dyn Outcomes>>,
}

impl Learned {
    /// Takes over what a store has, once and for all, and keeps outcomes there from now on. Gives
    /// how many there were. It may block.
    pub fn open(&self, store: Arc<dyn Outcomes>) -> Result<usize, Fault> {
        let outcomes = store.latest(OUTCOMES_READ)?;
        let mut posterior = self.posterior();
        for outcome in &outcomes {
            learn(&mut posterior, outcome);
        }
        if self.store.set(store).is_err() {
            tracing::error!("outcomes have their store already; the first one stays");
        }
        Ok(outcomes.len())
    }

    /// Where outcomes are kept, if anywhere.
    pub fn store(&self) -> Option<&Arc<dyn Outcomes>> {
        self.store.get()
    }

    /// Learns an outcome that the store has taken.
    pub fn learn(&self, outcome: &Outcome) {
        if learn(&mut self.posterior(), outcome) {
            tracing::warn!(
                target = outcome.target,
                "the answers of a target have got worse; no call is moved to it on the strength of \
                 earlier outcomes or of a router, until new outcomes prove it"
            );
        }
    }

    /// What is believed of a target, named `provider/model`, on the last of these kinds.
    pub fn belief(&self, kinds: &[u64], target: &str, prior: f64) -> Belief {
        self.posterior().belief(kinds, number(target), prior)
    }

    /// Also after a panic elsewhere: an outcome more or less.
    fn posterior(&self) -> MutexGuard<'_, Posterior> {
        self.posterior
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn learn(posterior: &mut Posterior, outcome: &Outcome) -> bool {
    posterior.observe(&outcome.kinds, number(&outcome.target), outcome.score)
}

/// The number that a posterior knows a target by.
fn number(target: &str) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
    let number = xxh3_64(target.as_bytes()) as u32;
    number
}
