//! The table of what models can be asked, against the price book and over all combinations.
//!
//! **Invariant**: nothing is sent that a row does not list (test
//! `no_unsupported_value_is_ever_sent`).

use policy::prices::PriceBook;
use policy::think::capability::{Ask, Beside, Capability, Table, WithTools};
use policy::think::edits::edits;
use policy::think::effort::Effort;
use serde_json::{Value, json};
use wire::dialect::Dialect;
use wire::splice::Splice;

const TABLE: &str = include_str!("../../think/models.toml");

#[test]
fn every_row_is_sound() {
    let table = Table::parse(TABLE).unwrap();
    for row in table.rows() {
        for provider in &row.providers {
            for id in &row.ids {
                let model = PriceBook::built_in().find(provider, id);
                assert!(model.is_some(), "{provider}/{id} is not in the price book");
                assert_eq!(table.find(provider, id), Some(row), "{provider}/{id}");
            }
        }
    }
    assert_eq!(table.find("openai", "gpt-4o"), None);
    assert_eq!(table.find("acme", "gpt-5"), None);
    assert!(table.find("anthropic", "claude-opus-5-20260801").is_some());
}

#[test]
fn faulty_tables_are_refused() {
    let good = "dated = 2026-11-24\n[[model]]\nproviders = [\"a\"]\nids = [\"m\"]\nask = \"effort\"\n\
                levels = [\"low\", \"high\"]\ndefault = \"high\"\nsource = \"s\"\nread = 2026-11-24\n";
    let check = |from: &str, to: &str, expect: Option<&str>| {
        let found = Table::parse(&good.replace(from, to)).map_err(|error| error.to_string());
        match expect {
            None => assert!(found.is_ok(), "{found:?}"),
            Some(part) => assert!(found.unwrap_err().contains(part), "{to}"),
        }
    };
    check("", "", None);
    check(
        "\"low\", \"high\"",
        "\"high\", \"low\"",
        Some("least first"),
    );
    check("\"low\", \"high\"", "", Some("least first"));
    check(
        "default = \"high\"",
        "default = \"max\"",
        Some("one of `levels`"),
    );
    check(
        "source = \"s\"",
        "source = \"\"",
        Some("where this was read"),
    );
    check(
        "ids = [\"m\"]",
        "ids = [\"m\", \"M\"]",
        Some("one row only"),
    );
    check(
        "\"high\"\nsource",
        "\"highest\"\nsource",
        Some("unknown variant"),
    );
}

/// A body with what bears on reasoning, or without.
fn body(dialect: Dialect, extras: &[(&str, Value)]) -> String {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    if dialect == Dialect::AnthropicMessages {
        body["max_tokens"] = json!(64_000);
    }
    for (name, value) in extras {
        body[*name] = value.clone();
    }
    body.to_string()
}

/// The level that a body asks for in the way of a row; none if it asks for nothing.
fn sent(row: &Capability, body: &Value) -> Option<Effort> {
    let named = |value: &Value| value.as_str().and_then(Effort::named);
    let off = body["thinking"]["type"] == "disabled";
    match row.ask {
        Ask::Adaptive | Ask::EffortOrOff | Ask::ThinkingType if off => Some(Effort::None),
        Ask::ReasoningEffort | Ask::ThinkingType => named(&body["reasoning_effort"]),
        Ask::EnableThinking if body["enable_thinking"].as_bool()? => Some(Effort::High),
        Ask::EnableThinking => Some(Effort::None),
        Ask::BudgetTokens => {
            let tokens = body["thinking"]["budget_tokens"].as_u64()?;
            assert!((1_024..body["max_tokens"].as_u64().unwrap()).contains(&tokens));
            Some(Effort::of_budget(tokens))
        }
        Ask::Adaptive | Ask::Effort | Ask::EffortOrOff => named(&body["output_config"]["effort"]),
    }
}

#[test]
fn no_unsupported_value_is_ever_sent() {
    let tools = json!([{"type": "function", "function": {"name": "f"}, "name": "f",
                        "input_schema": {"type": "object"}}]);
    let extras: [&[(&str, Value)]; 5] = [
        &[],
        &[("tools", tools.clone())],
        &[("temperature", json!(0.2))],
        &[("tools", tools), ("tool_choice", json!({"type": "any"}))],
        &[("max_tokens", json!(1_500))],
    ];
    let (mut tried, mut set) = (0, 0);
    for row in Table::built_in().rows() {
        for dialect in Dialect::ALL {
            for extra in extras {
                for level in Effort::ALL {
                    let before = body(dialect, extra);
                    let request = dialect.read(before.as_bytes()).unwrap();
                    let mut splice = Splice::default();
                    edits(&request, row, level, &mut splice);
                    let after: Value =
                        serde_json::from_slice(&splice.apply(before.as_bytes())).unwrap();
                    tried += 1;
                    if splice.is_empty() {
                        continue;
                    }
                    set += 1;
                    assert!(row.takes(level), "{:?} {level}", row.ids);
                    assert_eq!(sent(row, &after), Some(level), "{:?} {after}", row.ids);
                    let more =
                        level != Effort::None && row.default.is_none_or(|default| level > default);
                    let has = |name: &str| !after[name].is_null();
                    assert!(!(more && row.sampling == Beside::Refused && has("temperature")));
                    assert!(!(more && row.forced_tool == Beside::Refused && has("tool_choice")));
                    assert!(row.tools != WithTools::Never || !has("tools"));
                    assert_eq!(after["max_tokens"], body_value(&before)["max_tokens"]);
                }
            }
        }
    }
    assert!(tried > 1_000 && set > 100, "{set} of {tried}");
}

fn body_value(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn a_level_is_lowered_only_below_a_known_default() {
    let check = |model: &str, floor: Effort, expect: Option<Effort>| {
        let row = Table::built_in().find("openai", model).unwrap();
        assert_eq!(row.lowered(floor), expect, "{model}");
    };
    check("o3", Effort::None, Some(Effort::Low));
    check("gpt-5", Effort::None, Some(Effort::Minimal));
    check("gpt-5", Effort::Low, Some(Effort::Low));
    check("gpt-5", Effort::Medium, None);
    check("gpt-5-pro", Effort::None, None);
    check("gpt-5.4", Effort::None, None);
    // Their default is not known: only the lowest of all is surely not above it.
    check("gpt-5.6-sol", Effort::None, Some(Effort::None));
    check("gpt-5.6-sol", Effort::Low, None);
    check("gpt-6-astra", Effort::Low, Some(Effort::Low));
}
