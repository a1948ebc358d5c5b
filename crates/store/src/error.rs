//! What can go wrong with a store: one variant for each different reaction of the caller.
//!
//! **Invariant**: every message names the file and says what to do (test `messages_say_what_to_do`
//! in `tests/it/sqlite.rs`).

use std::path::PathBuf;

use policy::ports::Fault;

/// A fault of the database engine, whichever it is.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has been written at this path yet.
    #[error("no ledger at {}; `tokenwise serve` makes one", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another gateway writes to this file.
    #[error(
        "the ledger {} is in use by another gateway ({holder}); stop it, or give this one its own \
         file", .path.display()
    )]
    InUse {
        /// The ledger.
        path: PathBuf,
        /// Who holds it, as far as its lock file tells.
        holder: String,
    },
    /// The file is a database, but not one of ours, or no database at all.
    #[error("{} is not a tokenwise ledger; name another file", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The ledger has a schema that this build does not write.
    #[error(
        "the ledger {} has schema {found}, this build reads {known}; {}", .path.display(),
        if found > known { "use the newer tokenwise that wrote it" }
        else { "start `tokenwise serve` once to bring it up to date" }
    )]
    Schema {
        /// The ledger.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The version that this build knows.
        known: u32,
    },
    /// The file system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried, as a verb: `create`, `lock`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database engine refused.
    #[error("cannot {doing} in the ledger {}", .path.display())]
    Database {
        /// What was tried, as a verb and its object.
        doing: &'static str,
        /// The ledger.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// Rows that could not be written before the gateway stopped.
    #[error("{rows} rows were not written to the ledger {}", .path.display())]
    Unwritten {
        /// The ledger.
        path: PathBuf,
        /// How many openings and settlings are lost.
        rows: u64,
        /// Why the last attempt failed.
        source: Cause,
    },
    /// A key with this id or hash is there already.
    #[error("the key `{id}` exists already; create one with a new secret")]
    KeyExists {
        /// Its public id.
        id: String,
    },
    /// A key was given a secret that is or was a key's already.
    #[error("the new secret of the key `{id}` is there already; rotate it with another one")]
    SecretTaken {
        /// The public id of the key that was to be rotated.
        id: String,
    },
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self(Box::new(error))
    }
}
