//! How every target is: one entry for each target of a configured route, and one for each provider
//! that is called by a model's own name.
//!
//! **Invariant**: entries are never removed, so that a place stays valid; their number is bounded by
//! what configurations have named (test `models_of_clients_share_their_providers_health`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use policy::dispatch::balance::Health;
use policy::dispatch::breaker::Rules;
use policy::dispatch::lineup::Lineup;
use policy::dispatch::walk::Site;
use policy::lately::Lately;

/// The health of all targets.
#[derive(Debug, Default)]
pub struct Healths {
    known: Mutex<Known>,
    /// Which target answered a conversation last: its prompt cache is warm there.
    homes: Mutex<Lately<usize>>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<String, usize>,
    healths: Vec<Health>,
}

impl Healths {
    /// The place of a name, which is made if it is new.
    pub fn place(&self, name: &str) -> usize {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.places.get(name) {
            return *place;
        }
        let place = known.healths.len();
        known.healths.push(Health::default());
        known.places.insert(name.to_owned(), place);
        place
    }

    /// Decides about a route while nobody else does.
    pub fn with<R>(
        &self,
        lineup: &Lineup,
        rules: &Rules,
        decide: impl FnOnce(&mut Site<'_>) -> R,
    ) -> R {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        decide(&mut Site {
            lineup,
            rules,
            health: &mut known.healths,
        })
    }

    /// How the target at a place is.
    pub fn at(&self, place: usize) -> Health {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.healths.get(place).copied().unwrap_or_default()
    }

    /// The target that answered a conversation last, if that is remembered.
    pub fn home(&self, conversation: u64) -> Option<usize> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(conversation)
    }

    /// A target has begun to answer a conversation.
    pub fn settle_in(&self, conversation: u64, target: usize) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.put(conversation, target);
    }

    /// Calls under way at each name, for tests and for operators.
    pub fn in_flight(&self) -> Vec<(String, u32)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(String, u32)> = known
            .places
            .iter()
            .filter_map(|(name, place)| {
                let health = known.healths.get(*place)?;
                Some((name.clone(), health.gauge.in_flight()))
            })
            .collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Healths;

    #[test]
    fn models_of_clients_share_their_providers_health() {
        let healths = Healths::default();
        let first = healths.place("openai");
        assert_ne!(healths.place("openai/gpt-5.4"), first);
        assert_eq!(healths.place("openai"), first);
        assert_eq!(healths.in_flight().len(), 2);
    }
}
