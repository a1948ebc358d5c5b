//! The whole gateway over real TCP, before an upstream that does what a test tells it to.
//!
//! **Invariant**: no fixed port, no sleep, no timing: order comes from events that a test waits for.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "tables of what was refused")]

mod admin;
mod admin_any;
mod admin_logs;
mod admin_mistakes;
mod admin_shelf;
mod bad_input;
mod budgets;
mod budgets_bounds;
mod budgets_faults;
mod budgets_models;
mod budgets_tasks;
mod budgets_told;
mod cache;
mod cascades;
mod cascades_agree;
mod cascades_exits;
mod cascades_judged;
mod cascades_known;
mod cascades_world;
mod cheaper;
mod context;
mod degrade;
mod equals;
mod exits;
mod focus;
mod hedges;
mod keys;
mod loops;
mod misbehaviour;
mod misbehaviour_exits;
mod misbehaviour_faults;
mod misbehaviour_world;
mod models;
mod names;
mod passed;
mod routes;
mod runaway;
mod settling;
mod stage;
mod stop;
mod stops;
mod think;
mod transcripts;
mod trim;
mod turned_away;
mod untouched;
mod wrap_up;
