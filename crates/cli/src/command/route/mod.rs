//! `tokenwise route`: what would be decided about a call; the learned router measured on recorded
//! outcomes, and its predictions.
//!
//! **Invariant**: only the training split is trained on; what is measured is read for thresholds and
//! calibration of its other half alone (test `suites_are_read_as_the_evaluator_reads_them` in `data`).

pub(crate) mod data;
mod eval;
mod explain;
mod predict;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use policy::route::predictor::Rank;

use crate::env::Environment;
use crate::print::Format;

/// Say where a call would go and why, measure the learned router on recorded outcomes, or write its
/// predictions.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Explain(explain::Arguments),
    Eval(EvalArguments),
    Predict(PredictArguments),
    /// Train on all suites but one and measure the promise on that one, each in turn: what a router
    /// is worth for targets that it has never seen.
    Transfer(At),
}

/// Train on the training split and measure on another, suite by suite, beside always-strong,
/// always-cheap, random, nearest neighbours and the oracle.
#[derive(Debug, clap::Args)]
struct EvalArguments {
    #[command(flatten)]
    at: At,
    /// Only this suite or pool; may be given again.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Resamples for the intervals.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    draws: usize,
    #[command(flatten)]
    format: Format,
}

/// Write one JSON row for each query of a suite: `id`, `score_strong_needed`, `p_weak_ok`; for a pool,
/// one for each query and price of quality: `id`, `knob`, `model_choice`.
#[derive(Debug, clap::Args)]
struct PredictArguments {
    #[command(flatten)]
    at: At,
    /// The suite or pool.
    #[arg(long, value_name = "NAME")]
    suite: String,
    /// Let the router know each row's task, as the segment that a gateway knows; the default.
    #[arg(long, conflicts_with = "text_only")]
    segment: bool,
    /// Let the router know only the text.
    #[arg(long)]
    text_only: bool,
    /// What the ranking is for.
    #[arg(long, value_enum, default_value_t = By::Dollar)]
    rank: By,
}

/// What a ranking is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The least cost for a quality.
    Dollar,
    /// The fewest strong calls for a quality.
    Call,
}

impl By {
    fn rank(self) -> Rank {
        match self {
            Self::Dollar => Rank::Dollar,
            Self::Call => Rank::Call,
        }
    }
}

/// Which rows.
#[derive(Debug, clap::Args)]
struct At {
    /// The folder with `suites.json` and `<source>.<split>.jsonl.gz`.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The split to measure.
    #[arg(long, default_value = "dev")]
    split: String,
    /// Where random draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Explains, measures or predicts.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Explain(arguments) => explain::run(arguments, environment)?,
        Action::Eval(arguments) => eval::run(arguments)?,
        Action::Predict(arguments) => predict::run(arguments)?,
        Action::Transfer(arguments) => transfer::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
