//! Whether, and how hard, to reason: decided once for a session, and only with values that the
//! model is known to take.
//!
//! A caller finds the model's [`capability::Capability`], asks [`decide::decide`], stores the
//! [`decide::Held`] with the session, and declares [`edits::edits`] on each of its calls.
//!
//! **Invariant**: no value is sent that the model's row does not list, and within a session the
//! value never changes (tests `no_unsupported_value_is_ever_sent`, `a_session_keeps_its_effort`).

pub mod capability;
pub mod class;
mod cues;
pub mod decide;
pub mod edits;
pub mod effort;
pub mod observed;
pub mod saved;
