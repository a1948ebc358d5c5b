//! `tokenwise budgets` beside a gateway, and after it.
//!
//! **Invariant**: the command, which reads the ledger, says what the gateway says, which counts.

use serde_json::Value;

use crate::home::{Home, PLANTED};
use crate::serve::{CALL, Served};

const BUDGETS: &str = "\
[[budgets]]
id = \"daily\"
applies_to = \"key\"
usd = \"5\"
per = \"day\"

[[budgets]]
id = \"calls\"
applies_to = \"model\"
requests = 2
per = \"lifetime\"
";

#[test]
fn budgets_are_those_of_the_gateway() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let provider = format!("http://{}/v1", simulated.address);
    let admin = "[admin]\ntoken = \"env:OPENAI_API_KEY\"";
    let config = home.before(&provider, &format!("{admin}\n{BUDGETS}"));
    let config = config.as_str();
    let served = Served::start(home.command(&["serve", "--config", config]));
    for expect in ["200", "200", "429"] {
        let answer = served.call("POST", "/v1/chat/completions", "", CALL);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expect}")),
            "{answer}"
        );
    }
    let token = format!("authorization: Bearer {PLANTED}\r\n");
    let counted = served.call("GET", "/admin/v1/budgets", &token, "");
    let (_, counted) = counted.split_once("\r\n\r\n").unwrap();
    let counted: Value = serde_json::from_str(counted).unwrap();
    let json =
        |more: &[&str]| home.json(&[&["budgets", "--json", "--config", config], more].concat());
    assert_eq!(json(&[]), counted);
    let usage = &counted["usage"];
    // The model is counted by its own name, and with its provider's.
    assert_eq!(usage.as_array().unwrap().len(), 3, "{usage}");
    let (calls, named, daily) = (&usage[0], &usage[1], &usage[2]);
    assert_eq!(named["scope"]["id"], "openai/gpt-5.4");
    assert_eq!((&calls["spent"], &calls["left"]), (&2.into(), &0.into()));
    assert!(daily["spent"].as_u64().unwrap() > 0, "{daily}");
    assert_eq!(daily["held"], 0);

    assert_eq!(
        json(&["--kind", "model"])["usage"],
        Value::from(vec![calls.clone(), named.clone()])
    );
    assert_eq!(
        json(&["--limit", "daily", "--id", "nobody"])["usage"],
        Value::from(Vec::<Value>::new())
    );
    let (code, message) = home.fails(&["budgets", "--limit", "no", "--config", config]);
    assert!(
        message.contains("no limit is called `no`"),
        "{code} {message}"
    );

    assert_eq!(served.stop(), Some(0));
    assert_eq!(json(&[]), counted);
    let printed = home.prints(&["budgets", "--config", config]);
    assert!(printed.contains("model `gpt-5.4`"), "{printed}");
    drop(simulated);
}

/// Three gateways on one ledger would be three times the budget: two of them do not start.
#[test]
fn replicas_do_not_each_enforce_their_own_copy() {
    let home = Home::new();
    let config = home.before(
        "http://127.0.0.1:1",
        "[store]\npath = \"one.db\"\n[[budgets]]\nid = \"k\"\napplies_to = \"key\"\nusd = \"1\"\n\
         per = \"day\"\n",
    );
    let serve = ["serve", "--config", &config];
    let first = Served::start(home.command(&serve));
    for _ in 0..2 {
        let (code, message) = home.fails(&serve);
        assert_eq!(code, 1, "{message}");
        assert!(message.contains("in use by another gateway"), "{message}");
    }
    assert_eq!(first.stop(), Some(0));
    let next = Served::start(home.command(&serve));
    assert_eq!(next.stop(), Some(0));
}
