//! Cascades: what asking a cheap target first costs and keeps, on recorded outcomes.
//!
//! **Invariant**: every leg is paid, also the one whose answer is thrown away, and what is compared
//! has the same quality (tests `a_cascade_pays_where_its_signal_tells` in `signals` and
//! `voters_are_paid_whether_they_agree_or_not` in `agreement`).

pub mod agreement;
mod forecast;
pub mod isotonic;
pub mod ridge;
pub mod signals;
pub mod ways;
