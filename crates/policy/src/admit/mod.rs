//! Admit: whether money and limits allow a call, and the books that answer it.
//!
//! The rules (`window`, `limit`, `tally`) know no map and no lock, so that a store shared by a fleet
//! can follow them; [`book::Book`] is the map for one process. A call goes through it as
//! `reserve → raise… → settle`, or `release` where nothing was sent.
//!
//! **Invariant**: under a hard limit what is spent never exceeds the amount, as long as no call costs
//! more than the worst case that it reserved (properties `hard_limits_hold_and_nothing_is_lost` and
//! `every_schedule_keeps_the_cap`).

pub mod book;
pub mod degrade;
pub mod expect;
pub mod limit;
pub mod scope;
pub mod tally;
pub mod window;
pub mod worst;
