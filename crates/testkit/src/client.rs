//! A client that sends exactly the bytes it is told to, reads piece by piece, and may leave at any
//! boundary.
//!
//! **Invariant**: nothing is added to or hidden from a message (test `bytes_go_out_as_given`).

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::http1::{Ending, Head, Headers, Piece, Reader};

/// One connection.
#[derive(Debug)]
pub struct Client {
    writer: OwnedWriteHalf,
    reader: Reader<OwnedReadHalf>,
}

/// A whole response, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body arrived whole.
    pub ending: Ending,
}

impl Response {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http1::find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects to `http://host:port`; a path behind it is ignored.
    pub async fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(authority(url))
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("the connection is open");
        let (reader, writer) = stream.into_split();
        Self {
            writer,
            reader: Reader::new(reader),
        }
    }

    /// Sends bytes as they are. A server that has hung up already is noticed when reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.ok();
        self.writer.flush().await.ok();
    }

    /// Sends a request with its length.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.send(&request(method, path, headers, body)).await;
    }

    /// Sends bytes one write at a time, and lets others run in between.
    pub async fn send_slowly(&mut self, bytes: &[u8], write_bytes: usize) {
        for part in bytes.chunks(write_bytes.max(1)) {
            self.send(part).await;
            tokio::task::yield_now().await;
        }
    }

    /// The head of the next response; `None` if the server hung up.
    pub async fn head(&mut self) -> Option<Head> {
        self.reader.response_head().await
    }

    /// The next piece of its body.
    pub async fn piece(&mut self) -> Piece {
        self.reader.piece().await
    }

    /// The next response as far as it comes; `None` if the server hung up before its head.
    pub async fn response(&mut self) -> Option<Response> {
        let head = self.head().await?;
        let (body, ending) = self.reader.rest().await;
        Some(Response {
            status: head.status(),
            headers: head.headers,
            body,
            ending,
        })
    }

    /// Closes the connection.
    pub fn hang_up(self) {}

    /// Ends the connection with a reset, as a crashed process would.
    pub fn reset(self) {
        self.writer
            .as_ref()
            .set_zero_linger()
            .expect("the connection is open");
        // Dropped as usual, the writer would say goodbye before the reset.
        self.writer.forget();
    }
}

/// A request with `host` and `content-length`, and otherwise only what is given.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("content-length: ");
    text.push_str(&body.len().to_string());
    text.push_str("\r\n\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends one request over its own connection and reads the whole answer.
pub async fn exchange(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut client = Client::connect(url).await;
    client.ask(method, path, headers, body).await;
    client.response().await.expect("the server answers")
}

fn authority(url: &str) -> &str {
    let address = url.trim_start_matches("http://");
    address.split('/').next().unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Step, Upstream};

    #[tokio::test]
    async fn bytes_go_out_as_given() {
        let answers = [Step::json(200, "{}"), Step::json(200, "{}")];
        let upstream = Upstream::scripted(answers).await;
        let mut client = Client::connect(upstream.url()).await;
        let bytes = b"PUT /a HTTP/1.1\r\nA: 1\r\na: 2\r\ncontent-length: 2\r\n\r\nhi";
        client.send(bytes).await;
        client.response().await.unwrap();
        client.send_slowly(bytes, 1).await;
        client.response().await.unwrap();
        let requests = upstream.requests();
        let headers = [("A", "1"), ("a", "2"), ("content-length", "2")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(requests[0].headers, headers);
        assert_eq!(requests[0], requests[1]);
    }
}
