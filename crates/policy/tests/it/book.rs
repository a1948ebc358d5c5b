//! What holds for every row of the shipped price book.
//!
//! **Invariant**: rows are sourced, dated and unambiguous, and nothing unknown has a price.

use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::prices::bill::{Bill, Class, Unpriced};
use policy::prices::calendar::Date;
use policy::prices::model::{CacheFamily, Model};
use proptest::prelude::{Strategy, any, proptest};
use wire::usage::{CacheWrites, Tokens, Ttl, Usage};

use crate::invoices::{moment, usage};

const NOON: &str = "2026-11-24 12:00";

/// 2026-01-01 to 2027-12-31, in milliseconds: the years that the book dates.
const DATED_MILLIS: std::ops::Range<u64> = 1_767_225_600_000..1_830_297_600_000;

fn models() -> impl Iterator<Item = &'static Model> {
    PriceBook::built_in()
        .providers()
        .flat_map(policy::prices::Provider::models)
}

#[test]
fn the_book_covers_the_market() {
    let now = moment(NOON);
    let providers = PriceBook::built_in()
        .providers()
        .filter(|provider| provider.models().iter().any(|model| model.is_served(now)));
    assert!(providers.count() >= 8);
    assert!(models().filter(|model| model.is_served(now)).count() >= 60);
}

#[test]
fn every_row_has_a_source_and_a_date() {
    let launch = Date::new(2026, 11, 1).unwrap();
    for model in models() {
        assert!(!model.windows.is_empty(), "{}", model.id);
        for window in &model.windows {
            assert!(
                window.source.len() > 10,
                "{}: {:?}",
                model.id,
                window.source
            );
            assert!(window.read >= launch, "{}: {}", model.id, window.read);
            let priced = |class| {
                window
                    .rows
                    .iter()
                    .all(|row| row.rates.price(class).is_some())
            };
            assert!(priced(Class::Input), "{}", model.id);
        }
    }
}

#[test]
fn the_built_in_book_is_unambiguous() {
    for model in models() {
        let book = PriceBook::built_in();
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            for dated in [
                name.clone(),
                format!("{name}-20261021"),
                format!("{name}@20261021"),
                format!("{name}-2026-10-21"),
            ] {
                let found = book.find(&model.provider, &dated);
                assert_eq!(found.map(|found| &found.id), Some(&model.id), "{dated}");
            }
        }
    }
}

#[test]
fn windows_do_not_overlap() {
    for model in models() {
        for start in model.windows.iter().filter_map(|window| window.from) {
            let inside = |window: &&policy::prices::model::Window| window.contains(start.start());
            assert_eq!(
                model.windows.iter().filter(inside).count(),
                1,
                "{} on {start}",
                model.id
            );
        }
    }
}

#[test]
fn names_mean_what_their_makers_mean() {
    let book = PriceBook::built_in();
    for (provider, name, expect) in [
        (
            "anthropic",
            "claude-opus-4-5-20251101",
            Some("claude-opus-4-5"),
        ),
        ("anthropic", "claude-opus-5-20260724", Some("claude-opus-5")),
        ("anthropic", "claude-opus-5-5", Some("claude-opus-5-5")),
        (
            "anthropic",
            "claude-sonnet-4-20250514",
            Some("claude-sonnet-4-0"),
        ),
        ("openai", "gpt-5", Some("gpt-5")),
        ("openai", "gpt-5-mini-2025-08-07", Some("gpt-5-mini")),
        ("openai", "gpt-5.6", Some("gpt-5.6-sol")),
        ("openai", "gpt-7", None),
        (
            "google",
            "gemini-2.5-flash-lite",
            Some("gemini-2.5-flash-lite"),
        ),
        ("x-ai", "grok-latest", Some("grok-4.5")),
        ("minimax", "minimax-m3", Some("MiniMax-M3")),
        ("nobody", "gpt-5", None),
    ] {
        let found = book.find(provider, name).map(|model| model.id.as_str());
        assert_eq!(found, expect, "{provider}/{name}");
    }
    for (name, expect) in [
        ("claude-sonnet-4-6", Some("anthropic")),
        ("gpt-5.4", Some("openai")), // Azure hosts it too; its maker wins.
        ("groq/openai/gpt-oss-120b", Some("groq")),
        ("gpt-oss-120b", None), // Several hosts, several prices.
        ("unheard-of", None),
    ] {
        assert_eq!(
            book.find_any(name).map(|model| model.provider.as_str()),
            expect,
            "{name}"
        );
    }
}

#[test]
fn cache_facts_come_with_the_prices() {
    let book = PriceBook::built_in();
    for (provider, name, family, minimum, longest) in [
        (
            "anthropic",
            "claude-haiku-4-5",
            CacheFamily::Anthropic,
            4_096,
            Some(Ttl::Hour1),
        ),
        (
            "anthropic",
            "claude-opus-5-5",
            CacheFamily::Anthropic,
            512,
            Some(Ttl::Hour1),
        ),
        ("openai", "gpt-5.4", CacheFamily::OpenaiAuto, 1_024, None),
        (
            "openai",
            "gpt-5.6-terra",
            CacheFamily::OpenaiBreakpoints,
            1_024,
            Some(Ttl::Hours12),
        ),
        (
            "gemini",
            "gemini-2.5-pro",
            CacheFamily::GeminiImplicit,
            2_048,
            None,
        ),
    ] {
        let model = book.find(provider, name).unwrap();
        assert_eq!(model.cache.family, family, "{name}");
        assert_eq!(model.cache.minimum, Some(Tokens(minimum)), "{name}");
        let rates = model.rates(moment(NOON), Tokens(5_000), None).unwrap();
        let offered = Ttl::ALL
            .into_iter()
            .filter(|ttl| rates.write(*ttl).is_some());
        assert_eq!(offered.max(), longest, "{name}");
        assert!(rates.read < rates.input, "{name}");
    }
    for model in models().filter(|model| model.cache.family == CacheFamily::Anthropic) {
        assert!(model.cache.minimum.is_some(), "{}", model.id);
    }
}

#[test]
fn unknown_is_never_zero() {
    let book = PriceBook::built_in();
    let cost = |provider: &str, model: &str, used: &str, at: &str| {
        book.cost(provider, model, &usage(used), moment(at))
            .unwrap_err()
            .to_string()
    };
    for (error, expect) in [
        (
            cost("openai", "gpt-9", "in=1", NOON),
            "no price for `gpt-9` of `openai`; add it to a price file",
        ),
        (
            cost("openai", "gpt-6.2-sol", "in=1", "2026-11-16 23:59"),
            "no price for `gpt-6.2-sol` on 2026-11-16; add a window that covers the day",
        ),
        (
            cost("openai", "gpt-5.4", "in=1 tier=scale", NOON),
            "no price for `gpt-5.4` at service tier `scale`; add rates for that tier",
        ),
        (
            cost("openai", "gpt-5.4", "in=272001 tier=priority", NOON),
            "no price for `gpt-5.4` at 272001 input tokens; the known rates end at 272000",
        ),
        (
            cost("openai", "gpt-5.4", "in=1 30m=1", NOON),
            "no `write_30m` price for `gpt-5.4`; add the rate to its row",
        ),
        (
            cost("openai", "gpt-4.1-nano", "in=1 searches=1", NOON),
            "no `web_search` price for `gpt-4.1-nano`; add the rate to its row",
        ),
    ] {
        assert_eq!(error, expect);
    }
    let nowhere = book.cost_in("openai", "gpt-5.4", &usage("in=1"), moment(NOON), "mars");
    assert!(
        matches!(nowhere, Err(Unpriced::Region { .. })),
        "{nowhere:?}"
    );
}

#[test]
fn a_cliff_is_seen_from_five_percent_away() {
    let model = PriceBook::built_in()
        .find("anthropic", "claude-haiku-5-5")
        .unwrap();
    let cliff = |used: &str| model.cliff_near(&usage(used), moment(NOON));
    // 100_000 ± 5 % warns; the delta is what 95_000 in and 1_000 out cost more above the edge:
    // 95_000 × ($0.50 − $0.10) + 1_000 × ($2.50 − $0.50) = 38_000 + 2_000 µ$.
    let near = cliff("in=95000 out=1000").unwrap();
    assert_eq!((near.edge, near.delta.0), (Tokens(100_000), 40_000_000_000));
    assert!(cliff("in=94999 out=1000").is_none());
    assert!(cliff("in=90000 read=15000").is_some());
    assert!(cliff("in=105001").is_none());
    let flat = PriceBook::built_in()
        .find("anthropic", "claude-sonnet-5")
        .unwrap();
    assert!(flat.cliff_near(&usage("in=200000"), moment(NOON)).is_none());
}

fn usages() -> impl Strategy<Value = Usage> {
    // Up to 50 000 tokens in all, so that two together stay below the lowest edge (100 000).
    any::<[u16; 8]>().prop_map(|counts| {
        let [input, read, short, long, output, ..] =
            counts.map(|count| Tokens(u64::from(count % 10_000)));
        let cache_write = CacheWrites {
            minutes_5: short,
            hour_1: long,
            ..CacheWrites::default()
        };
        let web_searches = u64::from(counts[5] % 5);
        Usage {
            uncached: input,
            cache_read: read,
            cache_write,
            output,
            web_searches,
            ..Usage::default()
        }
    })
}

fn together(one: &Usage, two: &Usage) -> Usage {
    let mut sum = one.clone();
    sum.uncached += two.uncached;
    sum.cache_read += two.cache_read;
    for ttl in Ttl::ALL {
        *sum.cache_write.of_mut(ttl) += two.cache_write.of(ttl);
    }
    sum.output += two.output;
    sum.web_searches += two.web_searches;
    sum
}

proptest! {
    #[test]
    fn cost_is_additive_within_a_tier(one in usages(), two in usages(), at in DATED_MILLIS) {
        let cost = |usage: &Usage| -> Bill {
            PriceBook::built_in().cost("anthropic", "claude-haiku-5-5", usage, Moment(at)).unwrap()
        };
        assert_eq!(cost(&one) + cost(&two), cost(&together(&one, &two)));
        assert_eq!([cost(&one), cost(&two)].into_iter().sum::<Bill>().total(),
            cost(&one).total() + cost(&two).total());
    }

    #[test]
    fn a_used_class_is_paid_or_unknown(
        pick in any::<proptest::sample::Index>(), used in usages(), at in DATED_MILLIS,
    ) {
        let models: Vec<&Model> = models().collect();
        let model = models[pick.index(models.len())];
        if let Ok(bill) = model.cost(&used, Moment(at)) {
            for class in Class::ALL {
                let free = bill.line(class).0 == 0;
                assert_eq!(free, class.tokens(&used) == Tokens(0), "{} {class:?}", model.id);
            }
            assert_eq!(bill.web_search.0 == 0, used.web_searches == 0, "{}", model.id);
        }
    }
}
