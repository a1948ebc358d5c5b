//! Agents: what the steps of a task say about where it is going, and what tasks cost.
//!
//! **Invariant**: everything here observes; nothing changes a call (test
//! `reading_again_finds_the_same` in `loops`).

pub mod costs;
pub mod loops;
pub mod runaway;
pub mod steps;
