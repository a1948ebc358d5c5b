//! `tokenwise cascade`: what asking a cheap target first costs and keeps, on recorded outcomes.
//!
//! **Invariant**: what is chosen is chosen on the training split or on the other half, and measured
//! elsewhere (test `recorded_answers_are_read`).

mod shown;
mod ways;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use flate2::read::MultiGzDecoder;
use learn::cascade::agreement::{self, Answered};
use learn::cascade::signals::{self, Assumed, Prices};
use learn::corpus::Corpus;
use learn::online;
use learn::outcome::Row;
use learn::pool::{choices, complete};
use learn::trial::{Knows, Trained, pairs};
use policy::cascade::closed;
use policy::money::Price;
use policy::prices::PriceBook;
use policy::prices::model::Rates;
use serde::Deserialize;
use serde_json::json;
use wire::usage::Tokens;

use super::now;
use super::route::data;
use crate::print::{self, Format};

/// The file of weak answers' signals.
const SIGNALS: &str = "cascade_signals.jsonl.gz";

/// What its weak and strong targets are sold as.
const SIGNAL_TARGETS: [(&str, &str); 2] = [("groq", "llama-3.1-8b-instant"), ("openai", "gpt-5")];

/// Self-verification was recorded in quarters, so that the weak target was asked four times.
const VERIFICATIONS: f64 = 4.0;

/// Pools whose answers are closed and were recorded.
const POOLS: [&str; 2] = ["mmlupro-pool7", "zeroeval-pool9"];

/// Suites that are replayed as streams: pairs of a stronger and a weaker target.
const STREAMS: [&str; 6] = [
    "gemini-pro-flash",
    "gemini31pro-llama70b",
    "gpt4o-4omini",
    "gpt4o-llama8b",
    "gpt4t-mixtral",
    "nemotron51b-gemma9b",
];

/// Their hidden reasoning was not recorded, so that their cost is not known.
const COST_UNKNOWN: [&str; 3] = [
    "gemini-3.1-pro",
    "o1-mini-2024-09-12",
    "o1-preview-2024-09-12",
];

/// Measure cascades on recorded outcomes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Eval(Eval),
    Online(Online),
}

/// Learning online: six suites replayed as streams in which only the chosen target's outcome is
/// seen, against the best fixed choice.
#[derive(Debug, clap::Args)]
struct Online {
    /// The folder with `suites.json` and `<source>.<split>.jsonl.gz`.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The split that is replayed, over and over if it is short.
    #[arg(long, default_value = "train")]
    split: String,
    /// In how many orders.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    streams: usize,
    /// Where random draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Cascades on the weak answer's signals, and on agreement between cheap targets, beside the best
/// single call with the same quality; and what is gained by choosing the way of each call by what is
/// known beforehand.
#[derive(Debug, clap::Args)]
struct Eval {
    /// The folder with `cascade_signals.jsonl.gz`, `suites.json` and `<source>.<split>.jsonl.gz`.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The split on which agreement is measured.
    #[arg(long, default_value = "dev")]
    split: String,
    /// Length of the questions of the signals, which was not recorded; may be given again.
    #[arg(long, value_name = "TOKENS", default_values_t = [0, 2_000])]
    prompt_tokens: Vec<u32>,
    /// Resamples for the intervals.
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    draws: usize,
    /// Where random draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    format: Format,
}

/// Runs an evaluation.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Eval(arguments) => evaluate(arguments)?,
        Action::Online(arguments) => replay(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Replays every suite as a stream.
fn replay(arguments: &Online) -> anyhow::Result<()> {
    let folder = data::folder(&arguments.data)?;
    let mut found = Vec::new();
    for suite in data::suites(&folder)?
        .iter()
        .filter(|it| STREAMS.contains(&it.name.as_str()))
    {
        let rows = suite.rows(&folder, &arguments.split)?;
        if rows.is_empty() {
            print::note(&format!("{}: no rows here; left out", suite.name));
            continue;
        }
        let pairs = pairs(&Corpus::new(&rows), &rows);
        let figures = online::evaluate(&pairs, arguments.streams, arguments.seed);
        found.push((suite.name.clone(), figures));
    }
    if found.is_empty() {
        bail!(
            "no suite in {} has rows of split `{}`",
            folder.display(),
            arguments.split
        );
    }
    if arguments.format.json {
        print::json(&shown::online_json(&found))
    } else {
        print::out(&shown::online(&found))
    }
}

/// Measures cascades.
fn evaluate(arguments: &Eval) -> anyhow::Result<()> {
    let folder = data::folder(&arguments.data)?;
    let by_signals = by_signals(&folder, arguments)?;
    let by_agreement = by_agreement(&folder, arguments)?;
    let by_way = ways::by_way(&folder, arguments)?;
    if by_signals.is_none() && by_agreement.is_empty() && by_way.is_empty() {
        bail!(
            "nothing to measure in {} for split `{}`; give the folder of the outcomes",
            folder.display(),
            arguments.split
        );
    }
    if arguments.format.json {
        print::json(&json!({
            "seed": arguments.seed,
            "split": arguments.split,
            "signals": by_signals.as_ref().map(shown::signals_json),
            "agreement": by_agreement.iter().map(shown::agreement_json).collect::<Vec<_>>(),
            "ways": ways::json(&by_way),
        }))?;
    } else {
        let mut text = by_signals.as_ref().map(shown::signals).unwrap_or_default();
        for set in &by_agreement {
            text += &shown::agreement(set);
        }
        text += &ways::text(&by_way);
        print::out(&text)?;
    }
    Ok(())
}

/// The figures of all signals.
struct BySignals {
    prices: Prices,
    /// By length of the questions.
    figures: Vec<(u32, Vec<signals::Figures>)>,
    calibration: Vec<signals::Calibrated>,
}

/// A row of signals as it is stored.
#[derive(Deserialize)]
struct RawSignals {
    id: String,
    task: String,
    slm: f64,
    llm: f64,
    selfverify: f64,
    avg_logp: f64,
    entropy: f64,
    slm_out: f64,
    llm_out: f64,
}

impl From<RawSignals> for signals::Row {
    fn from(raw: RawSignals) -> Self {
        // Ids are `anlp/<set>/<document>_<question>`.
        let group = raw
            .id
            .rsplit_once('_')
            .map_or(raw.id.as_str(), |(document, _)| document);
        Self {
            group: group.to_owned(),
            set: raw.task,
            weak: raw.slm,
            strong: raw.llm,
            self_verified: raw.selfverify,
            mean_logprob: raw.avg_logp,
            entropy: raw.entropy,
            weak_tokens: raw.slm_out,
            strong_tokens: raw.llm_out,
        }
    }
}

fn by_signals(folder: &Path, arguments: &Eval) -> anyhow::Result<Option<BySignals>> {
    let path = folder.join(SIGNALS);
    if !path.is_file() {
        print::note(&format!("no {}; signals are left out", path.display()));
        return Ok(None);
    }
    let mut rows: Vec<signals::Row> = Vec::new();
    lines(&path, |raw: RawSignals| rows.push(raw.into()))?;
    let prices = prices()?;
    let figures = |prompt_tokens: &u32| {
        let assumed = Assumed {
            prices,
            prompt_tokens: f64::from(*prompt_tokens),
            verifications: VERIFICATIONS,
        };
        let figures = signals::evaluate(&rows, &assumed, arguments.seed, arguments.draws);
        (*prompt_tokens, figures)
    };
    Ok(Some(BySignals {
        prices,
        figures: arguments.prompt_tokens.iter().map(figures).collect(),
        calibration: signals::calibration(&rows, arguments.seed),
    }))
}

/// Today's list prices of the targets whose signals were recorded.
fn prices() -> anyhow::Result<Prices> {
    let rates = |(provider, name): (&str, &str)| -> anyhow::Result<Rates> {
        let model = PriceBook::built_in().find(provider, name);
        let model = model.with_context(|| format!("{provider}/{name} has no price"))?;
        model
            .rates(now(), Tokens(0), None)
            .with_context(|| format!("{provider}/{name} has no price today"))
    };
    let usd = |price: Option<Price>| {
        let micro = price.map_or(0, Price::micro_usd_per_mtok);
        f64::from(u32::try_from(micro).unwrap_or(u32::MAX)) / 1e6
    };
    let [weak, strong] = [rates(SIGNAL_TARGETS[0])?, rates(SIGNAL_TARGETS[1])?];
    Ok(Prices {
        weak_input: usd(weak.input),
        weak_output: usd(weak.output),
        strong_input: usd(strong.input),
        strong_output: usd(strong.output),
    })
}

/// The figures of one set of closed questions.
struct ByAgreement {
    set: String,
    targets: Vec<String>,
    trained: usize,
    measured: usize,
    figures: Vec<agreement::Figures>,
}

fn by_agreement(folder: &Path, arguments: &Eval) -> anyhow::Result<Vec<ByAgreement>> {
    let mut found = Vec::new();
    if !folder.join("suites.json").is_file() {
        print::note(&format!(
            "no suites.json in {}; agreement is left out",
            folder.display()
        ));
        return Ok(found);
    }
    let suites = data::suites(folder)?;
    for suite in suites.iter().filter(|it| POOLS.contains(&it.name.as_str())) {
        let targets: Vec<String> = suite.targets();
        let priced = targets
            .into_iter()
            .filter(|it| !COST_UNKNOWN.contains(&it.as_str()));
        let priced: Vec<String> = priced.collect();
        let (train, targets) = complete(suite.rows(folder, "train")?, &priced);
        let (measured, _) = complete(suite.rows(folder, &arguments.split)?, &targets);
        if train.is_empty() || measured.is_empty() {
            print::note(&format!("{}: no rows here; left out", suite.name));
            continue;
        }
        let mut said = BTreeMap::new();
        if let data::Compared::Pool(sources) = &suite.compared {
            for source in sources.keys() {
                for split in ["train", &arguments.split] {
                    said.extend(answers(folder, source, split)?);
                }
            }
        }
        let mut bar = data::bar(&suite.name);
        let trained = Trained::new(&train, &measured, arguments.seed, &targets, &mut bar);
        let routed = choices(&trained, measured.len(), targets.len(), Knows::Segment);
        let mut segments: Vec<&String> = measured.iter().map(|it| &it.segment).collect();
        segments.sort();
        segments.dedup();
        for segment in segments {
            let of = |rows: &[Row]| -> Vec<agreement::Row> {
                let rows = rows.iter().filter(|it| it.segment == *segment);
                rows.map(|row| answered(row, &targets, &said)).collect()
            };
            let places: Vec<usize> = (0..measured.len())
                .filter(|at| measured[*at].segment == *segment)
                .collect();
            let at_places = |knob: &Vec<usize>| places.iter().map(|at| knob[*at]).collect();
            let routed: Vec<Vec<usize>> = routed.iter().map(at_places).collect();
            let (train, measured) = (of(&train), of(&measured));
            let set = agreement::Set {
                train: &train,
                measured: &measured,
                routed: &routed,
            };
            found.push(ByAgreement {
                set: segment.clone(),
                targets: targets.clone(),
                trained: train.len(),
                measured: measured.len(),
                figures: agreement::evaluate(set, arguments.seed, arguments.draws),
            });
        }
    }
    Ok(found)
}

/// By question and target, what was answered, in its normal form.
type Said = BTreeMap<String, BTreeMap<String, String>>;

fn answered(row: &Row, targets: &[String], said: &Said) -> agreement::Row {
    let answered = |target: &String| {
        let outcome = row.outcomes.get(target).copied().unwrap_or_default();
        Answered {
            says: said.get(&row.id).and_then(|by| by.get(target)).cloned(),
            score: outcome.score,
            usd: outcome.cost_usd.unwrap_or_default(),
        }
    };
    agreement::Row {
        group: row.group.clone(),
        answers: targets.iter().map(answered).collect(),
    }
}

/// A row of recorded answers as it is stored; the rest of it is read as an outcome.
#[derive(Deserialize)]
struct RawAnswers {
    id: String,
    #[serde(default)]
    extra: RawExtra,
}

#[derive(Default, Deserialize)]
struct RawExtra {
    #[serde(default)]
    pred: BTreeMap<String, Option<serde_json::Value>>,
}

fn answers(folder: &Path, source: &str, split: &str) -> anyhow::Result<Said> {
    let path = folder.join(format!("{source}.{split}.jsonl.gz"));
    let mut said = Said::new();
    if path.is_file() {
        lines(&path, |row: RawAnswers| {
            let normal = |(target, answer): (String, Option<serde_json::Value>)| {
                let answer = answer?;
                let answer = answer
                    .as_str()
                    .map_or_else(|| answer.to_string(), str::to_owned);
                Some((target, closed::normal(&answer)?))
            };
            said.insert(
                row.id,
                row.extra.pred.into_iter().filter_map(normal).collect(),
            );
        })?;
    }
    Ok(said)
}

/// Reads a gzip file of JSON lines.
fn lines<T: for<'de> Deserialize<'de>>(path: &Path, mut each: impl FnMut(T)) -> anyhow::Result<()> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    for (index, line) in BufReader::new(MultiGzDecoder::new(file))
        .lines()
        .enumerate()
    {
        let line = line.with_context(|| format!("cannot read {shown}"))?;
        let row = serde_json::from_str(&line)
            .with_context(|| format!("{shown}: line {} is no such row", index + 1))?;
        each(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use learn::cascade::signals::Row;

    use super::{RawSignals, answers, lines, prices};

    #[test]
    fn recorded_answers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            let mut gzip = GzEncoder::new(file, Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap();
        };
        write(
            "one.dev.jsonl.gz",
            "{\"id\":\"1\",\"query\":\"q\",\"extra\":{\"pred\":{\"a\":\"$7,000\",\"b\":null,\"c\":7}}}\n{\"id\":\"2\"}\n",
        );
        let said = answers(folder.path(), "one", "dev").unwrap();
        assert_eq!(said["1"]["a"], "7000");
        assert_eq!(said["1"]["c"], "7");
        assert_eq!((said["1"].len(), said["2"].len()), (2, 0));
        assert!(answers(folder.path(), "two", "dev").unwrap().is_empty());

        let row =
            r#"{"id":"anlp/cnli/34_nda-11","task":"anlp_cnli","slm":1.0,"llm":0.5,"selfverify":0.0,
            "avg_logp":-0.4,"entropy":0.9,"slm_out":65,"llm_out":2}"#
                .replace('\n', " ");
        write("signals.gz", &row);
        let mut rows: Vec<Row> = Vec::new();
        lines(&folder.path().join("signals.gz"), |raw: RawSignals| {
            rows.push(raw.into());
        })
        .unwrap();
        assert_eq!(
            (rows[0].set.as_str(), rows[0].group.as_str()),
            ("anlp_cnli", "anlp/cnli/34")
        );
        write("wrong.gz", "{}");
        let wrong = lines(&folder.path().join("wrong.gz"), |_: RawSignals| {}).unwrap_err();
        assert!(
            wrong
                .to_string()
                .ends_with("wrong.gz: line 1 is no such row")
        );
    }

    #[test]
    fn the_targets_of_the_signals_are_priced() {
        let prices = prices().unwrap();
        assert!(prices.weak_output > 0.0 && prices.weak_output < prices.strong_output);
    }
}
