//! Notes on routing: which route took a call, which target was chosen and what the others would have
//! cost, as `explain` prints it.
//!
//! **Invariant**: notes name routes, targets and figures, never the client's text (test
//! `only_a_route_that_is_on_moves_a_call` in `tests/it/routes.rs` reads them).

use policy::route::economics::{Choice, Offer, Unfit};
use policy::route::sessions::Outlook;
use serde::Serialize;

use crate::route::Plan;
use crate::setup::LeverMode;

/// What is written down about the placing of one call.
#[derive(Clone, Debug, Serialize)]
pub struct RouteNotes {
    name: String,
    lever: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<ChoiceNote>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<OptionNote>,
}

#[derive(Clone, Debug, Serialize)]
struct ChoiceNote {
    target: String,
    why: &'static str,
    calls_ahead: u64,
}

#[derive(Clone, Debug, Serialize)]
struct OptionNote {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    now_usd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest_usd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfit: Option<&'static str>,
}

impl RouteNotes {
    /// Of a call that a route has taken.
    pub fn of(name: &str, mode: LeverMode) -> Self {
        Self {
            name: name.to_owned(),
            lever: mode.name(),
            choice: None,
            options: Vec::new(),
        }
    }

    /// With the targets that were weighed.
    pub fn weighed(&mut self, plans: &[Plan], offers: &[Offer], choice: Choice, outlook: &Outlook) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 64 calls"
        )]
        let calls_ahead = outlook.calls.round() as u64;
        self.choice = plans.get(choice.place).map(|plan| ChoiceNote {
            target: plan.name(),
            why: choice.why.name(),
            calls_ahead,
        });
        let options = plans.iter().zip(offers);
        let options = options.map(|(plan, offer)| OptionNote {
            target: plan.name(),
            now_usd: offer.forecast.map(|cost| cost.now.exact()),
            rest_usd: offer.forecast.map(|cost| cost.rest.exact()),
            unfit: offer.unfit.map(Unfit::name),
        });
        self.options = options.collect();
    }
}
