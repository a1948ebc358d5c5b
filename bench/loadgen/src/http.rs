//! A minimal HTTP/1.1 client: one connection, one exchange at a time.
//!
//! **Invariant**: an exchange that returns an answer has read its last byte, or stopped where it was
//! told to, and then says that the connection is to be closed.

use std::io::{Error, ErrorKind, Result};
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::now_ns;
use crate::sse::{Chunks, Scan, Seen};

/// 64 KiB: what one read takes at most.
const READ_BYTES: usize = 65_536;

/// An open connection, and what of it is read but not used.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

/// An answer that was read.
#[derive(Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// What it said, where it was read as a stream.
    pub seen: Seen,
    /// Whether the connection is used up.
    pub close: bool,
    /// Reads from the socket after the head.
    pub reads: u64,
}

/// How the body is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As a whole.
    Whole,
    /// As a stream of events.
    Events,
    /// As a stream that is left at the first chunk after this moment.
    EventsUntil(u64),
}

enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
}

impl Connection {
    /// Connects.
    pub async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
            used: 0,
        })
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(
        &mut self,
        request: &[u8],
        read: Read,
        chunks: Chunks<'_>,
    ) -> Result<Answer> {
        self.stream.write_all(request).await?;
        let mut answer = Answer::default();
        let framing = self.head(&mut answer).await?;
        let mut body = Body {
            answer,
            scan: (read != Read::Whole).then(Scan::default),
            chunks,
            at_ns: now_ns(),
        };
        match framing {
            Framing::Length(bytes) => self.take(bytes, &mut body).await?,
            Framing::Chunked => {
                while self.chunk(&mut body).await? > 0 {
                    if matches!(read, Read::EventsUntil(end_ns) if now_ns() > end_ns) {
                        body.answer.close = true;
                        break;
                    }
                }
            }
            Framing::ToTheEnd => self.rest(&mut body).await?,
        }
        body.answer.seen = body.scan.unwrap_or_default().seen;
        Ok(body.answer)
    }

    async fn head(&mut self, answer: &mut Answer) -> Result<Framing> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head.parse(&self.buffer[self.used..]);
            if let httparse::Status::Complete(length) = parsed.map_err(|_| bad("head"))? {
                answer.status = head.code.unwrap_or(0);
                let framing = framing(head.headers, answer)?;
                self.used += length;
                return Ok(framing);
            }
            self.more("eof in head").await?;
        }
    }

    /// Reads so many bytes of the body.
    async fn take(&mut self, mut bytes: u64, body: &mut Body<'_>) -> Result<()> {
        body.answer.bytes += bytes;
        loop {
            let there = (self.buffer.len() - self.used).min(bytes as usize);
            body.feed(&self.buffer[self.used..self.used + there]);
            self.used += there;
            bytes -= there as u64;
            if bytes == 0 {
                return Ok(());
            }
            self.more("eof in body").await?;
            body.came();
        }
    }

    /// Reads a chunk and returns its size; after the last, which has none, the trailers too.
    async fn chunk(&mut self, body: &mut Body<'_>) -> Result<u64> {
        let line = self.line(body).await?;
        let bytes = size(&self.buffer[line])?;
        if bytes == 0 {
            // Who closes without the empty line has said all the same.
            while self.line(body).await.is_ok_and(|line| line.len() > 1) {}
            return Ok(0);
        }
        self.take(bytes, body).await?;
        while self.buffer.len() - self.used < 2 {
            self.more("eof after chunk").await?;
            body.at_ns = now_ns();
        }
        self.used += 2;
        Ok(bytes)
    }

    /// Reads to the end of a line, and says where it is in the buffer, without its line feed, until
    /// more is read.
    async fn line(&mut self, body: &mut Body<'_>) -> Result<Range<usize>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[self.used..]) {
                let line = self.used..self.used + length;
                self.used = line.end + 1;
                return Ok(line);
            }
            self.more("eof in chunk").await?;
            body.came();
        }
    }

    /// Reads until the connection is closed.
    async fn rest(&mut self, body: &mut Body<'_>) -> Result<()> {
        body.answer.close = true;
        loop {
            body.feed(&self.buffer[self.used..]);
            body.answer.bytes += (self.buffer.len() - self.used) as u64;
            self.used = self.buffer.len();
            if self.fill().await? == 0 {
                return Ok(());
            }
            body.at_ns = now_ns();
        }
    }

    async fn more(&mut self, problem: &str) -> Result<()> {
        match self.fill().await? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, problem)),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 8 {
            self.buffer.reserve(READ_BYTES);
        }
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// A body on its way in.
struct Body<'a> {
    answer: Answer,
    scan: Option<Scan>,
    chunks: Chunks<'a>,
    /// When the bytes came that are in the buffer.
    at_ns: u64,
}

impl Body<'_> {
    fn feed(&mut self, bytes: &[u8]) {
        if let Some(scan) = &mut self.scan {
            scan.feed(bytes, self.at_ns, &mut self.chunks);
        }
    }

    /// More bytes were read.
    fn came(&mut self) {
        self.answer.reads += 1;
        self.at_ns = now_ns();
    }
}

fn framing(headers: &[httparse::Header<'_>], answer: &mut Answer) -> Result<Framing> {
    let mut framing = Framing::ToTheEnd;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            let length = text.and_then(|text| text.trim().parse().ok());
            framing = Framing::Length(length.ok_or_else(|| bad("content-length"))?);
        } else if is("transfer-encoding") {
            framing = Framing::Chunked;
        } else if is("connection") && header.value.eq_ignore_ascii_case(b"close") {
            answer.close = true;
        }
    }
    Ok(framing)
}

/// The size that a chunk's first line begins with.
fn size(line: &[u8]) -> Result<u64> {
    let length = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let digits = std::str::from_utf8(&line[..length]).ok();
    let bytes = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    bytes.ok_or_else(|| bad("chunk"))
}

fn bad(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidData, problem)
}
