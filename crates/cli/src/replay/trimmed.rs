//! The same calls with the trim lever before the cache lever: what it saves beyond the cache alone, and
//! whether what the model used later is still there.
//!
//! **Invariant**: both sides have the same cache lever, and what a call needed is looked for in the body
//! that would have been sent (test `trimming_is_compared_with_the_cache_alone`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use policy::money::PicoUsd;
use policy::shape::edited::Edited;
use policy::shape::trim::terms::Terms;
use policy::shape::trim::{self, Count, Level, Technique};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sim::replay::{Call, Input, Replay, Sums};
use wire::dialect::passages::Passage;
use wire::prompt::Role;
use wire::usage::Tokens;

use super::report::{pico, quotient};
use crate::tokens::O200k;

/// A trajectory of fewer calls gives nothing the time to pay back what it cost.
const LONG_TASK_CALLS: u64 = 3;

/// A word of a reply that is found in an earlier result is taken to come from there if it is so long.
const CITED_BYTES_MIN: usize = 6;

/// How much is trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TrimChoice {
    /// Nothing.
    #[default]
    Off,
    /// Only what the request says elsewhere, or what can be put back together.
    Exact,
    /// Also the middle of runs of similar lines, encoded data and markup.
    #[value(alias = "on")]
    Folded,
}

impl TrimChoice {
    pub(super) const fn level(self) -> Option<Level> {
        match self {
            Self::Off => None,
            Self::Exact => Some(Level::Exact),
            Self::Folded => Some(Level::Folded),
        }
    }
}

/// Counts texts, each one once.
#[derive(Default)]
struct Counted {
    tokens: HashMap<[u8; 32], Tokens>,
    more: HashMap<[[u8; 32]; 2], i64>,
}

impl Count for Counted {
    fn tokens(&mut self, text: &str) -> Tokens {
        let known = self.tokens.entry(hash(text));
        *known.or_insert_with(|| Tokens(O200k::count(text)))
    }

    fn more(&mut self, text: &str, edited: &Edited) -> i64 {
        let known = self.more.entry([text, &edited.text].map(hash));
        *known.or_insert_with(|| O200k::more(text, edited))
    }
}

fn hash(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Of so many, so many are still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    all: u64,
    kept: u64,
}

impl Kept {
    fn note(&mut self, is_kept: bool) {
        self.all += 1;
        self.kept += u64::from(is_kept);
    }

    fn json(self) -> Value {
        json!({"all": self.all, "kept": self.kept})
    }

    fn percent(self) -> f64 {
        let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        100.0 * float(self.kept) / float(self.all.max(1))
    }
}

/// Values that a model took from earlier results, by trajectory and step.
type Needed = HashMap<String, HashMap<u64, Vec<String>>>;

#[derive(Debug, Deserialize)]
struct Provenance {
    traj: String,
    rows: Vec<ProvenanceRow>,
}

#[derive(Debug, Deserialize)]
struct ProvenanceRow {
    step: u64,
    need: Map<String, Value>,
}

/// Reads which values were taken from earlier results.
pub(super) fn needed(path: &Path) -> anyhow::Result<Needed> {
    let mut needed = Needed::new();
    crate::command::think::read_lines(path, |line| {
        let Provenance { traj, rows } = serde_json::from_value(line)?;
        let steps = rows.into_iter().map(|row| {
            (
                row.step,
                row.need.into_iter().map(|(value, _)| value).collect(),
            )
        });
        needed.entry(traj).or_default().extend(steps);
        Ok(())
    })
    .with_context(|| format!("cannot use {} as evidence", path.display()))?;
    Ok(needed)
}

/// A replay with trimmed bodies.
pub(super) struct Trimmed<'a> {
    replay: Replay<'a>,
    terms: Terms,
    counted: Counted,
    needed: Needed,
    step: (String, u64),
    saved: BTreeMap<Technique, Tokens>,
    values: Kept,
    cited: Kept,
    paths: Kept,
}

impl<'a> Trimmed<'a> {
    pub(super) fn new(replay: Replay<'a>, terms: Terms, needed: Needed) -> Self {
        Self {
            replay,
            terms,
            counted: Counted::default(),
            needed,
            step: (String::new(), 0),
            saved: BTreeMap::new(),
            values: Kept::default(),
            cited: Kept::default(),
            paths: Kept::default(),
        }
    }

    /// Replays a call that was answered with `reply`.
    pub(super) fn call(
        &mut self,
        call: &Call<'_>,
        reply: &str,
        counter: &mut O200k,
    ) -> anyhow::Result<PicoUsd> {
        let task = call.task.unwrap_or_default();
        self.step = match &self.step {
            (last, step) if last == task => (task.to_owned(), step + 1),
            _ => (task.to_owned(), 0),
        };
        let Input::Body { dialect, bytes } = call.input else {
            return Ok(self.replay.call(call, counter)?.policy_cost);
        };
        let request = dialect.read(bytes)?;
        let trimmed = trim::trim(&request, self.terms, &mut self.counted);
        for (technique, tokens) in &trimmed.saved {
            *self.saved.entry(*technique).or_default() += *tokens;
        }
        let body = trimmed.splice.apply(bytes);
        let before = request.passages();
        let after = dialect.read(&body).context("a trimmed body")?.passages();
        self.look_for_values(task, &before, &after);
        note_cited(words, reply, &before, &after, &mut self.cited);
        note_cited(paths, reply, &before, &after, &mut self.paths);
        let input = Input::Body {
            dialect,
            bytes: &body,
        };
        let call = Call {
            input,
            ..call.clone()
        };
        Ok(self.replay.call(&call, counter)?.policy_cost)
    }

    fn look_for_values(&mut self, task: &str, before: &[Passage], after: &[Passage]) {
        let steps = self.needed.get(task);
        for value in steps
            .and_then(|steps| steps.get(&self.step.1))
            .into_iter()
            .flatten()
        {
            let is_there = |passages: &[Passage]| {
                let mut results = passages.iter().filter(|it| it.role == Role::Tool);
                results.any(|result| result.text.contains(value.as_str()))
            };
            if is_there(before) {
                self.values.note(is_there(after));
            }
        }
    }

    /// Closes the replay.
    pub(super) fn finish(self) -> anyhow::Result<TrimmedSums> {
        Ok(TrimmedSums {
            sums: self.replay.finish()?,
            saved: self.saved,
            values: self.values,
            cited: self.cited,
            paths: self.paths,
        })
    }
}

/// Notes which parts of a reply, that only earlier results have, are still there.
fn note_cited(
    parts: fn(&str) -> Vec<&str>,
    reply: &str,
    before: &[Passage],
    after: &[Passage],
    kept: &mut Kept,
) {
    let first_word = before.iter().position(|it| it.role == Role::Assistant);
    let opening = first_word.unwrap_or(before.len());
    let (mut results, mut others) = (HashSet::new(), HashSet::new());
    for (index, passage) in before.iter().enumerate() {
        let is_result = index > opening && passage.role != Role::Assistant;
        let into = if is_result { &mut results } else { &mut others };
        into.extend(parts(&passage.text));
    }
    let left: HashSet<&str> = after.iter().flat_map(|it| parts(&it.text)).collect();
    let said: HashSet<&str> = parts(reply).into_iter().collect();
    for part in said {
        if results.contains(part) && !others.contains(part) {
            kept.note(left.contains(part));
        }
    }
}

/// Words that are long enough to say where they come from.
fn words(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let is_long = |word: &&str| word.len() >= CITED_BYTES_MIN;
    words.filter(is_long).collect()
}

/// Paths and qualified names, whole.
fn paths(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
    let words = text.split(move |letter| !is_part(letter));
    let words = words.map(|word| word.trim_matches(['.', '-']));
    let is_path = |word: &&str| word.len() >= CITED_BYTES_MIN && word.contains(['/', '.']);
    words.filter(is_path).collect()
}

/// What trimming did.
pub(super) struct TrimmedSums {
    sums: Sums,
    saved: BTreeMap<Technique, Tokens>,
    values: Kept,
    cited: Kept,
    paths: Kept,
}

/// Trajectories that are dearer than with the cache alone.
struct Dearer {
    long: usize,
    over: usize,
    worst: f64,
}

impl TrimmedSums {
    pub(super) fn cost(&self) -> PicoUsd {
        self.sums.policy.cost
    }

    fn dearer(&self, alone: &Sums) -> Dearer {
        let pairs = alone.tasks.iter().zip(&self.sums.tasks);
        let ratios = pairs
            .filter(|(alone, _)| alone.calls >= LONG_TASK_CALLS)
            .filter_map(|(alone, trimmed)| quotient(trimmed.policy, alone.policy));
        let mut dearer = Dearer {
            long: 0,
            over: 0,
            worst: 0.0,
        };
        for ratio in ratios {
            dearer.long += 1;
            dearer.over += usize::from(ratio > 1.01);
            dearer.worst = dearer.worst.max(ratio);
        }
        dearer
    }

    fn percent_saved(&self, alone: &Sums) -> f64 {
        let saved = alone.policy.cost - self.sums.policy.cost;
        100.0 * quotient(saved, alone.policy.cost).unwrap_or(0.0)
    }

    /// For programs.
    pub(super) fn json(&self, alone: &Sums) -> Value {
        let saved: Map<String, Value> = self
            .saved
            .iter()
            .map(|(technique, tokens)| (technique.name().to_owned(), tokens.0.into()))
            .collect();
        let dearer = self.dearer(alone);
        json!({
            "version": trim::VERSION,
            "cache_alone_pico_usd": pico(alone.policy.cost),
            "with_trim_pico_usd": pico(self.sums.policy.cost),
            "thinking_blocks_unbound": self.sums.unbound,
            "percent_saved": self.percent_saved(alone),
            "tokens_saved": saved,
            "long_tasks": dearer.long,
            "long_tasks_over_1_percent_dearer": dearer.over,
            "worst_long_task_ratio": dearer.worst,
            "values_needed": self.values.json(),
            "words_cited": self.cited.json(),
            "paths_cited_whole": self.paths.json(),
        })
    }

    /// For people.
    pub(super) fn lines(&self, alone: &Sums, out: &mut dyn Write) -> anyhow::Result<()> {
        let dearer = self.dearer(alone);
        writeln!(
            out,
            "with the trim lever: {} -> {}, {:.2} % less than with the cache lever alone",
            alone.policy.cost,
            self.sums.policy.cost,
            self.percent_saved(alone)
        )?;
        for (technique, tokens) in &self.saved {
            writeln!(
                out,
                "  {}: {tokens} input tokens saved, counted in each call that sends the text",
                technique.name()
            )?;
        }
        writeln!(
            out,
            "  of {} tasks of {LONG_TASK_CALLS} calls or more, {} cost over 1 % more; the worst is at \
             {:.2} %",
            dearer.long,
            dearer.over,
            dearer.worst * 100.0
        )?;
        for (what, kept) in [
            (
                "values that a call took from an earlier result",
                self.values,
            ),
            (
                "words of replies that only earlier results have",
                self.cited,
            ),
        ] {
            if kept.all > 0 {
                writeln!(
                    out,
                    "  {what}: {} of {} still there ({:.3} %)",
                    kept.kept,
                    kept.all,
                    kept.percent()
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::{Value, json};

    use super::super::{ReplayArguments, run};
    use super::TrimChoice;

    fn file(lines: &[Value]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for line in lines {
            writeln!(file, "{line}").expect("it takes lines");
        }
        file
    }

    #[test]
    fn trimming_is_compared_with_the_cache_alone() {
        let lines = (0..400).map(|line| format!("{line}: the value of key_{line} is {}", line * 7));
        let listing = lines.collect::<Vec<_>>().join("\n");
        let result = json!({"role": "tool", "tool_call_id": "c", "content": listing});
        let asked = |key: &str| json!({"role": "assistant", "content": format!("look at {key}")});
        let trajectory = json!({
            "id": "a", "success": true, "tools": null,
            "messages": [
                {"role": "user", "content": "look it up"},
                asked("it"), result, asked("key_300"), result, asked("it"), result, asked("it"),
            ],
            "steps": [
                {"ctx": [[0, 1]], "reply": 1}, {"ctx": [[0, 3]], "reply": 3},
                {"ctx": [[0, 5]], "reply": 5}, {"ctx": [[0, 7]], "reply": 7},
            ],
        });
        let needed = json!({"traj": "a", "rows": [
            {"step": 3, "need": {"2100": [2], "not there": [2]}},
        ]});
        let (trajectories, evidence) = (file(&[trajectory]), file(&[needed]));
        let arguments = ReplayArguments {
            files: vec![trajectories.path().to_owned()],
            model: "claude-sonnet-4-6".to_owned(),
            beside: None,
            policy: None,
            trim: TrimChoice::Exact,
            prune: None,
            evidence: Some(evidence.path().to_owned()),
            json: true,
        };
        let mut out = Vec::new();
        run(&arguments, &mut out).expect("it can be replayed");
        let shown: Value = serde_json::from_slice(&out).expect("it prints JSON");
        let trimmed = &shown["trimmed"];
        assert_eq!(
            trimmed["cache_alone_pico_usd"], shown["policy_pico_usd"],
            "{trimmed}"
        );
        let amount = |name: &str| trimmed[name].as_i64().unwrap_or_default();
        assert!(amount("with_trim_pico_usd") < amount("cache_alone_pico_usd"));
        assert_eq!(trimmed["long_tasks_over_1_percent_dearer"], 0);
        assert_eq!(trimmed["values_needed"], json!({"all": 1, "kept": 1}));
        assert_eq!(trimmed["words_cited"], json!({"all": 1, "kept": 1}));
    }
}
