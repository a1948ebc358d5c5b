//! `tokenwise export` beside the ledger that it reads.
//!
//! **Invariant**: it is the ledger's calls, all of them or those asked for
//! (`an_export_is_the_ledger_line_by_line`).

use serde_json::Value;

use crate::home::Home;
use crate::serve::Served;
use crate::tasks::called;

#[test]
fn an_export_is_the_ledger_line_by_line() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let config = home.before(&format!("http://{}/v1", simulated.address), "");
    let served = Served::start(home.command(&["serve", "--config", &config]));
    let ids = [
        ("x-tokenwise-task: one\r\n", 7),
        ("x-tokenwise-task: two\r\n", 70),
        ("", 9),
    ]
    .map(|(fields, words)| called(&served, fields, words));
    assert_eq!(served.stop(), Some(0));
    let export = |more: &[&str]| home.prints(&[&["export", "--config", &config], more].concat());

    let lines = export(&[]);
    assert_eq!(export(&["--json"]), lines);
    let calls: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named: Vec<&str> = calls
        .iter()
        .map(|call| call["call"].as_str().unwrap())
        .collect();
    assert_eq!(named, ids);
    let cost = |call: &Value| call["settled"]["cost_pico_usd"].as_i64().unwrap();
    let report = home.json(&["report", "--json", "--config", &config]);
    let sum: i64 = calls.iter().map(cost).sum();
    assert_eq!(report["totals"]["cost_pico_usd"], sum);

    let table = export(&["--csv", "--task", "two"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].starts_with("call,opened_at_ms,"), "{table}");
    assert!(rows[1].starts_with(&ids[1]), "{table}");
    assert!(
        rows[1].contains(&format!(",{},", cost(&calls[1]))),
        "{table}"
    );

    // What it writes, `replay` reads.
    let file = home.file("calls.jsonl", &lines);
    let replayed = home.prints(&["replay", file.to_str().unwrap()]);
    assert!(replayed.contains("3 calls"), "{replayed}");
    let (code, message) = home.fails(&["export", "--since", "soon", "--config", &config]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("soon"), "{message}");
}
