//! `tokenwise doctor`: looks at everything that a gateway needs, and says what to do.
//!
//! **Invariant**: it leaves nothing behind, and fails exactly if a finding does (test
//! `the_worst_finding_decides`).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use gateway::dispatch::headers;
use gateway::dispatch::send::{Http, request};
use gateway::setup::{Access, Credential, Limits, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Either;
use policy::moment::Moment;
use policy::ports::Keys as _;
use policy::ports::read::{By, Filter, LedgerReader};
use policy::prices::PriceBook;
use policy::prices::calendar::Date;
use serde_json::json;
use store::error::StoreError;
use store::sqlite::keys::SqliteKeys;
use store::sqlite::reader::SqliteReader;
use tokio::net::{TcpListener, TcpStream};
use wire::dialect::Dialect;

use super::{block_on, now};
use crate::config::Source;
use crate::config::build::{Config, KeysMade, Place};
use crate::config::watch::keys_made;
use crate::env::Environment;
use crate::print::amount::count;
use crate::print::failure::{FAILED, chain};
use crate::print::table::{Set, table};
use crate::print::{self, Format};

/// 5 s: a provider that takes longer to answer a list of models is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// 90 days: providers change a price or a model more often than that.
const BOOK_AGE_DAYS_MAX: u64 = 90;

const DAY_MS: u64 = 86_400_000;

/// A file that is made and removed, to see whether the ledger's could be.
const PROBE: &str = ".tokenwise-doctor";

/// The version of Anthropic's API that every call must name.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Look at everything that the gateway needs, and say what to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: Format,
}

/// How a thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    state: State,
    subject: String,
    what: String,
}

impl Finding {
    fn new(state: State, subject: &str, what: impl Into<String>) -> Self {
        Self {
            state,
            subject: subject.to_owned(),
            what: what.into(),
        }
    }
}

/// Looks.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let findings = match arguments.source.load(environment) {
        Ok(config) => block_on(async { Ok(look(&config).await) })?,
        Err(error) => vec![Finding::new(State::Fail, "configuration", chain(&error))],
    };
    if arguments.format.json {
        let entry = |finding: &Finding| {
            json!({
                "state": finding.state.name(),
                "subject": finding.subject,
                "what": finding.what,
            })
        };
        print::json(&findings.iter().map(entry).collect())?;
    } else {
        let row = |finding: &Finding| {
            vec![
                finding.state.name().to_owned(),
                finding.subject.clone(),
                finding.what.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
        let heads = [
            ("state", Set::Left),
            ("what", Set::Left),
            ("found", Set::Left),
        ];
        print::out(&table(&heads, &rows))?;
    }
    Ok(code(&findings))
}

fn code(findings: &[Finding]) -> ExitCode {
    let worst = findings.iter().map(|finding| finding.state).max();
    if worst == Some(State::Fail) {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

async fn look(config: &Config) -> Vec<Finding> {
    let at = now();
    let mut findings = vec![configuration(config)];
    findings.extend(
        config
            .remarks
            .iter()
            .map(|remark| Finding::new(State::Warn, "configuration", remark)),
    );
    findings.extend(ledger(config));
    findings.push(access(config));
    findings.push(port(config).await);
    findings.extend(clock_and_prices(&config.settings().prices, at));
    for upstream in &config.settings().upstreams {
        findings.push(provider(upstream).await);
    }
    findings
}

fn configuration(config: &Config) -> Finding {
    let file = config.file.as_ref();
    let from = file.map_or("built-in defaults".to_owned(), |file| {
        file.display().to_string()
    });
    Finding::new(State::Ok, "configuration", format!("{from}: valid"))
}

/// The ledger's file, and what it knows that needs attention.
fn ledger(config: &Config) -> Vec<Finding> {
    let subject = "ledger";
    let path = match &config.place {
        Place::File(path) => path,
        Place::Memory => {
            let what = "kept in memory: forgotten when the gateway ends";
            return vec![Finding::new(State::Warn, subject, what)];
        }
    };
    let name = path.display();
    let reader = match SqliteReader::open(path) {
        Ok(reader) => reader,
        Err(StoreError::Missing { .. }) => return vec![folder(path)],
        Err(error) => return vec![Finding::new(State::Fail, subject, chain(&error))],
    };
    if let Err(error) = std::fs::OpenOptions::new().write(true).open(path) {
        let what = format!("{name} cannot be written: {error}; give this user the right to");
        return vec![Finding::new(State::Fail, subject, what)];
    }
    let models = match reader.breakdown(&Filter::default(), By::Model) {
        Ok(models) => models,
        Err(fault) => return vec![Finding::new(State::Fail, subject, chain(&fault))],
    };
    let calls: u64 = models.iter().map(|model| model.totals.calls).sum();
    let mut findings = vec![Finding::new(
        State::Ok,
        subject,
        format!("{name}: {} calls", count(calls)),
    )];
    for model in models.iter().filter(|model| model.totals.unpriced > 0) {
        let label = model.label.as_deref().unwrap_or("no model");
        let calls = count(model.totals.unpriced);
        let what = format!(
            "{calls} calls to {label} have an unknown cost; add a price file to `[prices] files`, \
             see `tokenwise price {label}`"
        );
        findings.push(Finding::new(State::Warn, "prices", what));
    }
    findings
}

/// Whether the ledger's file could be made: tried in the nearest folder that is there.
fn folder(path: &Path) -> Finding {
    let name = path.display();
    let existing = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let probe = existing.unwrap_or(Path::new(".")).join(PROBE);
    let made = std::fs::File::create_new(&probe).and_then(|_file| std::fs::remove_file(&probe));
    match made {
        Ok(()) => Finding::new(
            State::Ok,
            "ledger",
            format!("{name} will be made at the first start"),
        ),
        Err(error) => {
            let what = format!("{name} cannot be made: {error}; name another in `[store] path`");
            Finding::new(State::Fail, "ledger", what)
        }
    }
}

/// Who may call, with the keys that there are.
fn access(config: &Config) -> Finding {
    let subject = "access";
    let made = match &config.place {
        Place::File(path) if path.exists() => {
            match SqliteKeys::open(path).map(|keys| keys.list()) {
                Ok(Ok(keys)) => keys_made(keys.len()),
                Ok(Err(fault)) => return Finding::new(State::Fail, subject, chain(&fault)),
                Err(error) => return Finding::new(State::Fail, subject, chain(&error)),
            }
        }
        Place::File(_) | Place::Memory => KeysMade::None,
    };
    match config.setup(config.listen, made) {
        Ok(setup) => Finding::new(State::Ok, subject, super::start::access(&setup)),
        Err(error) => Finding::new(State::Fail, subject, chain(&error)),
    }
}

async fn port(config: &Config) -> Finding {
    let listen = config.listen;
    match TcpListener::bind(listen).await {
        Ok(_free) => Finding::new(State::Ok, "port", format!("{listen} is free")),
        Err(error) => {
            let what = format!(
                "{listen} cannot be listened on: {error}; if that is not your gateway running, \
                 name another in `listen`"
            );
            Finding::new(State::Warn, "port", what)
        }
    }
}

fn clock_and_prices(book: &PriceBook, at: Moment) -> Vec<Finding> {
    let dated = book
        .providers()
        .map(|provider| provider.dated)
        .max()
        .unwrap_or_default();
    let (today, age_days) = (Date::of(at), at.since(dated.start()) / DAY_MS);
    let clock = if at.after(DAY_MS) < dated.start() {
        let what =
            format!("says {today}, before the price book's {dated}; set it, or prices are wrong");
        Finding::new(State::Fail, "clock", what)
    } else {
        Finding::new(State::Ok, "clock", format!("says {today} (UTC)"))
    };
    let prices = if age_days > BOOK_AGE_DAYS_MAX {
        let what = format!(
            "of {dated}, {age_days} days old; update tokenwise, or lay a newer file over it with \
             `tokenwise price refresh FILE`"
        );
        Finding::new(State::Warn, "prices", what)
    } else {
        Finding::new(
            State::Ok,
            "prices",
            format!("of {dated}, version {}", book.version()),
        )
    };
    vec![clock, prices]
}

/// Connects, and asks for the list of models where there is a key to ask with.
async fn provider(upstream: &Upstream) -> Finding {
    let subject = format!("provider {}", upstream.id);
    let host = upstream
        .base
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let secure = upstream.base.scheme_str() == Some("https");
    let port = upstream
        .base
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), port)));
    let problem = match connected.await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    };
    if let Some(problem) = problem {
        let what = format!("{host}:{port} cannot be reached: {problem}; check address and network");
        return Finding::new(State::Fail, &subject, what);
    }
    if matches!(upstream.credential, Credential::FromClient) {
        let what = format!("{host} is reachable; keys are the clients' own and cannot be tried");
        return Finding::new(State::Ok, &subject, what);
    }
    match models(upstream).await {
        Ok(200) => Finding::new(State::Ok, &subject, format!("{host} answers")),
        Ok(status @ (401 | 403)) => {
            let what = format!("{host} refuses the key with status {status}; check `api_key`");
            Finding::new(State::Fail, &subject, what)
        }
        Ok(status) => {
            let what = format!("{host} is reachable; its list of models answers {status}");
            Finding::new(State::Warn, &subject, what)
        }
        Err(problem) => Finding::new(State::Fail, &subject, problem),
    }
}

/// The status of the list of models.
async fn models(upstream: &Upstream) -> Result<u16, String> {
    let limits = Limits {
        connect_timeout: PATIENCE,
        first_byte_timeout: PATIENCE,
        ..Limits::default()
    };
    let mut fields = headers::upstream(&HeaderMap::new(), upstream, Access::Open);
    let path = match upstream.dialect {
        Dialect::OpenAiChat => "/models",
        Dialect::AnthropicMessages => {
            let version = HeaderName::from_static("anthropic-version");
            fields.insert(version, HeaderValue::from_static(ANTHROPIC_VERSION));
            "/v1/models"
        }
    };
    let body = Either::Left(Bytes::new().into());
    let request = request(Method::GET, upstream, path, None, fields, body)
        .ok_or_else(|| format!("{} is no address that can be called", upstream.base))?;
    let patience = limits.first_byte_timeout;
    let answer = Http::new(&limits).send(request, upstream, patience).await;
    answer
        .map(|answer| answer.status().as_u16())
        .map_err(|unanswered| unanswered.refusal.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let finding = |state| Finding::new(state, "a", "b");
        for (states, fails) in [
            (&[State::Ok][..], false),
            (&[State::Ok, State::Warn], false),
            (&[State::Fail, State::Ok], true),
        ] {
            let findings: Vec<Finding> = states.iter().copied().map(finding).collect();
            let expect = if fails {
                ExitCode::from(FAILED)
            } else {
                ExitCode::SUCCESS
            };
            assert_eq!(format!("{:?}", code(&findings)), format!("{expect:?}"));
        }
    }

    #[test]
    fn clocks_and_books_are_compared() {
        let book = PriceBook::built_in();
        let dated = book
            .providers()
            .map(|provider| provider.dated)
            .max()
            .unwrap()
            .start();
        for (at, expect) in [
            (Moment(0), [State::Fail, State::Ok]),
            (dated, [State::Ok, State::Ok]),
            (dated.after(91 * DAY_MS), [State::Ok, State::Warn]),
        ] {
            let states: Vec<State> = clock_and_prices(book, at)
                .iter()
                .map(|finding| finding.state)
                .collect();
            assert_eq!(states, expect);
        }
    }
}
