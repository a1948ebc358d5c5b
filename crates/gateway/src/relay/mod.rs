//! Relay: what the client receives, and how it ends.
//!
//! **Invariant**: a truncated answer never looks whole, and the last byte leaves only after the call
//! is settled (transcripts `streams`, test
//! `streams_settle_before_their_last_byte`).

pub mod cors;
pub mod models;
pub mod refuse;
pub mod reply;
pub mod stream;
pub mod whole;
