//! Stories of the whole gateway, one file a subject; `UPDATE=1` writes what the run says.
//!
//! **Invariant**: every header and byte that leaves, in either direction, is told, but for the call's
//! id, the date and the addresses.

use std::path::Path;

use gateway::setup::{Setup, Upstream as Configured};
use policy::money::PicoUsd;
use policy::ports::read::StoredCall;
use policy::ports::{Leg, Lever};
use testkit::transcript::{Harness, run};

use crate::stage::{self, Stage};

/// Starts a gateway for each story, all with the same kind of setup.
struct Stories {
    setup: fn(&str) -> Setup,
    stage: Option<Stage>,
}

impl Harness for Stories {
    async fn start(&mut self, upstream_url: &str) -> String {
        let stage = Stage::with((self.setup)(upstream_url)).await;
        let url = stage.url.clone();
        self.stage = Some(stage);
        url
    }

    async fn ledger_rows(&mut self) -> Vec<String> {
        let books = &self.stage.as_ref().expect("a story is being told").books;
        books
            .wait_for(|written| written.opened == written.settled)
            .await;
        books.calls().iter().map(row).collect()
    }

    async fn stop(&mut self) {
        if let Some(mut stage) = self.stage.take() {
            stage.stop().await;
        }
    }

    fn volatile_headers(&self) -> &[&str] {
        &["date", "x-tokenwise-call"]
    }
}

/// A call on one line.
fn row(call: &StoredCall) -> String {
    let settled = call.settled.as_ref().expect("the call is settled");
    let legs: Vec<String> = settled.legs.iter().map(leg).collect();
    let names = [
        ("session", &call.opened.session),
        ("task", &call.opened.task),
    ];
    let named = names.map(|(name, value)| match value {
        // A recognised session's name follows from the content, and is nobody's expectation.
        Some(value) if name == "session" && value.starts_with("s-") => String::new(),
        Some(value) => format!("  {name}={value}"),
        None => String::new(),
    });
    format!(
        "{} {}  {}  cost={}  saved={}  end={} {}{}",
        call.opened.key,
        call.opened.endpoint,
        legs.join(" + "),
        amount(settled.cost),
        settled
            .savings
            .get(&Lever::Cache)
            .map_or(PicoUsd::ZERO, |saved| *saved)
            .exact(),
        settled.end.name(),
        settled.status,
        named.concat(),
    )
}

fn leg(leg: &Leg) -> String {
    let usage = &leg.usage;
    let estimated = if leg.estimated { " (estimated)" } else { "" };
    format!(
        "{}/{} in={} read={} write={} out={}{estimated}",
        leg.provider,
        leg.model,
        usage.uncached.0,
        usage.cache_read.0,
        usage.cache_write.total().0,
        usage.output.0,
    )
}

fn amount(cost: Option<PicoUsd>) -> String {
    cost.map_or_else(|| "unknown".to_owned(), PicoUsd::exact)
}

async fn tell(file: &str, setup: fn(&str) -> Setup) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(file);
    run(&path, &mut Stories { setup, stage: None }).await;
}

#[tokio::test]
async fn transcript_answers() {
    tell("answers.transcript", stage::full).await;
}

#[tokio::test]
async fn transcript_streams() {
    tell("streams.transcript", stage::full).await;
}

#[tokio::test]
async fn transcript_cache() {
    tell("cache.transcript", stage::full).await;
}

#[tokio::test]
async fn transcript_passthrough() {
    tell("passthrough.transcript", stage::full).await;
}

#[tokio::test]
async fn transcript_models() {
    tell("models.transcript", stage::plain).await;
}

#[tokio::test]
async fn transcript_models_joined() {
    tell("models_joined.transcript", joined).await;
}

/// Two providers that speak OpenAI's dialect.
fn joined(url: &str) -> Setup {
    let other = Configured {
        id: "mistral".into(),
        base: format!("{url}/mistral/v1").parse().expect("an address"),
        models: vec!["mistral-*".into()],
        ..stage::openai(url)
    };
    Setup {
        upstreams: vec![stage::openai(url).into(), other.into()],
        routes: std::collections::BTreeMap::new(),
        rules: Vec::new(),
        router: None,
        ..stage::plain(url)
    }
}
