//! Settle: turns what a call used into what it cost, exactly once, on every exit.
//!
//! **Invariant**: a receipt that is dropped has been settled (property
//! `every_exit_settles_exactly_once`).

pub mod aside;
pub mod beside;
pub mod cascaded;
pub mod faults;
pub mod feedback;
pub mod flight;
pub mod hedged;
mod let_go;
pub mod opening;
pub mod receipt;
pub mod runaway;
pub mod savings;
mod thought;
pub mod writing;
