//! The admin API over real TCP: every endpoint with its whole answer, and what opens it.
//!
//! **Invariant**: nothing opens without the token (`without_its_token_nothing_opens`); a change holds
//! before it is answered (`a_change_holds_at_once`).

use policy::admit::limit::Mode;
use policy::admit::scope::Kind;
use policy::ports::Keys as _;
use serde_json::{Value, json};
use testkit::client::exchange;
use testkit::upstream::{Step, Upstream};

use crate::admin_shelf::{NOWHERE, TOKEN, admin, ask, created, error, json, opened, staged};
use crate::budgets::{budgeted, usd};
use crate::stage::{CLIENT_KEY, Stage, TODAY, plain};

#[tokio::test]
async fn without_its_token_nothing_opens() {
    // Neither without a token in the setup nor without a store is there anything to open.
    let (closed, _) = staged(plain(NOWHERE)).await;
    let storeless = Stage::with(opened(plain(NOWHERE))).await;
    for stage in [&closed, &storeless] {
        for line in ["GET /admin/v1/keys", "POST /admin", "GET /admin/x"] {
            let (status, answer) = admin(stage, line, "").await;
            let (code, message) = error(&answer);
            assert_eq!((status, code), (404, "unknown_route"), "{line}: {answer}");
            assert!(message.starts_with("the admin API is closed; open it with"));
        }
    }
    let (stage, shelf) = staged(opened(plain(NOWHERE))).await;
    let client = format!("Bearer {CLIENT_KEY}");
    let longer = format!("Bearer {TOKEN}0");
    let basic = format!("Basic {TOKEN}");
    for headers in [
        &[][..],
        &[("authorization", longer.as_str())],
        &[("authorization", &client)],
        &[("authorization", &basic)],
        &[("authorization", "Bearer")],
        &[("authorization", TOKEN)],
        &[("x-api-key", TOKEN)],
        &[("x-tokenwise-key", TOKEN)],
    ] {
        for line in [
            "GET /admin/v1/keys",
            "POST /admin/v1/stops",
            "GET /admin/nowhere",
        ] {
            let body = br#"{"kind":"everything"}"#;
            let response = ask(&stage, line, headers, body).await;
            assert_eq!(response.status, 401, "{headers:?}: {}", response.text());
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            let answer = json(&response);
            let (code, message) = error(&answer);
            assert_eq!(code, "invalid_api_key");
            let advice = "send the one of `[admin] token` as `authorization: Bearer …`";
            assert!(message.ends_with(advice), "{message}");
            assert!(!message.contains("planted"), "{message}");
        }
    }
    assert_eq!(shelf.audits(9).unwrap(), []);
    assert_eq!(shelf.stops().unwrap(), []);
    assert_eq!(admin(&stage, "GET /admin/v1/keys", "").await.0, 200);
}

/// A key as it is shown while nothing is said of it but its name, with some changes.
fn key(id: &str, changes: &Value) -> Value {
    let mut key = json!({
        "id": id, "name": "ci", "state": "active", "created_at_ms": TODAY.0,
        "expires_at_ms": null, "disabled_at_ms": null, "organisation": null, "team": null,
        "user": null, "tags": [], "models": [], "previous_until_ms": null,
    });
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

async fn check(stage: &Stage, line: &str, body: &str, expect: Value) {
    let answer = admin(stage, line, body).await;
    assert_eq!(answer, (200, expect), "{line} {body}");
}

#[tokio::test]
async fn every_endpoint_answers() {
    let (stage, shelf) = staged(opened(plain(NOWHERE))).await;
    check(&stage, "GET /admin/v1/keys", "", json!({"keys": []})).await;
    let body = r#"{"name":"ci","team":"a","tags":["y","x","y"],"models":null,"expires_in_ms":9}"#;
    let (status, made) = admin(&stage, "POST /admin/v1/keys", body).await;
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].clone());
    let mut changes = json!({"team": "a", "tags": ["x", "y"], "expires_at_ms": TODAY.0 + 9});
    changes["secret"] = secret.clone();
    assert_eq!((status, &made), (200, &key(id, &changes)));
    changes = json!({"team": "a", "tags": ["x", "y"], "expires_at_ms": TODAY.0 + 9});
    let at = |rest: &str| format!("/admin/v1/keys/{id}{rest}");
    let listed = json!({"keys": [key(id, &changes)]});
    check(&stage, "GET /admin/v1/keys", "", listed).await;
    check(&stage, &format!("GET {}", at("")), "", key(id, &changes)).await;

    changes["organisation"] = "acme".into();
    changes["team"] = Value::Null;
    changes["tags"] = json!([]);
    changes["models"] = json!(["gpt-*"]);
    let body = r#"{"organisation":"acme","team":null,"tags":[],"models":["gpt-*","gpt-*"]}"#;
    let patch = format!("PATCH {}", at(""));
    check(&stage, &patch, body, key(id, &changes)).await;

    changes["state"] = "disabled".into();
    changes["disabled_at_ms"] = TODAY.0.into();
    let disable = format!("POST {}", at("/disable"));
    check(&stage, &disable, "", key(id, &changes)).await;
    check(&stage, &disable, "{}", key(id, &changes)).await;
    changes["state"] = "active".into();
    changes["disabled_at_ms"] = Value::Null;
    check(
        &stage,
        &format!("POST {}", at("/enable")),
        "",
        key(id, &changes),
    )
    .await;
    changes["expires_at_ms"] = 1_900_000_000_000_u64.into();
    let expire = format!("POST {}", at("/expire"));
    check(
        &stage,
        &expire,
        r#"{"at_ms":1900000000000}"#,
        key(id, &changes),
    )
    .await;
    changes["expires_at_ms"] = TODAY.0.into();
    changes["state"] = "expired".into();
    check(&stage, &expire, "", key(id, &changes)).await;

    let rotate = format!("POST {}", at("/rotate"));
    for (body, until) in [("", TODAY.0 + 86_400_000), (r#"{"grace_ms":0}"#, TODAY.0)] {
        let (status, rotated) = admin(&stage, &rotate, body).await;
        changes["previous_until_ms"] = until.into();
        changes["secret"] = rotated["secret"].clone();
        assert_eq!((status, &rotated), (200, &key(id, &changes)));
        assert_ne!(rotated["secret"], secret);
    }

    check_stops(&stage, id).await;
    check_audit(&stage, id).await;
    assert_eq!(shelf.audits(99).unwrap().len(), 15);
}

/// A key, a task and everything are stopped and let go on, each twice.
async fn check_stops(stage: &Stage, id: &str) {
    check(stage, "GET /admin/v1/stops", "", json!({"stops": []})).await;
    for (body, delete, kind, name) in [
        (
            r#"{"kind":"everything"}"#.to_owned(),
            "everything".to_owned(),
            "everything",
            "",
        ),
        (
            format!(r#"{{"kind":"key","id":"{id}"}}"#),
            format!("key/{id}"),
            "key",
            id,
        ),
        (
            r#"{"kind":"task","id":"a/b c"}"#.to_owned(),
            "task/a%2Fb%20c".to_owned(),
            "task",
            "a/b c",
        ),
    ] {
        let done = |stopped: bool, changed: bool| json!({"kind": kind, "id": name, "stopped": stopped, "changed": changed});
        check(stage, "POST /admin/v1/stops", &body, done(true, true)).await;
        check(stage, "POST /admin/v1/stops", &body, done(true, false)).await;
        let stops = json!({"stops": [{"kind": kind, "id": name, "since_ms": TODAY.0}]});
        check(stage, "GET /admin/v1/stops", "", stops).await;
        let delete = format!("DELETE /admin/v1/stops/{delete}");
        check(stage, &delete, "", done(false, true)).await;
        check(stage, &delete, "", done(false, false)).await;
    }
}

/// Everything that was changed before is written down.
async fn check_audit(stage: &Stage, id: &str) {
    let (status, answer) = admin(stage, "GET /admin/v1/audit?last=99", "").await;
    assert_eq!(status, 200);
    let entries = answer["audit"].as_array().unwrap();
    let text = |entry: &Value| {
        assert_eq!(
            (&entry["at_ms"], &entry["actor"]),
            (&json!(TODAY.0), &json!("admin api"))
        );
        let part = |name: &str| entry[name].as_str().unwrap().replace(id, "KEY");
        format!("{} {}: {}", part("action"), part("subject"), part("detail"))
    };
    let found: Vec<String> = entries.iter().rev().map(text).collect();
    let expect = [
        "create KEY: `ci`, until 2026-11-24 00:00:00 UTC, for team `a`, tags `x` `y`, all models",
        "assign KEY: is for organisation `acme`, models `gpt-*`",
        "disable KEY: ",
        "disable KEY: ",
        "enable KEY: ",
        "expire KEY: works until 2030-03-17 17:46:40 UTC",
        "expire KEY: at once",
        "rotate KEY: the secret before works until 2026-11-25 00:00:00 UTC",
        "rotate KEY: the secret before works no longer",
        "stop everything: ",
        "resume everything: ",
        "stop key `KEY`: ",
        "resume key `KEY`: ",
        "stop task `a/b c`: ",
        "resume task `a/b c`: ",
    ];
    assert_eq!(found, expect);
    let (_, latest) = admin(stage, "GET /admin/v1/audit?last=1", "").await;
    assert_eq!(latest["audit"].as_array().unwrap().len(), 1);
    assert_eq!(latest["audit"][0], entries[0]);
}

#[tokio::test]
async fn budgets_are_shown_to_the_last_digit() {
    let answer =
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;
    let upstream = Upstream::scripted([Step::json(200, answer)]).await;
    let limits = vec![
        usd(Kind::Key, "100", Mode::Hard),
        usd(Kind::Model, "200", Mode::Soft),
    ];
    let (stage, _) = staged(opened(budgeted(upstream.url(), limits))).await;
    let limits = json!([
        {"limit": "key-usd-hard", "mode": "hard", "says": "$100.00 per day (UTC) for each key"},
        {"limit": "model-usd-soft", "mode": "soft", "says": "$200.00 per day (UTC) for each model"},
    ]);
    let none = json!({"limits": limits, "left_out": 0, "usage": []});
    check(&stage, "GET /admin/v1/budgets", "", none.clone()).await;
    let (id, secret) = created(&stage, r#"{"name":"ci"}"#).await;
    assert_eq!(call(&stage, &secret).await, 200);
    let cost = stage.books.settled(1).await[0]
        .settled
        .clone()
        .unwrap()
        .cost;
    let cost = i64::try_from(cost.unwrap().0).unwrap();
    let (_, answer) = admin(&stage, "GET /admin/v1/budgets?kind=key", "").await;
    let window = json!({
        "period": "day", "zone": "UTC", "start_ms": TODAY.0, "end_ms": TODAY.0 + 86_400_000,
    });
    let usage = json!([{
        "limit": "key-usd-hard", "mode": "hard", "scope": {"kind": "key", "id": id},
        "measure": "usd", "unit": "pico_usd", "amount": 100_000_000_000_000_i64, "spent": cost,
        "held": 0, "left": 100_000_000_000_000_i64 - cost, "window": window,
    }]);
    assert_eq!(
        answer,
        json!({"limits": limits, "left_out": 0, "usage": usage})
    );
    for (query, rows) in [
        ("", 3),
        // The model has two names: its own, and that with its provider.
        ("?limit=model-usd-soft", 2),
        ("?id=gpt-5.4&limit=model-usd-soft", 1),
        ("?id=nobody", 0),
    ] {
        let (_, answer) = admin(&stage, &format!("GET /admin/v1/budgets{query}"), "").await;
        assert_eq!(answer["usage"].as_array().unwrap().len(), rows, "{query}");
    }
}

/// The status of a client's call with this secret.
async fn call(stage: &Stage, secret: &str) -> u16 {
    let bearer = format!("Bearer {secret}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = br#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#;
    exchange(&stage.url, "POST", "/v1/chat/completions", &headers, body)
        .await
        .status
}

#[tokio::test]
async fn a_change_holds_at_once() {
    let upstream = Upstream::scripted((0..6).map(|_| Step::json(200, "{}"))).await;
    let (stage, _) = staged(opened(plain(upstream.url()))).await;
    let (id, first) = created(&stage, r#"{"name":"ci"}"#).await;
    assert_eq!(call(&stage, &first).await, 200);
    // What the store does not have opens nothing any more.
    assert_eq!(call(&stage, CLIENT_KEY).await, 401);
    let change = async |line: &str, body: &str| {
        let line = line.replace("KEY", &id);
        let (status, answer) = admin(&stage, &line, body).await;
        assert_eq!(status, 200, "{line}: {answer}");
        answer
    };
    for (line, body, expect) in [
        ("POST /admin/v1/keys/KEY/disable", "", 401),
        ("POST /admin/v1/keys/KEY/enable", "", 200),
        (
            "PATCH /admin/v1/keys/KEY",
            r#"{"models":["claude-*"]}"#,
            403,
        ),
        ("PATCH /admin/v1/keys/KEY", r#"{"models":null}"#, 200),
        ("POST /admin/v1/stops", r#"{"kind":"key","id":"KEY"}"#, 403),
        ("DELETE /admin/v1/stops/key/KEY", "", 200),
        ("POST /admin/v1/keys/KEY/expire", "", 401),
        ("POST /admin/v1/keys/KEY/expire", r#"{"in_ms":1000}"#, 200),
    ] {
        change(line, &body.replace("KEY", &id)).await;
        assert_eq!(call(&stage, &first).await, expect, "{line} {body}");
    }
    let rotated = change("POST /admin/v1/keys/KEY/rotate", r#"{"grace_ms":0}"#).await;
    assert_eq!(call(&stage, &first).await, 401);
    assert_eq!(call(&stage, rotated["secret"].as_str().unwrap()).await, 200);
    assert_eq!(upstream.requests().len(), 6);
}
