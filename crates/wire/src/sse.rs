//! Cuts a stream of server-sent events into frames, whatever the pieces it arrives in.
//!
//! A frame is everything up to and including a blank line. Lines end in LF, CRLF or CR; a CR at
//! the end of what has arrived is not judged before the next byte, which may be its LF.
//!
//! **Invariant**: any split of the bytes gives the same frames (property
//! `any_cut_gives_the_same_frames`). Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html>,
//! read 2026-11-23.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// 8 MiB: an event with a whole generated image in base64 is below 6 MiB. A longer frame is passed
/// on as it comes, unread, so that no stream can fill the memory.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// Bytes that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole frame, the blank line included.
    Whole(&'a [u8]),
    /// Part of a frame above [`FRAME_BYTES_MAX`].
    Oversized(&'a [u8]),
}

/// Finds frames in bytes that arrive in pieces.
#[derive(Clone, Debug)]
pub struct Framer {
    frame_bytes_max: usize,
    /// The beginning of a frame that is not complete.
    pending: Vec<u8>,
    scan: Scan,
    /// Whether part of the current frame has been passed on for its size.
    is_oversized: bool,
}

/// How far a frame has been searched for its end.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Where to go on.
    at: usize,
    /// Where the current line began.
    line: usize,
    /// Whether the current line began in bytes that have been passed on.
    is_line_cut: bool,
}

impl Default for Framer {
    fn default() -> Self {
        Self::with_limit(FRAME_BYTES_MAX)
    }
}

impl Framer {
    fn with_limit(frame_bytes_max: usize) -> Self {
        let (pending, scan, is_oversized) = (Vec::new(), Scan::default(), false);
        Self {
            frame_bytes_max,
            pending,
            scan,
            is_oversized,
        }
    }

    /// Takes bytes and hands out the frames that they complete. Frames that are whole within
    /// `bytes` are not copied.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>)) {
        if self.pending.is_empty() {
            let taken = self.frames(bytes, &mut each);
            self.pending
                .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(bytes);
            let taken = self.frames(&pending, &mut each);
            pending.drain(..taken);
            self.pending = pending;
        }
    }

    /// Whether nothing is kept back.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the beginning of a frame has been passed on whose end has not come.
    pub fn is_within_oversized(&self) -> bool {
        self.is_oversized
    }

    /// What has arrived of a frame that never ended; none if its beginning has been passed on.
    pub fn finish(self) -> Vec<u8> {
        self.pending
    }

    /// Hands out the frames at the start of `bytes` and returns their length.
    fn frames(&mut self, bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) -> usize {
        let mut start = 0;
        while let Some(end) = self.scan.frame_end(bytes) {
            let frame = bytes.get(start..end).unwrap_or_default();
            if self.is_oversized || frame.len() > self.frame_bytes_max {
                each(Frame::Oversized(frame));
            } else {
                each(Frame::Whole(frame));
            }
            self.is_oversized = false;
            start = end;
        }
        if bytes.len() - start > self.frame_bytes_max || self.is_oversized {
            each(Frame::Oversized(
                bytes.get(start..self.scan.at).unwrap_or_default(),
            ));
            self.is_oversized = true;
            self.scan.is_line_cut |= self.scan.line < self.scan.at;
            start = self.scan.at;
            self.scan.line = start;
        }
        // What is left moves to the front.
        self.scan.at -= start;
        self.scan.line -= start;
        start
    }
}

impl Scan {
    /// The end of the frame that is being searched, where it has arrived.
    fn frame_end(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(offset) = memchr2(b'\n', b'\r', rest) else {
                self.at = bytes.len();
                return None;
            };
            let line_end = self.at + offset;
            let next = match (bytes.get(line_end), bytes.get(line_end + 1)) {
                (Some(b'\r'), Some(b'\n')) => line_end + 2,
                (Some(b'\r'), None) => {
                    self.at = line_end;
                    return None;
                }
                _ => line_end + 1,
            };
            let is_blank = line_end == self.line && !self.is_line_cut;
            self.at = next;
            self.line = next;
            self.is_line_cut = false;
            if is_blank {
                return Some(next);
            }
        }
    }
}

/// The data of a frame: where it stands, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// No data: a comment, or a blank line.
    None,
    /// One line, as nearly all events have.
    Line(Range<usize>),
    /// Several lines, which a reader joins with LF.
    Lines(Vec<Range<usize>>),
}

/// Finds the data in a frame.
pub fn data(frame: &[u8]) -> Data {
    let mut found = Data::None;
    let mut line = 0;
    while line < frame.len() {
        let rest = frame.get(line..).unwrap_or_default();
        let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        if let Some(value) = rest
            .get(..length)
            .and_then(|text| text.strip_prefix(b"data:"))
        {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let range = line + length - value.len()..line + length;
            found = match found {
                Data::None => Data::Line(range),
                Data::Line(first) => Data::Lines(vec![first, range]),
                Data::Lines(mut lines) => {
                    lines.push(range);
                    Data::Lines(lines)
                }
            };
        }
        // The LF of a CRLF reads as an empty line, which is no data.
        line += length + 1;
    }
    found
}

/// The data's text.
pub fn joined<'f>(frame: &'f [u8], data: &Data) -> Cow<'f, [u8]> {
    let line = |range: &Range<usize>| frame.get(range.clone()).unwrap_or_default();
    match data {
        Data::None => Cow::Borrowed(&[]),
        Data::Line(range) => Cow::Borrowed(line(range)),
        Data::Lines(ranges) => Cow::Owned(ranges.iter().map(line).collect::<Vec<_>>().join(&b'\n')),
    }
}

#[cfg(test)]
mod tests;
