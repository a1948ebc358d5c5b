//! `tokenwise think`: what deciding how hard to reason does, on recorded answers, on recorded agent
//! traffic and on labelled questions.
//!
//! **Invariant**: what is measured on recorded answers and what is estimated are never one figure
//! (test `shares_follow_the_decision`).

mod answers;
mod labelled;
pub(crate) mod traffic;

use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::print::{self, Format};

/// Evaluate the decision how hard to reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Cost and quality of thinking on recorded answers, and what less of it could save.
    Eval(Eval),
}

#[derive(Debug, clap::Args)]
struct Eval {
    /// A folder of recorded answers: `zeroeval_*.train.jsonl.gz` and `.dev.jsonl.gz`.
    data: PathBuf,
    /// Agent trajectories with recorded usage, one file each time; estimates only.
    #[arg(long, value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// Questions with their classes, one `{"class", "text"}` a line.
    #[arg(long, value_name = "FILE")]
    labelled: Option<PathBuf>,
    /// How many tokens a thinking model writes for each that is seen, since hidden reasoning was
    /// not recorded; an assumption, beside which the figures without it are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    hidden_multiplier: u64,
    /// How much of its hidden reasoning a session would keep at a lower level, in percent; an
    /// assumption.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=100))]
    kept_percent: u64,
    #[command(flatten)]
    format: Format,
}

/// Runs the evaluation.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Action::Eval(eval) = &arguments.action;
    let mut shown = String::new();
    let mut all = Map::new();
    let (text, value) = answers::evaluate(&eval.data, eval.hidden_multiplier)?;
    shown.push_str(&text);
    all.insert("answers".to_owned(), value);
    for file in &eval.traces {
        let (text, value) = traffic::evaluate(file, eval.kept_percent)?;
        shown.push_str(&text);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        all.insert(format!("traffic:{name}"), value);
    }
    if let Some(file) = &eval.labelled {
        let (text, value) = labelled::evaluate(file)?;
        shown.push_str(&text);
        all.insert("labelled".to_owned(), value);
    }
    if eval.format.json {
        print::json(&Value::Object(all))?;
    } else {
        print::out(&shown)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a file of JSON lines, plain or gzip.
pub(crate) fn read_lines(
    path: &Path,
    mut each: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = path.display();
    let open = || std::fs::File::open(path).with_context(|| format!("cannot open {shown}"));
    let mut magic = Vec::new();
    open()?
        .take(2)
        .read_to_end(&mut magic)
        .with_context(|| format!("cannot read {shown}"))?;
    let file = open()?;
    let reader: Box<dyn BufRead> = if magic == [0x1f, 0x8b] {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    for line in reader.lines() {
        let line = line.with_context(|| format!("cannot read {shown}"))?;
        if !line.trim().is_empty() {
            let value = serde_json::from_str(&line)
                .with_context(|| format!("a line of {shown} is not JSON"))?;
            each(value)?;
        }
    }
    Ok(())
}

/// A part of a whole, for people and for curves.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(part) / float(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::{answers, share};

    #[test]
    fn shares_follow_the_decision() {
        assert!((share(1, 4) - 0.25).abs() < 1e-9 && share(0, 0).abs() < 1e-9);
        let easy = answers::thinks("Translate to German: good morning");
        let hard = answers::thinks("Prove that 2 is prime");
        assert!(!easy && hard);
    }
}
