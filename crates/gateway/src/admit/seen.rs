//! What calls to each target used lately: what soft limits expect of the next one.
//!
//! **Invariant**: memory is bounded, whatever models clients name: beyond [`TARGETS_MAX`] targets
//! nothing new is learnt, and the worst case is expected (test `strangers_are_not_remembered`).

use std::collections::HashMap;

use policy::admit::expect::{Recent, Used};
use policy::ports::{End, Leg};

/// 1 024 targets of some 12 kB: more than anyone configures.
pub const TARGETS_MAX: usize = 1_024;

/// The latest calls of every target.
#[derive(Debug, Default)]
pub struct Seen {
    /// By provider, then by model.
    targets: HashMap<String, HashMap<String, Recent>>,
    count: usize,
}

impl Seen {
    /// Learns what a leg used, if it was answered whole at a known price: what broke off says
    /// nothing of what a call costs.
    pub fn saw(&mut self, leg: &Leg) {
        let (End::Answered, Some(usd)) = (leg.end, leg.cost) else {
            return;
        };
        let used = Used {
            usd,
            tokens: leg.usage.input() + leg.usage.output,
        };
        let models = self.targets.get_mut(&leg.provider);
        if let Some(recent) = models.and_then(|models| models.get_mut(&leg.model)) {
            recent.saw(used);
        } else if self.count < TARGETS_MAX {
            self.count += 1;
            let models = self.targets.entry(leg.provider.clone()).or_default();
            models.entry(leg.model.clone()).or_default().saw(used);
        }
    }

    /// The 99th percentile of what a target's calls used; none while too few were seen.
    pub fn q99(&self, provider: &str, model: &str) -> Option<Used> {
        self.targets.get(provider)?.get(model)?.q99()
    }
}

#[cfg(test)]
mod tests {
    use policy::admit::expect::SEEN_MIN;
    use policy::moment::Moment;
    use policy::money::PicoUsd;
    use wire::usage::{Tokens, Usage};

    use super::*;

    fn leg(model: &str, end: End, cost: Option<i128>) -> Leg {
        Leg {
            provider: "p".to_owned(),
            model: model.to_owned(),
            sent_at: Moment(0),
            first_byte_at: None,
            ended_at: Moment(0),
            status: Some(200),
            end,
            usage: Usage {
                uncached: Tokens(7),
                ..Usage::default()
            },
            estimated: false,
            cost: cost.map(PicoUsd),
        }
    }

    #[test]
    fn strangers_are_not_remembered() {
        let mut seen = Seen::default();
        for _ in 0..SEEN_MIN {
            seen.saw(&leg("a", End::ClientGone, Some(1)));
            seen.saw(&leg("a", End::Answered, None));
        }
        assert_eq!(seen.q99("p", "a"), None);
        for _ in 0..SEEN_MIN {
            seen.saw(&leg("a", End::Answered, Some(5)));
        }
        let used = Used {
            usd: PicoUsd(5),
            tokens: Tokens(7),
        };
        assert_eq!(seen.q99("p", "a"), Some(used));
        for model in 0..2 * TARGETS_MAX {
            seen.saw(&leg(&model.to_string(), End::Answered, Some(1)));
        }
        assert_eq!(
            seen.targets.values().map(HashMap::len).sum::<usize>(),
            TARGETS_MAX
        );
        assert_eq!(seen.q99("p", "a"), Some(used));
    }
}
