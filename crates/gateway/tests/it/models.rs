//! The list of models, where there is more to it than one provider's own.
//!
//! **Invariant**: what is listed can be called as it is listed, and a list that nobody gave is not an
//! empty one (`what_is_listed_can_be_called`, `no_list_is_not_an_empty_list`).

use gateway::receive::keyring::Keyring;
use gateway::setup::{Setup, Target, Upstream as Configured};
use policy::key;
use policy::moment::Moment;
use policy::ports::{KeyRecord, Payers};
use testkit::client::{Response, exchange};
use testkit::upstream::{Step, Upstream};
use wire::dialect::Dialect;

use crate::stage::{self, CLIENT_KEY, SPOKEN, Stage, plain};

const OPENAI: &str = r#"{"object":"list","data":[{"id":"gpt-5.4","object":"model"},{"id":"o3"}]}"#;
const ANTHROPIC: &str = r#"{"data":[{"type":"model","id":"claude-haiku-4-5"}],"has_more":true,"last_id":"claude-haiku-4-5"}"#;

async fn get(stage: &Stage, row: usize, path: &str) -> Response {
    exchange(&stage.url, "GET", path, SPOKEN[row].headers, b"").await
}

/// Only the client's key, with these models.
pub(crate) fn only(models: &[&str]) -> Keyring {
    Keyring::new([KeyRecord {
        id: "key_client".to_owned(),
        name: "client".to_owned(),
        hash: key::hash(CLIENT_KEY),
        created_at: Moment(0),
        expires_at: None,
        disabled_at: None,
        payers: Payers::default(),
        models: models.iter().map(|&glob| glob.to_owned()).collect(),
        previous: None,
    }])
}

pub(crate) fn row(dialect: Dialect) -> usize {
    let row = SPOKEN.iter().position(|spoken| spoken.dialect == dialect);
    row.expect("every dialect is spoken")
}

/// The ids of a list.
fn ids(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list: serde_json::Value = serde_json::from_str(&answer.text()).expect("a list");
    let data = list["data"].as_array().expect("entries");
    let id = |entry: &serde_json::Value| entry["id"].as_str().expect("an id").to_owned();
    data.iter().map(id).collect()
}

/// `small` at OpenAI, besides `fast` at Anthropic.
fn named(url: &str) -> Setup {
    let mut setup = plain(url);
    let target = Target {
        provider: "openai".into(),
        model: "gpt-5.4-mini".into(),
    };
    setup.routes.insert("small".into(), vec![vec![target]]);
    setup
}

#[tokio::test]
async fn what_is_listed_can_be_called() {
    let (openai, anthropic) = (row(Dialect::OpenAiChat), row(Dialect::AnthropicMessages));
    for (row, list, models, expect) in [
        (openai, OPENAI, &[][..], &["small", "gpt-5.4", "o3"][..]),
        (openai, OPENAI, &["gpt-*"], &["gpt-5.4"]),
        (openai, OPENAI, &["small", "o*"], &["small", "o3"]),
        (openai, OPENAI, &["claude-*"], &[]),
        (anthropic, ANTHROPIC, &[], &["fast", "claude-haiku-4-5"]),
        (anthropic, ANTHROPIC, &["claude-*"], &["claude-haiku-4-5"]),
    ] {
        let upstream = Upstream::scripted([Step::json(200, list)]).await;
        let stage = Stage::with(named(upstream.url())).await;
        stage.gateway.keyring.store(only(models).into());
        let answer = get(&stage, row, "/v1/models").await;
        assert_eq!(ids(&answer), expect, "{models:?}");
    }
}

#[tokio::test]
async fn names_stand_on_the_first_page_only() {
    let row = row(Dialect::AnthropicMessages);
    let upstream = Upstream::scripted([Step::json(200, ANTHROPIC), Step::json(200, ANTHROPIC)]);
    let upstream = upstream.await;
    let stage = Stage::with(named(upstream.url())).await;
    let first = get(&stage, row, "/v1/models?limit=1").await;
    assert_eq!(ids(&first), ["fast", "claude-haiku-4-5"]);
    // What tells of further pages stays.
    let text = first.text();
    assert!(
        text.contains(r#""has_more":true,"last_id":"claude-haiku-4-5"}"#),
        "{text}"
    );
    let next = get(&stage, row, "/v1/models?limit=1&after_id=claude-haiku-4-5").await;
    assert_eq!(ids(&next), ["claude-haiku-4-5"]);
}

/// Two providers that speak OpenAI's dialect.
fn two(url: &str) -> Setup {
    let other = Configured {
        id: "mistral".into(),
        base: format!("{url}/mistral/v1").parse().expect("an address"),
        models: vec!["mistral-*".into()],
        ..stage::openai(url)
    };
    let mut setup = plain(url);
    setup.upstreams.push(other.into());
    setup
}

#[tokio::test]
async fn no_list_is_not_an_empty_list() {
    const DENIED: &str = r#"{"error":{"message":"no such key","type":"invalid_request_error"}}"#;
    let row = row(Dialect::OpenAiChat);
    let denied = || Step::json(401, DENIED);
    let upstream = Upstream::scripted([denied(), denied()]).await;
    let stage = Stage::with(two(upstream.url())).await;
    let answer = get(&stage, row, "/v1/models").await;
    assert_eq!((answer.status, answer.text()), (401, DENIED.to_owned()));

    // One that is denied does not hide the other's.
    let upstream = Upstream::scripted([denied(), Step::json(200, OPENAI)]).await;
    let stage = Stage::with(two(upstream.url())).await;
    assert_eq!(
        ids(&get(&stage, row, "/v1/models").await),
        ["gpt-5.4", "o3"]
    );
}
