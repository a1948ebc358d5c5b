//! Tests of the shipped price book.
//!
//! **Invariant**: one binary for the whole crate.

#![expect(clippy::unwrap_used, reason = "tests")]

mod book;
mod comparison;
mod invoices;
mod refresh;
