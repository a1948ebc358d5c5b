//! `tokenwise learn`: a router of one's own from recorded outcomes.
//!
//! **Invariant**: rows without what a router needs are refused by line, and nothing is written unless
//! all are read (test `a_router_is_learned_from_a_file` in `tests/it/learn.rs`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use learn::calibrate::Bin;
use learn::fit::Recipe;
use learn::outcome::Row;
use learn::teach::{Judged, Promise, TARGETS_MAX, Taught, teach};
use policy::route::predictor::format;
use serde_json::{Value, json};

use super::route::data;
use crate::print::table::{Set, table};
use crate::print::time::shown;
use crate::print::{self, Format};

/// Train a router on recorded outcomes: which targets answer which calls well enough. The file that
/// it writes is what `router` in the configuration names.
///
/// Each line of a file is one call, as JSON: `{"id": "1", "route": "support", "text": "what the user
/// wrote", "outcomes": {"openai/gpt-5.4": {"score": 1, "cost_usd": 0.02}, "openai/gpt-5.4-mini":
/// {"score": 0.5, "cost_usd": 0.004}}}`. `route` is the id of a route of the configuration; rows
/// without one speak for every route. Rows with the same `group` are near-duplicates.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files of outcomes, plain or gzip.
    #[arg(value_name = "FILE", required_unless_present = "suites")]
    files: Vec<PathBuf>,
    /// Train on the pairs of a folder with `suites.json` instead, as `strong` and `weak` of no route:
    /// so was the model made that the program has built in.
    #[arg(long, value_name = "DATA", conflicts_with = "files")]
    suites: Option<PathBuf>,
    /// Where the router is written.
    #[arg(long, value_name = "FILE", default_value = "router.model")]
    out: PathBuf,
    /// Where random draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Sources whose results carry no licence: measured on, never shipped.
const UNLICENSED: &[&str] = &["bfcl_2024_08"];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let rows = match &arguments.suites {
        Some(folder) => data::pairs(&data::folder(folder)?, "train", |source| {
            !UNLICENSED.contains(&source)
        })?,
        None => rows(&arguments.files)?,
    };
    let targets = targets(&rows)?;
    let recipe = Recipe {
        card: card(arguments, &rows, &targets),
        targets,
        seed: arguments.seed,
    };
    let taught = teach(&rows, &recipe, &mut data::bar("learn"));
    let bytes = format::write(&taught.model);
    let path = &arguments.out;
    std::fs::write(path, &bytes)
        .with_context(|| format!("cannot write {}; give another `--out`", path.display()))?;
    if arguments.format.json {
        print::json(&document(&taught, bytes.len()))?;
    } else {
        print::out(&text(&taught))?;
        print::note(&format!(
            "wrote {} ({} kB); name it as `router` in the configuration",
            path.display(),
            bytes.len().div_ceil(1000)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(files: &[PathBuf]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(data::rows(file)?);
    }
    Ok(rows)
}

/// The targets of the rows, by name.
fn targets(rows: &[Row]) -> anyhow::Result<Vec<String>> {
    let mut targets: Vec<String> = rows
        .iter()
        .flat_map(|row| row.outcomes.keys().cloned())
        .collect();
    targets.sort_unstable();
    targets.dedup();
    if !(2..=TARGETS_MAX).contains(&targets.len()) {
        bail!(
            "the rows have outcomes of {} targets ({}); a router needs 2 to {TARGETS_MAX}: the ones \
             that it will choose between",
            targets.len(),
            targets.join(", ")
        );
    }
    Ok(targets)
}

fn card(arguments: &Arguments, rows: &[Row], targets: &[String]) -> String {
    let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
    let sources: Vec<String> = match &arguments.suites {
        Some(_) => vec!["public suites".to_owned()],
        None => arguments.files.iter().filter_map(name).collect(),
    };
    format!(
        "made: {} by tokenwise {}\nrows: {} of {}\ntargets: {}\nseed: {}\n",
        shown(super::now()),
        env!("CARGO_PKG_VERSION"),
        rows.len(),
        sources.join(", "),
        targets.join(", "),
        arguments.seed
    )
}

fn document(taught: &Taught, bytes: usize) -> Value {
    let bin = |bin: &Bin| json!({"rows": bin.rows, "said": bin.said, "came_true": bin.came_true});
    let target = |it: &Judged| {
        json!({
            "target": it.name, "rows": it.rows, "quality": it.quality, "cost_usd": it.cost_usd,
            "calibration_error": it.error,
            "reliability": it.table.iter().map(bin).collect::<Vec<_>>(),
        })
    };
    let promise = |it: &Promise| {
        let name = |place: u16| {
            taught
                .model
                .targets
                .get(usize::from(place))
                .map(|it| &it.name)
        };
        json!({
            "route": it.floor.segment, "strong": name(it.floor.strong), "weak": name(it.floor.weak),
            "promised_quality": it.floor.quality, "lowered": it.floor.lowered, "rows": it.rows,
            "quality": it.quality, "cost": it.cost, "random_cost_at_equal_quality": it.random_cost,
        })
    };
    json!({
        "card": taught.model.card, "bytes": bytes, "routes": taught.segments,
        "targets": taught.targets.iter().map(target).collect::<Vec<_>>(),
        "promises": taught.promises.iter().map(promise).collect::<Vec<_>>(),
    })
}

fn text(taught: &Taught) -> String {
    let mut text = taught.model.card.clone();
    let heads = [
        ("target", Set::Left),
        ("rows", Set::Right),
        ("mean score", Set::Right),
        ("USD a call", Set::Right),
        ("calibration error", Set::Right),
    ];
    let row = |it: &Judged| {
        vec![
            it.name.clone(),
            it.rows.to_string(),
            format!("{:.3}", it.quality),
            format!("{:.6}", it.cost_usd),
            format!("{:.3}", it.error),
        ]
    };
    let rows: Vec<_> = taught.targets.iter().map(row).collect();
    text.push('\n');
    text.push_str(&table(&heads, &rows));
    for target in &taught.targets {
        plot(&mut text, target);
    }
    promises(&mut text, taught);
    text
}

/// The width of a plot, in characters.
const PLOT_WIDTH: f64 = 40.0;

/// What was said (`|`) and what came true (`#`), bin by bin.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of a width"
)]
fn plot(text: &mut String, target: &Judged) {
    put!(
        text,
        "\n{}: adequate, as said (|) and as came true (#), held out\n",
        target.name
    );
    for bin in target.table.iter().filter(|it| it.rows > 0) {
        let mut line: Vec<char> = vec!['#'; (bin.came_true * PLOT_WIDTH).round() as usize];
        let said = (bin.said * PLOT_WIDTH).round() as usize;
        line.resize(line.len().max(said + 1), ' ');
        line[said] = '|';
        let line: String = line.into_iter().collect();
        put!(text, "{:>5.2} {:>7} {line}\n", bin.said, bin.rows);
    }
}

/// For each route and pair, what each quality allows; one line where nothing is allowed at all.
fn promises(text: &mut String, taught: &Taught) {
    let name = |place: u16| {
        let target = taught.model.targets.get(usize::from(place));
        target.map_or("", |it| it.name.as_str())
    };
    let mut pairs: Vec<&[Promise]> = taught
        .promises
        .chunk_by(|left, right| {
            let of = |it: &Promise| (it.floor.segment.clone(), it.floor.strong, it.floor.weak);
            of(left) == of(right)
        })
        .collect();
    pairs.sort_by_key(|it| it.first().map(|it| it.floor.segment.clone()));
    for pair in pairs {
        let Some(first) = pair.first() else { continue };
        let route = match first.floor.segment.as_str() {
            "" => "every route",
            route => route,
        };
        let (strong, weak) = (name(first.floor.strong), name(first.floor.weak));
        let rows = first.rows;
        if pair.iter().all(|it| it.floor.lowered <= 0.0) {
            put!(
                text,
                "\n{route}: {weak} in place of {strong}, {rows} rows: no promise can be made; calls stay\n"
            );
            continue;
        }
        put!(
            text,
            "\n{route}: {weak} in place of {strong}, {rows} rows\n"
        );
        let heads = [
            ("promised", Set::Right),
            ("calls that go", Set::Right),
            ("quality", Set::Right),
            ("cost", Set::Right),
            ("random mix", Set::Right),
        ];
        let row = |it: &Promise| {
            vec![
                format!("{:.0} %", 100.0 * it.floor.quality),
                format!("{:.1} %", 100.0 * it.floor.lowered),
                format!("{:.3}", it.quality),
                format!("{:.3}", it.cost),
                format!("{:.3}", it.random_cost),
            ]
        };
        let rows: Vec<_> = pair.iter().map(row).collect();
        text.push_str(&table(&heads, &rows));
    }
}
