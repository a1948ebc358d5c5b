//! The admin API of a gateway as a process, beside the commands that do the same.
//!
//! **Invariant**: both work on one store: what one changes, the other shows and the gateway obeys.

use serde_json::Value;

use crate::home::{Home, PLANTED};
use crate::serve::{CALL, Served};

/// Calls before the gateway has looked at its keys again, at most.
const ANSWERS_MAX: usize = 100_000;

/// The status and the body of an answer.
fn answer(text: &str) -> (&str, Value) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_gateway_is_administered() {
    let home = Home::new();
    let simulated = Served::start(home.command(&["simulate"]));
    let provider = format!("http://{}/v1", simulated.address);
    let admin = "[admin]\ntoken = \"env:OPENAI_API_KEY\"";
    let config = home.before(&provider, admin);
    let config = config.as_str();
    let checked = home.prints(&["check", config]);
    assert!(
        checked.contains("at /admin/v1/, with the token of `[admin]`"),
        "{checked}"
    );
    let served = Served::start(home.command(&["serve", "--config", config]));
    let token = format!("authorization: Bearer {PLANTED}\r\n");
    let refused = served.call("GET", "/admin/v1/keys", "", "");
    assert_eq!(answer(&refused).0, "401");

    let body = r#"{"name":"ci","team":"search"}"#;
    let made = served.call("POST", "/admin/v1/keys", &token, body);
    let (status, made) = answer(&made);
    assert_eq!(status, "200");
    let (id, secret) = (
        made["id"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    let field = format!("authorization: Bearer {secret}\r\n");
    let call = |field: &str| {
        let text = served.call("POST", "/v1/chat/completions", field, CALL);
        answer(&text).0.to_owned()
    };
    assert_eq!(call(&field), "200");
    // The first key closes the door for whoever has none, and a command's change is obeyed.
    assert!(
        (0..ANSWERS_MAX).any(|_| call("") == "401"),
        "the door stays open"
    );
    home.prints(&["keys", "disable", id, "--config", config]);
    assert!(
        (0..ANSWERS_MAX).any(|_| call(&field) == "401"),
        "the key still works"
    );

    let shown = home.json(&["keys", "show", id, "--json", "--config", config]);
    let listed = served.call("GET", &format!("/admin/v1/keys/{id}"), &token, "");
    assert_eq!(answer(&listed).1, shown);
    assert_eq!(shown["state"], "disabled");
    let audit = home.json(&["keys", "audit", "--json", "--config", config]);
    let actors: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["actor"].as_str().unwrap())
        .collect();
    assert_eq!(actors, ["command line", "admin api"]);
    let told = served.call("GET", "/admin/v1/audit", &token, "");
    assert_eq!(answer(&told).1["audit"], audit);
    assert_eq!(served.stop(), Some(0));
    drop(simulated);
}
