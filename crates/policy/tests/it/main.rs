//! Tests of the shipped price book, and of decisions over many steps.
//!
//! **Invariant**: one binary for the whole crate.

#![expect(clippy::unwrap_used, reason = "tests")]

mod admit_any;
mod admit_book;
mod admit_model;
mod admit_worst;
mod book;
mod comparison;
mod dispatch;
mod invoices;
mod misbehaviour;
mod refresh;
mod think_bodies;
mod think_decisions;
mod think_prompts;
mod think_table;
