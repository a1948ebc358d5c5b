//! What would be: models of the providers' caches and bills on virtual time, and replays on them.
//!
//! **Invariant**: pure; the same calls give the same figures on every machine (tidy test
//! `pure_rooms_stay_pure`, and `replays_repeat`).

pub mod bill;
pub mod binding;
pub mod cache;
pub mod ideal;
pub mod metering;
pub mod provider;
pub mod replay;
pub mod routed;
pub mod shadow;
