//! What becomes of a text, step by step: each is taken only if it is worth it.
//!
//! **Invariant**: no step makes a text longer, in bytes or in tokens (property
//! `nothing_grows_and_json_stays_json` in `trim::tests`).

use std::collections::BTreeMap;

use wire::usage::Tokens;

use super::super::edited::Edited;
use super::lined::Lined;
use super::{Count, Technique};

/// A change that saves fewer tokens is not worth that the model reads something unusual.
const TOKENS_SAVED_MIN: u64 = 12;

/// The shortest text so far.
pub(super) struct Best<'s> {
    /// None while it is the original.
    pub(super) text: Option<String>,
    pub(super) count: &'s mut dyn Count,
    pub(super) saved: &'s mut BTreeMap<Technique, Tokens>,
}

impl Best<'_> {
    pub(super) fn step(
        &mut self,
        original: &Lined<'_>,
        technique: Technique,
        change: impl FnOnce(&Lined<'_>) -> Option<Edited>,
    ) {
        let offered = match &self.text {
            Some(shorter) => change(&Lined::of(shorter)),
            None => change(original),
        };
        self.offer(original.text, technique, offered);
    }

    pub(super) fn offer(&mut self, original: &str, technique: Technique, offered: Option<Edited>) {
        let Some(offered) = offered else { return };
        let current = self.text.take();
        match self.gain(current.as_deref().unwrap_or(original), &offered) {
            Some(gain) => {
                self.add(technique, gain);
                self.text = Some(offered.text);
            }
            None => self.text = current,
        }
    }

    /// What is gained by a text that was made of another one, if it is worth it.
    pub(super) fn gain(&mut self, longer: &str, shorter: &Edited) -> Option<Tokens> {
        if shorter.text.len() >= longer.len() {
            return None;
        }
        let gain = u64::try_from(self.count.more(longer, shorter)).unwrap_or(0);
        (gain >= TOKENS_SAVED_MIN).then_some(Tokens(gain))
    }

    pub(super) fn add(&mut self, technique: Technique, gain: Tokens) {
        self.saved.entry(technique).or_default().0 += gain.0;
    }
}
