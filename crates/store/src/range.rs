//! What a row can hold: amounts within an `i64` of pico-USD, ±9.2 M USD.
//!
//! **Invariant**: an amount beyond that is never clamped or wrapped: it becomes *unknown*, and is
//! counted (store conformance, `amounts_beyond_a_row_are_unknown`).

use policy::money::PicoUsd;
use policy::ports::{CallOpened, CallSettled, Held};

/// Whether every amount of the call fits a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// As it was given.
    Whole,
    /// Amounts were made *unknown*.
    Reduced,
}

/// Makes a call fit its rows.
///
/// No call comes near the bound; one that claims to is a fault elsewhere, which must neither stop
/// the writing of other calls nor enter the sums.
pub(crate) fn fit(settled: &mut CallSettled) -> Fit {
    let amounts = settled
        .legs
        .iter()
        .map(|leg| leg.cost)
        .chain([settled.cost, settled.untouched])
        .flatten()
        .chain(settled.savings.values().copied());
    if amounts.into_iter().all(fits) {
        return Fit::Whole;
    }
    for leg in &mut settled.legs {
        leg.cost = leg.cost.filter(|cost| fits(*cost));
    }
    settled.cost = None;
    settled.untouched = None;
    settled.savings.clear();
    Fit::Reduced
}

/// Makes an opening fit its row: a hold beyond it has no known price.
pub(crate) fn fit_opening(opened: &mut CallOpened) -> Fit {
    opened.held.as_mut().map_or(Fit::Whole, fit_held)
}

/// Makes a hold fit its row.
pub(crate) fn fit_held(held: &mut Held) -> Fit {
    if held.usd.is_none_or(fits) {
        return Fit::Whole;
    }
    held.usd = None;
    Fit::Reduced
}

fn fits(amount: PicoUsd) -> bool {
    i64::try_from(amount.0).is_ok()
}
