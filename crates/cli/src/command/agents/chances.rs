//! Stop-loss: how well failures are foreseen, and what stopping at each chance would have done.
//!
//! **Invariant**: every figure is of runs whose task the model had not seen (test
//! `a_planted_sign_is_found` in `learn`).

use std::collections::BTreeMap;

use learn::calibrate::{self, Bin, reliability};
use learn::stop_loss::{self, Row, Stopped, area, brier, cross_validated, stopping};
use policy::money::PicoUsd;
use serde_json::{Map, Value, json};

use super::part;
use super::read::Run;
use crate::print::amount::{count, pico, share};
use crate::print::table::{Set, table};

/// Chances of failing at which stopping is tried, in percent.
const THRESHOLDS: [u8; 8] = [50, 60, 70, 80, 85, 90, 95, 98];

/// 10 bins: each is a tenth of all probabilities wide.
const BINS: usize = 10;

/// One file, or all.
struct Part {
    name: String,
    runs: u64,
    rows: usize,
    failed: u64,
    failed_cost: PicoUsd,
    cost: PicoUsd,
    /// The area under the curve, of the model and of the segment's rate alone.
    area: [Option<f64>; 2],
    brier: [f64; 2],
    bins: Vec<Bin>,
    stopped: Vec<(u8, Stopped)>,
}

/// Calls at which a task is judged, with what the model and the segment alone say of each.
#[derive(Default)]
struct Judged {
    said: Vec<f64>,
    rate: Vec<f64>,
    truth: Vec<bool>,
    runs: Vec<stop_loss::Run>,
}

pub(super) struct Figures(Vec<Part>);

impl Figures {
    pub(super) fn of(runs: &[Run], seed: u64) -> Self {
        let known: Vec<(&Run, bool)> = runs
            .iter()
            .filter_map(|run| Some((run, !run.succeeded?)))
            .collect();
        let (mut segments, mut groups) = (BTreeMap::new(), BTreeMap::new());
        let mut rows = Vec::new();
        for (run, failed) in &known {
            let next = segments.len();
            let segment = *segments.entry((&run.file, &run.model)).or_insert(next);
            let next = groups.len();
            let group = *groups.entry((&run.file, &run.task)).or_insert(next);
            rows.extend(run.signs.iter().map(|signs| Row {
                signs: *signs,
                segment,
                group,
                failed: *failed,
            }));
        }
        let mut said = cross_validated(&rows, segments.len(), seed).into_iter();
        let mut parts: BTreeMap<&str, Judged> = BTreeMap::new();
        for (run, failed) in &known {
            let (said, rate): (Vec<f64>, Vec<f64>) = said.by_ref().take(run.signs.len()).unzip();
            for name in [run.file.as_str(), "all"] {
                let judged = parts.entry(name).or_default();
                judged.said.extend(&said);
                judged.rate.extend(&rate);
                judged.truth.extend(said.iter().map(|_| *failed));
                judged.runs.push(stop_loss::Run {
                    costs: run.costs.clone(),
                    said: said.clone(),
                    failed: *failed,
                });
            }
        }
        Self(
            parts
                .into_iter()
                .map(|(name, judged)| judged.part(name))
                .collect(),
        )
    }

    pub(super) fn text(&self) -> String {
        let mut text =
            "Stop-loss: chance of failing at each call; models had not seen the task\n".to_owned();
        let heads = [
            "runs",
            "failed",
            "calls",
            "area",
            "area by segment",
            "square",
            "square by segment",
            "off on average",
        ];
        let rows = self.0.iter().map(|part| {
            let area = part
                .area
                .map(|area| area.map_or("–".to_owned(), |area| format!("{area:.3}")));
            let brier = part.brier.map(|brier| format!("{brier:.3}"));
            let [area, area_segment] = area;
            let [brier, brier_segment] = brier;
            let calls = u64::try_from(part.rows).unwrap_or(u64::MAX);
            vec![
                part.name.clone(),
                count(part.runs),
                count(part.failed),
                count(calls),
                area,
                area_segment,
                brier,
                brier_segment,
                format!("{:.3}", calibrate::error(&part.bins)),
            ]
        });
        text += &table(&set("file", &heads), &rows.collect::<Vec<_>>());
        for part in &self.0 {
            text += &part.text();
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let parts = self.0.iter().map(|part| (part.name.clone(), part.json()));
        Value::Object(parts.collect())
    }
}

fn set<'head>(first: &'head str, heads: &[&'head str]) -> Vec<(&'head str, Set)> {
    let heads = heads.iter().map(|head| (*head, Set::Right));
    std::iter::once((first, Set::Left)).chain(heads).collect()
}

impl Judged {
    fn part(self, name: &str) -> Part {
        let costs = |wanted: &dyn Fn(&stop_loss::Run) -> bool| -> PicoUsd {
            let chosen = self.runs.iter().filter(|run| wanted(run));
            chosen.flat_map(|run| &run.costs).copied().sum()
        };
        let failed = self.runs.iter().filter(|run| run.failed).count();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let stopped =
            THRESHOLDS.map(|percent| (percent, stopping(&self.runs, f64::from(percent) / 100.0)));
        Part {
            name: name.to_owned(),
            runs: count(self.runs.len()),
            rows: self.said.len(),
            failed: count(failed),
            failed_cost: costs(&|run| run.failed),
            cost: costs(&|_| true),
            area: [&self.said, &self.rate].map(|said| area(said, &self.truth)),
            brier: [&self.said, &self.rate].map(|said| brier(said, &self.truth)),
            bins: reliability(&self.said, &self.truth, BINS),
            stopped: stopped.to_vec(),
        }
    }
}

impl Part {
    /// What a success costs if runs are stopped so; none if nothing succeeds.
    fn per_success(&self, stopped: &Stopped) -> Option<PicoUsd> {
        let successes = self.runs - self.failed - stopped.successes;
        let cost = self.cost - stopped.saved - stopped.unspent;
        cost.0.checked_div(i128::from(successes)).map(PicoUsd)
    }

    fn text(&self) -> String {
        let succeeded = self.runs - self.failed;
        let heads = [
            "failures stopped",
            "",
            "saved USD",
            "of their cost",
            "successes lost",
            "",
            "spent on them",
            "a success USD",
        ];
        let row = |name: String, stopped: &Stopped| {
            vec![
                name,
                count(stopped.failures),
                part(stopped.failures, self.failed),
                stopped.saved.to_string(),
                share(stopped.saved, self.failed_cost),
                count(stopped.successes),
                part(stopped.successes, succeeded),
                stopped.wasted.to_string(),
                crate::print::amount::known(self.per_success(stopped)),
            ]
        };
        let mut rows = vec![row("never".to_owned(), &Stopped::default())];
        rows.extend(
            self.stopped
                .iter()
                .map(|(at, stopped)| row(format!("{at} %"), stopped)),
        );
        let mut text = format!(
            "\n{}: stopping before the first call at which the chance reaches a threshold\n{}",
            self.name,
            table(&set("at", &heads), &rows)
        );
        if self.name == "all" {
            let rows = self.bins.iter().zip(0..).map(|(bin, at)| {
                let calls = u64::try_from(bin.rows).unwrap_or(u64::MAX);
                vec![
                    format!("{} to {} %", at * 10, at * 10 + 10),
                    count(calls),
                    format!("{:.1} %", bin.said * 100.0),
                    format!("{:.1} %", bin.came_true * 100.0),
                ]
            });
            let table = table(
                &set("said", &["calls", "mean said", "failed"]),
                &rows.collect::<Vec<_>>(),
            );
            put!(text, "\nHow far the chances hold\n{table}");
        }
        text
    }

    fn json(&self) -> Value {
        let stopped: Map<String, Value> = self
            .stopped
            .iter()
            .map(|(at, stopped)| {
                let value = json!({
                    "failures": stopped.failures,
                    "saved_pico_usd": pico(stopped.saved),
                    "successes_lost": stopped.successes,
                    "spent_on_them_pico_usd": pico(stopped.wasted),
                    "unspent_on_them_pico_usd": pico(stopped.unspent),
                    "per_success_pico_usd": self.per_success(stopped).map(pico),
                });
                (at.to_string(), value)
            })
            .collect();
        let bins = self
            .bins
            .iter()
            .map(|bin| json!({"calls": bin.rows, "said": bin.said, "failed": bin.came_true}));
        json!({
            "runs": self.runs,
            "failed": self.failed,
            "calls": self.rows,
            "pico_usd": pico(self.cost),
            "failed_pico_usd": pico(self.failed_cost),
            "area": self.area[0],
            "area_of_segment": self.area[1],
            "brier": self.brier[0],
            "brier_of_segment": self.brier[1],
            "calibration_error": calibrate::error(&self.bins),
            "reliability": bins.collect::<Vec<_>>(),
            "stopped_at_percent": stopped,
        })
    }
}
