//! Why legs of a call failed and who is to blame, as the notes of its row tell.
//!
//! **Invariant**: every leg that failed has one note, in the order of the legs (test
//! `the_sixteen_behaviours_are_rescued_or_cleanly_refused`).

use policy::dispatch::fault::{Credential, Fault};
use serde::Serialize;

use crate::route::Plan;
use crate::settle::beside::beside;
use crate::setup;

/// The legs of a call that failed.
#[derive(Debug, Default)]
pub struct Faults(Vec<Note>);

#[derive(Debug, Serialize)]
struct Note {
    target: String,
    fault: &'static str,
    blame: &'static str,
}

impl Faults {
    /// Notes a leg to a target that carried this credential.
    pub fn add(&mut self, target: String, fault: Fault, credential: Credential) {
        self.0.push(Note {
            target,
            fault: fault.name(),
            blame: fault.blame(credential).name(),
        });
    }

    /// A row's notes, with these before them.
    pub fn beside(&self, notes: String) -> String {
        if self.0.is_empty() {
            notes
        } else {
            beside("failed", &self.0, &notes)
        }
    }
}

/// Whose credential calls to a target carry.
pub fn whose(plan: &Plan) -> Credential {
    match plan.upstream.credential {
        setup::Credential::FromClient => Credential::Clients,
        setup::Credential::Configured(_) | setup::Credential::Nothing => Credential::Ours,
    }
}
