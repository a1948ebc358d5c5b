//! The one thread that writes calls: everything that waits goes into one transaction.
//!
//! **Invariant**: a call is acknowledged after its commit, and its rows are written once (store
//! conformance, `acknowledged_means_committed` and `settled_exactly_once`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy::ports::{CallSettled, read};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::queue::{Entry, Patience, Queue};
use super::rows;
use crate::error::StoreError;

/// 100 ms: a full disk or a locked file does not get better sooner.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// 50 attempts, five seconds: how long a gateway that wants to stop waits for its disk.
const CLOSING_TRIES: u32 = 50;

/// What became of the rows of one commit.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    settled: u64,
    repeated: u64,
}

/// Writes until the queue is closed and empty.
pub(super) fn run(
    mut connection: Connection,
    path: PathBuf,
    queue: &Arc<Queue>,
) -> Result<(), StoreError> {
    while let Some(batch) = queue.take() {
        let mut tries_left = CLOSING_TRIES;
        let written = loop {
            match write(&mut connection, &batch) {
                Ok(written) => break written,
                Err(source) => {
                    if queue.failed(source.to_string(), RETRY_PAUSE) == Patience::Limited {
                        tries_left -= 1;
                    }
                    if tries_left == 0 {
                        let rows = queue.queued();
                        queue.abandon();
                        return Err(StoreError::Unwritten {
                            path,
                            rows,
                            source: Box::new(source),
                        });
                    }
                }
            }
        };
        queue.committed(written.settled, written.repeated);
        for entry in batch {
            match entry {
                Entry::Open(_) => {}
                Entry::Settle(_, acknowledge) | Entry::Mark(acknowledge) => acknowledge(),
            }
        }
    }
    Ok(())
}

fn write(connection: &mut Connection, batch: &[Entry]) -> rusqlite::Result<Written> {
    // Immediate, so that a reader's snapshot can never make the commit itself fail.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut written = Written::default();
    for entry in batch {
        match entry {
            Entry::Open(call) => {
                let added = rows::insert_opened(&transaction, call)?;
                written.repeated += u64::from(added.is_none());
            }
            Entry::Settle(settled, _) => match settle(&transaction, settled)? {
                Outcome::Settled => written.settled += 1,
                Outcome::Repeated => written.repeated += 1,
            },
            Entry::Mark(_) => {}
        }
    }
    transaction.commit()?;
    Ok(written)
}

enum Outcome {
    Settled,
    Repeated,
}

fn settle(connection: &Connection, settled: &CallSettled) -> rusqlite::Result<Outcome> {
    let found = connection
        .prepare_cached("SELECT id, settled_at_ms IS NULL FROM calls WHERE call = ?1")?
        .query_row([&settled.call.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
        })
        .optional()?;
    let id = match found {
        Some((id, true)) => id,
        Some((_, false)) => return Ok(Outcome::Repeated),
        // The call may be billed, so it is booked even though nobody announced it.
        None => match rows::insert_opened(connection, &read::opening_of(settled))? {
            Some(id) => id,
            None => return Ok(Outcome::Repeated),
        },
    };
    for (position, leg) in (0_i64..).zip(&settled.legs) {
        rows::insert_leg(connection, id, position, leg)?;
    }
    for (lever, saved) in &settled.savings {
        rows::insert_saving(connection, id, *lever, *saved)?;
    }
    rows::close_call(connection, id, settled)?;
    Ok(Outcome::Settled)
}
