//! HTTP/1.1 as bytes: reads heads and bodies piece by piece and hides nothing, so that a test sees
//! what a library would have tidied away.
//!
//! **Invariant**: pieces put together are the body, wherever the network cut it (test
//! `any_cut_reads_the_same`).

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// 1 MiB: a head that is larger is a fault of the test.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// How much is read from the network at once.
const READ_BYTES: usize = 16 << 10;

/// Header fields in the order and case in which they came.
pub type Headers = Vec<(String, String)>;

/// The start line and the headers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line, for instance `HTTP/1.1 200 OK`.
    pub start: String,
    /// The headers.
    pub headers: Headers,
}

impl Head {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The status of a response, 0 if the start line is not one.
    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default()
    }

    /// How the end of the body is found.
    fn framing(&self, absent: Framing) -> Framing {
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|value| value.contains("chunked"));
        let length = self
            .header("content-length")
            .and_then(|value| value.trim().parse().ok());
        // Whatever its headers say, such an answer has no body.
        if matches!(self.status(), 204 | 304) {
            return Framing::Length(0);
        }
        match (chunked, length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => absent,
        }
    }
}

/// The first of `headers` with this name, in any case.
pub fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let mut found = headers
        .iter()
        .filter(|(given, _)| given.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.as_str())
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// The next part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes: one chunk of a chunked body, or what the network brought.
    Data(Vec<u8>),
    /// The body is over, as its framing promised.
    End,
    /// The connection ended before the body did.
    Broken,
}

/// Reads messages off a connection.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    framing: Framing,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader at the start of a message.
    pub const fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            framing: Framing::Length(0),
        }
    }

    /// The head of a request, after which its body can be read; `None` if the connection ended.
    pub async fn request_head(&mut self) -> Option<Head> {
        let head = self.head().await?;
        self.framing = head.framing(Framing::Length(0));
        Some(head)
    }

    /// The head of a response, after which its body can be read; `None` if the connection ended.
    pub async fn response_head(&mut self) -> Option<Head> {
        let head = self.head().await?;
        self.framing = head.framing(Framing::UntilClose);
        Some(head)
    }

    async fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = position(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            assert!(
                self.buffer.len() < HEAD_BYTES_MAX,
                "a head of more than {HEAD_BYTES_MAX} bytes"
            );
            self.fill().await?;
        };
        let text: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Some(Head {
            start,
            headers: headers.collect(),
        })
    }

    /// The next piece of the current body.
    pub async fn piece(&mut self) -> Piece {
        match self.framing {
            Framing::Length(0) => Piece::End,
            Framing::Length(left) => {
                if self.buffer.is_empty() && self.fill().await.is_none() {
                    return Piece::Broken;
                }
                let taken = left.min(self.buffer.len());
                self.framing = Framing::Length(left - taken);
                Piece::Data(self.buffer.drain(..taken).collect())
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && self.fill().await.is_none() {
                    self.framing = Framing::Length(0);
                    return Piece::End;
                }
                Piece::Data(std::mem::take(&mut self.buffer))
            }
            Framing::Chunked => self.chunk().await.unwrap_or(Piece::Broken),
        }
    }

    async fn chunk(&mut self) -> Option<Piece> {
        let line = self.until(b"\r\n").await?;
        let line = String::from_utf8_lossy(&line);
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let data: Vec<u8> = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        if size > 0 {
            return Some(Piece::Data(data));
        }
        self.framing = Framing::Length(0);
        Some(Piece::End)
    }

    /// The rest of the body, and how it ended.
    pub async fn rest(&mut self) -> (Vec<u8>, Ending) {
        let mut body = Vec::new();
        loop {
            match self.piece().await {
                Piece::Data(data) => body.extend(data),
                Piece::End => return (body, Ending::Whole),
                Piece::Broken => return (body, Ending::Broken),
            }
        }
    }

    /// Waits until the other side closes; what it still sends is kept for the next message.
    pub async fn closed(&mut self) {
        while self.fill().await.is_some() {}
    }

    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = position(&self.buffer, mark) {
                let taken: Vec<u8> = self.buffer.drain(..at + mark.len()).collect();
                return Some(taken[..at].to_vec());
            }
            self.fill().await?;
        }
    }

    /// Reads more; `None` at the end of the connection, or when it broke.
    async fn fill(&mut self) -> Option<()> {
        let mut bytes = vec![0; READ_BYTES];
        let count = self
            .source
            .read(&mut bytes)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Some(())
    }
}

/// Whether a body arrived as its framing promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It did.
    Whole,
    /// The connection ended before.
    Broken,
}

fn position(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that brings `bytes` in two parts.
    async fn read(bytes: &[u8], cut: usize) -> (Head, Vec<u8>, Ending) {
        let (first, second) = bytes.split_at(cut);
        let mut reader = Reader::new(first.chain(second));
        let head = reader.response_head().await.unwrap();
        let (body, ending) = reader.rest().await;
        (head, body, ending)
    }

    async fn check(bytes: &str, expect: (&str, Ending)) {
        for cut in 0..=bytes.len() {
            let (head, body, ending) = read(bytes.as_bytes(), cut).await;
            assert_eq!(head.status(), 200);
            assert_eq!(
                (String::from_utf8(body).unwrap().as_str(), ending),
                expect,
                "cut {cut}"
            );
        }
    }

    #[tokio::test]
    async fn any_cut_reads_the_same() {
        use Ending::{Broken, Whole};
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            ("abc", Whole),
        )
        .await;
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            ("abc", Broken),
        )
        .await;
        check("HTTP/1.1 200 OK\r\n\r\nabc", ("abc", Whole)).await;
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n";
        check(chunked, ("abc", Broken)).await;
        check(&format!("{chunked}0\r\n\r\n"), ("abc", Whole)).await;
        let (_, body, ending) = read(b"HTTP/1.1 204 No Content\r\n\r\nHTTP", 9).await;
        assert_eq!((body, ending), (Vec::new(), Whole));
    }
}
