//! The context of a call: what its input is made of, what of it is allowed, and where it is expensive or
//! risky.
//!
//! **Invariant**: everything here follows from the request and the sizes of its segments, so that two
//! looks at one call agree (tests `a_call_is_broken_down`, `the_largest_are_named_and_nothing_is_lost`,
//! `budgets_are_held_against_their_class` and `what_is_risky_is_named`).

pub mod budget;
pub mod classes;
pub mod tools;
pub mod warn;
