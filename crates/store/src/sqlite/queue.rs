//! Between the data path and the writer thread: a list under a lock, taken whole for each commit.
//!
//! **Invariant**: pushing never waits for IO and never drops a row; rows leave in the order in
//! which they came (store conformance, `openings_come_back_in_order`).
//!
//! The bound is kept by refusal, not by blocking or dropping. A channel that is full could only
//! block a thread that serves other calls, or lose a row of a call that is billed already. So every
//! row is taken, and past [`QUEUED_MAX`] the ledger reports itself *behind*: the gateway refuses
//! new calls, and the list can then grow only by the settlings of the calls that are under way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::ports::{Acknowledge, CallOpened, CallSettled, LedgerHealth};

use crate::range::{self, Fit};

/// 65 536 rows, about 100 MB: at 2 000 calls a second, 16 seconds of a disk that does not answer.
pub(super) const QUEUED_MAX: usize = 65_536;

/// 5 ms: a commit costs some 200 CPU-µs whatever its size, so opening rows, for which nobody waits,
/// are gathered this long. A settlement is committed at once, with everything gathered before it:
/// a client waits for its last byte. Under load, what comes during one commit shares the next.
const GATHER: Duration = Duration::from_millis(5);

/// 256 rows: enough to make the cost of a commit vanish; no need to gather any longer.
const GATHERED_MAX: usize = 256;

/// What waits to be written.
pub(super) enum Entry {
    /// A call that has begun.
    Open(Box<CallOpened>),
    /// A call that is over, and whom to tell when that is committed.
    Settle(Box<CallSettled>, Acknowledge),
    /// Nothing to write; tells when everything before it is committed.
    Mark(Acknowledge),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Rows come and go.
    Running,
    /// The writer ends when nothing waits.
    Closing,
    /// There is no writer any more, or it ends at once.
    Dropped,
}

struct State {
    waiting: Vec<Entry>,
    /// Rows that the writer has taken and not committed yet.
    taken: usize,
    mode: Mode,
    /// The writer waits for a first row and must be woken.
    idle: bool,
    /// Someone waits for an acknowledgement: gather no longer.
    urgent: bool,
    health: LedgerHealth,
}

/// The list, shared by the data path and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the writer finds when it has tried in vain and waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The gateway runs on: try for ever.
    Endless,
    /// The gateway wants to stop: try a few times more.
    Limited,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                taken: 0,
                mode: Mode::Running,
                idle: false,
                urgent: false,
                health: LedgerHealth::default(),
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn open(&self, call: CallOpened) {
        self.push(self.lock(), Entry::Open(Box::new(call)));
    }

    pub(super) fn settle(&self, mut settled: CallSettled, acknowledge: Acknowledge) {
        let fit = range::fit(&mut settled);
        let entry = Entry::Settle(Box::new(settled), acknowledge);
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        self.push(state, entry);
    }

    pub(super) fn mark(&self, acknowledge: Acknowledge) {
        self.push(self.lock(), Entry::Mark(acknowledge));
    }

    fn push(&self, mut state: MutexGuard<'_, State>, entry: Entry) {
        if state.mode == Mode::Dropped {
            state.health.failing = Some("the ledger is closed".to_owned());
            return;
        }
        let is_awaited = matches!(entry, Entry::Settle(..) | Entry::Mark(_));
        let became_urgent = is_awaited && !state.urgent;
        state.urgent |= is_awaited;
        state.waiting.push(entry);
        let queued = state.queued();
        state.health.queued_most = state.health.queued_most.max(queued as u64);
        let wake = state.idle || became_urgent || state.waiting.len() == GATHERED_MAX;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Lets the writer end when everything is written.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.mode == Mode::Running {
            state.mode = Mode::Closing;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the writing at once: what waits is lost, and never acknowledged.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.mode = Mode::Dropped;
        let lost = std::mem::take(&mut state.waiting);
        drop(state);
        drop(lost);
        self.changed.notify_all();
    }

    /// Everything that waits, after a moment of gathering; `None` when the writer is to end.
    pub(super) fn take(&self) -> Option<Vec<Entry>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.mode != Mode::Running {
                state.mode = Mode::Dropped;
                return None;
            }
            state.idle = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, GATHER, |state| {
                let more = state.waiting.len() < GATHERED_MAX;
                more && !state.urgent && state.mode == Mode::Running
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.mode == Mode::Dropped {
            return None;
        }
        state.urgent = false;
        let batch = std::mem::take(&mut state.waiting);
        state.taken = batch.len();
        Some(batch)
    }

    /// Notes a commit of what was taken.
    pub(super) fn committed(&self, settled: u64, repeated: u64) {
        let mut state = self.lock();
        state.taken = 0;
        state.health.settled += settled;
        state.health.repeated += repeated;
        state.health.commits += 1;
        state.health.failing = None;
    }

    /// Notes a failed commit, and waits before the next attempt.
    pub(super) fn failed(&self, why: String, pause: Duration) -> Patience {
        let mut state = self.lock();
        state.health.failures += 1;
        state.health.failing = Some(why);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, pause, |state| state.mode != Mode::Dropped)
            .unwrap_or_else(PoisonError::into_inner);
        match state.mode {
            Mode::Running => Patience::Endless,
            Mode::Closing | Mode::Dropped => Patience::Limited,
        }
    }

    /// How many rows wait or are being written.
    pub(super) fn queued(&self) -> u64 {
        self.lock().queued() as u64
    }

    pub(super) fn health(&self) -> LedgerHealth {
        let state = self.lock();
        let queued = state.queued();
        LedgerHealth {
            queued: queued as u64,
            behind: queued > QUEUED_MAX,
            ..state.health.clone()
        }
    }

    /// A panic elsewhere leaves no half-made state behind: every change is complete when the lock
    /// is given back.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl State {
    fn queued(&self) -> usize {
        self.waiting.len() + self.taken
    }
}
