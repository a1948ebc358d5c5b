//! One connection that is kept, and calls over it.
//!
//! **Invariant**: a connection that failed or was closed is replaced before the next call, which is
//! counted as a reconnect.

use std::io::Result;
use std::time::Duration;

use super::{Live, Window};
use crate::clock::now_ns;
use crate::http::{Answer, Connection, Read};
use crate::options::Options;
use crate::record::{tenths, Record};
use crate::sse::Chunks;

/// 20 ms before a connection that was refused is tried again.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// A client that makes one call at a time.
pub(super) struct Client<'a> {
    options: &'a Options,
    window: Window,
    live: &'a Live,
    connection: Option<Connection>,
    has_connected: bool,
    transit: Vec<u32>,
    pub(super) record: Record,
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &'a Options, window: Window, live: &'a Live) -> Self {
        Self {
            options,
            window,
            live,
            connection: None,
            has_connected: false,
            transit: vec![],
            record: Record::default(),
        }
    }

    /// Whether there is no connection yet, or none any more.
    pub(super) fn is_apart(&self) -> bool {
        self.connection.is_none()
    }

    /// Connects; if that fails, waits a moment.
    pub(super) async fn connect(&mut self) -> Result<()> {
        match Connection::open(&self.options.address).await {
            Ok(connection) => {
                self.record.reconnects += u64::from(self.has_connected);
                self.has_connected = true;
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) => {
                self.record.failed(&format!("connect: {error}"));
                tokio::time::sleep(RECONNECT_AFTER).await;
                Err(error)
            }
        }
    }

    /// Makes a call that counts from `start_ns`, if there is a connection.
    pub(super) async fn call(&mut self, start_ns: u64) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        self.transit.clear();
        let read = if self.options.streams {
            Read::Events
        } else {
            Read::Whole
        };
        let chunks = Chunks {
            transit: &mut self.transit,
            live: &self.live.chunks,
        };
        let limit = Duration::from_secs_f64(self.options.timeout_seconds);
        let exchange = connection.exchange(&self.options.request, read, chunks);
        let outcome = tokio::time::timeout(limit, exchange).await;
        let end_ns = now_ns();
        match outcome {
            Ok(Ok(answer)) => {
                if answer.close {
                    self.connection = None;
                }
                if (self.window.from_ns..=self.window.to_ns).contains(&end_ns) {
                    self.count(&answer, start_ns, end_ns);
                }
            }
            Ok(Err(error)) => {
                self.connection = None;
                self.record.failed(&error.to_string());
            }
            Err(_) => {
                self.connection = None;
                self.record.failed("timeout");
            }
        }
    }

    fn count(&mut self, answer: &Answer, start_ns: u64, end_ns: u64) {
        let record = &mut self.record;
        if !(200..300).contains(&answer.status) {
            record.non2xx += 1;
            record.sample(&format!("HTTP {}", answer.status));
            return;
        }
        record.ok += 1;
        record.latency.push(tenths(end_ns - start_ns));
        if !self.options.streams {
            return;
        }
        let seen = &answer.seen;
        if seen.first_ns > 0 {
            record.first_token.push(tenths(seen.first_ns - start_ns));
        }
        record.transit.extend_from_slice(&self.transit);
        record.incomplete += u64::from(!seen.done);
        record.no_usage += u64::from(!seen.usage);
    }
}
