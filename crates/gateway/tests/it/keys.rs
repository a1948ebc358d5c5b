//! Whose credentials travel where.
//!
//! **Invariant**: a key of ours opens our door and goes no further; the provider's credential is the
//! only one beside a call (`our_keys_stay_here`).

use std::sync::Arc;

use gateway::setup::{Access, Credential, Setup};
use testkit::client::exchange;
use testkit::upstream::{Recorded, Step, Upstream};
use wire::dialect::Dialect;

use crate::stage::{CLIENT_KEY, PROVIDER_KEY, SPOKEN, Stage, plain};

/// A client's own key at the provider.
const OWN: &str = "sk-own";

fn body(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#,
        Dialect::AnthropicMessages => {
            r#"{"model":"claude-sonnet-4-6","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#
        }
    }
}

/// What one call with these headers sends upstream.
async fn sent(setup: fn(&str) -> Setup, row: usize, headers: &[(&str, &str)]) -> Recorded {
    let upstream = Upstream::scripted([Step::json(200, "{}")]).await;
    let stage = Stage::with(setup(upstream.url())).await;
    let spoken = &SPOKEN[row];
    let body = body(spoken.dialect);
    let answer = exchange(&stage.url, "POST", spoken.path, headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    upstream.request(0).await
}

/// Checks the credentials that one call carries upstream, as `authorization` and `x-api-key`.
async fn check(
    setup: fn(&str) -> Setup,
    row: usize,
    headers: &[(&str, &str)],
    expect: (Option<&str>, Option<&str>),
) {
    let sent = sent(setup, row, headers).await;
    let got = (sent.header("authorization"), sent.header("x-api-key"));
    assert_eq!(got, expect, "{headers:?}");
    for (name, value) in &sent.headers {
        assert!(!value.contains(CLIENT_KEY), "{name}: {value}");
        assert!(
            !name.to_lowercase().starts_with("x-tokenwise"),
            "{name}: {value}"
        );
    }
}

/// The client's own credential goes on; keys of ours are asked for.
fn from_client(url: &str) -> Setup {
    let mut setup = plain(url);
    for upstream in setup.upstreams.iter_mut().map(Arc::make_mut) {
        upstream.credential = Credential::FromClient;
    }
    setup
}

/// The same on loopback, where no key is asked for.
fn open_from_client(url: &str) -> Setup {
    Setup {
        access: Access::Open,
        ..from_client(url)
    }
}

fn without_credential(url: &str) -> Setup {
    let mut setup = plain(url);
    for upstream in setup.upstreams.iter_mut().map(Arc::make_mut) {
        upstream.credential = Credential::Nothing;
    }
    setup
}

#[tokio::test]
async fn our_keys_stay_here() {
    let bearer = format!("Bearer {PROVIDER_KEY}");
    let configured = [(Some(bearer.as_str()), None), (None, Some(PROVIDER_KEY))];
    let own_bearer = format!("Bearer {OWN}");
    let ways: [&[(&str, &str)]; 6] = [
        &[("authorization", "Bearer tw-client")],
        &[("x-api-key", "tw-client")],
        &[("x-tokenwise-key", "tw-client")],
        &[
            ("x-tokenwise-key", "tw-client"),
            ("authorization", &own_bearer),
            ("x-api-key", OWN),
        ],
        &[
            ("authorization", "bearer tw-client"),
            ("x-api-key", "tw-client"),
            ("api-key", "tw-client"),
            ("x-goog-api-key", "tw-client"),
            ("x-tokenwise-session", "s1"),
            ("x-tokenwise-task", "t1"),
            ("connection", "x-private"),
            ("x-private", "tw-client"),
        ],
        &[("api-key", "tw-client")],
    ];
    for (row, expect) in configured.into_iter().enumerate() {
        for headers in ways {
            check(plain, row, headers, expect).await;
        }
    }
    for row in 0..SPOKEN.len() {
        check(from_client, row, ways[0], (None, None)).await;
        check(from_client, row, ways[1], (None, None)).await;
        check(from_client, row, ways[5], (None, None)).await;
        check(from_client, row, ways[3], (Some(&own_bearer), Some(OWN))).await;
        // Given twice, once in the provider's place.
        let twice = [ways[2], ways[0], ways[1]].concat();
        check(from_client, row, &twice, (None, None)).await;
        check(open_from_client, row, &twice, (None, None)).await;
        check(without_credential, row, ways[4], (None, None)).await;
        let own: &[(&str, &str)] = &[("authorization", &own_bearer)];
        check(open_from_client, row, own, (Some(&own_bearer), None)).await;
        check(
            open_from_client,
            row,
            &[("x-api-key", OWN)],
            (None, Some(OWN)),
        )
        .await;
        // As clients of Azure OpenAI send theirs.
        let azure = sent(open_from_client, row, &[("api-key", OWN)]).await;
        assert_eq!(azure.header("api-key"), Some(OWN));
    }
}

#[tokio::test]
async fn web_pages_need_a_key() {
    let origin = ("origin", "https://page.example");
    // Without a key asked for, any page could spend the provider's money through a visitor's browser.
    for spoken in &SPOKEN {
        let upstream = Upstream::scripted([]).await;
        let stage = Stage::with(open_from_client(upstream.url())).await;
        let body = body(spoken.dialect).as_bytes();
        let headers = [origin, ("content-type", "text/plain")];
        let answer = exchange(&stage.url, "POST", spoken.path, &headers, body).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        let text = answer.text();
        assert!(text.contains("`origin: https://page.example`"), "{text}");
        assert!(text.contains("tokenwise keys create"), "{text}");
    }
    // With one, who asks is known.
    for row in 0..SPOKEN.len() {
        let key = ("authorization", "Bearer tw-client");
        check(from_client, row, &[origin, key], (None, None)).await;
    }
}

#[tokio::test]
async fn pages_with_a_key_can_call() {
    let page = ("origin", "https://page.example");
    let asked = [
        page,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key, content-type"),
        ("access-control-request-private-network", "true"),
    ];
    let answer = [Step::json(200, "{}")];
    for spoken in &SPOKEN {
        let upstream = Upstream::scripted(answer.clone()).await;
        let stage = Stage::with(plain(upstream.url())).await;
        let told = exchange(&stage.url, "OPTIONS", spoken.path, &asked, b"").await;
        assert_eq!((told.status, told.text().as_str()), (204, ""));
        let allowed = told.header("access-control-allow-headers");
        assert_eq!(allowed, Some("x-api-key, content-type"));
        let network = told.header("access-control-allow-private-network");
        assert_eq!(network, Some("true"));
        let body = body(spoken.dialect).as_bytes();
        for (key, status) in [("tw-client", 200), ("tw-guess", 401)] {
            let headers = [page, ("x-api-key", key)];
            let answer = exchange(&stage.url, "POST", spoken.path, &headers, body).await;
            assert_eq!(answer.status, status, "{}", answer.text());
            let origin = answer.header("access-control-allow-origin");
            assert_eq!(origin, Some("https://page.example"));
            assert_eq!(answer.header("vary"), Some("origin"));
        }
        assert_eq!(upstream.requests().len(), 1);
        // The admin API is for no page, and an `OPTIONS` of a program is a call like any other.
        let admin = exchange(&stage.url, "OPTIONS", "/admin/v1/keys", &asked, b"").await;
        assert_eq!(admin.header("access-control-allow-origin"), None);
        let program = exchange(&stage.url, "OPTIONS", spoken.path, &asked[1..], b"").await;
        assert_eq!((program.status, program.header("vary")), (405, None));
        assert_eq!(program.header("allow"), Some("POST"));
    }
    // Without keys, pages of this machine may call, and no others.
    let upstream = Upstream::scripted([]).await;
    let stage = Stage::with(open_from_client(upstream.url())).await;
    for (origin, status) in [
        ("http://localhost:3000", 204),
        ("https://page.example", 405),
    ] {
        let asked = [[("origin", origin)].as_slice(), &asked[1..]].concat();
        let told = exchange(&stage.url, "OPTIONS", "/v1/messages", &asked, b"").await;
        assert_eq!(told.status, status);
        let allowed = told.header("access-control-allow-origin");
        assert_eq!(allowed, Some(origin).filter(|_| status == 204));
    }
}
