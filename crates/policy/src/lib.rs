//! What we decide: money, prices, plans, and one folder for each deciding stage.
//!
//! **Invariant**: pure; time, ids and random draws arrive as arguments, so that a replay runs the
//! very decisions that production runs (tidy test `pure_rooms_stay_pure`).

pub mod admit;
pub mod agents;
pub mod cascade;
pub mod dispatch;
pub mod key;
pub mod lately;
pub mod moment;
pub mod money;
pub mod ports;
pub mod prices;
pub mod refusal;
pub mod route;
pub mod shape;
pub mod sketch;
pub mod think;
