//! What a streamed answer says while it arrives: stamped chunks, its usage, its end.
//!
//! **Invariant**: any split of the bytes gives the same counts; only the transit times depend on it,
//! for they are what is measured.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A stream as far as it has come.
#[derive(Default)]
pub struct Scan {
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
    /// What was seen.
    pub seen: Seen,
}

/// What a stream has said.
#[derive(Default)]
pub struct Seen {
    /// Chunks with a stamp.
    pub chunks: u64,
    /// When the first of them came; 0 before.
    pub first_ns: u64,
    /// Whether it said that it is complete.
    pub done: bool,
    /// Whether it told its usage.
    pub usage: bool,
}

/// Where the times and counts of chunks go.
pub struct Chunks<'a> {
    /// From the upstream's stamp to the arrival, in 0.1 µs.
    pub transit: &'a mut Vec<u32>,
    /// Counted as they come.
    pub live: &'a AtomicU64,
}

impl Scan {
    /// Takes bytes in that came at this moment.
    pub fn feed(&mut self, mut bytes: &[u8], at_ns: u64, chunks: &mut Chunks<'_>) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.rest.is_empty() {
                self.seen.line(&bytes[..end], at_ns, chunks);
            } else {
                self.rest.extend_from_slice(&bytes[..end]);
                self.seen.line(&self.rest, at_ns, chunks);
                self.rest.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.rest.extend_from_slice(bytes);
    }
}

impl Seen {
    fn line(&mut self, line: &[u8], at_ns: u64, chunks: &mut Chunks<'_>) {
        if line.len() < 6 {
            return;
        }
        if let Some(sent_ns) = stamp(line) {
            if self.first_ns == 0 {
                self.first_ns = at_ns;
            }
            self.chunks += 1;
            chunks.live.fetch_add(1, Relaxed);
            let tenths = at_ns.saturating_sub(sent_ns) / 100;
            chunks.transit.push(tenths.min(u32::MAX.into()) as u32);
        }
        let says = |text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
        self.done = self.done
            || line.starts_with(b"data: [DONE]")
            || line.starts_with(b"data:[DONE]")
            || says("\"message_stop\"");
        self.usage = self.usage || says("\"completion_tokens\"") || says("\"output_tokens\"");
    }
}

/// The moment in `@<nanos>@`, which `mock-upstream` writes into every chunk.
fn stamp(line: &[u8]) -> Option<u64> {
    let from = memchr::memchr(b'@', line)? + 1;
    let length = memchr::memchr(b'@', &line[from..])?;
    let digits = std::str::from_utf8(&line[from..from + length]).ok()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_counts() {
        let stream = b"event: a\ndata: {\"text\":\"@5@ x\"}\n\ndata: {\"text\":\"@7@ y\"}\n\n\
                       data: {\"output_tokens\":2,\"type\":\"message_stop\"}\n\n";
        for cut in 0..stream.len() {
            let (mut scan, live, mut transit) = (Scan::default(), AtomicU64::new(0), vec![]);
            let mut chunks = Chunks {
                transit: &mut transit,
                live: &live,
            };
            scan.feed(&stream[..cut], 1_005, &mut chunks);
            scan.feed(&stream[cut..], 1_005, &mut chunks);
            let Seen { chunks, done, .. } = scan.seen;
            assert_eq!((chunks, done, scan.seen.usage), (2, true, true), "{cut}");
            assert_eq!((live.into_inner(), &transit[..]), (2, &[10, 9][..]));
        }
    }
}
