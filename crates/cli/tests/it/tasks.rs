//! `tokenwise tasks` beside the ledger that it reads.
//!
//! **Invariant**: the tasks' costs are the ledger's, to the pico-dollar (`task_costs_are_the_ledgers`).

use serde_json::Value;

use crate::home::Home;
use crate::serve::Served;

fn amount(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap()
}

pub(crate) fn called(served: &Served, fields: &str, words: usize) -> String {
    let body = format!(
        r#"{{"model":"gpt-5.4","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "hi ".repeat(words)
    );
    let answer = served.call("POST", "/v1/chat/completions", fields, &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-tokenwise-call: "));
    head.unwrap().trim().to_owned()
}

#[test]
fn task_costs_are_the_ledgers() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let provider = format!("http://{}/v1", simulated.address);
    let config = home.before(&provider, "");
    let served = Served::start(home.command(&["serve", "--config", &config]));
    let sub = "x-tokenwise-task: sub\r\nx-tokenwise-parent-task: middle, whole\r\n";
    let middle = "x-tokenwise-task: middle\r\nx-tokenwise-parent-task: whole\r\n";
    let calls = [
        ("x-tokenwise-task: whole\r\n", 7),
        (middle, 70),
        (sub, 700),
        (sub, 701),
        ("x-tokenwise-task: other\r\n", 10),
        ("", 20),
    ];
    let ids = calls.map(|(fields, words)| called(&served, fields, words));
    // A call can be judged once it is in the tables, where stopping brings it.
    assert_eq!(served.stop(), Some(0));
    let served = Served::start(home.command(&["serve", "--config", &config]));
    for (call, score) in [(&ids[0], 1.0), (&ids[4], 0.0)] {
        let body = format!(r#"{{"call":"{call}","score":{score}}}"#);
        let answer = served.call("POST", "/v1/feedback", "", &body);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
    assert_eq!(served.stop(), Some(0));

    let tasks = home.json(&["tasks", "--json", "--config", &config]);
    let report = home.json(&["report", "--by", "task", "--json", "--config", &config]);
    assert_eq!(tasks["cost_pico_usd"], report["totals"]["cost_pico_usd"]);
    let rows = tasks["tasks"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let row = |name: &str| rows.iter().find(|row| row["task"] == name).unwrap();
    let own: i64 = rows.iter().map(|row| amount(row, "cost_pico_usd")).sum();
    let total = amount(&tasks, "cost_pico_usd");
    assert_eq!(own + amount(&tasks, "without_task_pico_usd"), total);
    for part in report["parts"].as_array().unwrap() {
        match part["label"].as_str() {
            Some(name) => assert_eq!(row(name)["cost_pico_usd"], part["cost_pico_usd"]),
            None => assert_eq!(tasks["without_task_pico_usd"], part["cost_pico_usd"]),
        }
    }
    // A call that names no task is one of its session, if that is asked for.
    let sessions = ["tasks", "--sessions", "--json", "--config", &config];
    let sessions = home.json(&sessions);
    assert_eq!(amount(&sessions, "without_task_pico_usd"), 0);
    assert_eq!(sessions["cost_pico_usd"], tasks["cost_pico_usd"]);
    let unnamed = sessions["tasks"].as_array().unwrap();
    let unnamed = unnamed.iter().filter(|row| !rows.contains(row));
    let unnamed: Vec<i64> = unnamed.map(|row| amount(row, "cost_pico_usd")).collect();
    assert_eq!(unnamed, [amount(&tasks, "without_task_pico_usd")]);
    // The whole pays for its parts, and is dearest first.
    let whole: i64 = ["whole", "middle", "sub"]
        .map(|name| amount(row(name), "cost_pico_usd"))
        .iter()
        .sum();
    assert_eq!(amount(row("whole"), "with_sub_tasks_pico_usd"), whole);
    assert_eq!(rows[0]["task"], "whole");
    assert_eq!(
        (&row("sub")["calls"], &row("whole")["sub_tasks"]),
        (&2.into(), &2.into())
    );
    assert_eq!(row("sub")["parent"], "middle");
    // Two were judged, one of them as done: its price includes the other's.
    let other = amount(row("other"), "with_sub_tasks_pico_usd");
    assert_eq!(amount(&tasks, "per_success_pico_usd"), whole + other);
    let printed = home.prints(&["tasks", "--rows", "2", "--config", &config]);
    assert!(
        printed.contains("2 with feedback, 1 succeeded"),
        "{printed}"
    );
    assert!(printed.contains("and 2 more"), "{printed}");
}
