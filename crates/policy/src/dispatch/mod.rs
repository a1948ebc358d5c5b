//! Dispatch: what to do when a provider misbehaves.
//!
//! A leg that fails becomes a [`fault::Fault`]; [`retry::next`] says how to react to it,
//! [`breaker::Breaker`] and [`balance::choose`] say who may be asked, and [`walk::Walk`] puts them
//! together for one call over the targets of its [`lineup::Lineup`].
//!
//! **Invariant**: a call ends within its attempts and its deadline, and nothing is sent again once
//! the client has seen an answer, unless the operator asked for it (properties in
//! `tests/it/dispatch.rs`).

pub mod after;
pub mod balance;
pub mod breaker;
pub mod fault;
pub mod hedge;
pub mod lineup;
pub mod patience;
pub mod prefill;
pub mod read;
pub mod retry;
pub mod walk;
pub mod words;
