//! Loops: those that were put in, false alarms, and what stopping at a loop would have saved.
//!
//! **Invariant**: a run counts once, with the first loop that was found in it (test
//! `runs_count_once`).

use std::collections::BTreeMap;

use policy::agents::loops::{Finding, Kind};
use policy::money::PicoUsd;
use serde_json::{Map, Value, json};

use super::read::Run;
use super::seeds::Seed;
use super::{REPORTED, SETS, part};
use crate::print::amount::{count, pico, share};
use crate::print::table::{Set, table};

/// Runs of one kind of traffic under one set of thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    failed: u64,
    failed_cost: PicoUsd,
    caught: u64,
    /// What the caught ones cost from the call on at which the loop was found.
    saved: PicoUsd,
    succeeded: u64,
    /// Runs with a loop that succeeded later.
    alarms: u64,
    /// What those had cost until then: lost if they are stopped.
    wasted: PicoUsd,
}

impl Tally {
    fn add(&mut self, run: &Run, set: usize) {
        let first = run.first.get(set).copied().flatten();
        match run.succeeded {
            Some(true) => {
                self.succeeded += 1;
                if let Some((call, _)) = first {
                    self.alarms += 1;
                    self.wasted += run.cost() - run.from(call);
                }
            }
            Some(false) => {
                self.failed += 1;
                self.failed_cost += run.cost();
                if let Some((call, _)) = first {
                    self.caught += 1;
                    self.saved += run.from(call);
                }
            }
            None => {}
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            count(self.failed),
            count(self.caught),
            part(self.caught, self.failed),
            self.failed_cost.to_string(),
            self.saved.to_string(),
            share(self.saved, self.failed_cost),
            count(self.succeeded),
            count(self.alarms),
            part(self.alarms, self.succeeded),
            self.wasted.to_string(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "failed": self.failed,
            "failed_pico_usd": pico(self.failed_cost),
            "caught": self.caught,
            "saved_pico_usd": pico(self.saved),
            "succeeded": self.succeeded,
            "alarms_on_succeeded": self.alarms,
            "spent_before_alarms_pico_usd": pico(self.wasted),
        })
    }
}

const HEADS: [&str; 10] = [
    "failed",
    "caught",
    "",
    "their cost",
    "saved",
    "",
    "succeeded",
    "alarms",
    "",
    "spent by then",
];

/// The figures of all runs.
pub(super) struct Figures {
    seeded: BTreeMap<Seed, (u64, u64)>,
    sets: Vec<BySet>,
}

/// One set of thresholds.
struct BySet {
    name: &'static str,
    all: Tally,
    files: BTreeMap<String, Tally>,
    models: BTreeMap<String, Tally>,
    /// Failed and succeeded runs by the kind of loop.
    kinds: BTreeMap<Kind, (u64, u64)>,
    /// Loops in runs that succeeded.
    alarms: Vec<Value>,
}

impl Figures {
    pub(super) fn of(runs: &[Run]) -> Self {
        let mut seeded: BTreeMap<Seed, (u64, u64)> = BTreeMap::new();
        for (seed, (put_in, found)) in runs.iter().flat_map(|run| &run.seeded) {
            let tally = seeded.entry(*seed).or_default();
            tally.0 += put_in;
            tally.1 += found;
        }
        let set = |(index, (name, _)): (usize, (&'static str, _))| {
            let mut set = BySet {
                name,
                all: Tally::default(),
                files: BTreeMap::new(),
                models: BTreeMap::new(),
                kinds: BTreeMap::new(),
                alarms: Vec::new(),
            };
            for run in runs {
                let model = format!("{}: {}", run.file, run.model);
                let groups = [
                    &mut set.all,
                    set.files.entry(run.file.clone()).or_default(),
                    set.models.entry(model).or_default(),
                ];
                for tally in groups {
                    tally.add(run, index);
                }
                let first = run.first.get(index).copied().flatten();
                if let (Some((call, finding)), Some(succeeded)) = (first, run.succeeded) {
                    let counts = set.kinds.entry(finding.kind).or_default();
                    counts.0 += u64::from(!succeeded);
                    counts.1 += u64::from(succeeded);
                    if succeeded {
                        set.alarms.push(alarm(run, call, finding));
                    }
                }
            }
            set
        };
        Self {
            seeded,
            sets: SETS.into_iter().enumerate().map(set).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = "Loops put into recorded tasks that succeeded\n".to_owned();
        let rows = self.seeded.iter().map(|(seed, (put_in, found))| {
            vec![
                seed.name(),
                count(*put_in),
                count(*found),
                part(*found, *put_in),
            ]
        });
        let heads = [
            ("loop", Set::Left),
            ("put in", Set::Right),
            ("found in time", Set::Right),
            ("", Set::Right),
        ];
        text += &table(&heads, &rows.collect::<Vec<_>>());
        if let Some(reported) = self.sets.get(REPORTED) {
            let files = reported
                .files
                .iter()
                .chain([(&"all".to_owned(), &reported.all)])
                .map(line)
                .collect::<Vec<_>>();
            text += &tallies(
                "Loops by file: stopping at the first one would have",
                "file",
                &files,
            );
            let models = reported.models.iter().map(line).collect::<Vec<_>>();
            text += &tallies("The same by model", "file: model", &models);
        }
        let sets = self
            .sets
            .iter()
            .map(|set| line((set.name, &set.all)))
            .collect::<Vec<_>>();
        text += &tallies("The same by thresholds", "thresholds", &sets);
        let rows = self.sets.iter().flat_map(|set| {
            set.kinds.iter().map(|(kind, (failed, succeeded))| {
                vec![
                    set.name.to_owned(),
                    kind.name().to_owned(),
                    count(*failed),
                    count(*succeeded),
                ]
            })
        });
        let heads = [
            ("thresholds", Set::Left),
            ("first loop", Set::Left),
            ("failed", Set::Right),
            ("succeeded", Set::Right),
        ];
        text += "\nKinds of loops\n";
        text += &table(&heads, &rows.collect::<Vec<_>>());
        text + "\n"
    }

    pub(super) fn json(&self) -> Value {
        let seeded: Map<String, Value> = self
            .seeded
            .iter()
            .map(|(seed, (put_in, found))| (seed.name(), json!({"put_in": put_in, "found": found})))
            .collect();
        let sets = self.sets.iter().map(|set| {
            let by = |tallies: &BTreeMap<String, Tally>| -> Map<String, Value> {
                tallies
                    .iter()
                    .map(|(name, tally)| (name.clone(), tally.json()))
                    .collect()
            };
            let kinds: Map<String, Value> = set
                .kinds
                .iter()
                .map(|(kind, (failed, succeeded))| {
                    (
                        kind.name().to_owned(),
                        json!({"failed": failed, "succeeded": succeeded}),
                    )
                })
                .collect();
            let value = json!({
                "all": set.all.json(), "files": by(&set.files), "models": by(&set.models),
                "kinds": kinds, "alarms_on_succeeded": set.alarms,
            });
            (set.name.to_owned(), value)
        });
        let sets: Map<String, Value> = sets.collect();
        json!({"seeded": seeded, "thresholds": sets})
    }
}

fn alarm(run: &Run, call: usize, finding: Finding) -> Value {
    json!({
        "file": run.file, "model": run.model, "task": run.task, "call": call,
        "kind": finding.kind.name(), "length": finding.length, "repeats": finding.repeats,
    })
}

fn line<Name: AsRef<str>>((name, tally): (Name, &Tally)) -> Vec<String> {
    let mut cells = tally.cells();
    cells.insert(0, name.as_ref().to_owned());
    cells
}

fn tallies(title: &str, first: &str, rows: &[Vec<String>]) -> String {
    let heads: Vec<(&str, Set)> = std::iter::once((first, Set::Left))
        .chain(HEADS.map(|head| (head, Set::Right)))
        .collect();
    format!("\n{title}\n{}", table(&heads, rows))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use policy::agents::loops::{Finding, Kind};
    use policy::money::PicoUsd;

    use super::super::read::{Classes, Run};
    use super::{Figures, REPORTED};

    #[test]
    fn runs_count_once() {
        let run = |succeeded, first: Option<(usize, Kind)>| Run {
            file: "f".to_owned(),
            model: "m".to_owned(),
            task: "t".to_owned(),
            succeeded,
            costs: vec![PicoUsd(10); 5],
            tokens: Classes::default(),
            signs: Vec::new(),
            first: [
                None,
                first.map(|(call, kind)| {
                    let finding = Finding {
                        kind,
                        length: 1,
                        repeats: 4,
                        since: 0,
                    };
                    (call, finding)
                }),
                None,
            ],
            seeded: BTreeMap::new(),
        };
        let runs = [
            run(Some(false), Some((3, Kind::Cycle))),
            run(Some(false), None),
            run(Some(true), Some((4, Kind::Monologue))),
            run(None, Some((1, Kind::Cycle))),
        ];
        let figures = Figures::of(&runs);
        let reported = &figures.sets[REPORTED];
        assert_eq!(
            (reported.all.failed, reported.all.caught, reported.all.saved),
            (2, 1, PicoUsd(20))
        );
        assert_eq!((reported.all.alarms, reported.all.wasted), (1, PicoUsd(40)));
        assert_eq!(reported.kinds[&Kind::Cycle], (1, 0));
        assert_eq!(reported.files["f"], reported.all);
        assert_eq!(figures.sets[0].all.caught, 0);
    }
}
