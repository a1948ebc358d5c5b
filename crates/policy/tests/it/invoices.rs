//! Invoices computed by hand, exact to the pico-dollar.
//!
//! **Invariant**: the arithmetic beside each row is the provider's published rule, not our code:
//! USD per million tokens times tokens is micro-dollars, and six more zeros make it pico-dollars.

use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::PriceBook;
use policy::prices::calendar::Date;
use wire::usage::{Tokens, Ttl, Usage};

/// An ordinary day: a Tuesday, outside every provider's peak hours.
const NOON: &str = "2026-11-24 12:00";

/// Target, time (UTC), usage, total in pico-dollars.
type Invoice = (&'static str, &'static str, &'static str, i128);

/// Context edges, at which the whole request changes its price.
const TIER_EDGES: &[Invoice] = &[
    // 100_000 × $0.10/M = $0.01; 1_000 × $0.50/M = $0.0005
    (
        "anthropic/claude-haiku-5-5",
        NOON,
        "in=100000 out=1000",
        10_500_000_000,
    ),
    // One token more, everything ×5: 100_001 × $0.50/M = $0.0500005; 1_000 × $2.50/M = $0.0025
    (
        "anthropic/claude-haiku-5-5",
        NOON,
        "in=100001 out=1000",
        52_500_500_000,
    ),
    // Cached input counts for the edge: 50_000 + 40_000 + 10_001 = 100_001.
    // 50_000 × $0.50 = 25_000 µ$; 40_000 × $0.05 = 2_000; 10_001 × $0.625 = 6_250.625;
    // 200 × $2.50 = 500
    (
        "anthropic/claude-haiku-5-5",
        NOON,
        "in=50000 read=40000 5m=10001 out=200",
        33_750_625_000,
    ),
    // Below the inclusive edge: 199_999 × $2 = 399_998 µ$; 500 × $6 = 3_000
    ("xai/grok-4.7", NOON, "in=199999 out=500", 402_998_000_000),
    // "200k and more": 200_000 × $4 = 800_000 µ$; 500 × $12 = 6_000
    ("xai/grok-4.7", NOON, "in=200000 out=500", 806_000_000_000),
    // "More than 200k", so 200_000 is below: 200_000 × $2 = 400_000 µ$; 1_000 × $12 = 12_000
    (
        "gemini/gemini-3.1-pro-preview",
        NOON,
        "in=200000 out=1000",
        412_000_000_000,
    ),
    // 200_001 × $4 = 800_004 µ$; 1_000 × $18 = 18_000
    (
        "gemini/gemini-3.1-pro-preview",
        NOON,
        "in=200001 out=1000",
        818_004_000_000,
    ),
    // 272_000 × $2.50 = 680_000 µ$; 2_000 × $15 = 30_000
    (
        "openai/gpt-5.4",
        NOON,
        "in=272000 out=2000",
        710_000_000_000,
    ),
    // 72_001 × $5 = 360_005 µ$; 200_000 × $0.50 = 100_000; 2_000 × $22.50 = 45_000
    (
        "openai/gpt-5.4",
        NOON,
        "in=72001 read=200000 out=2000",
        505_005_000_000,
    ),
    // 512_001 × $0.60 = 307_200.6 µ$; 100 × $2.40 = 240
    (
        "minimax/MiniMax-M3",
        NOON,
        "in=512001 out=100",
        307_440_600_000,
    ),
];
/// Reads, and writes for 5 minutes, 30 minutes, 1 hour and 12 hours.
const CACHE_WRITES: &[Invoice] = &[
    // 12 × $3 = 36 µ$; 10_000 × $3.75 = 37_500; 300 × $15 = 4_500
    (
        "anthropic/claude-sonnet-4-6",
        NOON,
        "in=12 5m=10000 out=300",
        42_036_000_000,
    ),
    // 7 × $3 = 21 µ$; 50_000 × $0.30 = 15_000; 2_000 × $3.75 = 7_500; 8_000 × $6 = 48_000;
    // 150 × $15 = 2_250
    (
        "anthropic/claude-sonnet-4-6",
        NOON,
        "in=7 read=50000 5m=2000 1h=8000 out=150",
        72_771_000_000,
    ),
    // Reads at 0.05: 3 × $4 = 12 µ$; 100_000 × $0.20 = 20_000; 1_000 × $5 = 5_000;
    // 500 × $20 = 10_000
    (
        "anthropic/claude-opus-5-5",
        NOON,
        "in=3 read=100000 5m=1000 out=500",
        35_012_000_000,
    ),
    // Reads at 0.025: 100 × $10 = 1_000 µ$; 200_000 × $0.25 = 50_000; 1_000 × $50 = 50_000
    (
        "anthropic/claude-fable-5-1",
        NOON,
        "in=100 read=200000 out=1000",
        101_000_000_000,
    ),
    // 500 × $2 = 1_000 µ$; 3_000 × $0.20 = 600; 4_000 × $2.50 = 10_000; 400 × $12 = 4_800
    (
        "openai/gpt-5.6-terra",
        NOON,
        "in=500 read=3000 30m=4000 out=400",
        16_400_000_000,
    ),
    // 100 × $2 = 200 µ$; 20_000 × $5 = 100_000; 1_000 × $10 = 10_000
    (
        "openai/gpt-6.1-sol",
        NOON,
        "in=100 12h=20000 out=1000",
        110_200_000_000,
    ),
    // 2_001 + 200_000 + 20_000 + 50_000 = 272_001, so all of it at the higher rates:
    // 2_001 × $4 = 8_004 µ$; 200_000 × $0.20 = 40_000; 20_000 × $5 = 100_000;
    // 50_000 × $10 = 500_000; 1_000 × $15 = 15_000
    (
        "openai/gpt-6.1-sol",
        NOON,
        "in=2001 read=200000 30m=20000 12h=50000 out=1000",
        663_004_000_000,
    ),
    // 1_000 × $3 = 3_000 µ$; 10_000 × $6 = 60_000; 100 × $15 = 1_500
    (
        "moonshot/kimi-k3",
        NOON,
        "in=1000 1h=10000 out=100",
        64_500_000_000,
    ),
];
/// Service tiers as the response names them.
const SERVICE_TIERS: &[Invoice] = &[
    // 100_000 × $0.05 = 5_000 µ$; 1_000 × $0.25 = 250
    (
        "anthropic/claude-haiku-5-5",
        NOON,
        "in=100000 out=1000 tier=batch",
        5_250_000_000,
    ),
    // 100_001 × $0.25 = 25_000.25 µ$; 1_000 × $1.25 = 1_250
    (
        "anthropic/claude-haiku-5-5",
        NOON,
        "in=100001 out=1000 tier=batch",
        26_250_250_000,
    ),
    // Half of each class: 1_000 × $1.50 = 1_500 µ$; 5_000 × $0.15 = 750; 4_000 × $1.875 = 7_500;
    // 200 × $7.50 = 1_500
    (
        "anthropic/claude-sonnet-4-6",
        NOON,
        "in=1000 read=5000 5m=4000 out=200 tier=batch",
        11_250_000_000,
    ),
    // 1_000 × $16 = 16_000 µ$; 10_000 × $0.40 = 4_000; 2_000 × $32 = 64_000; 100 × $80 = 8_000
    (
        "anthropic/claude-fable-5-2",
        NOON,
        "in=1000 read=10000 1h=2000 out=100 tier=fast",
        92_000_000_000,
    ),
    // 1_000 × $20 = 20_000 µ$; 10_000 × $2 = 20_000; 500 × $100 = 50_000
    (
        "openai/gpt-6-astra",
        NOON,
        "in=1000 read=10000 out=500 tier=priority",
        90_000_000_000,
    ),
    // The same tier under its other name.
    (
        "openai/gpt-6-astra",
        NOON,
        "in=1000 read=10000 out=500 tier=fast",
        90_000_000_000,
    ),
    // 8_000 × $0.875 = 7_000 µ$; 2_000 × $0.0875 = 175; 300 × $7 = 2_100
    (
        "openai/gpt-5.2",
        NOON,
        "in=8000 read=2000 out=300 tier=flex",
        9_275_000_000,
    ),
    // The batch read rate is published rounded: 1_000 × $1.25 = 1_250 µ$; 9_000 × $0.13 = 1_170;
    // 100 × $7.50 = 750
    (
        "openai/gpt-5.4",
        NOON,
        "in=1000 read=9000 out=100 tier=batch",
        3_170_000_000,
    ),
    // No batch read rate is published, the standard one holds: 1_000 × $1 = 1_000 µ$;
    // 1_000 × $0.50 = 500; 100 × $4 = 400
    (
        "openai/gpt-4.1",
        NOON,
        "in=1000 read=1000 out=100 tier=batch",
        1_900_000_000,
    ),
    // `default` is what OpenAI calls standard: 1_000 × $2.50 = 2_500 µ$; 10 × $15 = 150
    (
        "openai/gpt-5.4-2026-03-05",
        NOON,
        "in=1000 out=10 tier=default",
        2_650_000_000,
    ),
    // 200_000 × $3.20 = 640_000 µ$; 100 × $9.60 = 960
    (
        "xai/grok-4.7",
        NOON,
        "in=200000 out=100 tier=batch",
        640_960_000_000,
    ),
    // 1_000 × $0.68 = 680 µ$; 100 × $2.09 = 209
    (
        "mistral/mistral-large-4",
        "2026-10-28 12:00",
        "in=1000 out=100 tier=batch",
        889_000_000,
    ),
];
/// Dated changes and peak hours (UTC).
const DATES_AND_HOURS: &[Invoice] = &[
    // Tuesday, peak: 10_000 × $1.32 = 13_200 µ$; 30_000 × $0.044 = 1_320; 1_000 × $3.96 = 3_960
    (
        "deepseek/deepseek-v4-pro",
        "2026-11-24 02:00",
        "in=10000 read=30000 out=1000",
        18_480_000_000,
    ),
    // The peak ends at 04:00: half of each, 6_600 + 660 + 1_980
    (
        "deepseek/deepseek-v4-pro",
        "2026-11-24 04:00",
        "in=10000 read=30000 out=1000",
        9_240_000_000,
    ),
    // A Saturday has no peak.
    (
        "deepseek/deepseek-v4-pro",
        "2026-11-28 02:00",
        "in=10000 read=30000 out=1000",
        9_240_000_000,
    ),
    // Monday: 10_000 × $0.30 = 3_000 µ$; 100_000 × $0.006 = 600; 2_000 × $1.20 = 2_400
    (
        "deepseek/deepseek-v4-flash",
        "2026-11-23 09:59",
        "in=10000 read=100000 out=2000",
        6_000_000_000,
    ),
    // 10_000 × $2 = 20_000 µ$; 40_000 × $0.10 = 4_000; 800 × $10 = 8_000
    (
        "gemini/gemini-4-argon",
        "2026-11-30 23:59",
        "in=10000 read=40000 out=800",
        32_000_000_000,
    ),
    // A minute later everything doubles.
    (
        "gemini/gemini-4-argon",
        "2026-12-01 00:00",
        "in=10000 read=40000 out=800",
        64_000_000_000,
    ),
    // 1_000 × $0.75 = 750 µ$; 100 × $3.75 = 375
    (
        "gemini/gemini-3.8-flash",
        "2026-12-31 23:59",
        "in=1000 out=100",
        1_125_000_000,
    ),
    // 1_000 × $1.50 = 1_500 µ$; 100 × $7.50 = 750
    (
        "gemini/gemini-3.8-flash",
        "2027-01-01 00:00",
        "in=1000 out=100",
        2_250_000_000,
    ),
    // 1_000 × $5 = 5_000 µ$; 100 × $30 = 3_000
    (
        "openai/gpt-5.6-sol",
        "2026-08-20 23:59",
        "in=1000 out=100",
        8_000_000_000,
    ),
    // 1_000 × $4 = 4_000 µ$; 100 × $20 = 2_000
    (
        "openai/gpt-5.6-sol",
        "2026-08-21 00:00",
        "in=1000 out=100",
        6_000_000_000,
    ),
];
/// Audio, searches, and rates below a cent.
const OTHER_CLASSES: &[Invoice] = &[
    // 1_000 × $0.30 = 300 µ$; 5_000 × $1 (audio) = 5_000; 200 × $2.50 = 500
    (
        "gemini/gemini-2.5-flash",
        NOON,
        "in=1000 audio_in=5000 out=200",
        5_800_000_000,
    ),
    // 100 × $2.50 = 250 µ$; 600 × $32 = 19_200; 50 × $10 = 500; 400 × $64 = 25_600
    (
        "openai/gpt-audio",
        NOON,
        "in=100 audio_in=600 out=50 audio_out=400",
        45_550_000_000,
    ),
    // 2_000 × $2 = 4_000 µ$; 500 × $10 = 5_000; 3 searches × $0.01 = 30_000
    (
        "anthropic/claude-sonnet-5",
        NOON,
        "in=2000 out=500 searches=3",
        39_000_000_000,
    ),
    // Down to the pico-dollar: 1_001 × $0.075 = 75.075 µ$; 333 × $0.0375 = 12.4875; 7 × $0.30 = 2.1
    (
        "groq/openai/gpt-oss-20b",
        NOON,
        "in=1001 read=333 out=7",
        89_662_500,
    ),
];

#[test]
fn invoices_are_exact() {
    let tables = [
        TIER_EDGES,
        CACHE_WRITES,
        SERVICE_TIERS,
        DATES_AND_HOURS,
        OTHER_CLASSES,
    ];
    assert!(tables.iter().map(|table| table.len()).sum::<usize>() >= 30);
    for (target, at, used, expect) in tables.into_iter().flatten() {
        check(target, at, used, *expect);
    }
}

#[test]
fn a_region_is_a_line_of_its_own() {
    let bill = PriceBook::built_in()
        .cost_in(
            "anthropic",
            "claude-sonnet-4-6",
            &usage("in=12 5m=10000 out=300 searches=1"),
            moment(NOON),
            "us",
        )
        .unwrap();
    // The tokens cost 42_036 µ$ (above); a tenth of that is 4_203.6 µ$. The search is not scaled.
    assert_eq!(bill.region, PicoUsd(4_203_600_000));
    assert_eq!(
        bill.total(),
        PicoUsd(42_036_000_000 + 4_203_600_000 + 10_000_000_000)
    );
}

fn check(target: &str, at: &str, used: &str, expect: i128) {
    let (provider, model) = target.split_once('/').unwrap();
    let bill = PriceBook::built_in().cost(provider, model, &usage(used), moment(at));
    let total = bill.as_ref().map(policy::prices::bill::Bill::total);
    assert_eq!(
        total,
        Ok(PicoUsd(expect)),
        "{target} at {at}: {used}: {bill:?}"
    );
}

/// Reads a usage written as `in=100 read=20 5m=30 out=7 tier=batch`.
pub(crate) fn usage(text: &str) -> Usage {
    let mut usage = Usage::default();
    for pair in text.split(' ') {
        let (class, amount) = pair.split_once('=').unwrap();
        if class == "tier" {
            usage.tier = Some(amount.to_owned());
            continue;
        }
        let count: u64 = amount.parse().unwrap();
        match class {
            "in" => usage.uncached = Tokens(count),
            "read" => usage.cache_read = Tokens(count),
            "audio_in" => usage.audio_input = Tokens(count),
            "out" => usage.output = Tokens(count),
            "audio_out" => usage.audio_output = Tokens(count),
            "searches" => usage.web_searches = count,
            written => {
                let ttl = Ttl::ALL
                    .into_iter()
                    .find(|ttl| ttl.name() == written)
                    .unwrap();
                *usage.cache_write.of_mut(ttl) = Tokens(count);
            }
        }
    }
    usage
}

/// Reads `2026-11-24 02:00` (UTC).
pub(crate) fn moment(text: &str) -> Moment {
    let number = |from: usize, until: usize| text[from..until].parse::<u16>().unwrap();
    let (month, day) = (text[5..7].parse().unwrap(), text[8..10].parse().unwrap());
    let minutes = u64::from(number(11, 13)) * 60 + u64::from(number(14, 16));
    Date::new(number(0, 4), month, day)
        .unwrap()
        .start()
        .after(minutes * 60_000)
}
