//! `tokenwise agents`: loops, chances and costs of recorded tasks.
//!
//! **Invariant**: it observes; what it says of stopping is what stopping would have done (tests
//! `stopping_adds_up` in `learn` and `calls_are_judged_by_their_own_messages`).

mod chances;
mod costs;
mod looped;
mod read;
mod seeds;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use policy::agents::loops::{CERTAIN, THRESHOLDS, Thresholds};
use serde_json::json;

use crate::print::{self, Format};
use crate::replay::MODEL;

/// Sets of thresholds that are compared: the usual first suspicion, from where a loop is reported, and
/// from where it may be stopped.
const SETS: [(&str, Thresholds); 3] = [
    (
        "early",
        Thresholds {
            same: 3,
            cycle: 2,
            alternation: 3,
            errors: 3,
            monologue: 3,
            stalled: 3,
            context_errors: 2,
        },
    ),
    ("reported", THRESHOLDS),
    ("certain", CERTAIN),
];

/// The place of the set from which loops are reported.
const REPORTED: usize = 1;

/// After how many eighths of a task a loop is put in.
const BEFORE: [usize; 4] = [2, 4, 6, 8];

/// Measure what is known about agents on recorded tasks.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Eval(Eval),
}

/// Loops that are found, in time, wrongly and at which price; how well failures are foreseen and what
/// stopping would have saved and lost; what tasks cost.
#[derive(Debug, clap::Args)]
struct Eval {
    /// A file of agent trajectories, or a folder of them.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The model at whose prices and cache every call is billed, with the cache lever on.
    #[arg(long, value_name = "MODEL", default_value = MODEL)]
    model: String,
    /// Where random draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Runs the evaluation.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Action::Eval(eval) = &arguments.action;
    let mut runs = Vec::new();
    for file in files(&eval.data)? {
        print::note(&format!("reading {}", file.display()));
        runs.extend(read::runs(&file, &eval.model)?);
    }
    let looped = looped::Figures::of(&runs);
    let chances = chances::Figures::of(&runs, eval.seed);
    if eval.format.json {
        print::json(&json!({
            "billed_at": eval.model,
            "costs": costs::json(&runs),
            "loops": looped.json(),
            "stop_loss": chances.json(),
        }))?;
    } else {
        let billed = format!(
            "{} tasks, billed by the simulator at {} with the cache lever on\n\n",
            runs.len(),
            eval.model
        );
        let parts = [billed, costs::text(&runs), looped.text(), chances.text()];
        print::out(&parts.concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file, or the folder's files of JSON lines by name.
fn files(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if data.is_file() {
        return Ok(vec![data.to_owned()]);
    }
    let shown = data.display();
    let entries = std::fs::read_dir(data).with_context(|| format!("cannot read {shown}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {shown}"))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            files.push(path);
        }
    }
    files.sort_unstable();
    if files.is_empty() {
        bail!("{shown} holds no `.jsonl` or `.jsonl.gz` files");
    }
    Ok(files)
}

/// A part of a whole in percent, for people: `12.3 %`; a dash of nothing.
fn part(part: u64, whole: u64) -> String {
    let amount = |count: u64| policy::money::PicoUsd(i128::from(count));
    print::amount::share(amount(part), amount(whole))
}
