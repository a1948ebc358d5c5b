//! The ledger of one gateway: takes calls from the data path and hands them to the writer thread.
//!
//! **Invariant**: whatever a killed gateway left open is closed once, at the next start, before any
//! new call and after its journal was brought in (store conformance, `recovery_closes_what_was_open`).

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use policy::moment::Moment;
use policy::ports::read::recovery_of;
use policy::ports::{Acknowledge, CallId, CallOpened, CallRaised, CallSettled, LedgerHealth};

use super::instance::Instance;
use super::journal::Journal;
use super::queue::Queue;
use super::{Durability, open_writable, refused, rows, writer};
use crate::error::StoreError;

/// An open ledger. Dropping it writes what waits; [`SqliteLedger::close`] also says if that failed.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    recovered: u64,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl SqliteLedger {
    /// Opens or makes the ledger, refuses if another gateway has it, and closes what that left
    /// open. `now` is the moment of that closing.
    pub fn open(path: &Path, durability: Durability, now: Moment) -> Result<Self, StoreError> {
        let instance = Instance::claim(path)?;
        let mut connection = open_writable(path, durability)?;
        let segment = writer::recover(&mut connection, path)?;
        let closing = recovery_of(CallId(String::new()), now);
        let recovered = rows::close_open_calls(&connection, &closing)
            .map_err(|source| refused(path, "close what a crash left open", source))?;
        let journal = match durability {
            Durability::Process => Some(Journal::begin(path, segment)),
            Durability::Power => None,
        };
        let journal = journal.transpose().map_err(|source| StoreError::Io {
            doing: "begin the journal of",
            path: path.to_owned(),
            source,
        })?;
        let queue = Arc::new(Queue::new(journal));
        let writer = {
            let (path, queue) = (path.to_owned(), Arc::clone(&queue));
            std::thread::Builder::new()
                .name("ledger".to_owned())
                .spawn(move || {
                    // Held until the connection is closed, so that the next one finds it so.
                    let _instance = instance;
                    writer::run(connection, path, &queue)
                })
        };
        let writer = writer.map_err(|source| StoreError::Io {
            doing: "start a thread that writes to",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            recovered: recovered as u64,
            queue,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// How many calls an earlier process had left open.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Blocks until everything that was queued before is committed, or the ledger is closed.
    pub fn flush(&self) {
        let (committed, wait) = sync_channel::<()>(1);
        self.queue.mark(Box::new(move || drop(committed)));
        // Nothing is sent: that the sender is dropped is the message.
        wait.iter().for_each(drop);
    }

    /// Writes what waits and ends the writer. Call it when no more calls are served: what comes
    /// later is not written.
    pub fn close(&self) -> Result<(), StoreError> {
        self.queue.close();
        self.join()
    }

    /// Ends as a kill would: what waits is lost and never acknowledged.
    pub fn abandon(&self) {
        self.queue.abandon();
        drop(self.join());
    }

    fn join(&self) -> Result<(), StoreError> {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match writer.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(StoreError::Unwritten {
                path: self.path.clone(),
                rows: self.queue.queued(),
                source: "the writer panicked".into(),
            }),
        }
    }
}

impl policy::ports::Ledger for SqliteLedger {
    fn open(&self, call: CallOpened) {
        self.queue.open(call);
    }

    fn raise(&self, raised: CallRaised) {
        self.queue.raise(raised);
    }

    fn settle(&self, settled: CallSettled, acknowledge: Acknowledge) {
        self.queue.settle(settled, acknowledge);
    }

    fn health(&self) -> LedgerHealth {
        self.queue.health()
    }
}

impl Drop for SqliteLedger {
    fn drop(&mut self) {
        drop(self.close());
    }
}
