//! Between the data path and the writer thread: a list under a lock, taken whole for each commit,
//! and the journal that makes a row safe before that.
//!
//! **Invariant**: pushing waits for no commit and never drops a row; rows leave in the order in
//! which they came (store conformance, `openings_come_back_in_order`).
//!
//! With a journal a row is safe from a crash of the process when it is pushed: one `write` of a
//! kilobyte to the operating system, some microseconds, and no thread is woken for it. Without one
//! (or when it fails) a row is safe when it is committed.
//!
//! The bound is kept by refusal, not by blocking or dropping. A channel that is full could only
//! block a thread that serves other calls, or lose a row of a call that is billed already. So every
//! row is taken, and past [`QUEUED_MAX`] the ledger reports itself *behind*: the gateway refuses
//! new calls, and the list can then grow only by the settlings of the calls that are under way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::ports::{Acknowledge, CallOpened, CallRaised, CallSettled, LedgerHealth};

use super::journal::{self, Journal, Note, Position};
use crate::range::{self, Fit};

/// 65 536 rows, about 100 MB: at 2 000 calls a second, 16 seconds of a disk that does not answer.
pub(super) const QUEUED_MAX: usize = 65_536;

/// 100 ms between commits: one costs some 200 CPU-µs whatever its size, and nobody waits for rows
/// that the journal has. Readers of the tables see a call at most this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// 5 ms between commits without a journal, for opening rows. A settlement is committed at once, with
/// everything gathered before it: a client waits for its last byte. Under load, what comes during
/// one commit shares the next.
const PAUSE_UNSAFE: Duration = Duration::from_millis(5);

/// 256 rows: enough to make the cost of a commit vanish; no need to gather any longer.
const GATHERED_MAX: usize = 256;

/// What waits to be written.
pub(super) struct Entry {
    pub(super) row: Row,
    /// Behind its record, if the journal has it.
    pub(super) place: Option<Position>,
    /// Whom to tell when it is committed, if it was not safe before.
    pub(super) acknowledge: Option<Acknowledge>,
}

/// What is to be written.
pub(super) enum Row {
    /// A call that has begun.
    Open(Box<CallOpened>),
    Raise(Box<CallRaised>),
    /// A call that is over.
    Settle(Box<CallSettled>),
    /// Nothing; it tells when everything before it is committed.
    Mark,
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
    /// Someone waits for a commit: gather no longer.
    urgent: bool,
    journal: Option<Journal>,
    health: LedgerHealth,
}

/// The list, shared by the data path and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Rows are written to a journal first.
    has_journal: bool,
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
    pub(super) fn new(journal: Option<Journal>) -> Self {
        let has_journal = journal.is_some();
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                taken: 0,
                mode: Mode::Running,
                idle: false,
                urgent: false,
                journal,
                health: LedgerHealth::default(),
            }),
            changed: Condvar::new(),
            has_journal,
        }
    }

    pub(super) fn open(&self, mut call: CallOpened) {
        let fit = range::fit_opening(&mut call);
        let frame = self.frame(&Note::Open(&call));
        let row = Row::Open(Box::new(call));
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        self.push(state, row, frame, None);
    }

    /// Takes what is held for a further leg.
    pub(super) fn raise(&self, mut raised: CallRaised) {
        let fit = range::fit_held(&mut raised.held);
        let frame = self.frame(&Note::Raise(&raised));
        let row = Row::Raise(Box::new(raised));
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        self.push(state, row, frame, None);
    }

    pub(super) fn settle(&self, mut settled: CallSettled, acknowledge: Acknowledge) {
        let fit = range::fit(&mut settled);
        let frame = self
            .has_journal
            .then(|| journal::frame_settled(&mut settled));
        let frame = frame.flatten();
        let row = Row::Settle(Box::new(settled));
        let mut state = self.lock();
        state.health.unrepresentable += u64::from(fit == Fit::Reduced);
        self.push(state, row, frame, Some(acknowledge));
    }

    pub(super) fn mark(&self, acknowledge: Acknowledge) {
        self.push(self.lock(), Row::Mark, None, Some(acknowledge));
    }

    /// Made before the lock is taken.
    fn frame(&self, note: &Note<'_>) -> Option<Vec<u8>> {
        self.has_journal.then(|| journal::frame(note)).flatten()
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        row: Row,
        frame: Option<Vec<u8>>,
        acknowledge: Option<Acknowledge>,
    ) {
        if state.mode == Mode::Dropped {
            state.health.failing = Some("the ledger is closed".to_owned());
            return;
        }
        let place = frame.and_then(|frame| state.journaled(&frame));
        let (safe, waits) = match place {
            Some(_) => (acknowledge, None),
            None => (None, acknowledge),
        };
        let became_urgent = waits.is_some() && !state.urgent;
        state.urgent |= waits.is_some();
        state.waiting.push(Entry {
            row,
            place,
            acknowledge: waits,
        });
        let queued = state.queued();
        state.health.queued_most = state.health.queued_most.max(queued as u64);
        let wake = state.idle || became_urgent || state.waiting.len() == GATHERED_MAX;
        state.idle = false;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        if let Some(acknowledge) = safe {
            acknowledge();
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

    const fn pause(&self) -> Duration {
        if self.has_journal {
            PAUSE
        } else {
            PAUSE_UNSAFE
        }
    }

    /// Everything that waits, after a pause since the last commit; `None` when the writer is to
    /// end.
    pub(super) fn take(&self) -> Option<Vec<Entry>> {
        let mut state = self.lock();
        if state.health.commits > 0 {
            (state, _) = self
                .changed
                .wait_timeout_while(state, self.pause(), |state| {
                    let more = state.waiting.len() < GATHERED_MAX;
                    more && !state.urgent && state.mode == Mode::Running
                })
                .unwrap_or_else(PoisonError::into_inner);
        }
        while state.waiting.is_empty() {
            if state.mode != Mode::Running {
                return None;
            }
            state.idle = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        if state.mode == Mode::Dropped {
            return None;
        }
        state.urgent = false;
        let batch = std::mem::take(&mut state.waiting);
        state.taken = batch.len();
        Some(batch)
    }

    /// The writer has ended. Returns whether it has written everything.
    pub(super) fn ended(&self) -> bool {
        let mut state = self.lock();
        let whole = state.mode == Mode::Closing && state.waiting.is_empty();
        state.mode = Mode::Dropped;
        state.journal = None;
        whole
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
    /// Where the journal has it now; `None` where there is none, or where it cannot be written.
    fn journaled(&mut self, frame: &[u8]) -> Option<Position> {
        match self.journal.as_mut()?.append(frame) {
            Ok(place) => Some(place),
            Err(error) => {
                self.health.failures += 1;
                self.health.failing = Some(format!("the journal cannot be written: {error}"));
                None
            }
        }
    }

    fn queued(&self) -> usize {
        self.waiting.len() + self.taken
    }
}
