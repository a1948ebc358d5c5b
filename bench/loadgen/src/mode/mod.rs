//! The modes: how a connection makes its calls, and when they count.
//!
//! **Invariant**: a mode decides when a call begins; whether it counts is decided by the window alone.

mod call;
mod closed;
mod hold;
mod open;

use std::sync::atomic::AtomicU64;

use crate::clock::{nanos, now_ns};
use crate::options::{Mode, Options};
use crate::record::Record;

/// 3 s after the last stream was opened before it is measured how all are held.
const SETTLED_SECONDS: f64 = 3.0;

/// When a run begins, and when it is measured, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Window {
    /// The first call.
    pub begin_ns: u64,
    /// The first moment that counts.
    pub from_ns: u64,
    /// The last moment that counts.
    pub to_ns: u64,
}

impl Window {
    /// A run that begins now.
    pub fn new(options: &Options) -> Self {
        let begin_ns = now_ns();
        let before = match options.mode {
            Mode::Hold => options.connections as f64 / options.ramp + SETTLED_SECONDS,
            Mode::Closed | Mode::Open | Mode::Stream => 0.0,
        };
        let from_ns = begin_ns + nanos(options.warm_seconds + before);
        Self {
            begin_ns,
            from_ns,
            to_ns: from_ns + nanos(options.seconds),
        }
    }
}

/// What all connections count together while they run.
#[derive(Default)]
pub struct Live {
    /// Streamed chunks that came.
    pub chunks: AtomicU64,
    /// Held streams that have begun.
    pub opened: AtomicU64,
    /// Held streams that have failed.
    pub failed: AtomicU64,
}

/// Makes the calls of one connection, which is the `index`-th.
pub async fn run(options: &Options, index: usize, window: Window, live: &Live) -> Record {
    match options.mode {
        Mode::Closed | Mode::Stream => closed::run(options, window, live).await,
        Mode::Open => open::run(options, index, window, live).await,
        Mode::Hold => hold::run(options, index, window, live).await,
    }
}
