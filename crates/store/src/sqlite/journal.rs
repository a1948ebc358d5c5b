//! What is safe before it is in a table: records appended to a file beside the ledger, which the
//! writer brings into the tables a moment later.
//!
//! **Invariant**: a record that was appended is in the tables once, whenever the process dies
//! (store conformance, `nothing_acknowledged_is_lost_to_a_crash`; tests
//! `nothing_acknowledged_is_lost_to_a_kill` and `a_torn_record_ends_its_segment_only`).
//!
//! The file is a row of *segments*, `ledger.db.journal-7`. A record is its length and a checksum,
//! four bytes each, and JSON, so that a later build can still read it; the notes of a settled call
//! are JSON themselves and follow on a line of their own. A record counts once it is whole; one that
//! is not ends its segment. Each transaction of the writer also stores how far it
//! has come, so that a start knows where to read on; segments that it has passed are deleted.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};

use policy::ports::{CallOpened, CallRaised, CallSettled};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::rows;

/// 16 MiB, some 10 000 calls: a start reads what a crash left within a second, and a new segment
/// is rare.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Length and checksum, each a little-endian `u32`.
const FRAME_BYTES: usize = 8;

/// A line break, which JSON as we write it has none of.
const NOTES_FOLLOW: u8 = b'\n';

/// 2 KiB: most records are shorter, so that they are written without growing.
const RECORD_BYTES: usize = 2 << 10;

/// A place in the journal: behind a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Segments are numbered without reuse.
    pub(super) segment: u64,
    /// Bytes from the segment's start.
    pub(super) offset: u64,
}

/// A record as it is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note<'r> {
    Open(&'r CallOpened),
    Raise(&'r CallRaised),
    Settle(&'r CallSettled),
}

/// A record as it is read.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Open(Box<CallOpened>),
    Raise(Box<CallRaised>),
    Settle(Box<CallSettled>),
}

/// The bytes of a record; `None` if it cannot be written down.
pub(super) fn frame(note: &Note<'_>) -> Option<Vec<u8>> {
    framed(note, None)
}

/// The same of a settled call, whose notes would be twice as long as text within JSON.
pub(super) fn frame_settled(settled: &mut CallSettled) -> Option<Vec<u8>> {
    let notes = mem::take(&mut settled.notes);
    let frame = framed(&Note::Settle(settled), Some(&notes));
    settled.notes = notes;
    frame
}

fn framed(note: &Note<'_>, notes: Option<&str>) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(RECORD_BYTES);
    frame.extend_from_slice(&[0; FRAME_BYTES]);
    serde_json::to_writer(&mut frame, note).ok()?;
    if let Some(notes) = notes {
        frame.push(NOTES_FOLLOW);
        frame.extend_from_slice(notes.as_bytes());
    }
    let text = frame.get(FRAME_BYTES..)?;
    let (length, sum) = (u32::try_from(text.len()).ok()?, checksum(text));
    let head = frame.first_chunk_mut::<FRAME_BYTES>()?;
    let (first, last) = head.split_at_mut(FRAME_BYTES / 2);
    first.copy_from_slice(&length.to_le_bytes());
    last.copy_from_slice(&sum.to_le_bytes());
    Some(frame)
}

/// The low half of XXH3: enough to tell a torn record from a whole one.
fn checksum(text: &[u8]) -> u32 {
    let [a, b, c, d, ..] = xxh3_64(text).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The journal's open end.
#[derive(Debug)]
pub(super) struct Journal {
    ledger: PathBuf,
    file: File,
    end: Position,
    /// The last record may be torn and could not be cut off: nothing may follow it here.
    torn: bool,
}

impl Journal {
    /// Begins a segment that must not be there yet.
    pub(super) fn begin(ledger: &Path, segment: u64) -> io::Result<Self> {
        Ok(Self {
            ledger: ledger.to_owned(),
            file: create(ledger, segment)?,
            end: Position { segment, offset: 0 },
            torn: false,
        })
    }

    /// Hands a framed record to the operating system and returns the place behind it.
    ///
    /// A failure leaves the journal as if nothing had been tried.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<Position> {
        if self.torn || self.end.offset >= SEGMENT_BYTES {
            let segment = self.end.segment + 1;
            *self = Self::begin(&self.ledger, segment)?;
        }
        if let Err(error) = self.file.write_all(frame) {
            self.torn = self.file.set_len(self.end.offset).is_err();
            return Err(error);
        }
        self.end.offset += frame.len() as u64;
        Ok(self.end)
    }
}

fn create(ledger: &Path, segment: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path(ledger, segment))
}

/// Where a segment lies.
pub(super) fn path(ledger: &Path, segment: u64) -> PathBuf {
    let mut name = stem(ledger);
    name.push(segment.to_string());
    ledger.with_file_name(name)
}

fn stem(ledger: &Path) -> OsString {
    let mut name = ledger.file_name().unwrap_or_default().to_owned();
    name.push(".journal-");
    name
}

/// The segments that are there, in order.
pub(super) fn segments(ledger: &Path) -> io::Result<Vec<u64>> {
    let folder = ledger
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let stem = stem(ledger);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        let number = name
            .as_encoded_bytes()
            .strip_prefix(stem.as_encoded_bytes());
        let number = number.and_then(|number| str::from_utf8(number).ok());
        segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// How far the tables have come.
pub(super) fn reached(connection: &Connection) -> rusqlite::Result<Position> {
    connection
        .prepare_cached("SELECT segment, offset FROM journal")?
        .query_row([], |row| {
            Ok(Position {
                segment: row.get(0)?,
                offset: row.get(1)?,
            })
        })
}

/// Stores how far the tables have come.
pub(super) fn note_reached(connection: &Connection, reached: Position) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE journal SET segment = ?1, offset = ?2")?
        .execute([rows::whole(reached.segment), rows::whole(reached.offset)])?;
    Ok(())
}

/// Behind the last record that is there; `None` without a journal.
pub(super) fn end(ledger: &Path) -> io::Result<Option<Position>> {
    let Some(segment) = segments(ledger)?.pop() else {
        return Ok(None);
    };
    let offset = fs::metadata(path(ledger, segment))?.len();
    Ok(Some(Position { segment, offset }))
}

/// The whole records of a segment from an offset on, each with the offset behind it.
pub(super) fn records(
    ledger: &Path,
    segment: u64,
    from: u64,
) -> io::Result<Vec<(Record, Position)>> {
    let bytes = fs::read(path(ledger, segment))?;
    let mut offset = usize::try_from(from).unwrap_or(usize::MAX);
    let mut records = Vec::new();
    while let Some(text) = bytes.get(offset..).and_then(first) {
        let record = record(text)?;
        offset += FRAME_BYTES + text.len();
        let offset = offset as u64;
        records.push((record, Position { segment, offset }));
    }
    Ok(records)
}

/// A whole record. If it is not understood, another build wrote it: it must not be passed over.
fn record(text: &[u8]) -> io::Result<Record> {
    let mut parts = text.splitn(2, |byte| *byte == NOTES_FOLLOW);
    let mut record = serde_json::from_slice(parts.next().unwrap_or_default())?;
    if let (Record::Settle(settled), Some(notes)) = (&mut record, parts.next()) {
        let notes = str::from_utf8(notes).map_err(io::Error::other)?;
        notes.clone_into(&mut settled.notes);
    }
    Ok(record)
}

/// The text of the record at the start, if it is whole.
fn first(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let [a, b, c, d, sum @ ..] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let text = rest.get(..length)?;
    (checksum(text) == u32::from_le_bytes(sum)).then_some(text)
}

/// Deletes the segments before one, which are in the tables.
pub(super) fn forget(ledger: &Path, before: u64) -> io::Result<()> {
    for segment in segments(ledger)?
        .into_iter()
        .filter(|segment| *segment < before)
    {
        fs::remove_file(path(ledger, segment))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use policy::moment::Moment;
    use policy::ports::CallId;
    use policy::ports::read::recovery_of;

    use super::*;

    fn settled(number: u64) -> CallSettled {
        recovery_of(CallId(format!("call_{number}")), Moment(number))
    }

    fn framed(number: u64) -> Vec<u8> {
        frame_settled(&mut settled(number)).expect("a frame")
    }

    fn read(ledger: &Path, segment: u64) -> Vec<u64> {
        let records = records(ledger, segment, 0).expect("readable");
        let number = |(record, _): (Record, Position)| match record {
            Record::Settle(settled) => settled.at.0,
            Record::Open(opened) => opened.at.0,
            Record::Raise(raised) => raised.held.until.0,
        };
        records.into_iter().map(number).collect()
    }

    #[test]
    fn a_torn_record_ends_its_segment_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.db");
        let mut journal = Journal::begin(&ledger, 1).expect("begun");
        journal.append(&framed(1)).expect("written");
        let whole = journal.append(&framed(2)).expect("written");
        // Whatever is cut off a record, what stands before it counts, and nothing else.
        let third = framed(3);
        for cut in 0..third.len() {
            let file = OpenOptions::new()
                .append(true)
                .open(path(&ledger, 1))
                .expect("opened");
            file.set_len(whole.offset).expect("cut back");
            (&file)
                .write_all(third.get(..cut).expect("a part"))
                .expect("written");
            assert_eq!(read(&ledger, 1), [1, 2], "cut at {cut}");
        }
        journal.torn = true;
        let next = journal.append(&framed(4)).expect("written");
        assert_eq!(next.segment, 2);
        assert_eq!(read(&ledger, 2), [4]);
        assert_eq!(segments(&ledger).expect("listed"), [1, 2]);
        forget(&ledger, 2).expect("deleted");
        assert_eq!(segments(&ledger).expect("listed"), [2]);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.db");
        let mut journal = Journal::begin(&ledger, 1).expect("begun");
        journal.append(&framed(1)).expect("written");
        let sound = fs::read(path(&ledger, 1)).expect("read");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            *bytes.get_mut(at).expect("within") ^= 0x20;
            fs::write(path(&ledger, 1), &bytes).expect("written");
            assert_eq!(read(&ledger, 1), [0; 0], "changed at {at}");
        }
    }

    #[test]
    fn a_failed_write_is_told_and_the_next_goes_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.db");
        let mut journal = Journal::begin(&ledger, 1).expect("begun");
        journal.append(&framed(1)).expect("written");
        // A file that can neither be written nor cut back.
        journal.file = File::open(path(&ledger, 1)).expect("opened");
        assert!(journal.append(&framed(2)).is_err());
        let place = journal.append(&framed(3)).expect("written");
        assert_eq!(place.segment, 2);
        assert_eq!((read(&ledger, 1), read(&ledger, 2)), (vec![1], vec![3]));
    }

    #[test]
    fn a_record_of_another_build_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.db");
        let text = br#"{"refund":{}}"#;
        let mut bytes = u32::try_from(text.len())
            .expect("short")
            .to_le_bytes()
            .to_vec();
        bytes.extend(checksum(text).to_le_bytes());
        bytes.extend(text);
        fs::write(path(&ledger, 1), &bytes).expect("written");
        let error = records(&ledger, 1, 0).expect_err("refused");
        assert!(
            error.to_string().contains("unknown variant `refund`"),
            "{error}"
        );
    }

    #[test]
    fn a_record_without_payers_is_understood() {
        let text = r#"{"open":{"call":"call_1","at":7,"key":"anonymous","session":null,
            "task":null,"endpoint":"/v1/messages","model":"small","provider":"acme",
            "input_estimate":3}}"#;
        let record = serde_json::from_str(text).expect("understood");
        let Record::Open(opened) = record else {
            unreachable!("{record:?}")
        };
        assert_eq!((opened.at, opened.held), (Moment(7), None));
        assert_eq!(opened.payers, policy::ports::Payers::default());
    }

    #[test]
    fn notes_of_earlier_builds_are_understood() {
        let mut call = settled(1);
        call.notes = r#"{"why":"\n\"so\""}"#.to_owned();
        let apart = frame_settled(&mut call).expect("a frame");
        let within = frame(&Note::Settle(&call)).expect("a frame");
        assert_ne!(apart, within);
        for frame in [apart, within] {
            let text = frame.get(FRAME_BYTES..).expect("a text");
            let Record::Settle(read) = record(text).expect("understood") else {
                unreachable!("another record")
            };
            assert_eq!(*read, call);
        }
    }

    #[test]
    fn a_full_segment_is_followed_by_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.db");
        let mut journal = Journal::begin(&ledger, 7).expect("begun");
        journal.end.offset = SEGMENT_BYTES;
        let place = journal.append(&framed(1)).expect("written");
        let offset = framed(1).len() as u64;
        assert_eq!(place, Position { segment: 8, offset });
    }
}
