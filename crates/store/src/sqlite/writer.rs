//! The one thread that writes calls: everything that waits goes into one transaction.
//!
//! **Invariant**: a call's rows are written once, also when the journal brings it again (store
//! conformance, `settled_exactly_once`; `nothing_acknowledged_is_lost_to_a_kill`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::ports::{CallSettled, read};
use rusqlite::{Connection, TransactionBehavior};

use super::journal::{self, Position, Record};
use super::queue::{Entry, Patience, Queue, Row};
use super::refused;
use super::writing::Writing;
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
    let mut segment = 0;
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
        let reached = batch.iter().rev().find_map(|entry| entry.place);
        for acknowledge in batch.into_iter().filter_map(|entry| entry.acknowledge) {
            acknowledge();
        }
        if let Some(reached) = reached.filter(|reached| reached.segment > segment) {
            segment = reached.segment;
            // What cannot be deleted now is passed over, and deleted by a later start.
            journal::forget(&path, segment).unwrap_or_default();
        }
    }
    if queue.ended() {
        journal::forget(&path, u64::MAX).unwrap_or_default();
    }
    Ok(())
}

/// Brings into the tables what a crash left in the journal, and returns the number of the segment
/// to go on with.
pub(super) fn recover(connection: &mut Connection, path: &Path) -> Result<u64, StoreError> {
    let fault = |source| refused(path, "bring in the journal", source);
    let Position { segment, offset } = journal::reached(connection).map_err(fault)?;
    let unreadable = |source| StoreError::Io {
        doing: "read the journal of",
        path: path.to_owned(),
        source,
    };
    let mut last = segment;
    for left in journal::segments(path).map_err(unreadable)? {
        last = last.max(left);
        if left < segment {
            continue;
        }
        let from = if left == segment { offset } else { 0 };
        let records = journal::records(path, left, from).map_err(unreadable)?;
        let entry = |(record, place)| Entry {
            row: match record {
                Record::Open(opened) => Row::Open(opened),
                Record::Raise(raised) => Row::Raise(raised),
                Record::Settle(settled) => Row::Settle(settled),
            },
            place: Some(place),
            acknowledge: None,
        };
        let batch: Vec<Entry> = records.into_iter().map(entry).collect();
        write(connection, &batch).map_err(fault)?;
    }
    let next = last + 1;
    let begun = Position {
        segment: next,
        offset: 0,
    };
    journal::note_reached(connection, begun).map_err(fault)?;
    journal::forget(path, next).map_err(unreadable)?;
    Ok(next)
}

fn write(connection: &mut Connection, batch: &[Entry]) -> rusqlite::Result<Written> {
    // Immediate, so that a reader's snapshot can never make the commit itself fail.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut written = Written::default();
    let mut writing = Writing::on(&transaction)?;
    for entry in batch {
        match &entry.row {
            Row::Open(call) => {
                let added = writing.open(call)?;
                written.repeated += u64::from(added.is_none());
            }
            Row::Raise(raised) => writing.raise(raised)?,
            Row::Settle(settled) => match settle(&mut writing, settled)? {
                Outcome::Settled => written.settled += 1,
                Outcome::Repeated => written.repeated += 1,
            },
            Row::Mark => {}
        }
    }
    drop(writing);
    if let Some(reached) = batch.iter().rev().find_map(|entry| entry.place) {
        journal::note_reached(&transaction, reached)?;
    }
    transaction.commit()?;
    Ok(written)
}

enum Outcome {
    Settled,
    Repeated,
}

fn settle(writing: &mut Writing<'_>, settled: &CallSettled) -> rusqlite::Result<Outcome> {
    let id = match writing.find(&settled.call.0)? {
        Some((id, true)) => id,
        Some((_, false)) => return Ok(Outcome::Repeated),
        // The call may be billed, so it is booked even though nobody announced it.
        None => match writing.open(&read::opening_of(settled))? {
            Some(id) => id,
            None => return Ok(Outcome::Repeated),
        },
    };
    for (position, leg) in (0_i64..).zip(&settled.legs) {
        writing.leg(id, position, leg)?;
    }
    for (lever, saved) in &settled.savings {
        writing.saving(id, *lever, *saved)?;
    }
    writing.close(id, settled)?;
    Ok(Outcome::Settled)
}
