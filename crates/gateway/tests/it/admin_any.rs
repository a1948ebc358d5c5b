//! Any request at all to the admin API, with the token and without.
//!
//! **Invariant**: nothing panics, every answer is JSON, and no planted secret is in any of them (test
//! `any_request_is_answered`).

use std::cell::RefCell;

use policy::key::{SECRET_BYTES, issue};
use policy::moment::Moment;
use policy::ports::Keys as _;
use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value};

use crate::admin_shelf::{OPEN, TOKEN, admin, ask, opened, staged};
use crate::stage::{PROVIDER_KEY, plain};

/// Requests in all.
const CASES: u32 = 1_024;

/// One request.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Words of paths, queries and fields, secrets among them.
fn word(secret: &str, id: &str) -> BoxedStrategy<String> {
    let known = [
        "keys",
        "rotate",
        "disable",
        "enable",
        "expire",
        "budgets",
        "stops",
        "audit",
        "key",
        "task",
        "everything",
        "",
        "%",
        "%41",
        "%ff",
        "last",
        "limit",
        "kind",
        "id",
        "-1",
        "v1",
    ];
    let mut known: Vec<String> = known.map(str::to_owned).to_vec();
    known.extend([
        TOKEN.to_owned(),
        secret.to_owned(),
        id.to_owned(),
        format!("%74{}", &secret[1..]),
    ]);
    prop_oneof![8 => select(known), 2 => "[!-~&&[^#?/]]{0,12}"].boxed()
}

fn wild_line(secret: &str, id: &str) -> impl Strategy<Value = String> + use<> {
    let method = prop_oneof![
        8 => select(vec!["GET", "POST", "PATCH", "DELETE"]).prop_map(str::to_owned),
        2 => select(vec!["PUT", "OPTIONS", "TRACE", "A!"]).prop_map(str::to_owned),
    ];
    let key = format!("/admin/v1/keys/{id}");
    let base = prop_oneof![
        6 => Just("/admin/v1".to_owned()),
        3 => Just(key),
        1 => Just("/admin".to_owned()),
    ];
    let query = vec((word(secret, id), word(secret, id)), 0..3);
    (method, base, vec(word(secret, id), 0..4), query).prop_map(|(method, base, parts, query)| {
        let mut line = format!("{method} {base}");
        for part in parts {
            line.push('/');
            line.push_str(&part);
        }
        for (index, (name, value)) in query.into_iter().enumerate() {
            line.push(if index == 0 { '?' } else { '&' });
            line.push_str(&name);
            line.push('=');
            line.push_str(&value);
        }
        line
    })
}

/// Lines of which most lead somewhere.
fn line(secret: &str, id: &str) -> impl Strategy<Value = String> + use<> {
    let right = [
        "GET keys",
        "POST keys",
        "GET keys/ID",
        "PATCH keys/ID",
        "POST keys/ID/rotate",
        "POST keys/ID/disable",
        "POST keys/ID/enable",
        "POST keys/ID/expire",
        "GET budgets",
        "GET stops",
        "POST stops",
        "DELETE stops/everything",
        "DELETE stops/key/ID",
        "DELETE stops/task/a%20b",
        "GET audit",
        "GET audit?last=9",
        "GET budgets?kind=key",
    ];
    let right = right.map(|line| line.replace(' ', " /admin/v1/").replace("ID", id));
    prop_oneof![1 => select(right.to_vec()), 1 => wild_line(secret, id)]
}

fn value(secret: &str, id: &str) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..1_000_000).prop_map(Value::from),
        word(secret, id).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let nested = leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..20).prop_map(Value::from));
    nested.boxed()
}

fn body(secret: &str, id: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let names = [
        "name",
        "organisation",
        "team",
        "user",
        "tags",
        "models",
        "expires_at_ms",
        "expires_in_ms",
        "grace_ms",
        "at_ms",
        "in_ms",
        "kind",
        "id",
    ];
    let name = prop_oneof![
        9 => select(names.map(str::to_owned).to_vec()),
        1 => word(secret, id),
    ];
    let fields = vec((name, value(secret, id)), 0..4);
    let object = fields.prop_map(|fields| {
        let object: Map<String, Value> = fields.into_iter().collect();
        Value::Object(object).to_string().into_bytes()
    });
    let right = [
        r#"{"name":"ci","tags":["b","a"],"expires_in_ms":1}"#,
        r#"{"team":"a","models":null}"#,
        r#"{"grace_ms":0}"#,
        r#"{"kind":"everything"}"#,
        r#"{"kind":"task","id":"a b"}"#,
        r#"{"in_ms":5}"#,
    ];
    prop_oneof![
        5 => object,
        3 => select(right.map(|body| body.as_bytes().to_vec()).to_vec()),
        2 => Just(Vec::new()),
        1 => value(secret, id).prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..64),
    ]
}

fn headers(secret: &str) -> impl Strategy<Value = Vec<(&'static str, String)>> + use<> {
    let bearer = format!("Bearer {secret}");
    let authorization = prop_oneof![
        8 => Just(Some(OPEN.1.to_owned())),
        1 => Just(Some(bearer)),
        1 => "[ -~]{0,40}".prop_map(|text| Some(text.trim().to_owned())),
        1 => Just(None),
    ];
    let names = [
        "x-api-key",
        "content-type",
        "content-encoding",
        "accept",
        "anthropic-version",
    ];
    let others = vec((select(names.to_vec()), "[!-~]{1,12}"), 0..2);
    (authorization, others).prop_map(|(authorization, others)| {
        let authorization = authorization.map(|value| ("authorization", value));
        authorization.into_iter().chain(others).collect()
    })
}

#[test]
fn any_request_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (secret, mut record) = issue("planted", [5; SECRET_BYTES], Moment(0), None);
    record.id = "key_any".to_owned();
    let (stage, shelf) = runtime.block_on(staged(opened(plain("http://127.0.0.1:1"))));
    shelf.create(&record).unwrap();
    let planted = [TOKEN, secret.as_str(), PROVIDER_KEY];
    let strategy = (
        line(&secret, &record.id),
        headers(&secret),
        body(&secret, &record.id),
    );
    let strategy = strategy.prop_map(|(line, headers, body)| Asked {
        line,
        headers,
        body,
    });
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let statuses = RefCell::new(std::collections::BTreeMap::<u16, u32>::new());
    let outcome = runner.run(&strategy, |asked| {
        let headers: Vec<(&str, &str)> = asked
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let response = runtime.block_on(ask(&stage, &asked.line, &headers, &asked.body));
        *statuses.borrow_mut().entry(response.status).or_default() += 1;
        let text = response.text();
        // What is not HTTP never reaches the admin API.
        let is_http = response.header("content-type").is_some();
        assert!(
            is_http || response.status == 400,
            "{}: {text}",
            response.status
        );
        assert!(
            !is_http || serde_json::from_str::<Value>(&text).is_ok(),
            "{text}"
        );
        assert!(
            planted.iter().all(|secret| !text.contains(secret)),
            "{text}"
        );
        assert_ne!(response.status, 500, "{text}");
        Ok(())
    });
    println!("admin requests by status: {:?}", statuses.borrow());
    outcome.unwrap();
    for status in [200, 400, 401, 404, 405] {
        assert!(
            statuses.borrow().contains_key(&status),
            "no answer had {status}"
        );
    }
    // What all of it has left behind is still readable, and holds no secret either.
    for line in ["keys", "stops", "audit?last=1000", "budgets"] {
        let line = format!("GET /admin/v1/{line}");
        let (status, answer) = runtime.block_on(admin(&stage, &line, ""));
        assert_eq!(status, 200);
        let text = answer.to_string();
        assert!(
            planted.iter().all(|secret| !text.contains(secret)),
            "{text}"
        );
    }
}
