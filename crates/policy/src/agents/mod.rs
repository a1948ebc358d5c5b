//! Agents: what the steps of a task say about where it is going, and what tasks cost.
//!
//! **Invariant**: everything here is read from a request's own messages, so that reading them again says
//! the same (tests `reading_again_finds_the_same` in `loops` and `nudges_stay_where_they_were` in `look`).

pub mod costs;
pub mod look;
pub mod loops;
pub mod runaway;
pub mod steps;
