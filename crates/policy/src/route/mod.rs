//! Route: which target serves a call, by rules first, then by what is adequate and cheapest over the
//! rest of the session.
//!
//! **Invariant**: a call without a route, or whose route cannot decide, goes where its client sent
//! it (test `the_first_route_whose_conditions_hold_is_taken`).

pub mod adequacy;
pub mod economics;
pub mod features;
pub mod language;
pub mod memory;
pub mod posterior;
pub mod predictor;
pub mod rules;
pub mod sessions;
