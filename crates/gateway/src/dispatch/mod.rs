//! Dispatch: walks the plan. Shapes the body, sends it, and hands the answer to relay.
//!
//! **Invariant**: what goes upstream differs from the client's body only in declared edits
//! (test `levers_off_is_byte_identical`).

mod agree;
mod aside;
pub mod cascade;
pub mod connect;
pub mod context;
pub mod degrade;
pub mod extras;
pub mod focus;
pub mod headers;
pub mod health;
pub mod hedge;
pub mod hold;
mod judge;
pub mod legs;
pub mod loops;
pub mod notes;
pub mod peek;
pub mod pieces;
pub mod send;
pub mod shape;
pub mod start;
pub mod think;
pub mod trim;
pub mod turn;
pub mod turned_away;
pub mod verify;
pub mod wrap_up;
