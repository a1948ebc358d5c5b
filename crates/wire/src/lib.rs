//! What travels: dialects, usage, stream events, client-shaped errors and byte splices.
//!
//! **Invariant**: pure (no runtime, IO, clock or randomness), and a body that no lever edits leaves
//! as the bytes it came in (test `untouched_bodies_are_identical`).

pub mod dialect;
pub mod json;
pub mod problem;
pub mod prompt;
pub mod provider;
pub mod splice;
pub mod sse;
pub mod usage;
