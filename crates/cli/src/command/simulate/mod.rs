//! `tokenwise simulate`: the simulated provider as a server of its own, or a replay scaled to a bill.
//!
//! **Invariant**: it meters with the same cache models that `demo` and `replay` use (tests of
//! `sim::metering`).

pub(crate) mod bill;
pub(crate) mod outcomes;

use std::process::ExitCode;
use std::sync::Arc;

use sim::metering::CacheMeter;
use sim::provider::Provider;
use sim::provider::meter::quarter_of_bytes;

use super::{asked_to_end, block_on, now};
use crate::print;
use crate::simulate::Simulate;

/// Run a simulated provider that answers both dialects, for free and without a network; or, with
/// `--conversations`, say what so many of them would cost in a month with each lever
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Simulate,
    #[command(flatten)]
    bill: bill::Scaled,
}

/// A provider of both dialects, with prompt caches.
pub(crate) fn provider(first_token_ms: u64) -> Provider {
    Provider::new(quarter_of_bytes, Box::new(CacheMeter::new(first_token_ms)))
}

/// Prints a bill, or simulates until asked to end.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Some(conversations) = arguments.bill.conversations {
        return bill::run(&arguments.bill, conversations);
    }
    let arguments = arguments.server;
    let provider = provider(arguments.first_frame_ms);
    let end = async {
        if let Err(error) = asked_to_end().await {
            print::note(&format!("stopping, for no signal can be heard: {error}"));
        }
    };
    block_on(arguments.run(provider, Arc::new(now), end))?;
    Ok(ExitCode::SUCCESS)
}
