//! `tokenwise replay`: recorded traffic, untouched and with the policy, on virtual time.
//!
//! **Invariant**: nothing is sent anywhere; the totals are the sums of the calls' rows, to the
//! pico-dollar (test `formats_replay`, and checked on every run).

mod body;
mod export;
mod mooncake;
mod report;
mod requests;
pub(crate) mod source;
pub(crate) mod trajectory;
pub(crate) mod trimmed;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::PriceBook;
use policy::prices::model::Model;
use policy::shape::cache::Grain;
use policy::shape::trim::prune::Prune;
use policy::shape::trim::terms::Terms;
use policy::think::capability::Table;
use serde::Deserialize;
use sim::replay::{Call, Input, Replay, Sums, Switch};
use sim::routed::{Routed, RoutedSums};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use crate::tokens::O200k;
use source::{Format, Source};
use trimmed::{TrimChoice, Trimmed, TrimmedSums};

/// The model that recorded traffic is priced at unless another is named.
pub(crate) const MODEL: &str = "claude-sonnet-4-6";

/// Replay recorded traffic offline: what it costs untouched, with the policy, and at best
///
/// Reads agent trajectories, request bodies (one a line, either dialect), serving traces with block
/// hashes, and this gateway's own export; plain or gzip. Nothing is sent anywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    /// Files with recorded traffic; the format is told from the first line
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The model whose cache and prices apply
    #[arg(long, value_name = "MODEL", default_value = MODEL)]
    pub(crate) model: String,
    /// A second model of the same dialect: also replays with the route lever between the two, as if
    /// both were as good
    #[arg(long, value_name = "MODEL")]
    pub(crate) beside: Option<String>,
    /// A TOML file with a table `[levers]`, as in the gateway's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Also replay with the trim lever before the cache lever: results of tools in fewer tokens
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) trim: TrimChoice,
    /// Also leave out old results of tools, once there are more than so many tokens of them, where that
    /// pays for the cache that it destroys
    #[arg(long, value_name = "TOKENS")]
    pub(crate) prune: Option<u64>,
    /// Values that calls took from earlier results, one trajectory a line: counts how many of them
    /// trimming leaves there
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
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
    /// The same serving traces on a cache that reads at every block's end.
    yardstick: Replay<'a>,
    /// The same calls between two targets.
    routed: Option<Routed<'a>>,
    /// The same calls trimmed.
    trimmed: Option<Trimmed<'a>>,
    counter: O200k,
    model: &'a str,
    dialect: Dialect,
    clock: Moment,
    recorded: Vec<Recorded>,
    /// Sums over the rows of single calls, to compare the totals with.
    rows: (PicoUsd, PicoUsd),
}

impl Player<'_> {
    /// Plays a call, and knows what was replied to it if that was recorded.
    fn play(&mut self, call: &Call<'_>, reply: &str) -> anyhow::Result<()> {
        let outcome = self.replay.call(call, &mut self.counter)?;
        if let Input::Shape { .. } = call.input {
            self.yardstick.call(call, &mut self.counter)?;
        }
        if let Some(routed) = &mut self.routed {
            routed.call(call, &mut self.counter)?;
        }
        if let Some(trimmed) = &mut self.trimmed {
            trimmed.call(call, reply, &mut self.counter)?;
        }
        self.rows.0 += outcome.untouched_cost;
        self.rows.1 += outcome.policy_cost;
        Ok(())
    }

    fn play_made_up(&mut self, made_up: &MadeUp) -> anyhow::Result<()> {
        let call = Call {
            task: Some(&made_up.task),
            at: self.clock,
            input: Input::Body {
                dialect: self.dialect,
                bytes: made_up.body.as_bytes(),
            },
            output: made_up.output,
            session: None,
        };
        self.play(&call, "")?;
        self.clock = self.clock.after(trajectory::STEP_MS);
        Ok(())
    }
}

/// A call that was made up, in the dialect of the model at which it is priced.
pub(crate) struct MadeUp {
    pub(crate) task: String,
    pub(crate) body: String,
    pub(crate) output: Tokens,
}

/// What was replayed.
pub(crate) struct Replayed<'a> {
    pub(crate) model: &'a Model,
    pub(crate) prices: &'a str,
    pub(crate) priced_at: Moment,
    pub(crate) sums: Sums,
    /// Of serving traces only: what a cache without minimum would save that reads at every block.
    yardstick: Sums,
    /// Between two targets, and the second one's name.
    routed: Option<(&'a str, RoutedSums)>,
    trimmed: Option<TrimmedSums>,
    recorded: Vec<Recorded>,
    booked: Booked,
}

impl Replayed<'_> {
    /// What the calls cost with the trim lever before the cache lever, if that was asked for.
    pub(crate) fn trimmed_cost(&self) -> Option<PicoUsd> {
        self.trimmed.as_ref().map(TrimmedSums::cost)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &ReplayArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let replayed = measure(arguments, &[])?;
    if arguments.json {
        report::json(&replayed, out)
    } else {
        report::table(&replayed, out)
    }
}

/// Replays files, and then calls that were made up.
pub(crate) fn measure<'a>(
    arguments: &'a ReplayArguments,
    made_up: &[MadeUp],
) -> anyhow::Result<Replayed<'a>> {
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
    let second = arguments.beside.as_deref();
    let second = second.map(|name| beside(book, model, name)).transpose()?;
    let routed = second.map(|second| Routed::new([model, second], priced_at));
    let evidence = arguments.evidence.as_deref().map(trimmed::needed);
    let evidence = evidence.transpose()?.unwrap_or_default();
    let terms = Terms {
        level: arguments.trim.level(),
        folded_beyond: None,
        prune: prune(arguments, model, priced_at)?,
        ..Terms::default()
    }
    .cached_from(model.cache.minimum);
    let trimmed = (!terms.is_nothing()).then(|| {
        let replay = Replay::new(model, priced_at, switch, Grain::Breakpoints)?;
        anyhow::Ok(Trimmed::new(replay, terms, evidence))
    });
    let mut player = Player {
        replay: Replay::new(model, priced_at, switch, Grain::Breakpoints)?,
        yardstick: Replay::new(model, priced_at, switch, Grain::Segments)?,
        routed: routed.transpose()?,
        trimmed: trimmed.transpose()?,
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
    for call in made_up {
        player.play_made_up(call)?;
    }
    let Player {
        replay,
        yardstick,
        routed,
        trimmed,
        recorded,
        rows,
        ..
    } = player;
    let sums = replay.finish()?;
    let yardstick = yardstick.finish()?;
    if rows != (sums.untouched.cost, sums.policy.cost) {
        bail!("the totals do not equal the sums of the rows; please report this");
    }
    Ok(Replayed {
        model,
        prices: book.version(),
        priced_at,
        sums,
        yardstick,
        routed: second
            .zip(routed)
            .map(|(second, routed)| (second.id.as_str(), routed.sums())),
        trimmed: trimmed.map(Trimmed::finish).transpose()?,
        recorded,
        booked,
    })
}

/// When old results are left out.
fn prune(
    arguments: &ReplayArguments,
    model: &Model,
    priced_at: Moment,
) -> anyhow::Result<Option<Prune>> {
    let Some(beyond) = arguments.prune else {
        return Ok(None);
    };
    let known = Table::built_in().find(&model.provider, &model.id);
    if known.is_some_and(|capability| capability.binds_prefix) {
        bail!(
            "`{}` binds its thinking to what is before it, so that its history is never edited; leave \
             `--prune` out",
            model.id
        );
    }
    let prune = Prune::of(model, priced_at, Tokens(beyond));
    let prune = prune.with_context(|| format!("`{}` has no price for its input", model.id))?;
    Ok(Some(prune))
}

/// The second target, which must speak what the first one speaks.
fn beside<'b>(book: &'b PriceBook, first: &Model, name: &str) -> anyhow::Result<&'b Model> {
    let second = book.find_any(name).with_context(|| {
        format!("the price book has no model `{name}`; `tokenwise price` lists those it has")
    })?;
    let [one, other] = [first, second].map(|model| trajectory::dialect_of(&model.provider));
    if one != other {
        bail!(
            "`{}` speaks {} and `{name}` {}: a session cannot move between them; name a model of the \
             same dialect",
            first.id,
            one.id(),
            other.id()
        );
    }
    Ok(second)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};

    use super::{ReplayArguments, run};

    /// Replays some lines and gives the JSON that is printed.
    fn replayed(lines: &[Value], model: &str) -> Value {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for line in lines {
            writeln!(file, "{line}").expect("it takes lines");
        }
        let arguments = ReplayArguments {
            files: vec![file.path().to_owned()],
            model: model.to_owned(),
            beside: None,
            policy: None,
            trim: super::TrimChoice::Folded,
            prune: None,
            evidence: None,
            json: true,
        };
        let mut out = Vec::new();
        run(&arguments, &mut out).expect("it can be replayed");
        serde_json::from_slice(&out).expect("it prints JSON")
    }

    fn long(text: &str) -> String {
        format!("{text} ").repeat(1_500)
    }

    #[test]
    fn formats_replay() {
        let trajectory = json!({
            "id": "a", "success": true, "tools": null,
            "messages": [
                {"role": "system", "content": long("rule")},
                {"role": "user", "content": "hello world"},
                {"role": "assistant", "content": "hello world"},
                {"role": "user", "content": "stub"},
                {"role": "assistant", "content": "done"},
            ],
            "steps": [{"ctx": [[0, 2]], "reply": 2}, {"ctx": [[0, 1], [1, 4]], "reply": 4}],
        });
        let result = replayed(&[trajectory], "claude-sonnet-4-6");
        assert_eq!(
            [
                &result["calls"],
                &result["tasks"],
                &result["tasks_succeeded"]
            ],
            [2, 1, 1]
        );
        let untouched = &result["tokens"]["untouched"];
        // Two heads, 6 tokens a framed message of two words, 5 of one; replies of 2 and 1.
        let head = untouched["uncached"].as_u64().unwrap_or(0) - (6 + 6 + 6 + 5);
        assert_eq!(head % 2, 0);
        assert_eq!(untouched["output"], 3);
        let amount = |name: &str| result[name].as_i64().unwrap_or(0);
        let saved = amount("untouched_pico_usd") - amount("policy_pico_usd");
        assert_eq!(result["levers"]["cache"].as_i64(), Some(saved));

        let blocks = json!({
            "timestamp": 0, "input_length": 1_300, "output_length": 7, "hash_ids": [1, 2, 3],
        });
        let result = replayed(&[blocks.clone(), blocks], "claude-sonnet-4-6");
        assert_eq!(result["tokens"]["untouched"]["uncached"], 2_600);
        assert_eq!(
            result["yardstick_every_block"]["untouched_pico_usd"],
            result["untouched_pico_usd"]
        );

        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello world"}]});
        let result = replayed(&[body.clone(), body], "gpt-5.4");
        assert_eq!(result["tokens"]["policy"]["uncached"], 12);

        let settled = json!({"cost_pico_usd": 5, "untouched_pico_usd": 8});
        let call = json!({"call": "c", "settled": settled});
        let result = replayed(&[call], "gpt-5.4");
        assert_eq!(
            [&result["untouched_pico_usd"], &result["policy_pico_usd"]],
            [8, 5]
        );
    }
}
