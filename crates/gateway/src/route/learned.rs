//! Learned: what outcomes have taught of targets, and where outcomes are kept.
//!
//! **Invariant**: what is believed after a restart is what was believed before, up to the outcomes
//! that are no longer read (tests `outcomes_outlive_a_restart` in `tests/it/cheaper.rs` and
//! `verdicts_outlive_a_restart` in `tests/it/cascades_known.rs`).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use policy::ports::Fault;
use policy::ports::outcomes::{Outcome, Outcomes};
use policy::route::posterior::{Belief, Posterior};
use xxhash_rust::xxh3::xxh3_64;

use crate::route::notes::{VERDICT, verdict_of};

/// 20 000 outcomes are read at a start: ten times what a kind of traffic remembers.
const OUTCOMES_READ: u32 = 20_000;

/// 20 000 settled calls are looked through for verdicts of their cascades: as many as outcomes.
const CALLS_READ: u32 = 20_000;

/// A client's word.
const WHOLE: f64 = 1.0;

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
        let outcomes = store.latest(OUTCOMES_READ)?.into_iter();
        let mut outcomes: Vec<(Outcome, f64)> = outcomes.map(|it| (it, WHOLE)).collect();
        let verdicts = store.noted(VERDICT, CALLS_READ)?;
        outcomes.extend(verdicts.iter().filter_map(verdict_of));
        outcomes.sort_by_key(|(outcome, _)| outcome.at);
        let mut posterior = self.posterior();
        for (outcome, weight) in &outcomes {
            learn(&mut posterior, outcome, *weight);
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
        self.learn_weighed(outcome, WHOLE);
    }

    /// Learns what is only a share of an outcome.
    pub fn learn_weighed(&self, outcome: &Outcome, weight: f64) {
        if learn(&mut self.posterior(), outcome, weight) {
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

fn learn(posterior: &mut Posterior, outcome: &Outcome, weight: f64) -> bool {
    let target = number(&outcome.target);
    posterior.observe_weighed(&outcome.kinds, target, outcome.score, weight)
}

/// The number that a posterior knows a target by.
fn number(target: &str) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
    let number = xxh3_64(target.as_bytes()) as u32;
    number
}
