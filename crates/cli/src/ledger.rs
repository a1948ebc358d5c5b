//! The store, opened for what a command needs: serving, reading, or keys.
//!
//! **Invariant**: reading and keys work beside a running gateway (test
//! `keys_and_reports_work_on_a_fresh_store` in `tests/it`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use policy::moment::Moment;
use policy::ports::outcomes::Outcomes;
use policy::ports::{Keys, Ledger};
use store::error::StoreError;
use store::memory::Memory;
use store::sqlite::Durability;
use store::sqlite::keys::SqliteKeys;
use store::sqlite::ledger::SqliteLedger;
use store::sqlite::outcomes::SqliteOutcomes;
use store::sqlite::reader::SqliteReader;

use crate::config::Source;
use crate::config::build::{Config, Place};
use crate::config::raw::RawDurability;
use crate::env::Environment;
use crate::print::failure::UsageError;

/// Which ledger a command works with.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LedgerSource {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The ledger's file, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

impl LedgerSource {
    /// The ledger's file.
    pub(crate) fn path(&self, environment: &Environment) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.store {
            return Ok(path.clone());
        }
        path_of(self.source.place(environment)?)
    }

    /// The ledger to read.
    pub(crate) fn reader(&self, environment: &Environment) -> anyhow::Result<SqliteReader> {
        Ok(SqliteReader::open(&self.path(environment)?)?)
    }

    /// The keys to read and change; makes the file if it is not there.
    pub(crate) fn keys(&self, environment: &Environment) -> anyhow::Result<SqliteKeys> {
        let path = self.path(environment)?;
        make_folder(&path)?;
        Ok(SqliteKeys::open(&path)?)
    }
}

/// The ledger's file; one in memory cannot be looked at from another process.
fn path_of(place: Place) -> anyhow::Result<PathBuf> {
    match place {
        Place::File(path) => Ok(path),
        Place::Memory => Err(UsageError(
            "the configuration keeps the ledger in memory, where only its gateway sees it; name a \
             file in `[store] path`, or another ledger with `--store`"
                .to_owned(),
        )
        .into()),
    }
}

/// A store that is open for serving.
pub(crate) struct Open {
    /// Where calls are written down.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// Where keys are kept.
    pub(crate) keys: Arc<dyn Keys>,
    /// Where outcomes are kept.
    pub(crate) outcomes: Arc<dyn Outcomes>,
    /// How many calls an earlier process had left open.
    pub(crate) recovered: u64,
    file: Option<Arc<SqliteLedger>>,
}

impl Open {
    /// Opens or makes the store that a configuration names.
    pub(crate) fn new(config: &Config, now: Moment) -> anyhow::Result<Self> {
        let path = match &config.place {
            Place::File(path) => path,
            Place::Memory => {
                let memory = Arc::new(Memory::default());
                return Ok(Self {
                    keys: Arc::<Memory>::clone(&memory),
                    outcomes: Arc::<Memory>::clone(&memory),
                    ledger: memory,
                    recovered: 0,
                    file: None,
                });
            }
        };
        let durability = match config.durability {
            RawDurability::Process => Durability::Process,
            RawDurability::Power => Durability::Power,
        };
        make_folder(path)?;
        let file = Arc::new(SqliteLedger::open(path, durability, now)?);
        let keys = Arc::new(SqliteKeys::open(path)?);
        let outcomes = Arc::new(SqliteOutcomes::open(path)?);
        let ledger = Arc::clone(&file);
        Ok(Self {
            ledger,
            keys,
            outcomes,
            recovered: file.recovered(),
            file: Some(file),
        })
    }

    /// Writes what waits; call it when no more calls are served.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        self.file.as_ref().map_or(Ok(()), |file| file.close())
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot create the folder {} of the ledger; name another file in `[store] path`",
            folder.display()
        )
    })
}
