//! Replays calls with two targets: each alone, and with the route lever between them.
//!
//! It asks the memory and the scales that production asks.
//!
//! **Invariant**: a call is served by exactly one target, and what is chosen is paid at that
//! target's own cache (test `the_cheaper_target_is_found`).

use std::collections::HashMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::bill::Unpriced;
use policy::prices::model::Model;
use policy::route::economics::{Offer, choose, forecast};
use policy::route::memory::{Head, Memory};
use policy::route::sessions::Kind;
use policy::shape::cache::Grain;

use crate::replay::{Call, Input, Replay, ReplayError, Sizes, Switch, number};

/// 4 bytes a token: traces that only have sizes are given bytes.
const BYTES_PER_TOKEN: u64 = 4;

/// What the calls cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoutedSums {
    /// All of them at the first target.
    pub first: PicoUsd,
    /// All of them at the second.
    pub second: PicoUsd,
    /// Each where the lever placed it.
    pub routed: PicoUsd,
    /// Calls at the second target.
    pub moved: u64,
    /// Calls at another target than the one before of their conversation.
    pub switches: u64,
    /// Calls.
    pub calls: u64,
}

/// A replay in progress.
pub struct Routed<'a> {
    models: [&'a Model; 2],
    priced_at: Moment,
    alone: [Replay<'a>; 2],
    placed: [Replay<'a>; 2],
    memory: Memory,
    /// Which target each conversation was at last.
    homes: HashMap<u64, usize>,
    sums: RoutedSums,
}

impl<'a> Routed<'a> {
    /// Between these two, at the prices of a moment.
    pub fn new(models: [&'a Model; 2], priced_at: Moment) -> Result<Self, Unpriced> {
        let replay = |model| Replay::new(model, priced_at, Switch::On, Grain::Breakpoints);
        let pair = || -> Result<[Replay<'a>; 2], Unpriced> {
            let [first, second] = models;
            Ok([replay(first)?, replay(second)?])
        };
        Ok(Self {
            models,
            priced_at,
            alone: pair()?,
            placed: pair()?,
            memory: Memory::default(),
            homes: HashMap::new(),
            sums: RoutedSums::default(),
        })
    }

    /// Replays one call. Calls come in the order of their times.
    pub fn call(&mut self, call: &Call<'_>, sizes: &mut dyn Sizes) -> Result<(), ReplayError> {
        let [first, second] = &mut self.alone;
        self.sums.first += first.call(call, sizes)?.policy_cost;
        self.sums.second += second.call(call, sizes)?.policy_cost;
        let Seen { kind, bytes, head } = seen(&call.input);
        let name = number(call.task.or(call.session).unwrap_or_default());
        let turned = self.memory.comes(name, kind, bytes, head, call.at);
        let home = self.homes.get(&name).copied();
        let offers = [0, 1].map(|place| Offer {
            forecast: self.models.get(place).and_then(|model| {
                let load = turned.load(home == Some(place));
                forecast(model, self.priced_at, load, &turned.outlook)
            }),
            unfit: None,
        });
        let place = choose(&offers, home).place;
        self.homes.insert(name, place);
        self.sums.switches += u64::from(home.is_some_and(|home| home != place));
        self.sums.calls += 1;
        self.sums.moved += u64::from(place == 1);
        let Some(replay) = self.placed.get_mut(place) else {
            return Ok(());
        };
        let outcome = replay.call(call, sizes)?;
        self.sums.routed += outcome.policy_cost;
        self.memory.settled(kind, bytes, &outcome.policy);
        Ok(())
    }

    /// The sums so far.
    pub fn sums(&self) -> RoutedSums {
        self.sums
    }
}

/// What the gateway sees of a call before it is placed.
struct Seen {
    kind: Kind,
    bytes: u64,
    head: Option<Head>,
}

fn seen(input: &Input<'_>) -> Seen {
    match input {
        Input::Body { dialect, bytes } => {
            let request = dialect.read(bytes).ok();
            let has_tools = request.as_ref().is_some_and(|request| request.has_tools);
            Seen {
                kind: Kind::of(has_tools),
                bytes: bytes.len() as u64,
                head: request.and_then(|request| Head::of(&request.prompt, 0)),
            }
        }
        Input::Shape { sizes, rest, .. } => {
            let sum: u64 = sizes.iter().map(|size| size.0).sum();
            Seen {
                kind: Kind::Chat,
                bytes: (sum + rest.0) * BYTES_PER_TOKEN,
                head: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::prices::PriceBook;
    use wire::dialect::Dialect;
    use wire::prompt::Prompt;
    use wire::usage::Tokens;

    use super::*;

    /// Counts a quarter of the bytes of each segment.
    struct Quarter;

    impl Sizes for Quarter {
        fn sizes(&mut self, prompt: &Prompt, _: &[u8]) -> Vec<Tokens> {
            let segments = prompt.segments.iter();
            segments
                .map(|segment| Tokens(segment.span.len() as u64 / 4))
                .collect()
        }
    }

    fn conversation(turns: usize) -> String {
        let words = "some words of a question ".repeat(60);
        let turn = |turn: usize| {
            format!(
                r#"{{"role":"user","content":"{turn} {words}"}},{{"role":"assistant","content":"{words}"}},"#
            )
        };
        let turns: String = (0..turns).map(turn).collect();
        let system = "You are careful. ".repeat(1_200);
        format!(
            r#"{{"model":"m","max_tokens":9,"system":"{system}","messages":[{turns}{{"role":"user","content":"end"}}]}}"#
        )
    }

    /// Costs with these two targets, in the order first, second, routed.
    fn costs(first: &str, second: &str) -> RoutedSums {
        let model = |name: &str| PriceBook::built_in().find("anthropic", name);
        let models = [model(first), model(second)].map(|model| model.expect("a known model"));
        let at = Moment(1_795_478_400_000);
        let mut routed = Routed::new(models, at).expect("prices");
        let mut clock = at;
        for task in 0..12 {
            let task = task.to_string();
            for turn in 0..6 {
                let body = conversation(turn);
                let call = Call {
                    task: Some(&task),
                    at: clock,
                    input: Input::Body {
                        dialect: Dialect::AnthropicMessages,
                        bytes: body.as_bytes(),
                    },
                    output: Tokens(300),
                    session: None,
                };
                routed
                    .call(&call, &mut Quarter)
                    .expect("it can be replayed");
                clock = clock.after(5_000);
            }
        }
        routed.sums()
    }

    #[test]
    fn the_cheaper_target_is_found() {
        let down = costs("claude-sonnet-4-6", "claude-haiku-4-5");
        assert_eq!((down.routed, down.moved), (down.second, down.calls));
        let up = costs("claude-haiku-4-5", "claude-sonnet-4-6");
        assert_eq!((up.routed, up.moved, up.switches), (up.first, 0, 0));
    }
}
