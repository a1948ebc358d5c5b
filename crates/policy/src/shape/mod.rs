//! What a leg looks like before it is sent: one folder for each lever that changes it.
//!
//! **Invariant**: a shape adds only what it declares; no byte of a message is changed (the simulator's
//! test `marked_bodies_undo_to_the_original`).

pub mod cache;
