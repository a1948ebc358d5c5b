//! The whole gateway over real TCP, before an upstream that does what a test tells it to.
//!
//! **Invariant**: no fixed port, no sleep, no timing: order comes from events that a test waits for.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "tables of what was refused")]

mod bad_input;
mod cache;
mod exits;
mod keys;
mod settling;
mod stage;
mod stop;
mod transcripts;
mod untouched;
