//! `open`: calls at a fixed rate, whether or not those before are answered.
//!
//! **Invariant**: a call that could not begin in time counts from when it was meant to, so that a
//! server that stalls cannot hide it.

use super::call::Client;
use super::{Live, Window};
use crate::clock::{nanos, now_ns, sleep_until};
use crate::options::Options;
use crate::record::Record;

/// 1 ms: a connection that is free later than its next call was meant to begin, by more, is late.
/// What a timer oversleeps is no delay of the server's.
const LATE_NS: u64 = 1_000_000;

/// The golden ratio's fraction spreads any number of connections over a period.
const SPREAD: f64 = 0.618_033_988_7;

/// Calls until the window is over; each connection has its share of the rate.
pub(super) async fn run(options: &Options, index: usize, window: Window, live: &Live) -> Record {
    let period_ns = nanos(options.connections as f64 / options.rate);
    let offset = (index as f64 * SPREAD) % 1.0;
    let mut next_ns = window.begin_ns + (period_ns as f64 * offset) as u64;
    let mut client = Client::new(options, window, live);
    loop {
        let start_ns = if now_ns() > next_ns + LATE_NS {
            client.record.late += 1;
            next_ns
        } else {
            sleep_until(next_ns).await;
            now_ns()
        };
        next_ns += period_ns;
        if start_ns >= window.to_ns {
            return client.record;
        }
        if client.is_apart() && client.connect().await.is_err() {
            continue;
        }
        client.call(start_ns).await;
    }
}
