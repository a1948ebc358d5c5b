//! The demo, as a stranger runs it.
//!
//! **Invariant**: its sums are exact, and the calls that it names can be explained.

use serde_json::Value;

use crate::home::{Home, text};

#[test]
fn the_demo_adds_up() {
    let home = Home::new();
    // Without any variable: the demo needs no key.
    let output = home
        .command(&["demo", "--json"])
        .env_remove("OPENAI_API_KEY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let totals = &value["totals"];
    let pico = |value: &Value, name: &str| value[name].as_i64().unwrap();
    let saved = pico(totals, "untouched_pico_usd") - pico(totals, "cost_pico_usd");
    let levers = totals["levers"].as_object().unwrap().values();
    assert_eq!(
        levers.map(|saved| saved.as_i64().unwrap()).sum::<i64>(),
        saved
    );
    assert!(saved > 0, "{totals}");
    let parts = value["parts"].as_array().unwrap().iter();
    assert_eq!(
        parts.map(|part| pico(part, "cost_pico_usd")).sum::<i64>(),
        pico(totals, "cost_pico_usd")
    );
    assert_eq!(
        (&totals["unpriced"], &totals["estimated"]),
        (&0.into(), &0.into())
    );
    let (call, ledger) = (&value["worst_call"]["call"], &value["ledger"]);
    let arguments = [
        "explain",
        call.as_str().unwrap(),
        "--store",
        ledger.as_str().unwrap(),
    ];
    assert!(home.prints(&arguments).contains("untouched (estimated)"));
}

#[test]
fn commands_print_json_on_request() {
    let home = Home::new();
    for arguments in [
        &["check", "--json"][..],
        &["check", "--providers", "--json"],
        &["price", "list", "--json"],
        &["keys", "list", "--json"],
        &["report", "--json"],
    ] {
        let value = home.json(arguments);
        assert!(value.is_object() || value.is_array(), "{arguments:?}");
    }
}
