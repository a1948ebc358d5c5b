//! Cascade: cheap first, and dearer only where the answer does not convince.
//!
//! **Invariant**: a check that cannot tell says so, and never that an answer is good (test
//! `what_is_not_read_is_unknown`).

pub mod choice;
pub mod closed;
pub mod contract;
pub mod record;
pub mod rubric;
pub mod schema;
pub mod signals;
pub mod verdict;
pub mod way;
pub mod word;
pub mod wording;
