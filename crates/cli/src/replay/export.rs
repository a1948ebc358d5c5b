//! The gateway's own export: what calls used and cost, and what they would have cost untouched.
//!
//! Prompts are not in it, so nothing is simulated: its figures are added up as they were booked.
//!
//! **Invariant**: a figure that the export does not know stays out of both sums, so that the two
//! can be compared.

use policy::money::PicoUsd;
use serde::Deserialize;
use serde_json::Value;

use super::Booked;

#[derive(Debug, Deserialize)]
struct Line {
    settled: Option<Settled>,
}

#[derive(Debug, Deserialize)]
struct Settled {
    cost_pico_usd: Value,
    untouched_pico_usd: Value,
}

/// Adds one line.
pub(super) fn add(line: &str, booked: &mut Booked) -> anyhow::Result<()> {
    let Line { settled } = serde_json::from_str(line)?;
    let figures = settled.and_then(|settled| {
        Some((
            amount(&settled.cost_pico_usd)?,
            amount(&settled.untouched_pico_usd)?,
        ))
    });
    match figures {
        Some((cost, untouched)) => {
            booked.calls += 1;
            booked.cost += cost;
            booked.untouched += untouched;
        }
        None => booked.unknown += 1,
    }
    Ok(())
}

/// An amount as the export writes it: a whole number, or its digits where it is very large.
fn amount(value: &Value) -> Option<PicoUsd> {
    let digits = value.as_str().and_then(|digits| digits.parse().ok());
    value.as_i64().map(i128::from).or(digits).map(PicoUsd)
}
