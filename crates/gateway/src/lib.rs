//! What happens: one folder for each stage of a call's life; the only async room of the data path.
//!
//! **Invariant**: every call that was sent upstream is settled exactly once, and nothing is sent
//! before the stages before it have let it pass (`life::serve`; property
//! `every_exit_settles_exactly_once`).

pub mod admin;
pub mod admit;
pub mod clock;
pub mod dispatch;
pub mod id;
pub mod life;
pub mod metrics;
mod percent;
pub mod receive;
pub mod relay;
pub mod route;
pub mod server;
pub mod settle;
pub mod setup;
pub mod tasks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use policy::ports::Ledger;
use policy::route::memory::Memory;

use crate::admin::Admin;
use crate::admit::stops::Stops;
use crate::admit::{Accounts, Gaps};
use crate::clock::Clock;
use crate::dispatch::degrade::Lowered;
use crate::dispatch::health::Healths;
use crate::dispatch::hedge::Hedges;
use crate::dispatch::loops::Readings;
use crate::dispatch::send::Http;
use crate::dispatch::shape::CacheLever;
use crate::dispatch::think::ThinkMemory;
use crate::dispatch::trim::TrimLever;
use crate::dispatch::turned_away::Rows;
use crate::dispatch::wrap_up::Asked;
use crate::metrics::Metrics;
use crate::receive::guesses::Guesses;
use crate::receive::keyring::Keyring;
use crate::receive::{GUESS_DELAY, GUESSES_AT_ONCE};
use crate::route::cascade::Records;
use crate::route::learned::Learned;
use crate::settle::runaway::Watch;
use crate::setup::Setup;
use crate::tasks::Tasks;

/// A running gateway: what all calls share.
pub struct Gateway {
    /// What it is told; replaced whole on reload.
    pub setup: ArcSwap<Setup>,
    /// The keys that open it; replaced whole when the store's change.
    pub keyring: ArcSwap<Keyring>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where calls are written down.
    pub ledger: Arc<dyn Ledger>,
    /// Money and limits of the calls under way.
    pub accounts: Accounts,
    /// The admin API's own.
    pub admin: Admin,
    /// The kill switch.
    pub stops: Arc<Stops>,
    /// Where wrong keys wait for their answer.
    pub guesses: Guesses,
    /// How the targets are.
    pub healths: Healths,
    /// How many calls may be asked of two targets.
    pub hedges: Hedges,
    /// Counters.
    pub metrics: Metrics,
    /// Background work.
    pub tasks: Tasks,
    /// The connection pool.
    pub http: Http,
    /// What the route lever remembers.
    routing: Mutex<Memory>,
    /// How the cheap targets of cascades have fared.
    pub cascades: Records,
    /// What outcomes have taught it.
    pub learned: Learned,
    /// What the think lever remembers.
    pub thinking: ThinkMemory,
    /// How conversations were trimmed.
    pub trimming: TrimLever,
    /// Conversations that limits have asked to think less.
    pub lowered: Lowered,
    /// What was read of agents' conversations.
    pub readings: Readings,
    /// What agents were asked on account of limits.
    pub wrapping: Asked,
    /// How fast tasks spend.
    pub runaways: Watch,
    /// How many calls that were turned away were written down lately.
    pub turned_away: Rows,
    /// The cache lever's memory, and the worlds that it is compared with.
    pub cache: CacheLever,
}

impl Gateway {
    /// What the route lever remembers. Also after a panic elsewhere: forecasts may be off then,
    /// money is not.
    pub fn routing(&self) -> MutexGuard<'_, Memory> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway that is ready to serve.
    pub fn new(
        setup: Setup,
        keyring: Keyring,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Arc<Self> {
        let http = Http::new(&setup.limits);
        let metrics = Metrics::default();
        let accounts = Accounts::counting(metrics.budgets());
        accounts.set(&setup.budgets, clock.now());
        Arc::new(Self {
            setup: ArcSwap::from_pointee(setup),
            keyring: ArcSwap::from_pointee(keyring),
            clock,
            ledger,
            accounts,
            admin: Admin::default(),
            stops: Arc::default(),
            guesses: Guesses::new(GUESSES_AT_ONCE, GUESS_DELAY),
            healths: Healths::default(),
            hedges: Hedges::default(),
            metrics,
            tasks: Tasks::default(),
            http,
            routing: Mutex::default(),
            cascades: Records::default(),
            learned: Learned::default(),
            thinking: ThinkMemory::default(),
            trimming: TrimLever::default(),
            lowered: Lowered::default(),
            readings: Readings::default(),
            wrapping: Asked::default(),
            runaways: Watch::default(),
            turned_away: Rows::default(),
            cache: CacheLever::default(),
        })
    }

    /// Takes another setup from the next call on; what was used stays used. What its limits begin to
    /// count is missing until [`Accounts::fill`] has it.
    pub fn adopt(&self, setup: Setup) -> Gaps {
        let gaps = self.accounts.set(&setup.budgets, self.clock.now());
        self.setup.store(Arc::new(setup));
        gaps
    }
}
