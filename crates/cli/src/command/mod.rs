//! The commands: one file each, with its arguments and a `run`.
//!
//! **Invariant**: a command prints its result to standard output and nothing else there; progress
//! and remarks go to standard error (test `commands_print_json_on_request` in `tests/it`).

pub(crate) mod agents;
pub(crate) mod budgets;
pub(crate) mod cascade;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod focus;
pub(crate) mod keys;
pub(crate) mod learn;
pub(crate) mod price;
pub(crate) mod report;
pub(crate) mod route;
mod routed;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod tasks;
pub(crate) mod think;
mod which;

use std::future::Future;

use anyhow::{Context as _, anyhow};
use gateway::clock::{Clock as _, SystemClock};
use policy::moment::Moment;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs async work to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime; are there too many threads?")?;
    runtime.block_on(work)
}

/// The machine's time.
pub(crate) fn now() -> Moment {
    SystemClock.now()
}

/// Bytes that nobody can guess.
pub(crate) fn random<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut random = [0; BYTES];
    match getrandom::getrandom(&mut random) {
        Ok(()) => Ok(random),
        Err(error) => Err(anyhow!("the system gives no random bytes: {error}")),
    }
}

/// The signals that ask a process to end. From when they are heard, none of them ends it by itself.
#[derive(Debug)]
pub(crate) struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// Hears them from now on.
    pub(crate) fn heard() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?,
        })
    }

    /// Completes with the next one.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Completes when the process is asked to end.
pub(crate) async fn asked_to_end() -> anyhow::Result<()> {
    Ending::heard()?.asked().await;
    Ok(())
}
