//! What we remember: the ledger and the keys, in one embedded database or in memory.
//!
//! **Invariant**: a call is settled exactly once, and nothing that was acknowledged is lost when
//! the process is killed (store conformance, and `nothing_acknowledged_is_lost_to_a_kill`).

pub mod error;
pub mod export;
pub mod memory;
pub mod sqlite;

mod range;

/// 60 000 ms: what was spent is summed by minutes, the shortest window that a budget can have.
const MINUTE_MS: u64 = 60_000;
