//! Outcomes in memory.
//!
//! **Invariant**: a call is judged once (store conformance, `a_call_is_judged_once`).

use policy::ports::outcomes::{Judged, Noted, Outcome, Outcomes};
use policy::ports::{CallId, Fault};

use super::Memory;

impl Outcomes for Memory {
    fn settled(&self, call: &CallId) -> Result<Option<Judged>, Fault> {
        let state = self.lock();
        let stored = state
            .places
            .get(call)
            .and_then(|place| state.calls.get(*place));
        let judged = stored.and_then(|stored| {
            let settled = stored.settled.as_ref()?;
            let leg = settled.legs.last()?;
            Some(Judged {
                key: stored.opened.key.clone(),
                provider: leg.provider.clone(),
                model: leg.model.clone(),
                notes: settled.notes.clone(),
            })
        });
        Ok(judged)
    }

    fn judge(&self, outcome: &Outcome) -> Result<bool, Fault> {
        let outcomes = &mut self.lock().outcomes;
        let is_new = outcomes.iter().all(|known| known.call != outcome.call);
        if is_new {
            outcomes.push(outcome.clone());
        }
        Ok(is_new)
    }

    fn latest(&self, count: u32) -> Result<Vec<Outcome>, Fault> {
        let outcomes = &self.lock().outcomes;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let skipped = outcomes.len().saturating_sub(count);
        Ok(outcomes.iter().skip(skipped).cloned().collect())
    }

    fn noted(&self, text: &str, among: u32) -> Result<Vec<Noted>, Fault> {
        let state = self.lock();
        let settled = state.calls.iter().rev().filter_map(|stored| {
            let settled = stored.settled.as_ref()?;
            Some(Noted {
                call: settled.call.clone(),
                at: settled.at,
                notes: settled.notes.clone(),
            })
        });
        let among = usize::try_from(among).unwrap_or(usize::MAX);
        let found = settled.take(among).filter(|it| it.notes.contains(text));
        let mut found: Vec<Noted> = found.collect();
        found.reverse();
        Ok(found)
    }
}
