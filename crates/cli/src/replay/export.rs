//! The gateway's own export: what calls used and cost, and what they would have cost untouched.
//!
//! Prompts are not in it, so nothing is simulated: its figures are added up as they were booked.
//!
//! **Invariant**: a figure that the export does not know stays out of both sums, so that the two
//! can be compared.

use policy::money::PicoUsd;
use serde::Deserialize;

use super::Booked;

#[derive(Debug, Deserialize)]
struct Line {
    cost_pico_usd: Option<i64>,
    untouched_pico_usd: Option<i64>,
}

/// Adds one line.
pub(super) fn add(line: &str, booked: &mut Booked) -> anyhow::Result<()> {
    let Line {
        cost_pico_usd,
        untouched_pico_usd,
    } = serde_json::from_str(line)?;
    match (cost_pico_usd, untouched_pico_usd) {
        (Some(cost), Some(untouched)) => {
            booked.calls += 1;
            booked.cost = booked.cost + PicoUsd(i128::from(cost));
            booked.untouched = booked.untouched + PicoUsd(i128::from(untouched));
        }
        _ => booked.unknown += 1,
    }
    Ok(())
}
