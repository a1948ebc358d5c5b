//! `tokenwise demo`: a gateway before simulated providers, a workload of our own, and the bill.
//!
//! **Invariant**: it needs no key, no network and no service, and its figures are those of the
//! ledger (test `the_demo_adds_up` in `tests/it`).

mod drive;
mod pauses;
mod prose;
pub(crate) mod workload;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use gateway::clock::{Clock, SystemClock};
use gateway::{Gateway, server};
use indicatif::{ProgressBar, ProgressStyle};
use policy::money::PicoUsd;
use policy::ports::read::{By, Filter, LedgerReader, Slice, StoredCall, Totals};
use serde_json::{Value, json};
use store::sqlite::reader::SqliteReader;
use tokio::net::TcpListener;

use self::drive::Driver;
use self::pauses::Skipping;
use self::workload::{Request, workload};
use super::report::{self, Breakdown};
use super::start::{Started, start};
use super::{asked_to_end, block_on, random};
use crate::config::build::{Config, build};
use crate::config::raw::{RawConfig, RawProvider, RawStore};
use crate::env::Environment;
use crate::print::amount::{count, pico, pico_known, share};
use crate::print::table::{Set, table};
use crate::print::{self, Format, figures};
use crate::simulate;

/// 1.5 s from one call to the next: a dozen sessions side by side then pause for about 18 s each, as
/// agents do between two answers.
const PAUSE_MS: u64 = 1_500;

/// See what the gateway does: no key, no network, no bill.
///
/// Starts a gateway and simulated providers on this machine, sends them a made-up workload of
/// agents, and prints what it would have cost with and without the gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave gateway and providers running afterwards, to try a client of your own.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    format: Format,
}

/// Demonstrates.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = scratch()?;
    block_on(Box::pin(demonstrate(arguments, folder)))?;
    Ok(ExitCode::SUCCESS)
}

async fn demonstrate(arguments: &Arguments, folder: PathBuf) -> anyhow::Result<()> {
    let path = folder.join("ledger.db");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let providers = TcpListener::bind(any_port)
        .await
        .context("no port for the providers")?;
    let simulated = providers
        .local_addr()
        .context("the providers have no address")?;
    let config = config(simulated, &path)?;
    let requests = workload();
    let total = requests.len();
    let clock = Arc::new(Skipping::new(
        Arc::new(SystemClock),
        PAUSE_MS * total as u64,
    ));
    let providers_clock = Arc::clone(&clock);
    let Started {
        gateway,
        listener,
        address,
        open,
        ..
    } = start(&config, any_port, Arc::clone(&clock) as Arc<dyn Clock>).await?;
    let stopping = Arc::clone(&gateway);
    gateway.tasks.spawn(simulate::serve(
        providers,
        Arc::new(Mutex::new(super::simulate::provider(0))),
        Arc::new(move || providers_clock.now()),
        async move { stopping.tasks.stopping().await },
    ));
    let shown = async {
        introduce(total, arguments.format);
        drive(address, requests, &clock).await?;
        show(&SqliteReader::open(&path)?, &path, total, arguments.format)?;
        if arguments.keep {
            print::note(&kept(address));
            asked_to_end().await?;
        }
        Ok(())
    };
    let result = serve_during(&gateway, listener, shown).await;
    open.close()?;
    result
}

/// Serves while `work` goes on, then stops.
async fn serve_during(
    gateway: &Arc<Gateway>,
    listener: TcpListener,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let work = async {
        let result = work.await;
        gateway.tasks.stop();
        result
    };
    let ((), result) = tokio::join!(server::run(Arc::clone(gateway), listener), work);
    result
}

/// What the demo's owner allows beside the cache lever, which is on by itself.
const ROUTES: &str = r#"
[[routes]]
id = "agents"
tools = "with"
trim = "exact"
trim_lever = "on"

[[routes]]
id = "classify"
models = ["gpt-5.6-terra"]
tools = "without"
as_good = ["openai/gpt-5.4-mini"]
lever = "on"
"#;

/// Both dialects at the simulated providers, each client with its own key.
fn config(simulated: SocketAddr, ledger: &Path) -> anyhow::Result<Config> {
    let provider = |id: &str, base_url: String| RawProvider {
        id: id.to_owned(),
        dialect: None,
        base_url: Some(base_url),
        api_key: Some("client".to_owned()),
        models: None,
        prices: None,
    };
    let raw: RawConfig = toml::from_str(ROUTES).context("the demo's routes are wrong")?;
    let raw = RawConfig {
        store: RawStore {
            path: Some(ledger.to_owned()),
            ..RawStore::default()
        },
        providers: vec![
            provider("anthropic", format!("http://{simulated}")),
            provider("openai", format!("http://{simulated}/v1")),
        ],
        ..raw
    };
    Ok(build(&raw, None, &Environment::default())?)
}

/// A new folder for the ledger; it stays, so that calls can be explained afterwards.
fn scratch() -> anyhow::Result<PathBuf> {
    let random = u64::from_le_bytes(random()?);
    let name = format!("tokenwise-demo-{random:016x}");
    let folder = crate::env::scratch_folder().join(name);
    std::fs::create_dir(&folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    Ok(folder)
}

fn introduce(total: usize, format: Format) {
    if !format.json {
        print::note(&format!(
            "{} calls of made-up agents, in both dialects, streamed and not, over real HTTP\n\
             through a gateway on this machine to simulated providers: no key, no network, no bill.\n\
             Prices are those of the price book, usage is what models of the providers' caches say;\n\
             pauses between calls are skipped, not waited for.\n\
             Caching is on by itself. The owner of this gateway lets two routes do more: results of\n\
             tools are said in fewer tokens, nothing left out, and classification goes to\n\
             gpt-5.4-mini, held to be as good there.\n",
            count(total as u64)
        ));
    }
}

async fn drive(
    address: SocketAddr,
    requests: Vec<Request>,
    clock: &Skipping,
) -> anyhow::Result<()> {
    let bar = ProgressBar::new(requests.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {eta} left");
    bar.set_style(style.context("the progress bar's template is wrong")?);
    let driver = Driver::new(address);
    for request in requests {
        clock.skip(PAUSE_MS);
        driver.send(request).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The calls at both ends of the savings.
struct Ends {
    best: StoredCall,
    worst: StoredCall,
}

fn ends(reader: &SqliteReader) -> anyhow::Result<Ends> {
    let mut calls = Vec::new();
    for call in reader.calls(&Filter::default()) {
        calls.push(call?);
    }
    calls.sort_by_key(|call| std::cmp::Reverse(saved(call)));
    let (best, worst) = (calls.first().cloned(), calls.last().cloned());
    let (best, worst) = best.zip(worst).context("the ledger of the demo is empty")?;
    Ok(Ends { best, worst })
}

fn saved(call: &StoredCall) -> PicoUsd {
    call.settled
        .as_ref()
        .map(|settled| settled.savings.values().sum())
        .unwrap_or_default()
}

/// Prints the bill, after checking that it is one.
fn show(reader: &SqliteReader, path: &Path, sent: usize, format: Format) -> anyhow::Result<()> {
    let all = Filter::default();
    let totals = reader.totals(&all)?;
    ensure!(
        totals.calls == sent as u64,
        "{sent} calls were sent, {} are booked",
        totals.calls
    );
    ensure!(
        totals.untouched - totals.cost_compared == totals.saved(),
        "the savings do not add up; this is a fault of tokenwise"
    );
    let tasks = reader.breakdown(&all, By::Task)?;
    let ends = ends(reader)?;
    if format.json {
        let mut value = report::json(&totals, &tasks, Breakdown::Task);
        value["best_call"] = call_json(&ends.best);
        value["worst_call"] = call_json(&ends.worst);
        value["ledger"] = path.display().to_string().into();
        return print::json(&value);
    }
    let models = reader.breakdown(&all, By::Model)?;
    let mut text = report::text(&totals, &models, Breakdown::Model);
    text.push('\n');
    text.push_str(&per_task(&tasks));
    put!(text, "\nbest call    {}\n", call_text(&ends.best));
    put!(text, "worst call   {}\n", call_text(&ends.worst));
    text.push_str(&next_steps(&ends, path));
    print::out(&text)
}

/// What each agent's task costs, with and without.
fn per_task(tasks: &[Slice]) -> String {
    let mut agents: BTreeMap<&str, (u64, Totals)> = BTreeMap::new();
    for task in tasks {
        // Sessions of one agent are numbered; the agent is what stands before the number.
        let label = task.label.as_deref().unwrap_or_default();
        let (number, sum) = agents
            .entry(label.split('-').next().unwrap_or_default())
            .or_default();
        *number += 1;
        sum.calls += task.totals.calls;
        sum.untouched += task.totals.untouched;
        sum.cost += task.totals.cost;
    }
    let each = |amount: PicoUsd, number: u64| PicoUsd(amount.0 / i128::from(number));
    let row = |(name, (number, sum)): (&&str, &(u64, Totals))| {
        vec![
            (*name).to_owned(),
            count(*number),
            count(sum.calls / *number),
            each(sum.untouched, *number).to_string(),
            each(sum.cost, *number).to_string(),
            share(sum.untouched - sum.cost, sum.untouched),
        ]
    };
    let heads = [
        ("agent", Set::Left),
        ("tasks", Set::Right),
        ("calls each", Set::Right),
        ("untouched each", Set::Right),
        ("cost each", Set::Right),
        ("saved", Set::Right),
    ];
    table(&heads, &agents.iter().map(row).collect::<Vec<_>>())
}

fn call_json(call: &StoredCall) -> Value {
    json!({
        "call": call.opened.call.0,
        "model": call.opened.model,
        "task": call.opened.task,
        "saved_pico_usd": pico(saved(call)),
        "cost_pico_usd": pico_known(call.settled.as_ref().and_then(|settled| settled.cost)),
        "levers": call.settled.as_ref().map(|settled| figures::levers(&settled.savings)),
    })
}

fn call_text(call: &StoredCall) -> String {
    let task = call.opened.task.as_deref().unwrap_or("–");
    let (id, model) = (&call.opened.call.0, &call.opened.model);
    let cost = call.settled.as_ref().and_then(|settled| settled.cost);
    let cost = print::amount::known(cost);
    format!(
        "saved {}, cost {cost}: {model} for {task}, {id}",
        saved(call)
    )
}

fn next_steps(ends: &Ends, path: &Path) -> String {
    let (path, worst) = (path.display(), &ends.worst.opened.call.0);
    format!(
        "\nlook further\n\
         \x20 tokenwise explain {worst} --store {path}\n\
         \x20 tokenwise report --by session --store {path}\n\
         \x20 tokenwise report --tools --store {path}\n\
         \x20 tokenwise serve          with a provider's key in the environment\n\
         \x20 tokenwise check          what that would do; examples/ and docs/reference.md have more\n"
    )
}

fn kept(address: SocketAddr) -> String {
    format!(
        "\nstill running, until Ctrl-C; any key is taken:\n\
         \x20 ANTHROPIC_BASE_URL=http://{address}\n\
         \x20 OPENAI_BASE_URL=http://{address}/v1"
    )
}
