//! Support for tests: an upstream that is told what to do, a client that sends what it is told,
//! stories told in transcripts, and the suite that every store passes.
//!
//! **Invariant**: no fixed port, no sleep, no clock; order comes from events that a test waits for.

#![expect(
    clippy::missing_panics_doc,
    reason = "a helper of tests fails by panicking"
)]

pub mod client;
pub mod conformance;
pub mod http1;
pub mod transcript;
pub mod upstream;
