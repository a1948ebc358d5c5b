//! The built binary from outside: what it prints, how it exits, and what it leaves behind.
//!
//! **Invariant**: no test needs a network, a key or a fixed port, and none sees the settings of
//! whoever runs it (`Home`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(clippy::print_stdout, reason = "figures of a long test")]

mod admin;
mod budgets;
mod commands;
mod crash;
mod demo;
mod export;
mod home;
mod keys;
mod kill;
mod kill_budgets;
mod learn;
mod route;
mod serve;
mod stops;
mod tasks;
