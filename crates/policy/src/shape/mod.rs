//! What a leg looks like before it is sent: one folder for each lever that changes it.
//!
//! **Invariant**: a shape changes only what it declares; the cache lever changes no byte of a message
//! (the simulator's test `marked_bodies_undo_to_the_original`), the trim lever only texts of tools and
//! of the user (test `only_results_and_pasted_texts_change`), focus only documents beside a question
//! (test `other_messages_stay_as_they_are`).

pub mod cache;
pub mod context;
pub mod edited;
pub mod focus;
pub mod trim;
pub mod vocabulary;
