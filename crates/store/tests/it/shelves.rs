//! The two stores as the conformance suite sees them.
//!
//! **Invariant**: a shelf keeps its data when the store on it crashes.

use std::path::PathBuf;
use std::sync::Arc;

use policy::moment::Moment;
use policy::ports::outcomes::Outcomes;
use policy::ports::read::LedgerReader;
use policy::ports::{Keys, Ledger};
use store::memory::Memory;
use store::sqlite::Durability;
use store::sqlite::keys::SqliteKeys;
use store::sqlite::ledger::SqliteLedger;
use store::sqlite::outcomes::SqliteOutcomes;
use store::sqlite::reader::SqliteReader;
use tempfile::TempDir;
use testkit::conformance::{Running, Shelf};

/// Memory that outlives its users.
#[derive(Default)]
pub(crate) struct MemoryShelf(Arc<Memory>);

struct RunningMemory {
    memory: Arc<Memory>,
    recovered: u64,
}

impl Shelf for MemoryShelf {
    fn start(&self, now: Moment) -> Box<dyn Running> {
        let memory = Arc::clone(&self.0);
        let recovered = memory.recover(now);
        Box::new(RunningMemory { memory, recovered })
    }

    fn reader(&self) -> Arc<dyn LedgerReader> {
        Arc::<Memory>::clone(&self.0)
    }

    fn keys(&self) -> Arc<dyn Keys> {
        Arc::<Memory>::clone(&self.0)
    }

    fn outcomes(&self) -> Arc<dyn Outcomes> {
        Arc::<Memory>::clone(&self.0)
    }
}

impl Running for RunningMemory {
    fn ledger(&self) -> &dyn Ledger {
        &*self.memory
    }

    fn recovered(&self) -> u64 {
        self.recovered
    }

    fn flush(&self) {}

    fn crash(self: Box<Self>) {}
}

/// A directory with a ledger in it, if a store was ever started.
pub(crate) struct FileShelf {
    directory: TempDir,
    durability: Durability,
}

impl FileShelf {
    pub(crate) fn new() -> Self {
        Self::lasting(Durability::Process)
    }

    pub(crate) fn lasting(durability: Durability) -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            durability,
        }
    }

    pub(crate) fn ledger(&self, now: Moment) -> SqliteLedger {
        SqliteLedger::open(&self.path(), self.durability, now).expect("a ledger")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ledger.db")
    }
}

impl Shelf for FileShelf {
    fn start(&self, now: Moment) -> Box<dyn Running> {
        Box::new(RunningFile(self.ledger(now)))
    }

    fn reader(&self) -> Arc<dyn LedgerReader> {
        Arc::new(SqliteReader::open(&self.path()).expect("a reader"))
    }

    fn keys(&self) -> Arc<dyn Keys> {
        Arc::new(SqliteKeys::open(&self.path()).expect("keys"))
    }

    fn outcomes(&self) -> Arc<dyn Outcomes> {
        Arc::new(SqliteOutcomes::open(&self.path()).expect("outcomes"))
    }
}

struct RunningFile(SqliteLedger);

impl Running for RunningFile {
    fn ledger(&self) -> &dyn Ledger {
        &self.0
    }

    fn recovered(&self) -> u64 {
        self.0.recovered()
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn crash(self: Box<Self>) {
        self.0.abandon();
    }
}
