//! Economics: which of the adequate targets is cheapest over the rest of the session, the warm
//! prefix that a switch would lose included.
//!
//! **Invariant**: the target that is chosen is fit or is the first one; a session leaves
//! its target only for a saving beyond the margin (property `a_choice_is_adequate_and_cheapest`).

use wire::usage::{Tokens, Ttl};

use crate::moment::Moment;
use crate::money::PicoUsd;
use crate::prices::model::{CacheFamily, Model, Rates};
use crate::route::adequacy::Doubt;
use crate::route::sessions::Outlook;
use crate::shape::cache::rules;

/// 5 in 100: what a switch must save of the rest of the session. Forecasts of sizes err by more than
/// the last percent, and a session that moves to and fro pays each time.
const MARGIN_PERCENT: u64 = 5;

/// 64 calls: as far as `sessions` looks ahead.
const CALLS_AHEAD: f64 = 64.0;

/// What a call and the rest of its session cost at one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// This call.
    pub now: PicoUsd,
    /// The calls that are expected to follow.
    pub rest: PicoUsd,
}

impl Forecast {
    /// Both.
    pub fn total(&self) -> PicoUsd {
        self.now + self.rest
    }
}

/// The input of the call that is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// All of it.
    pub input: Tokens,
    /// The input that its session began with.
    pub began: Tokens,
    /// What of it the target has in its cache, or has as a rule: of this session, or of the head
    /// that it shares with others. Nothing, if that is less than the target's cache keeps.
    pub warm: Tokens,
}

/// What the rest of a session costs at a model: each call reads what stood before it, pays for what
/// is new, and is answered. Price cliffs count from the call that meets them. `None` if the model
/// has no price for it.
pub fn forecast(model: &Model, at: Moment, load: Load, outlook: &Outlook) -> Option<Forecast> {
    let whole = outlook.calls.min(CALLS_AHEAD);
    let mut cost = Forecast::default();
    let warm = load.warm.min(load.input);
    let from = kept_from(model, load.began);
    let keeps = |input: Tokens| from.is_some_and(|from| input >= from);
    let mut warm = if keeps(warm) { warm } else { Tokens(0) };
    let (mut input, mut left) = (load.input, whole);
    let mut share = 1.0;
    let mut is_first = true;
    while share > 0.0 {
        let writes = left > 0.0 && keeps(input);
        let one = call(model, at, (input, warm), outlook.answers, writes)?;
        if is_first {
            cost.now = one;
        } else {
            cost.rest += part(one, share);
        }
        is_first = false;
        share = left.min(1.0);
        left -= share;
        warm = if keeps(input) { input } else { Tokens(0) };
        input += outlook.grows;
    }
    Some(cost)
}

/// One call's cost; what is new is written if it is kept and somebody will read it.
fn call(
    model: &Model,
    at: Moment,
    (input, warm): (Tokens, Tokens),
    answers: Tokens,
    writes: bool,
) -> Option<PicoUsd> {
    let rates = model.rates(at, input, None).ok()?;
    let full = rates.input?;
    let new = Tokens(input.0.saturating_sub(warm.0));
    let write = writes.then(|| written(&rates)).flatten();
    let read = rates.read.unwrap_or(full);
    let input = read.cost(warm) + write.unwrap_or(full).cost(new);
    Some(input + rates.output?.cost(answers))
}

/// The price of the shortest lifetime that is sold.
fn written(rates: &Rates) -> Option<crate::money::Price> {
    let lifetimes = [Ttl::Minutes5, Ttl::Minutes30, Ttl::Hour1];
    lifetimes.into_iter().find_map(|ttl| rates.write(ttl))
}

/// A session that begins below the minimum is taken to be cached from a quarter beyond it on: nobody knows
/// how fast it grows. With the 128 tokens beyond it from which it is written, taubench between Sonnet 4.6
/// and Haiku 4.5 cost $8.85 instead of $7.26, for conversations began where they were not cached.
const LATE_QUARTERS: u64 = 5;

/// The least prefix that a model's cache keeps of a session that began with so much; none without a
/// cache. A session that has to grow past the minimum first is written somewhat beyond it.
fn kept_from(model: &Model, began: Tokens) -> Option<Tokens> {
    let family = model.cache.family;
    let minimum = model.cache.minimum.unwrap_or(rules::minimum(family));
    match family {
        CacheFamily::None => None,
        CacheFamily::Anthropic if began < minimum => {
            Some(Tokens(minimum.0.saturating_mul(LATE_QUARTERS) / 4))
        }
        CacheFamily::Anthropic
        | CacheFamily::OpenaiAuto
        | CacheFamily::OpenaiBreakpoints
        | CacheFamily::GeminiImplicit
        | CacheFamily::Deepseek
        | CacheFamily::Xai
        | CacheFamily::Automatic => Some(minimum),
    }
}

/// A share of an amount: of the last expected call, which may not come.
fn part(amount: PicoUsd, share: f64) -> PicoUsd {
    if share >= 1.0 {
        return amount;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a forecast, not a bill"
    )]
    PicoUsd((amount.0 as f64 * share) as i128)
}

/// Why a target cannot be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is failing at the moment.
    Failing,
    /// Its answers begin later than the route allows.
    Slow,
    /// Its price is not known.
    Unpriced,
    /// The key may not call it, or it cannot take the call.
    Closed,
    /// Nothing is known of its answers to such calls.
    Unproven,
    /// The call is unlike anything that the router was trained on.
    Unlike,
    /// Its answers would not be good enough.
    Below,
    /// Its answers have got worse lately.
    Drifted,
}

impl From<Doubt> for Unfit {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Unproven => Self::Unproven,
            Doubt::Unlike => Self::Unlike,
            Doubt::Below => Self::Below,
            Doubt::Drifted => Self::Drifted,
        }
    }
}

impl Unfit {
    /// The name in notes and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Slow => "slow",
            Self::Unpriced => "unpriced",
            Self::Closed => "closed",
            Self::Unproven => "unproven",
            Self::Unlike => "unlike",
            Self::Below => "below",
            Self::Drifted => "drifted",
        }
    }
}

/// A target that could serve a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// What it costs, if known.
    pub forecast: Option<Forecast>,
    /// Why it cannot be chosen.
    pub unfit: Option<Unfit>,
}

/// Why a target was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the cheapest of those that are adequate.
    Cheapest,
    /// The session is there, and leaving it would not pay.
    Stays,
    /// No other one is fit.
    Alone,
}

impl Why {
    /// The name in notes and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cheapest => "cheapest",
            Self::Stays => "stays",
            Self::Alone => "alone",
        }
    }
}

/// A target and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place among the offers.
    pub place: usize,
    /// Why.
    pub why: Why,
}

/// Chooses among offers. The first is the one that the client asked for: it needs no proof that it
/// is adequate, and is what remains if no other is fit. `home` is where the session was before.
pub fn choose(offers: &[Offer], home: Option<usize>) -> Choice {
    let total = |place: usize| -> Option<PicoUsd> {
        let offer = offers.get(place)?;
        let forecast = offer.forecast.filter(|_| offer.unfit.is_none())?;
        Some(forecast.total())
    };
    let fit = (0..offers.len()).filter_map(|place| Some((total(place)?, place)));
    let Some((best, place)) = fit.min() else {
        return Choice {
            place: 0,
            why: Why::Alone,
        };
    };
    match home.and_then(|home| Some((total(home)?, home))) {
        Some((stay, home)) if home == place || !pays(stay, best) => Choice {
            place: home,
            why: Why::Stays,
        },
        _ => Choice {
            place,
            why: Why::Cheapest,
        },
    }
}

fn pays(stay: PicoUsd, go: PicoUsd) -> bool {
    (stay - go).each(100) > stay.each(MARGIN_PERCENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop_assert, proptest};

    use super::*;
    use crate::prices::PriceBook;

    /// 2026-11-24T10:00:00Z.
    const AT: Moment = Moment(1_795_514_400_000);

    fn model(provider: &str, name: &str) -> &'static Model {
        let found = PriceBook::built_in().find(provider, name);
        found.unwrap_or_else(|| unreachable!("{provider}/{name} has a price"))
    }

    fn outlook(calls: f64) -> Outlook {
        Outlook {
            calls,
            grows: Tokens(1_000),
            answers: Tokens(200),
        }
    }

    #[test]
    fn a_forecast_adds_up_by_hand() {
        // Claude Sonnet 4.6: 3 / 15 dollars, writes 3.75, reads 0.30 (a million).
        let sonnet = model("anthropic", "claude-sonnet-4-6");
        let load = Load {
            input: Tokens(10_000),
            began: Tokens(10_000),
            warm: Tokens(0),
        };
        for (calls, now, rest) in [
            // 10 000 × 3 + 200 × 15 µ$: nobody reads it again, so that nothing is written.
            (0.0, "0.033", "0"),
            // Written: 10 000 × 3.75 + 3 000; then 10 000 × 0.3 + 1 000 × 3 + 3 000.
            (1.0, "0.0405", "0.009"),
            // The next one writes its 1 000 too, and the last reads 11 000.
            (2.0, "0.0405", "0.01905"),
            (0.5, "0.0405", "0.0045"),
        ] {
            let cost = forecast(sonnet, AT, load, &outlook(calls)).expect("a price");
            assert_eq!(
                (cost.now.exact(), cost.rest.exact()),
                (now.into(), rest.into()),
                "{calls}"
            );
        }
    }

    /// Claude Haiku 4.5 keeps prefixes from 4 096 tokens on, and a session that grows past that is
    /// taken to be written from 5 120 on; until then, every call pays in full.
    #[test]
    fn a_cache_that_begins_late_saves_late() {
        let haiku = model("anthropic", "claude-haiku-4-5");
        let now = |began: u64, input: u64| {
            let load = Load {
                input: Tokens(input),
                began: Tokens(began),
                warm: Tokens(input - 200),
            };
            let cost = forecast(haiku, AT, load, &outlook(4.0)).expect("a price");
            cost.now.exact()
        };
        // 1 / 5 dollars, writes 1.25, reads 0.10 (a million), and 200 tokens of an answer.
        assert_eq!(now(3_000, 4_400), "0.0054");
        assert_eq!(now(3_000, 5_200), "0.0075");
        assert_eq!(now(3_000, 5_400), "0.00177");
        assert_eq!(now(4_100, 4_400), "0.00167");
    }

    #[test]
    fn a_warm_prefix_is_worth_its_price() {
        // Haiku costs a third, but a long warm prefix at Sonnet costs a tenth.
        let (sonnet, haiku) = (
            model("anthropic", "claude-sonnet-4-6"),
            model("anthropic", "claude-haiku-4-5"),
        );
        let place = |warm: u64, calls: f64| {
            let at = |model, warm| Offer {
                forecast: forecast(
                    model,
                    AT,
                    Load {
                        input: Tokens(101_000),
                        began: Tokens(20_000),
                        warm: Tokens(warm),
                    },
                    &outlook(calls),
                ),
                unfit: None,
            };
            choose(&[at(sonnet, warm), at(haiku, 0)], Some(0))
        };
        let stays = Choice {
            place: 0,
            why: Why::Stays,
        };
        let goes = Choice {
            place: 1,
            why: Why::Cheapest,
        };
        assert_eq!(place(100_000, 0.0), stays);
        assert_eq!(place(100_000, 2.0), stays);
        assert_eq!(place(100_000, 20.0), goes);
        assert_eq!(place(0, 0.0), goes);
    }

    fn offers() -> impl Strategy<Value = (Vec<Offer>, Option<usize>)> {
        let offer = (
            0..50_i128,
            0..50_i128,
            proptest::option::of(Just(Unfit::Slow)),
        );
        let offer = offer.prop_map(|(now, rest, unfit)| Offer {
            forecast: (now > 2).then_some(Forecast {
                now: PicoUsd(now),
                rest: PicoUsd(rest),
            }),
            unfit,
        });
        (
            proptest::collection::vec(offer, 1..6),
            proptest::option::of(0..7_usize),
        )
    }

    proptest! {
        #[test]
        fn a_choice_is_adequate_and_cheapest((offers, home) in offers()) {
            let choice = choose(&offers, home);
            let chosen = offers[choice.place];
            let fit = |offer: &Offer| offer.unfit.is_none() && offer.forecast.is_some();
            prop_assert!(fit(&chosen) || (choice.place == 0 && !offers.iter().any(fit)));
            let best = offers.iter().filter(|it| fit(it)).filter_map(|it| it.forecast).map(|it| it.total()).min();
            if let (Some(best), Some(cost)) = (best, chosen.forecast.filter(|_| fit(&chosen))) {
                let excess = (cost.total() - best).each(100);
                prop_assert!(excess <= cost.total().each(MARGIN_PERCENT));
                prop_assert!(choice.why == Why::Stays || cost.total() == best);
            }
        }
    }
}
