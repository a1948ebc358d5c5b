//! `tokenwise route explain`: where a call would go, by the very code that decides, without making it.
//!
//! **Invariant**: nothing is sent, and the store is only read (test
//! `a_route_is_explained_before_a_call` in `tests/it`).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use gateway::Gateway;
use gateway::clock::Clock;
use gateway::receive::ANONYMOUS;
use gateway::receive::keyring::Keyring;
use gateway::receive::names::TAGS_HEADER;
use gateway::route::rehearse::{Looked, Rehearsal, rehearse};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request};
use policy::moment::Moment;
use policy::ports::KeyRecord;
use policy::refusal::Refusal;
use serde_json::{Value, json};
use store::memory::Memory;
use store::sqlite::keys::SqliteKeys;
use store::sqlite::outcomes::SqliteOutcomes;

use super::super::explain::lines;
use super::super::now;
use crate::config::Source;
use crate::config::build::{Config, Place};
use crate::config::watch::keys_of;
use crate::env::Environment;
use crate::print;
use crate::print::failure::UsageError;
use crate::print::table::{Set, table};
use crate::print::{Format, time};

/// Where the request is read from if it is no file.
const STANDARD_INPUT: &str = "-";

/// Say where a call would go and why: which route takes it, what its targets would cost, what the
/// levers would do. Nothing is sent. It is decided as by a gateway that has just started: no prompt
/// cache is warm, every target is well.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The body of the call, as its client would send it; `-` for standard input.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// The path that is called.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The public id of the key that makes the call, or the name it was created with.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// A header of the call; may be given again.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A label of the call; may be given again.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// When: a minute as `2026-11-24T22:30` (UTC), or how long ago as `7d`. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: Format,
}

/// A clock that stands.
struct Standing(Moment);

impl Clock for Standing {
    fn now(&self) -> Moment {
        self.0
    }
}

/// Explains.
pub(super) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<()> {
    let at = match &arguments.at {
        Some(text) => time::moment(text, now())?,
        None => now(),
    };
    let body = body(&arguments.request)?;
    let head = head(arguments)?;
    let config = arguments.source.load(environment)?;
    let (gateway, keys) = gateway(&config, at)?;
    let key = match &arguments.key {
        Some(asked) => Some(key(&keys, asked)?),
        None => None,
    };
    let rehearsal = rehearse(&gateway, head, key, body.into()).map_err(|why| refused(&why))?;
    if arguments.format.json {
        print::json(&json(&rehearsal))
    } else {
        print::out(&text(&rehearsal))
    }
}

/// What the call would be answered, which is an answer to the question, too.
fn refused(refusal: &Refusal) -> UsageError {
    UsageError(format!("the call would be refused: {}", refusal.message))
}

fn body(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new(STANDARD_INPUT) {
        let mut body = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut body);
        read.context("cannot read standard input")?;
        return Ok(body);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn head(arguments: &Arguments) -> Result<Parts, UsageError> {
    let wrong = |what: &str, given: &str| {
        UsageError(format!(
            "`{given}` is no {what}; write it as `x-app: billing`"
        ))
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(&arguments.path)
        .body(());
    let request = request.map_err(|_| {
        UsageError(format!(
            "`{}` is no path; write it as `/v1/messages`",
            arguments.path
        ))
    })?;
    let mut head = request.into_parts().0;
    for given in &arguments.header {
        let (name, value) = given
            .split_once(':')
            .ok_or_else(|| wrong("header", given))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong("header", given))?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| wrong("header", given))?;
        head.headers.append(name, value);
    }
    if !arguments.tag.is_empty() {
        let given = arguments.tag.join(",");
        let tags = HeaderValue::try_from(&given).map_err(|_| wrong("tag", &given))?;
        head.headers.insert(TAGS_HEADER, tags);
    }
    Ok(head)
}

/// A gateway that serves nobody, with what the store knows of keys and outcomes.
fn gateway(config: &Config, at: Moment) -> anyhow::Result<(Arc<Gateway>, Vec<KeyRecord>)> {
    let setup = config.settings().clone();
    let ledger = Arc::new(Memory::default());
    let clock = Arc::new(Standing(at));
    let mut keys = Vec::new();
    let gateway = Gateway::new(setup, Keyring::new([]), clock, ledger);
    // A store that is not there yet knows nothing; opening it would make it.
    if let Place::File(path) = &config.place
        && path.exists()
    {
        keys = keys_of(&SqliteKeys::open(path)?)?.1;
        let outcomes = Arc::new(SqliteOutcomes::open(path)?);
        gateway.learned.open(outcomes)?;
    }
    Ok((gateway, keys))
}

fn key<'k>(keys: &'k [KeyRecord], asked: &str) -> Result<&'k KeyRecord, UsageError> {
    let found = keys.iter().find(|key| key.id == asked);
    found
        .or_else(|| keys.iter().find(|key| key.name == asked))
        .ok_or_else(|| {
            UsageError(format!(
                "no key `{asked}`; `tokenwise keys list` shows them"
            ))
        })
}

fn json(rehearsal: &Rehearsal) -> Value {
    let routes: Vec<Value> = rehearsal
        .routes
        .iter()
        .map(|route| {
            json!({
                "id": route.name,
                "takes": route.takes,
                "unmet": route.unmet.map(policy::route::rules::Unmet::name),
            })
        })
        .collect();
    json!({
        "call": rehearsal.seen,
        "routes": routes,
        "asked_first": rehearsal.asked_first,
        "asked_first_is_judged": rehearsal.asked_first.as_ref().map(|_| rehearsal.is_judged),
        "targets": rehearsal.targets,
        "notes": rehearsal.notes,
    })
}

fn text(rehearsal: &Rehearsal) -> String {
    let seen = &rehearsal.seen;
    let mut text = String::new();
    let has = |has: bool| if has { "with" } else { "without" };
    put!(
        text,
        "a call of `{}` to {}, in {}, about {} input tokens, {} tools, {} media, language {}\n",
        seen.model,
        seen.path,
        seen.dialect,
        seen.input_tokens,
        has(seen.tools),
        has(seen.media),
        seen.language.unwrap_or("not to be told"),
    );
    if seen.key != ANONYMOUS {
        put!(text, "with key {}\n", seen.key);
    }
    if !seen.tags.is_empty() {
        put!(text, "with the tags {}\n", seen.tags.join(", "));
    }
    if rehearsal.routes.is_empty() {
        put!(text, "\nthe configuration has no routes\n");
    } else {
        let taken = rehearsal.routes.iter().position(|route| route.takes);
        let rows = rehearsal.routes.iter().enumerate();
        let rows = rows.map(|(place, route)| vec![route.name.clone(), word(route, place, taken)]);
        let rows: Vec<Vec<String>> = rows.collect();
        let heads = [("route", Set::Left), ("", Set::Left)];
        put!(text, "\n{}", table(&heads, &rows));
    }
    text.push('\n');
    if let Some(first) = &rehearsal.asked_first {
        let unless = if rehearsal.is_judged {
            "its answer does not convince"
        } else {
            "it fails, for its answer is not judged"
        };
        put!(text, "asks {first} first; if {unless}:\n");
    }
    put!(
        text,
        "goes to {}\n",
        rehearsal.targets.join("; if that fails, to ")
    );
    let notes = serde_json::to_value(&rehearsal.notes).unwrap_or_default();
    lines(&mut text, &notes, 1);
    text
}

/// What becomes of a call at a route.
fn word(route: &Looked, place: usize, taken: Option<usize>) -> String {
    match (route.unmet, taken) {
        _ if route.takes => "takes it".to_owned(),
        (Some(unmet), _) => format!("does not: `{}` does not hold", unmet.name()),
        (None, Some(taken)) if place > taken => "would, but comes later".to_owned(),
        (None, _) => "would, but the path names a provider".to_owned(),
    }
}
