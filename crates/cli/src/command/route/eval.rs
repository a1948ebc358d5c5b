//! `tokenwise route eval`: the figures of every suite and pool, and their means.
//!
//! **Invariant**: a mean is over suites, each with the same weight, and says how many they are (test
//! `means_are_over_suites`).

use anyhow::bail;
use learn::calibrate::Bin;
use learn::floor::Kept;
use learn::measure::QUALITIES;
use learn::trial::{Calibration, Contender, PROMISES, Report};
use learn::{pool, trial};
use serde_json::{Map, Value, json};

use super::{EvalArguments, data};
use crate::print;
use crate::print::table::{Set, table};

pub(super) fn run(arguments: &EvalArguments) -> anyhow::Result<()> {
    let folder = data::folder(&arguments.at.data)?;
    let suites = data::suites(&folder)?;
    let wanted = |name: &String| arguments.suite.is_empty() || arguments.suite.contains(name);
    if let Some(unknown) = arguments
        .suite
        .iter()
        .find(|it| suites.iter().all(|suite| suite.name != **it))
    {
        data::suite(&folder, unknown)?;
    }
    let (seed, draws) = (arguments.at.seed, arguments.draws);
    let (mut pairs, mut pools) = (Vec::new(), Vec::new());
    for suite in suites.into_iter().filter(|it| wanted(&it.name)) {
        let train = suite.rows(&folder, "train")?;
        let rows = suite.rows(&folder, &arguments.at.split)?;
        if train.is_empty() || rows.is_empty() {
            print::note(&format!("{}: no rows here; left out", suite.name));
            continue;
        }
        let mut bar = data::bar(&suite.name);
        if matches!(suite.compared, data::Compared::Pool(_)) {
            let (train, names) = pool::complete(train, &suite.targets());
            let (rows, _) = pool::complete(rows, &names);
            pools.push((
                suite.name,
                pool::run(&train, &rows, &names, seed, draws, &mut bar),
            ));
        } else {
            pairs.push((suite.name, trial::run(&train, &rows, seed, draws, &mut bar)));
        }
    }
    if pairs.is_empty() && pools.is_empty() {
        bail!(
            "nothing to measure in {} for split `{}`",
            folder.display(),
            arguments.at.split
        );
    }
    if arguments.format.json {
        let document = json!({
            "split": arguments.at.split,
            "seed": seed,
            "suites": object(&pairs, suite_json),
            "mean": means(&pairs).iter().map(Mean::json).collect::<Vec<_>>(),
            "pools": object(&pools, pool_json),
        });
        return print::json(&document);
    }
    print::out(&text(&pairs, &pools))
}

fn object<T>(reports: &[(String, T)], json: impl Fn(&T) -> Value) -> Value {
    let entry = |(name, report): &(String, T)| (name.clone(), json(report));
    Value::Object(reports.iter().map(entry).collect::<Map<_, _>>())
}

/// One router over all suites.
#[derive(Debug, Default, PartialEq)]
struct Mean {
    name: String,
    suites: usize,
    area_by_calls: f64,
    cost_at: [f64; 3],
    transferred_cost: [f64; 3],
    transferred_quality: [f64; 3],
    broken: [f64; 3],
    error: Option<f64>,
}

impl Mean {
    fn json(&self) -> Value {
        json!({
            "router": self.name, "suites": self.suites, "apgr": self.area_by_calls,
            "cost_at": by_quality(self.cost_at), "transferred_cost": by_quality(self.transferred_cost),
            "transferred_quality": by_quality(self.transferred_quality),
            "floor_broken": {"0.95": self.broken[0], "0.97": self.broken[1], "0.99": self.broken[2]},
            "calibration_error": self.error,
        })
    }
}

/// Suites that are measured but are in no mean: their rows are those of another suite, and published
/// means leave them out.
const IN_NO_MEAN: &[&str] = &["sonnet-haiku"];

#[expect(clippy::cast_precision_loss, reason = "a handful of suites")]
fn means(reports: &[(String, Report)]) -> Vec<Mean> {
    let meant = reports
        .iter()
        .filter(|(name, _)| !IN_NO_MEAN.contains(&name.as_str()));
    let reports: Vec<&Report> = meant.map(|(_, report)| report).collect();
    let Some(first) = reports.first() else {
        return Vec::new();
    };
    let count = reports.len() as f64;
    let router = |(index, contender): (usize, &Contender)| {
        let of = |figure: &dyn Fn(&Contender) -> f64| {
            reports
                .iter()
                .map(|report| figure(&report.contenders[index]))
                .sum::<f64>()
                / count
        };
        let errors = reports
            .iter()
            .filter_map(|it| it.calibrations.iter().find(|it| it.name == contender.name));
        let errors: Vec<f64> = errors.map(|it| it.error).collect();
        Mean {
            name: contender.name.clone(),
            suites: reports.len(),
            area_by_calls: of(&|it| it.figures.area_by_calls),
            cost_at: [0, 1, 2].map(|at| of(&|it| it.figures.cost_at[at])),
            transferred_cost: [0, 1, 2].map(|at| of(&|it| it.transferred[at].cost)),
            transferred_quality: [0, 1, 2].map(|at| of(&|it| it.transferred[at].quality)),
            broken: [0, 1, 2].map(|at| of(&|it| it.promises[at].broken)),
            error: (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64),
        }
    };
    first.contenders.iter().enumerate().map(router).collect()
}

fn by_quality(figures: [f64; 3]) -> Value {
    let entry = |(quality, figure): (&f64, f64)| (format!("{quality:.2}"), json!(figure));
    Value::Object(
        QUALITIES
            .iter()
            .zip(figures)
            .map(entry)
            .collect::<Map<_, _>>(),
    )
}

fn suite_json(report: &Report) -> Value {
    json!({
        "rows": {"trained": report.trained, "measured": report.measured},
        "always_cheap": {"quality": report.quality[0], "cost": report.weak_cost},
        "always_strong": {"quality": report.quality[1], "cost": 1.0},
        "out_of_distribution": report.new_share,
        "routers": report.contenders.iter().map(contender_json).collect::<Vec<_>>(),
        "calibration": report.calibrations.iter().map(calibration_json).collect::<Vec<_>>(),
    })
}

fn contender_json(contender: &Contender) -> Value {
    let figures = &contender.figures;
    let transferred = QUALITIES
        .iter()
        .zip(&contender.transferred)
        .map(|(quality, it)| {
            json!({
                "target_quality": quality, "quality": it.quality, "cost": it.cost,
                "strong_share": it.share, "random_cost_at_equal_quality": it.random_cost,
            })
        });
    let promises = PROMISES.iter().zip(&contender.promises).map(|(floor, it)| {
        json!({
            "floor": floor, "broken": it.broken, "cost": it.cost, "quality": it.quality,
            "random_cost_at_equal_quality": it.random_cost, "routed": it.routed,
            "verdict": verdict(it).name(),
        })
    });
    json!({
        "router": contender.name,
        "apgr": figures.area_by_calls, "apgr_interval": contender.intervals[0],
        "capgr": figures.area_by_cost,
        "cpt50": figures.calls_for_50, "cpt80": figures.calls_for_80,
        "cost_at": by_quality(figures.cost_at), "cost_at_95_interval": contender.intervals[1],
        "transferred": transferred.collect::<Vec<_>>(),
        "transferred_cost_95_interval": contender.transferred_interval,
        "promises": promises.collect::<Vec<_>>(),
    })
}

/// What a suite's router is good for at a promised quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Most halves of the rows show that it saves more than chance.
    Routes,
    /// Most do not, and calls stay with the stronger target.
    Stays,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Stays => "stays_strong",
        }
    }
}

fn verdict(kept: &Kept) -> Verdict {
    if kept.routed > 0.5 {
        Verdict::Routes
    } else {
        Verdict::Stays
    }
}

/// What a promise comes to, in words.
fn promise(floor: f64, kept: &Kept) -> String {
    let floor = 100.0 * floor;
    let split = 100.0 * kept.routed;
    let figures = format!(
        "costs {:.3} at quality {:.3}, a random mix of that quality {:.3}; broken in {:.1} %",
        kept.cost,
        kept.quality,
        kept.random_cost,
        100.0 * kept.broken
    );
    match verdict(kept) {
        Verdict::Routes => {
            format!("{floor:.0} % promised: routes in {split:.0} % of splits, {figures}")
        }
        Verdict::Stays => format!(
            "{floor:.0} % promised: no router helps here, calls stay with the stronger target (routes in {split:.0} % of splits; {figures})"
        ),
    }
}

fn calibration_json(calibration: &Calibration) -> Value {
    let bin = |bin: &Bin| json!({"rows": bin.rows, "said": bin.said, "came_true": bin.came_true});
    json!({
        "router": calibration.name, "error": calibration.error, "interval": calibration.interval,
        "brier": calibration.brier,
        "reliability": calibration.table.iter().map(bin).collect::<Vec<_>>(),
    })
}

fn pool_json(report: &pool::Report) -> Value {
    json!({
        "rows": {"trained": report.trained, "measured": report.measured},
        "aiq_single": report.single,
        "aiq_text": report.areas[0], "aiq_text_interval": report.intervals[0],
        "aiq_segment_text": report.areas[1], "aiq_segment_text_interval": report.intervals[1],
        "aiq_hardness_known": report.hardness_known,
        "oracle_quality": report.oracle,
    })
}

fn text(pairs: &[(String, Report)], pools: &[(String, pool::Report)]) -> String {
    let mut text = String::new();
    for (name, report) in pairs {
        suite_text(&mut text, name, report);
    }
    for mean in means(pairs) {
        put!(
            text,
            "mean of {} suites, {}: APGR {:.3}; cost@95 {:.3}; thresholds moved: {:.3} at quality {:.3}; floors broken {:.3}, {:.3} and {:.3}{}\n",
            mean.suites,
            mean.name,
            mean.area_by_calls,
            mean.cost_at[0],
            mean.transferred_cost[0],
            mean.transferred_quality[0],
            mean.broken[0],
            mean.broken[1],
            mean.broken[2],
            mean.error
                .map(|it| format!("; calibration error {it:.3}"))
                .unwrap_or_default()
        );
    }
    for (name, report) in pools {
        put!(
            text,
            "{name}: {} rows trained on, {} measured; AIQ {:.4} single, {:.4} text ({:.3} to {:.3}), {:.4} segment + text ({:.3} to {:.3}), {:.4} had one known how hard each row is; oracle quality {:.3}\n",
            report.trained,
            report.measured,
            report.single,
            report.areas[0],
            report.intervals[0][0],
            report.intervals[0][1],
            report.areas[1],
            report.intervals[1][0],
            report.intervals[1][1],
            report.hardness_known,
            report.oracle
        );
    }
    text
}

/// The router whose promises are told in words: the one that the gateway asks.
const PROMISING: &str = "segment + text";

/// The columns of a suite's table.
const HEADS: [&str; 11] = [
    "router", "APGR", "", "cost@95", "", "moved@95", "", "quality", "moved@97", "moved@99",
    "broken",
];

fn suite_text(text: &mut String, name: &str, report: &Report) {
    let set = |(at, head)| (head, if at == 0 { Set::Left } else { Set::Right });
    let heads: Vec<(&str, Set)> = HEADS.into_iter().enumerate().map(set).collect();
    put!(
        text,
        "{name}: {} rows trained on, {} measured; quality {:.3} cheap, {:.3} strong; the cheap one costs {:.3}; {:.1} % unlike the training rows\n",
        report.trained,
        report.measured,
        report.quality[0],
        report.quality[1],
        report.weak_cost,
        100.0 * report.new_share
    );
    let rows: Vec<Vec<String>> = report.contenders.iter().map(contender_row).collect();
    text.push_str(&table(&heads, &rows));
    let promising = report.contenders.iter().find(|it| it.name == PROMISING);
    for (floor, kept) in promising
        .iter()
        .flat_map(|it| PROMISES.iter().zip(&it.promises))
    {
        put!(text, "{}\n", promise(*floor, kept));
    }
    for calibration in &report.calibrations {
        let [low, high] = calibration.interval;
        put!(
            text,
            "calibration error, {}: {:.3} ({low:.3} to {high:.3}); Brier {:.3}\n",
            calibration.name,
            calibration.error,
            calibration.brier
        );
    }
    text.push('\n');
}

fn contender_row(contender: &Contender) -> Vec<String> {
    let range = |[low, high]: [f64; 2]| format!("{low:.2}–{high:.2}");
    let figures = &contender.figures;
    vec![
        contender.name.clone(),
        format!("{:.3}", figures.area_by_calls),
        range(contender.intervals[0]),
        format!("{:.3}", figures.cost_at[0]),
        range(contender.intervals[1]),
        format!("{:.3}", contender.transferred[0].cost),
        range(contender.transferred_interval),
        format!("{:.3}", contender.transferred[0].quality),
        format!("{:.3}", contender.transferred[1].cost),
        format!("{:.3}", contender.transferred[2].cost),
        format!(
            "{:.3}",
            contender
                .promises
                .iter()
                .fold(0.0, |worst: f64, it| worst.max(it.broken))
        ),
    ]
}

#[cfg(test)]
mod tests {
    use learn::measure::Figures;
    use learn::trial::{Contender, Report};

    use super::means;

    fn report(area: f64) -> Report {
        let contender = Contender {
            name: "text".to_owned(),
            figures: Figures {
                area_by_calls: area,
                ..Figures::default()
            },
            intervals: [[0.0; 2]; 2],
            transferred: Default::default(),
            transferred_interval: [0.0; 2],
            promises: Default::default(),
        };
        Report {
            trained: 1,
            measured: 1,
            quality: [0.5, 0.9],
            weak_cost: 0.1,
            contenders: vec![contender],
            calibrations: Vec::new(),
            new_share: 0.0,
        }
    }

    #[test]
    fn means_are_over_suites() {
        let named = |name: &str, area| (name.to_owned(), report(area));
        let reports = [named("a", 0.6), named("b", 0.8), named("sonnet-haiku", 0.1)];
        let means = means(&reports);
        assert_eq!((means[0].suites, means[0].error), (2, None));
        assert!((means[0].area_by_calls - 0.7).abs() < 1e-12);
    }
}
