//! One gateway a ledger: a lock file beside it, held by the operating system for as long as the
//! process lives, so that a start never closes the calls of a gateway that still runs.
//!
//! **Invariant**: of two gateways on one file, the second is refused (test
//! `a_second_gateway_is_refused`); a killed one leaves nothing to clean up.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// The right to write calls to a ledger, until dropped.
#[derive(Debug)]
pub(super) struct Instance {
    held: File,
}

impl Instance {
    /// Takes the right, or says who has it.
    pub(super) fn claim(ledger: &Path) -> Result<Self, StoreError> {
        let path = lock_path(ledger);
        let fault = |doing| {
            move |source| StoreError::Io {
                doing,
                path: lock_path(ledger),
                source,
            }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fault("create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(fault("read"))?;
                let holder = holder.trim().to_owned();
                return Err(StoreError::InUse {
                    path: ledger.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(fault("lock")(source)),
        }
        file.set_len(0).map_err(fault("empty"))?;
        writeln!(file, "process {}", std::process::id()).map_err(fault("write"))?;
        Ok(Self { held: file })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Closing is not enough: a program that this process is just starting has a copy of the
        // handle for a moment. Where it fails, the lock goes with the last copy.
        self.held.unlock().unwrap_or_default();
    }
}

fn lock_path(ledger: &Path) -> PathBuf {
    let mut name = OsString::from(ledger);
    name.push(".lock");
    PathBuf::from(name)
}
