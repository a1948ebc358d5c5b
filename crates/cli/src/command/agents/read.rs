//! Reads recorded tasks call by call, as a gateway would have seen them: from each request's own
//! messages.
//!
//! **Invariant**: a call is judged by what stood in its request, never by what came later (test
//! `calls_are_judged_by_their_own_messages`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use learn::stop_loss::{SIGNS, signs};
use policy::agents::loops::{Detector, Finding};
use policy::agents::steps::{POLLING, steps};
use policy::moment::Moment;
use policy::money::PicoUsd;
use policy::prices::PriceBook;
use policy::prices::model::Model;
use policy::shape::cache::Grain;
use serde_json::Value;
use sim::replay::{Replay, Switch};
use wire::usage::Usage;

use super::seeds::Seed;
use super::{BEFORE, SETS};
use crate::replay::source::{Format, Source};
use crate::replay::trajectory::{BEGIN, Trajectory, dialect_of, tool_schemas};
use crate::tokens::O200k;

/// One recorded run of a task.
pub(super) struct Run {
    pub(super) file: String,
    /// The model that was recorded.
    pub(super) model: String,
    pub(super) task: String,
    pub(super) succeeded: Option<bool>,
    /// What each call costs.
    pub(super) costs: Vec<PicoUsd>,
    pub(super) tokens: Classes,
    /// Before each call.
    pub(super) signs: Vec<[f64; SIGNS]>,
    /// For each set of thresholds, the first call before which a loop was found.
    pub(super) first: [Option<(usize, Finding)>; SETS.len()],
    /// Of a run that succeeded: loops that were put in, and those that were found in time.
    pub(super) seeded: BTreeMap<Seed, (u64, u64)>,
}

impl Run {
    pub(super) fn cost(&self) -> PicoUsd {
        self.costs.iter().copied().sum()
    }

    /// What the calls from this one on cost.
    pub(super) fn from(&self, call: usize) -> PicoUsd {
        self.costs.iter().skip(call).copied().sum()
    }
}

/// Tokens by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) uncached: u64,
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) output: u64,
}

impl Classes {
    fn add(&mut self, usage: &Usage) {
        self.uncached += usage.uncached.0;
        self.read += usage.cache_read.0;
        self.written += usage.cache_write.total().0;
        self.output += usage.output.0;
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            uncached: self.uncached + other.uncached,
            read: self.read + other.read,
            written: self.written + other.written,
            output: self.output + other.output,
        }
    }
}

/// All runs of a file; each file has its own provider cache.
pub(super) fn runs(path: &Path, name: &str) -> anyhow::Result<Vec<Run>> {
    let shown = path.display();
    let source = Source::open(path, &ProgressBar::hidden())?;
    if source.format != Format::Trajectories {
        bail!("{shown} holds no agent trajectories (`messages` and `steps` in each line)");
    }
    let (model, priced_at) = priced(name)?;
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let mut reader = Reader {
        file: stem.split('.').next().unwrap_or_default().to_owned(),
        model,
        replay: Replay::new(model, priced_at, Switch::On, Grain::Breakpoints)?,
        counter: O200k::default(),
        clock: BEGIN,
        schemas: tool_schemas(path)?,
    };
    let read = source.map(|line| {
        let trajectory: Trajectory = serde_json::from_str(&line?)
            .with_context(|| format!("a line of {shown} is no trajectory"))?;
        reader.run(&trajectory)
    });
    read.collect()
}

/// A model of the price book, and when its prices hold.
fn priced(name: &str) -> anyhow::Result<(&'static Model, Moment)> {
    let book = PriceBook::built_in();
    let model = book.find_any(name).with_context(|| {
        format!("the price book has no model `{name}`; `tokenwise price` lists those it has")
    })?;
    let seller = book.provider(&model.provider);
    let seller = seller.context("a model's provider has a price file")?;
    Ok((model, seller.dated.start()))
}

/// Reads one file's runs.
struct Reader {
    file: String,
    model: &'static Model,
    replay: Replay<'static>,
    counter: O200k,
    clock: Moment,
    schemas: HashMap<String, Vec<Value>>,
}

impl Reader {
    fn run(&mut self, trajectory: &Trajectory) -> anyhow::Result<Run> {
        let mut run = Run {
            file: self.file.clone(),
            model: trajectory.model.clone(),
            task: trajectory.task_id.clone(),
            succeeded: trajectory.success,
            costs: Vec::new(),
            tokens: Classes::default(),
            signs: Vec::new(),
            first: [None; SETS.len()],
            seeded: BTreeMap::new(),
        };
        let target = (dialect_of(&self.model.provider), self.model.id.as_str());
        let (replay, counter) = (&mut self.replay, &mut self.counter);
        trajectory.each_call(&self.schemas, target, &mut self.clock, |call, _| {
            let outcome = replay.call(call, counter)?;
            run.costs.push(outcome.policy_cost);
            run.tokens.add(&outcome.policy);
            Ok(())
        })?;
        judged(trajectory, &mut run);
        Ok(run)
    }
}

/// What each request's messages say.
fn judged(trajectory: &Trajectory, run: &mut Run) {
    let mut spent = PicoUsd::ZERO;
    let mut last = Vec::new();
    for (call, step) in trajectory.steps.iter().enumerate() {
        let parts = step.ctx.iter();
        let parts = parts.filter_map(|(from, to)| trajectory.messages.get(*from..*to));
        let messages: Vec<Value> = parts.flatten().cloned().collect();
        let read = steps(&messages, &POLLING);
        for (first, (_, thresholds)) in run.first.iter_mut().zip(SETS) {
            let found = || Detector::read(thresholds, &read).map(|found| (call, found));
            *first = first.or_else(found);
        }
        run.signs.push(signs(&read, spent));
        spent += run.costs.get(call).copied().unwrap_or_default();
        last = messages;
    }
    if run.succeeded == Some(true) {
        seeded(&last, run);
    }
}

/// Puts loops of every kind behind a few steps of a task, halfway, and behind all of it.
fn seeded(messages: &[Value], run: &mut Run) {
    let count = messages
        .iter()
        .filter(|it| it["role"] == "assistant")
        .count();
    for seed in Seed::all() {
        for before in BEFORE.map(|eighths| count * eighths / 8) {
            if let Some(found) = seed.found(messages, before) {
                let tally = run.seeded.entry(seed).or_default();
                tally.0 += 1;
                tally.1 += u64::from(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use policy::money::PicoUsd;
    use serde_json::{Value, json};

    use super::runs;

    #[test]
    fn calls_are_judged_by_their_own_messages() {
        let mut messages = vec![json!({"role": "user", "content": "Find it."})];
        for _ in 0..8 {
            messages.push(json!({"role": "assistant", "content": "```\ncat a.rs\n```"}));
            messages.push(json!({"role": "user", "content": "fn main() {}"}));
        }
        let steps: Vec<Value> = (0..8)
            .map(|at| json!({"ctx": [[0, 1 + 2 * at]], "reply": 1 + 2 * at}))
            .collect();
        let line = json!({
            "id": "a", "task_id": "t", "model": "m", "success": false, "tools": null,
            "messages": messages, "steps": steps,
        });
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        writeln!(file, "{line}").expect("it takes lines");
        let runs = runs(file.path(), "claude-sonnet-4-6").expect("it is read");
        let run = runs.first().expect("one run");
        let limit = usize::try_from(policy::agents::loops::THRESHOLDS.same).expect("small");
        // Before the fifth call, four steps stand in the request.
        assert_eq!(run.first[1].map(|(call, _)| call), Some(limit));
        assert_eq!((run.costs.len(), run.signs.len()), (8, 8));
        assert!(run.from(limit) > PicoUsd::ZERO && run.from(limit) < run.cost());
    }
}
