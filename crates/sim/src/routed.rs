//! Replays calls with two targets: each alone, and with the route lever between them.
//!
//! It weighs what production weighs: sizes estimated from bytes, sessions as seen so far, and each
//! target's cache as the calls that went there have left it.
//!
//! **Invariant**: a call is served by exactly one target, and what is chosen is paid at that
//! target's own cache (test `the_cheaper_target_is_found`).

use std::collections::HashMap;

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::bill::Unpriced;
use policy::prices::model::Model;
use policy::route::economics::{Forecast, Load, Offer, Track, choose, forecast};
use policy::route::sessions::{Kind, Sessions};
use policy::shape::cache::Grain;
use wire::dialect::Dialect;
use wire::prompt::Chain;
use wire::usage::Tokens;

use crate::replay::{Call, Input, Replay, ReplayError, Sizes, Switch};

/// 4 bytes a token: traces that only have sizes are given bytes.
const BYTES_PER_TOKEN: u64 = 4;

/// 5 min: later, nothing is thought warm.
const WARM_MS: u64 = 300_000;

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

/// A conversation under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    calls: usize,
    input: Tokens,
    at: Moment,
    home: usize,
}

/// A replay in progress.
pub struct Routed<'a> {
    models: [&'a Model; 2],
    priced_at: Moment,
    alone: [Replay<'a>; 2],
    placed: [Replay<'a>; 2],
    sessions: Sessions,
    tracks: [Track; 2],
    open: HashMap<String, Open>,
    /// When heads were last seen.
    heads: HashMap<Chain, Moment>,
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
            sessions: Sessions::default(),
            tracks: Default::default(),
            open: HashMap::new(),
            heads: HashMap::new(),
            sums: RoutedSums::default(),
        })
    }

    /// Replays one call. Calls come in the order of their times.
    pub fn call(&mut self, call: &Call<'_>, sizes: &mut dyn Sizes) -> Result<(), ReplayError> {
        let [first, second] = &mut self.alone;
        self.sums.first += first.call(call, sizes)?.policy_cost;
        self.sums.second += second.call(call, sizes)?.policy_cost;
        let (place, forecast) = self.place(call);
        if let Some(replay) = self.placed.get_mut(place) {
            let outcome = replay.call(call, sizes)?;
            self.sums.routed += outcome.policy_cost;
            if let (Some(track), Some(forecast)) = (self.tracks.get_mut(place), forecast) {
                track.add(forecast.now, outcome.policy_cost);
            }
            let Seen { kind, bytes, .. } = seen(&call.input);
            self.sessions.sized(kind, bytes, outcome.policy.input());
        }
        self.sums.calls += 1;
        self.sums.moved += u64::from(place == 1);
        Ok(())
    }

    /// The sums so far.
    pub fn sums(&self) -> RoutedSums {
        self.sums
    }

    /// Where a call goes, and what it was forecast to cost there.
    fn place(&mut self, call: &Call<'_>) -> (usize, Option<Forecast>) {
        let Seen { kind, bytes, head } = seen(&call.input);
        let input = self.sessions.size(kind, bytes);
        let head = head.map_or(Tokens(0), |(chain, bytes)| {
            let before = self.heads.insert(chain, call.at);
            let is_warm = before.is_some_and(|before| call.at.since(before) < WARM_MS);
            let size = self.sessions.size(kind, bytes);
            if is_warm { size } else { Tokens(0) }
        });
        let name = call.task.or(call.session).unwrap_or_default();
        let before = self.open.get(name).copied();
        let calls = before.map_or(1, |open| open.calls + 1);
        let grown = before.map(|open| Tokens(input.0.saturating_sub(open.input.0)));
        self.sessions.came_to(kind, calls, grown);
        let outlook = self.sessions.outlook(kind, calls);
        let warm_at = |place: usize| {
            let is_warm = |open: &Open| open.home == place && call.at.since(open.at) < WARM_MS;
            let warm = before.filter(is_warm).map(|open| open.input.min(input));
            warm.unwrap_or_default().max(head)
        };
        let plain = [0, 1].map(|place| {
            let model = self.models.get(place)?;
            let warm = warm_at(place);
            forecast(model, self.priced_at, Load { input, warm }, &outlook)
        });
        let corrected = [0, 1].map(|place| {
            let (track, plain) = (self.tracks.get(place)?, plain.get(place)?);
            plain.map(|plain| track.corrected(plain))
        });
        let offers = [0, 1].map(|place| Offer {
            forecast: corrected.get(place).copied().flatten(),
            unfit: None,
            seen: self.tracks.get(place).map_or(0, Track::calls),
        });
        let home = before.map(|open| open.home);
        let place = choose(&offers, home).place;
        self.sums.switches += u64::from(home.is_some_and(|home| home != place));
        let open = Open {
            calls,
            input,
            at: call.at,
            home: place,
        };
        self.open.insert(name.to_owned(), open);
        self.sessions.answered(kind, call.output);
        (place, plain.get(place).copied().flatten())
    }
}

/// What the gateway sees of a call before it is placed.
struct Seen {
    kind: Kind,
    bytes: u64,
    /// What it shares with other conversations, and its bytes.
    head: Option<(Chain, u64)>,
}

fn seen(input: &Input<'_>) -> Seen {
    match input {
        Input::Body { dialect, bytes } => {
            let dialect: Dialect = *dialect;
            let request = dialect.read(bytes).ok();
            let head = request.as_ref().and_then(|request| {
                let head = request.prompt.segments.get(..=request.prompt.head_end()?)?;
                let bytes = head.iter().map(|segment| segment.span.len() as u64).sum();
                Some((head.last()?.chain, bytes))
            });
            Seen {
                kind: Kind::of(request.is_some_and(|request| request.has_tools)),
                bytes: bytes.len() as u64,
                head,
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
    use wire::prompt::Prompt;

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
