//! `tokenwise simulate`: the simulated provider as a server of its own.
//!
//! **Invariant**: it meters with the same cache models that `demo` and `replay` use (tests of
//! `sim::metering`).

use std::process::ExitCode;
use std::sync::Arc;

use sim::metering::CacheMeter;
use sim::provider::Provider;
use sim::provider::meter::quarter_of_bytes;

use super::{asked_to_end, block_on, now};
use crate::print;
use crate::simulate::Simulate;

/// A provider of both dialects, with prompt caches.
pub(crate) fn provider(first_token_ms: u64) -> Provider {
    Provider::new(quarter_of_bytes, Box::new(CacheMeter::new(first_token_ms)))
}

/// Simulates until asked to end.
pub(crate) fn run(arguments: Simulate) -> anyhow::Result<ExitCode> {
    let provider = provider(arguments.first_frame_ms);
    let end = async {
        if let Err(error) = asked_to_end().await {
            print::note(&format!("stopping, for no signal can be heard: {error}"));
        }
    };
    block_on(arguments.run(provider, Arc::new(now), end))?;
    Ok(ExitCode::SUCCESS)
}
