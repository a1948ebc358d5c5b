//! Our rates against the crate `genai-prices`, which knows most of the same models.
//!
//! **Invariant**: every difference is one that we know the reason for; floats appear only here.

use std::time::{Duration, UNIX_EPOCH};

use genai_prices::{PriceRequest, UsageKey};
use policy::prices::PriceBook;
use policy::prices::bill::Class;
use wire::usage::{Tokens, Ttl, Usage};

use crate::invoices::moment;

/// Tokens of each class: few enough to stay below every edge.
const TOKENS: Tokens = Tokens(1_000);

/// A hundredth of what one token costs at the lowest rate; above it the rates differ.
const TOLERANCE_USD: f64 = 1e-11;

/// Our provider ids and theirs.
const PROVIDERS: [(&str, &str); 13] = [
    ("anthropic", "anthropic"),
    ("cerebras", "cerebras"),
    ("deepseek", "deepseek"),
    ("fireworks", "fireworks"),
    ("gemini", "google"),
    ("groq", "groq"),
    ("minimax", "minimax"),
    ("mistral", "mistral"),
    ("moonshot", "moonshotai"),
    ("openai", "openai"),
    ("together", "together"),
    ("xai", "x-ai"),
    ("zai", "zai"),
];

/// Where we differ on purpose; the reasons are in docs/decisions/002-price-book.md.
const DIFFERENT: [&str; 2] = [
    "mistral/mistral-large-4",
    "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
];

#[test]
fn rates_agree_with_genai_prices() {
    let book = PriceBook::built_in();
    let mut compared = 0;
    let mut different = Vec::new();
    for (ours, theirs) in PROVIDERS {
        for model in book.provider(ours).unwrap().models() {
            let rates = model
                .rates(moment("2026-11-24 12:00"), Tokens(5_000), None)
                .unwrap();
            let mut usage = Usage::default();
            for (class, count) in [
                (Class::Input, &mut usage.uncached),
                (Class::CacheRead, &mut usage.cache_read),
                (
                    Class::CacheWrite(Ttl::Minutes5),
                    &mut usage.cache_write.minutes_5,
                ),
                (
                    Class::CacheWrite(Ttl::Minutes30),
                    &mut usage.cache_write.minutes_30,
                ),
                (Class::CacheWrite(Ttl::Hour1), &mut usage.cache_write.hour_1),
                (Class::Output, &mut usage.output),
            ] {
                *count = if rates.price(class).is_some() {
                    TOKENS
                } else {
                    Tokens(0)
                };
            }
            let Some(expect) = their_cost(theirs, &model.id, &usage) else {
                continue;
            };
            compared += 1;
            let cost: f64 = rates
                .bill(model, &usage)
                .unwrap()
                .total()
                .exact()
                .parse()
                .unwrap();
            if (cost - expect).abs() > TOLERANCE_USD {
                different.push(format!("{ours}/{}", model.id));
            }
        }
    }
    assert!(compared >= 150, "{compared} models compared");
    assert_eq!(different, DIFFERENT, "{compared} models compared");
}

fn their_cost(provider: &str, model: &str, usage: &Usage) -> Option<f64> {
    let tokens = |count: Tokens| f64::from(u32::try_from(count.0).unwrap());
    let mut theirs = genai_prices::Usage::from([
        (UsageKey::INPUT_TOKENS, tokens(usage.input())),
        (UsageKey::OUTPUT_TOKENS, tokens(usage.output)),
    ]);
    // They price a class that they are told of, so only used ones are named.
    for (key, count) in [
        (UsageKey::CACHE_READ_TOKENS, usage.cache_read),
        (UsageKey::CACHE_WRITE_TOKENS, usage.cache_write.total()),
        (UsageKey::CACHE_WRITE_1H_TOKENS, usage.cache_write.hour_1),
    ] {
        if count > Tokens(0) {
            theirs.insert(key, tokens(count));
        }
    }
    let noon = UNIX_EPOCH + Duration::from_millis(moment("2026-11-24 12:00").0);
    let request = PriceRequest::new(model, &theirs);
    let request = request.with_provider_id(provider).with_timestamp(noon);
    let price = genai_prices::calculate(&request).ok()?;
    (price.provider_id == provider).then_some(price.total_price)
}
