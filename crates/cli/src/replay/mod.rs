//! `tokenwise replay`: recorded traffic, untouched and with the policy, on virtual time.
//!
//! **Invariant**: nothing is sent anywhere; the totals are the sums of the calls' rows, to the
//! pico-dollar (test `totals_equal_the_rows`).

mod body;
mod export;
mod mooncake;
mod report;
mod requests;
mod source;
mod trajectory;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::PriceBook;
use policy::prices::model::Model;
use serde::Deserialize;
use sim::replay::{Call, Replay, Sums, Switch};
use wire::dialect::Dialect;

use crate::tokens::O200k;
use source::{Format, Source};

/// The model that recorded traffic is priced at unless another is named.
const MODEL: &str = "claude-sonnet-4-6";

/// Replay recorded traffic offline: what it costs untouched, with the policy, and at best
///
/// Reads agent trajectories, request bodies (one a line, either dialect), serving traces with block
/// hashes, and this gateway's own export; plain or gzip. Nothing is sent anywhere.
#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// Files with recorded traffic; the format is told from the first line
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The model whose cache and prices apply
    #[arg(long, value_name = "MODEL", default_value = MODEL)]
    pub model: String,
    /// A TOML file with a table `[levers]`, as in the gateway's configuration
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Default, Deserialize)]
struct PolicyFile {
    #[serde(default)]
    levers: Levers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Levers {
    #[serde(default)]
    cache: OnOff,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnOff {
    #[default]
    On,
    Off,
}

/// A recorded task and how it ended.
#[derive(Clone, Debug)]
struct Recorded {
    id: String,
    success: Option<bool>,
}

/// Sums of an export, as they were booked.
#[derive(Clone, Copy, Debug, Default)]
struct Booked {
    calls: u64,
    unknown: u64,
    cost: PicoUsd,
    untouched: PicoUsd,
}

/// Plays calls one after the other.
struct Player<'a> {
    replay: Replay<'a>,
    counter: O200k,
    model: &'a str,
    dialect: Dialect,
    clock: Moment,
    recorded: Vec<Recorded>,
    /// Sums over the rows of single calls, to compare the totals with.
    rows: (PicoUsd, PicoUsd),
}

impl Player<'_> {
    fn play(&mut self, call: &Call<'_>) -> anyhow::Result<()> {
        let outcome = self.replay.call(call, &mut self.counter)?;
        self.rows.0 = self.rows.0 + outcome.untouched_cost;
        self.rows.1 = self.rows.1 + outcome.policy_cost;
        Ok(())
    }
}

/// What was replayed.
struct Replayed<'a> {
    model: &'a Model,
    prices: &'a str,
    sums: Sums,
    recorded: Vec<Recorded>,
    booked: Booked,
}

/// Runs the command.
pub fn run(arguments: &ReplayArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let book = PriceBook::built_in();
    let name = &arguments.model;
    let model = book.find_any(name).with_context(|| {
        format!("the price book has no model `{name}`; `tokenwise price` lists those it has")
    })?;
    let priced_at = book
        .provider(&model.provider)
        .map(|seller| seller.dated.start());
    let priced_at = priced_at.context("a model's provider has a price file")?;
    let switch = switch(arguments)?;
    let mut player = Player {
        replay: Replay::new(model, priced_at, switch)?,
        counter: O200k::default(),
        model: &model.id,
        dialect: trajectory::dialect_of(&model.provider),
        clock: trajectory::BEGIN,
        recorded: Vec::new(),
        rows: Default::default(),
    };
    let mut booked = Booked::default();
    for file in &arguments.files {
        play_file(file, &mut player, &mut booked)
            .with_context(|| format!("cannot replay {}", file.display()))?;
    }
    let Player {
        replay,
        recorded,
        rows,
        ..
    } = player;
    let sums = replay.finish()?;
    if rows != (sums.untouched.cost, sums.policy.cost) {
        bail!("the totals do not equal the sums of the rows; please report this");
    }
    let replayed = Replayed {
        model,
        prices: book.version(),
        sums,
        recorded,
        booked,
    };
    if arguments.json {
        report::json(&replayed, out)
    } else {
        report::table(&replayed, out)
    }
}

fn switch(arguments: &ReplayArguments) -> anyhow::Result<Switch> {
    let Some(path) = &arguments.policy else {
        return Ok(Switch::On);
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let file: PolicyFile = toml::from_str(&text).with_context(|| format!("cannot use {shown}"))?;
    Ok(match file.levers.cache {
        OnOff::On => Switch::On,
        OnOff::Off => Switch::Off,
    })
}

fn play_file(
    path: &std::path::Path,
    player: &mut Player<'_>,
    booked: &mut Booked,
) -> anyhow::Result<()> {
    let length = std::fs::metadata(path)
        .map(|file| file.len())
        .unwrap_or_default();
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta}")?;
    bar.set_style(style);
    bar.set_message(
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    );
    let source = Source::open(path, &bar)?;
    let format = source.format;
    let schemas = match format {
        Format::Trajectories => trajectory::tool_schemas(path)?,
        Format::Requests | Format::Blocks | Format::Export => HashMap::new(),
    };
    let begin = player.clock;
    for (number, line) in (1..).zip(source) {
        let line = line?;
        let played = match format {
            Format::Trajectories => trajectory::play(&line, &schemas, player),
            Format::Requests => requests::play(&line, player),
            Format::Blocks => mooncake::play(&line, begin, player),
            Format::Export => export::add(&line, booked),
        };
        played.with_context(|| format!("line {number}"))?;
    }
    bar.finish_and_clear();
    Ok(())
}
