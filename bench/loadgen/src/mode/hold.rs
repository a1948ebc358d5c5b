//! `hold`: streams that are opened one after another and held to the end of the window.
//!
//! **Invariant**: a stream counts as opened with its first chunk, and as failed at most once.

use std::io::Result;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Live, Window};
use crate::clock::{nanos, sleep_until, until};
use crate::http::{Answer, Connection, Read};
use crate::options::Options;
use crate::record::Record;
use crate::sse::Chunks;

/// Twice a second, what one stream has counted is told to all.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// 2 s after the window for a stream whose next chunk does not come.
const GRACE: Duration = Duration::from_secs(2);

/// Holds one stream, which is opened in its turn.
pub(super) async fn run(options: &Options, index: usize, window: Window, live: &Live) -> Record {
    sleep_until(window.begin_ns + nanos(index as f64 / options.ramp)).await;
    let mut record = Record::default();
    match hold(options, window, live, &mut record.transit).await {
        Ok(Held::Answered(status)) if status != 200 => {
            record.non2xx += 1;
            live.failed.fetch_add(1, Relaxed);
        }
        Ok(Held::Answered(_)) => record.ok += 1,
        Ok(Held::Silent(began)) => record.ok += u64::from(began == Began::Yes),
        Err(error) => {
            live.failed.fetch_add(1, Relaxed);
            record.failed(&error.to_string());
        }
    }
    record
}

/// How a stream was held.
enum Held {
    /// To its end or the window's, with this status.
    Answered(u16),
    /// Until it was given up.
    Silent(Began),
}

/// Whether a first chunk has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Began {
    No,
    Yes,
}

async fn hold(
    options: &Options,
    window: Window,
    live: &Live,
    transit: &mut Vec<u32>,
) -> Result<Held> {
    let mut connection = Connection::open(&options.address).await?;
    let mine = AtomicU64::new(0);
    let chunks = Chunks {
        transit,
        live: &mine,
    };
    let read = Read::EventsUntil(window.to_ns);
    let exchange = connection.exchange(&options.request, read, chunks);
    tokio::pin!(exchange);
    let limit = tokio::time::sleep(until(window.to_ns).unwrap_or_default() + GRACE);
    tokio::pin!(limit);
    let mut told = Told {
        chunks: 0,
        began: Began::No,
    };
    let outcome: Option<Result<Answer>> = loop {
        tokio::select! { biased;
            outcome = &mut exchange => break Some(outcome),
            () = &mut limit => break None,
            () = tokio::time::sleep(TELL_EVERY) => told.tell(&mine, live),
        }
    };
    told.tell(&mine, live);
    match outcome {
        Some(answer) => Ok(Held::Answered(answer?.status)),
        None => Ok(Held::Silent(told.began)),
    }
}

/// What of one stream all know.
struct Told {
    chunks: u64,
    began: Began,
}

impl Told {
    fn tell(&mut self, mine: &AtomicU64, live: &Live) {
        let chunks = mine.load(Relaxed);
        live.chunks.fetch_add(chunks - self.chunks, Relaxed);
        self.chunks = chunks;
        if chunks > 0 && self.began == Began::No {
            self.began = Began::Yes;
            live.opened.fetch_add(1, Relaxed);
        }
    }
}
