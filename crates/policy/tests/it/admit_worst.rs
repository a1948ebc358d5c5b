//! The worst case of a leg, against every model of the shipped price book.
//!
//! **Invariant**: what is held for a leg is an upper bound of what it is billed.

use policy::admit::worst::{Counting, Leg, OUTPUT_CEILING, Sound, Tiers, expected, worst};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::bill::Unpriced;
use policy::prices::model::Model;
use policy::prices::{PriceBook, Provider};
use proptest::prelude::{Strategy, any, proptest};
use wire::usage::{Tokens, Ttl, Usage};

use crate::invoices::moment;

const NOON: &str = "2026-11-24 12:00";

/// 2026-01-01 to 2027-12-31, in milliseconds: the years that the book dates.
const DATED_MILLIS: std::ops::Range<u64> = 1_767_225_600_000..1_830_297_600_000;

fn model(provider: &str, name: &str) -> &'static Model {
    PriceBook::built_in().find(provider, name).unwrap()
}

fn leg(model: &Model) -> Leg<'_> {
    Leg {
        model,
        prompt: Tokens(10_000),
        counting: Counting::UpperBound,
        added: Tokens(0),
        output: Some(Tokens(1_000)),
        choices: 1,
        writes: &[],
        tiers: Tiers::These(&["standard"]),
        sound: Sound::None,
        searches: 0,
        region: None,
        at: moment(NOON),
    }
}

fn check(leg: &Leg<'_>, expect: &str) {
    let cost = worst(leg).map_or_else(|error| error.to_string(), PicoUsd::exact);
    assert_eq!(cost, expect, "{}", leg.model.id);
}

#[test]
fn the_worst_case_is_what_the_dearest_turn_costs() {
    // $1 in, $5 out: 11 024 × $1 + 1 000 × $5, per million.
    let haiku = leg(model("anthropic", "claude-haiku-4-5"));
    check(&haiku, "0.016024");
    // Written for an hour at $2, or for five minutes at $1.25.
    let writes = |writes| Leg { writes, ..haiku };
    check(&writes(&[Ttl::Minutes5]), "0.01878");
    check(&writes(&[Ttl::Minutes5, Ttl::Hour1]), "0.027048");
    // A lifetime that the model does not offer costs nothing more.
    check(&writes(&[Ttl::Hours12]), "0.016024");
    // 21 024 tokens where another vocabulary may need twice as many, and 41 024 without one.
    let counted = |counting| Leg { counting, ..haiku };
    check(&counted(Counting::Vocabulary), "0.026024");
    check(&counted(Counting::Estimate), "0.046024");
    // Without the client's limit the model's counts: 64 000.
    let endless = Leg {
        output: None,
        ..haiku
    };
    check(&endless, "0.331024");
    // Three answers, each as long as the client allows: 11 024 × $1 + 3 000 × $5.
    let three = Leg {
        choices: 3,
        ..haiku
    };
    check(&three, "0.026024");
    check(
        &Leg {
            searches: 3,
            ..haiku
        },
        "0.046024",
    );
    check(
        &Leg {
            region: Some("mars"),
            ..haiku
        },
        "no price factor for `claude-haiku-4-5` in region `mars`; add it to `regions`",
    );
}

#[test]
fn the_worst_case_looks_over_cliffs_tiers_and_hours() {
    // 98 976 counted and 1 024 around it end exactly at the edge of 100 000; one more is dearer:
    // 100 000 × $0.10 + 1 000 × $0.50, and 100 001 × $0.50 + 1 000 × $2.50.
    let cheap = Leg {
        prompt: Tokens(98_976),
        ..leg(model("anthropic", "claude-haiku-5-5"))
    };
    check(&cheap, "0.0105");
    check(
        &Leg {
            prompt: Tokens(98_977),
            ..cheap
        },
        "0.0525005",
    );
    check(
        &Leg {
            region: Some("us"),
            ..cheap
        },
        "0.01155",
    );
    // Fast is twice standard.
    let fable = leg(model("anthropic", "claude-fable-5-2"));
    check(&fable, "0.128192");
    check(
        &Leg {
            tiers: Tiers::Any,
            ..fable
        },
        "0.256384",
    );
    check(
        &Leg {
            tiers: Tiers::These(&["standard", "fast"]),
            ..fable
        },
        "0.256384",
    );
    check(
        &Leg {
            tiers: Tiers::These(&["golden"]),
            ..fable
        },
        "no price for `claude-fable-5-2` at service tier `golden`; add rates for that tier",
    );
    // The count itself has no priority price beyond 272 000; the margin alone is priced below.
    let priority = Leg {
        tiers: Tiers::These(&["priority"]),
        ..leg(model("openai", "gpt-5.4"))
    };
    let at = |prompt| {
        worst(&Leg {
            prompt: Tokens(prompt),
            ..priority
        })
    };
    assert!(at(272_000).is_ok());
    // So many bytes need not be so many tokens: 273 025 × $5 + 1 000 × $30, per million.
    let bytes = Leg {
        prompt: Tokens(272_001),
        counting: Counting::Bytes,
        ..priority
    };
    check(&bytes, "1.395125");
    // No more goes in than the model takes: 200 000 × $1 + 1 000 × $5.
    let endless = Leg {
        prompt: Tokens(9_000_000),
        counting: Counting::Bytes,
        ..leg(model("anthropic", "claude-haiku-4-5"))
    };
    check(&endless, "0.205");
    assert!(
        matches!(at(272_001), Err(Unpriced::Size { .. })),
        "{:?}",
        at(272_001)
    );
}

#[test]
fn peak_hours_count_from_five_minutes_before() {
    let deepseek = PriceBook::built_in().provider("deepseek").unwrap();
    let peaks = |model: &&Model| {
        let rows = model.window(moment(NOON)).map(|window| &window.rows);
        rows.is_some_and(|rows| rows.iter().any(|row| row.hours.is_some()))
    };
    let model = deepseek.models().iter().find(peaks).unwrap();
    let at = |time: &str| {
        worst(&Leg {
            at: moment(&format!("2026-11-24 {time}")),
            ..leg(model)
        })
        .unwrap()
    };
    assert_eq!(at("00:54"), at("12:00"));
    assert_eq!(at("00:55"), at("03:00"));
    assert!(at("12:00") < at("03:00"));
}

#[test]
fn no_known_output_is_longer_than_the_ceiling() {
    let models = PriceBook::built_in().providers().flat_map(Provider::models);
    let longest = models.filter_map(|model| model.output_limit).max();
    assert_eq!(longest, Some(OUTPUT_CEILING));
}

#[test]
fn what_is_expected_is_below_the_worst_case() {
    let haiku = leg(model("anthropic", "claude-haiku-4-5"));
    let cost = |output| expected(&haiku, Tokens(output)).unwrap().exact();
    // 10 000 × $1 + 200 × $5; then as many as the client allows.
    assert_eq!(cost(200), "0.011");
    assert_eq!(cost(5_000), "0.015");
}

/// Shares of a bound for each class, in 255ths, and the tier.
fn shares() -> impl Strategy<Value = ([u8; 9], proptest::sample::Index)> {
    any::<([u8; 9], proptest::sample::Index)>()
}

/// A usage within a leg's bounds: the input shared out over its classes.
fn within(leg: &Leg<'_>, shares: &[u8; 9], tier: Option<String>) -> Usage {
    let weights: u64 = shares[..6].iter().map(|share| u64::from(*share)).sum();
    // A ninth share says how much of the bound is used at all.
    let used = leg.input_bound().0 * u64::from(shares[8]) / 255;
    let part = |index: usize| Tokens(used * u64::from(shares[index]) / weights.max(1));
    let output = leg.output_bound().0 * u64::from(shares[6]) / 255;
    let mut usage = Usage {
        uncached: part(0),
        cache_read: part(1),
        output: Tokens(output),
        tier,
        ..Usage::default()
    };
    for (index, ttl) in leg.writes.iter().enumerate() {
        *usage.cache_write.of_mut(*ttl) = part(2 + index);
    }
    if leg.sound == Sound::Possible {
        usage.audio_input = part(5);
        usage.audio_output = Tokens((leg.output_bound().0 - output) * u64::from(shares[7]) / 255);
    }
    usage.web_searches = leg.searches * u64::from(shares[7]) / 255;
    usage
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_usage_within_the_bounds_costs_more(
        (shares, tier) in shares(),
        prompt in 0_u64..1_200_000,
        output in proptest::option::of(0_u64..200_000),
        counting in proptest::sample::select(vec![
            Counting::UpperBound, Counting::Bytes, Counting::Vocabulary, Counting::Estimate,
        ]),
        (writes, searches, aside) in (0_usize..=4, 0_u64..4, 0_u64..300_000),
        at in DATED_MILLIS,
    ) {
        for provider in PriceBook::built_in().providers() {
            for model in provider.models() {
                let leg = Leg {
                    prompt: Tokens(prompt),
                    output: output.map(Tokens),
                    counting,
                    writes: &Ttl::ALL[..writes],
                    tiers: Tiers::Any,
                    sound: if searches % 2 == 0 { Sound::None } else { Sound::Possible },
                    searches,
                    region: model.regions.keys().next().map(String::as_str),
                    at: Moment(at),
                    ..leg(model)
                };
                let Ok(most) = worst(&leg) else { continue };
                let priced_at = Moment(at + aside);
                let names: Vec<&String> = model.window(priced_at).into_iter()
                    .flat_map(|window| &window.rows).flat_map(|row| &row.tiers).collect();
                if names.is_empty() { continue }
                let usage = within(&leg, &shares, Some(names[tier.index(names.len())].clone()));
                let bill = match leg.region {
                    Some(region) => model.cost_in(region, &usage, priced_at),
                    None => model.cost(&usage, priced_at),
                };
                if let Ok(bill) = bill {
                    assert!(bill.total() <= most, "{}: {usage:?} costs {} > {most}", model.id, bill.total());
                }
            }
        }
    }
}
