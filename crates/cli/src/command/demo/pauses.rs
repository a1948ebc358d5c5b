//! The demo's clock: the machine's, with the pauses between calls skipped instead of waited for.
//!
//! **Invariant**: time never runs back (test `pauses_take_no_time`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway::clock::Clock;
use policy::moment::Moment;

/// A clock that can be moved ahead; gateway and simulated providers share it.
pub(super) struct Skipping {
    real: Arc<dyn Clock>,
    /// How far it starts behind, so that it does not run into the future.
    behind_ms: u64,
    skipped_ms: AtomicU64,
}

impl Skipping {
    /// A clock that will skip `total_ms` in all, and then shows the real time.
    pub(super) fn new(real: Arc<dyn Clock>, total_ms: u64) -> Self {
        Self {
            real,
            behind_ms: total_ms,
            skipped_ms: AtomicU64::new(0),
        }
    }

    /// Moves ahead.
    pub(super) fn skip(&self, millis: u64) {
        self.skipped_ms.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Skipping {
    fn now(&self) -> Moment {
        let skipped = self.skipped_ms.load(Ordering::Relaxed);
        Moment(self.real.now().0.saturating_sub(self.behind_ms)).after(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Moment {
            Moment(1_000)
        }
    }

    #[test]
    fn pauses_take_no_time() {
        let clock = Skipping::new(Arc::new(Stopped), 300);
        assert_eq!(clock.now(), Moment(700));
        clock.skip(100);
        assert_eq!(clock.now(), Moment(800));
        clock.skip(200);
        assert_eq!(clock.now(), Moment(1_000));
    }
}
