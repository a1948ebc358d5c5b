//! `tokenwise serve`: the gateway, until it is asked to stop.
//!
//! **Invariant**: when it ends by SIGINT or SIGTERM, every call that was begun is in the ledger
//! (test `serve_says_where_it_listens_and_stops` in `tests/it`).

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use gateway::clock::SystemClock;
use gateway::server;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::start::{Started, access, start, summary};
use super::{Ending, block_on};
use crate::config::Source;
use crate::config::build::Config;
use crate::config::raw::{RawLeverMode, RawLogFormat};
use crate::config::watch::{Overrides, Watch, reload_signal};
use crate::env::Environment;
use crate::print;
use crate::print::failure::UsageError;

/// Run the gateway.
///
/// Without a configuration file, the providers whose keys are in the environment are served on
/// 127.0.0.1:8787. Prints `{"listening":"http://…"}` on standard output once it does.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Address and port to listen on, instead of the configured one; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What all levers may do, instead of what is configured; `off` leaves every body as it came.
    #[arg(long, value_enum, value_name = "MODE")]
    levers: Option<RawLeverMode>,
}

/// Serves.
pub(crate) fn run(arguments: &Arguments, environment: Environment) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        levers: arguments.levers,
    };
    let config = overrides.apply(arguments.source.load(&environment)?);
    log(&config)?;
    let listen = arguments.listen.unwrap_or(config.listen);
    block_on(Box::pin(serve(config, listen, overrides, environment)))
}

async fn serve(
    config: Config,
    listen: SocketAddr,
    overrides: Overrides,
    environment: Environment,
) -> anyhow::Result<ExitCode> {
    // Whoever reads that it listens may stop it at once.
    let mut ending = Ending::heard()?;
    let reload = reload_signal();
    let Started {
        gateway,
        listener,
        address,
        open,
        keys_version,
    } = start(&config, listen, Arc::new(SystemClock)).await?;
    print::note(&greeting(
        &config,
        &gateway.setup.load(),
        address,
        open.recovered,
    ));
    let line = json!({"listening": format!("http://{address}")});
    print::out(&format!("{line}\n"))?;
    let keys = Arc::clone(&open.keys);
    let watch = Watch::new(
        Arc::clone(&gateway),
        keys,
        environment,
        overrides,
        config,
        address,
        keys_version,
    );
    gateway.tasks.spawn(watch.run(reload));
    let tasks = gateway.tasks.clone();
    let stopping = async move {
        ending.asked().await;
        tracing::info!("stopping; open answers may end, unless the signal comes again");
        tasks.stop();
        ending.asked().await;
        tasks.hurry();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = server::run(gateway, listener) => {}
        () = stopping => {}
    }
    open.close()?;
    Ok(ExitCode::SUCCESS)
}

/// What is said once the gateway listens.
fn greeting(
    config: &Config,
    setup: &gateway::setup::Setup,
    address: SocketAddr,
    recovered: u64,
) -> String {
    let mut text = format!(
        "tokenwise {} on http://{address}\n",
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(&summary(config, setup));
    put!(text, "  {:<10} {}\n", "access", access(setup));
    if recovered > 0 {
        let what = "calls were open when the gateway last ended; closed at unknown cost";
        put!(text, "  {:<10} {recovered} {what}\n", "recovered");
    }
    put!(
        text,
        "  {:<10} ANTHROPIC_BASE_URL=http://{address}\n",
        "clients"
    );
    put!(text, "  {:<10} OPENAI_BASE_URL=http://{address}/v1", "");
    text
}

/// Starts the log, on standard error.
fn log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| {
        UsageError(format!(
            "`log.level` is `{}`: {error}; write `error`, `warn`, `info`, `debug`, `trace` or a \
             filter such as `warn,gateway=debug`",
            config.log_level
        ))
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.log_format {
        RawLogFormat::Text => lines.try_init(),
        RawLogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started
        .map_err(anyhow::Error::from_boxed)
        .context("cannot start the log")
}
