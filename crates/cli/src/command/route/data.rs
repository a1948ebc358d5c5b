//! Recorded outcomes in files: suites, pools and rows.
//!
//! **Invariant**: a suite has the rows that the evaluator of the same data has: those with both
//! targets and their costs (test `suites_are_read_as_the_evaluator_reads_them`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use learn::outcome::{Outcome, Row};
use learn::trial::{STRONG, WEAK};
use serde::Deserialize;

/// A row as it is stored.
#[derive(Debug, Deserialize)]
struct RawRow {
    id: String,
    #[serde(default, alias = "route")]
    task: String,
    #[serde(default)]
    group: Option<String>,
    #[serde(alias = "text")]
    query: String,
    outcomes: BTreeMap<String, RawOutcome>,
}

#[derive(Debug, Deserialize)]
struct RawOutcome {
    score: f64,
    cost_usd: Option<f64>,
}

/// What a suite or pool compares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Compared {
    /// A stronger and a weaker target, named differently in each source.
    Pair(BTreeMap<String, [String; 2]>),
    /// Many targets, in the order of the first source that names them.
    Pool(BTreeMap<String, Vec<String>>),
}

/// A suite or pool by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) compared: Compared,
}

#[derive(Deserialize)]
struct RawSuite {
    sources: BTreeMap<String, Vec<String>>,
}

/// All suites, then all pools, of a data folder.
pub(crate) fn suites(data: &Path) -> anyhow::Result<Vec<Suite>> {
    let path = data.join("suites.json");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; give the folder of the outcomes",
            path.display()
        )
    })?;
    let wrong = || format!("{} is not a list of suites", path.display());
    let all: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).with_context(wrong)?;
    let mut suites = Vec::new();
    for (name, value) in &all {
        if !name.starts_with('_') {
            let raw: RawSuite = serde_json::from_value(value.clone()).with_context(wrong)?;
            let pair = |(source, names): (String, Vec<String>)| {
                <[String; 2]>::try_from(names)
                    .ok()
                    .map(|names| (source, names))
            };
            let sources: Option<BTreeMap<_, _>> = raw.sources.into_iter().map(pair).collect();
            let compared = Compared::Pair(sources.with_context(wrong)?);
            suites.push(Suite {
                name: name.clone(),
                compared,
            });
        }
    }
    if let Some(pools) = all.get("_pools") {
        let pools: BTreeMap<String, RawSuite> =
            serde_json::from_value(pools.clone()).with_context(wrong)?;
        suites.extend(pools.into_iter().map(|(name, raw)| Suite {
            name,
            compared: Compared::Pool(raw.sources),
        }));
    }
    Ok(suites)
}

/// The suite of a name.
pub(crate) fn suite(data: &Path, name: &str) -> anyhow::Result<Suite> {
    let suites = suites(data)?;
    let names: Vec<String> = suites.iter().map(|it| it.name.clone()).collect();
    match suites.into_iter().find(|it| it.name == name) {
        Some(suite) => Ok(suite),
        None => bail!("no suite `{name}`; there are {}", names.join(", ")),
    }
}

impl Suite {
    /// The rows of a split; the targets of a pair are renamed to [`STRONG`] and [`WEAK`].
    pub(crate) fn rows(&self, data: &Path, split: &str) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        match &self.compared {
            Compared::Pair(sources) => {
                for (source, names) in sources {
                    rows.extend(
                        stored(data, source, split)?
                            .into_iter()
                            .filter_map(|row| pair(row, names)),
                    );
                }
            }
            Compared::Pool(sources) => {
                for source in sources.keys() {
                    rows.extend(stored(data, source, split)?);
                }
            }
        }
        Ok(rows)
    }

    /// The targets of a pool.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        if let Compared::Pool(sources) = &self.compared {
            for name in sources.values().flatten() {
                if !targets.contains(name) {
                    targets.push(name.clone());
                }
            }
        }
        targets
    }
}

/// The rows of all pairs, of no segment, from the sources that are wanted.
pub(crate) fn pairs(
    data: &Path,
    split: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for mut suite in suites(data)? {
        if let Compared::Pair(sources) = &mut suite.compared {
            sources.retain(|source, _| is_wanted(source));
            rows.extend(suite.rows(data, split)?);
        }
    }
    for row in &mut rows {
        row.segment.clear();
        row.outcomes
            .retain(|name, _| name == STRONG || name == WEAK);
    }
    Ok(rows)
}

/// A row of a pair, if both targets answered and their costs are known.
fn pair(mut row: Row, [strong, weak]: &[String; 2]) -> Option<Row> {
    let (strong, weak) = (row.outcomes.remove(strong)?, row.outcomes.remove(weak)?);
    if strong.cost_usd.is_none() || weak.cost_usd.is_none() {
        return None;
    }
    row.outcomes.insert(STRONG.to_owned(), strong);
    row.outcomes.insert(WEAK.to_owned(), weak);
    Some(row)
}

/// The rows of one source and split, if the folder itself has them: a folder in it may have another
/// licence, and is not read.
fn stored(data: &Path, source: &str, split: &str) -> anyhow::Result<Vec<Row>> {
    let path = data.join(format!("{source}.{split}.jsonl.gz"));
    if path.is_file() {
        rows(&path)
    } else {
        Ok(Vec::new())
    }
}

/// The rows of a file, plain or gzip.
pub(crate) fn rows(path: &Path) -> anyhow::Result<Vec<Row>> {
    let open = || -> std::io::Result<Box<dyn Read>> {
        let file = File::open(path)?;
        let is_gzip = path.extension().is_some_and(|it| it == "gz");
        Ok(if is_gzip {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        })
    };
    let reader = BufReader::new(open().with_context(|| format!("cannot read {}", path.display()))?);
    let mut rows = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        if !line.trim().is_empty() {
            let row =
                row(&line).with_context(|| format!("{}: line {}", path.display(), index + 1))?;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A row from its line.
fn row(line: &str) -> anyhow::Result<Row> {
    let raw: RawRow = serde_json::from_str(line)
        .context("not an outcome row; it has `id`, `route`, `text` and `outcomes`")?;
    let outcome = |(name, raw): (String, RawOutcome)| {
        if !(0.0..=1.0).contains(&raw.score) {
            bail!(
                "the score of `{name}` is {}; scores go from 0 to 1",
                raw.score
            );
        }
        let outcome = Outcome {
            score: raw.score,
            cost_usd: raw.cost_usd.filter(|it| it.is_finite()),
        };
        Ok((name, outcome))
    };
    Ok(Row {
        group: raw.group.unwrap_or_else(|| raw.id.clone()),
        id: raw.id,
        segment: raw.task,
        text: raw.query,
        outcomes: raw
            .outcomes
            .into_iter()
            .map(outcome)
            .collect::<anyhow::Result<_>>()?,
    })
}

/// A bar on standard error for one piece of work; returns what moves it.
pub(crate) fn bar(name: &str) -> impl FnMut(&str, usize, usize) + use<> {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    let name = name.to_owned();
    move |part, done, all| {
        bar.set_message(format!("{name}: {part}"));
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    }
}

/// The data folder as given, checked.
pub(crate) fn folder(data: &Path) -> anyhow::Result<PathBuf> {
    if data.is_dir() {
        Ok(data.to_owned())
    } else {
        bail!(
            "{} is not a folder; give the one with `suites.json`",
            data.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{row, suite, suites};

    const SUITES: &str = r#"{"_doc": "words",
        "a": {"strong": "s", "weak": "w", "sources": {"one": ["big", "small"], "absent": ["big", "small"]}},
        "_pools": {"p": {"sources": {"one": ["small", "big"]}}}}"#;

    const ROWS: &str = r#"{"id":"1","task":"t","group":"g","query":"q","outcomes":{"big":{"score":1,"cost_usd":2},"small":{"score":0,"cost_usd":1}}}
{"id":"2","task":"t","group":"h","query":"q","outcomes":{"big":{"score":1,"cost_usd":2}}}
{"id":"3","task":"t","group":"i","query":"q","outcomes":{"big":{"score":1},"small":{"score":0,"cost_usd":1}}}"#;

    #[test]
    fn suites_are_read_as_the_evaluator_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("suites.json"), SUITES).unwrap();
        std::fs::create_dir(folder.path().join("restricted")).unwrap();
        for path in ["one.dev.jsonl.gz", "restricted/absent.dev.jsonl.gz"] {
            let file = std::fs::File::create(folder.path().join(path)).unwrap();
            let mut gzip = GzEncoder::new(file, Compression::fast());
            gzip.write_all(ROWS.as_bytes()).unwrap();
            gzip.finish().unwrap();
        }
        let names: Vec<String> = suites(folder.path())
            .unwrap()
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(names, ["a", "p"]);
        let rows = suite(folder.path(), "a")
            .unwrap()
            .rows(folder.path(), "dev")
            .unwrap();
        assert_eq!(rows.len(), 1);
        assert!((rows[0].outcomes["weak"].cost_usd.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(
            suite(folder.path(), "p")
                .unwrap()
                .rows(folder.path(), "dev")
                .unwrap()
                .len(),
            3
        );
        assert!(
            suite(folder.path(), "a")
                .unwrap()
                .rows(folder.path(), "heldout")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn wrong_rows_say_what_is_wrong() {
        let check = |line: &str, expect: &str| {
            assert_eq!(row(line).unwrap_err().to_string(), expect);
        };
        check(
            "{}",
            "not an outcome row; it has `id`, `route`, `text` and `outcomes`",
        );
        check(
            r#"{"id":"1","query":"q","outcomes":{"a":{"score":7}}}"#,
            "the score of `a` is 7; scores go from 0 to 1",
        );
    }
}
