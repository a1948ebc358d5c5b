//! Thinking or not, on answers of one model that thinks and one that does not.
//!
//! **Invariant**: what a strategy knows of a task it learned on the training split only (test
//! `shares_follow_the_decision` covers the decision itself).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use policy::money::{PicoUsd, Price};
use policy::think::class::classify;
use serde_json::{Value, json};
use wire::usage::Tokens;

use super::{read_lines, share};
use crate::print::amount::pico;
use crate::print::table::{Set, table};

/// The model that thinks, and its input and output prices in micro-dollars per million tokens.
const THINKING: (&str, u64, u64) = ("o1-mini-2024-09-12", 3_000_000, 12_000_000);

/// The model that does not.
const PLAIN: (&str, u64, u64) = ("gpt-4o-mini-2024-07-18", 150_000, 600_000);

/// Sources whose answers hold both models.
const SOURCES: [&str; 3] = ["zeroeval_crux", "zeroeval_gsm", "zeroeval_math_l5"];

/// One question with both answers.
struct Row {
    task: String,
    dev: bool,
    asks_thought: bool,
    /// Good answers per thousand.
    scores: [u64; 2],
    costs: [PicoUsd; 2],
}

/// Whether the decision lets a question be thought about as the model does by default.
pub(super) fn thinks(text: &str) -> bool {
    !classify(text).is_easy()
}

/// Cost and quality of every strategy, for people and as JSON.
pub(super) fn evaluate(folder: &Path, multiplier: u64) -> anyhow::Result<(String, Value)> {
    let mut shown = String::new();
    let mut figures = serde_json::Map::new();
    for (name, multiplier) in [("hidden tokens assumed", multiplier), ("as recorded", 1)] {
        let rows = read(folder, multiplier)?;
        ensure!(
            !rows.is_empty(),
            "no answers of both models in {}",
            folder.display()
        );
        let lines = strategies(&rows);
        let cells = lines.iter().map(Line::cells).collect::<Vec<_>>();
        let heads = [
            ("strategy", Set::Left),
            ("thought about", Set::Right),
            ("quality", Set::Right),
            ("USD per 1,000", Set::Right),
        ];
        put!(
            shown,
            "{} against {}, dev split, {name} (×{multiplier})\n{}\n",
            THINKING.0,
            PLAIN.0,
            table(&heads, &cells)
        );
        let values: Vec<Value> = lines.iter().map(Line::json).collect();
        let key = if multiplier == 1 {
            "recorded"
        } else {
            "assumed"
        };
        figures.insert(
            key.to_owned(),
            json!({"multiplier": multiplier, "strategies": values}),
        );
    }
    Ok((shown, Value::Object(figures)))
}

fn read(folder: &Path, multiplier: u64) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for source in SOURCES {
        for split in ["train", "dev"] {
            let file = folder.join(format!("{source}.{split}.jsonl.gz"));
            read_lines(&file, |value| {
                rows.extend(row(&value, split == "dev", multiplier));
                Ok(())
            })?;
        }
    }
    Ok(rows)
}

fn row(value: &Value, dev: bool, multiplier: u64) -> Option<Row> {
    let read = |(model, input, output): (&str, u64, u64), multiplier: u64| {
        let outcome = &value["outcomes"][model];
        let score = outcome["score"].as_f64()?;
        let price =
            |micro: u64, tokens: u64| Price::from_micro_usd_per_mtok(micro).cost(Tokens(tokens));
        let cost = price(input, outcome["input_tokens"].as_u64()?)
            + price(output, outcome["output_tokens"].as_u64()? * multiplier);
        Some((if score >= 0.5 { 1_000 } else { 0 }, cost))
    };
    let (thought, thought_cost) = read(THINKING, multiplier)?;
    let (plain, plain_cost) = read(PLAIN, 1)?;
    Some(Row {
        task: value["task"].as_str()?.to_owned(),
        dev,
        asks_thought: thinks(value["query"].as_str()?),
        scores: [plain, thought],
        costs: [plain_cost, thought_cost],
    })
}

/// One strategy's sums.
struct Line {
    name: String,
    questions: u64,
    thought: u64,
    /// Good answers per thousand, summed.
    score: u64,
    cost: PicoUsd,
}

impl Line {
    fn quality(&self) -> f64 {
        share(self.score, self.questions * 1_000)
    }

    fn per_thousand(&self) -> PicoUsd {
        PicoUsd(self.cost.0 * 1_000 / i128::from(self.questions.max(1)))
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            format!("{:.1} %", 100.0 * share(self.thought, self.questions)),
            format!("{:.1} %", 100.0 * self.quality()),
            self.per_thousand().to_string(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "strategy": self.name,
            "questions": self.questions,
            "thought_about": self.thought,
            "quality": self.quality(),
            "cost_per_thousand_pico_usd": pico(self.per_thousand()),
        })
    }
}

/// What a strategy gives on the dev split; `choose` says how many of 100 draws think.
fn play(name: &str, rows: &[Row], choose: impl Fn(&Row) -> u64) -> Line {
    let mut line = Line {
        name: name.to_owned(),
        questions: 0,
        thought: 0,
        score: 0,
        cost: PicoUsd::ZERO,
    };
    for row in rows.iter().filter(|row| row.dev) {
        let percent = choose(row);
        let [plain, thought] = row.scores;
        let [plain_cost, thought_cost] = row.costs;
        // A hundred draws a question: exact expectations instead of random ones.
        line.questions += 100;
        line.thought += percent;
        line.score += thought * percent + plain * (100 - percent);
        line.cost = line.cost + thought_cost.each(percent) + plain_cost.each(100 - percent);
    }
    line
}

fn strategies(rows: &[Row]) -> Vec<Line> {
    let mut lines = vec![
        play("always", rows, |_| 100),
        play("never", rows, |_| 0),
        play("decision", rows, |row| u64::from(row.asks_thought) * 100),
    ];
    for percent in [25, 50, 75] {
        lines.push(play(&format!("random {percent} %"), rows, |_| percent));
    }
    let order = by_gain(rows);
    for last in 1..order.len() {
        let chosen = order.get(..last).unwrap_or_default();
        let name = format!("by task: {}", chosen.join(", "));
        let thinks = |row: &Row| u64::from(chosen.contains(&row.task)) * 100;
        lines.push(play(&name, rows, thinks));
    }
    lines
}

/// Tasks by what a dollar of thinking gains on the training split, best first.
fn by_gain(rows: &[Row]) -> Vec<String> {
    let mut tasks: BTreeMap<&str, (i128, i128)> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.dev) {
        let (gain, cost) = tasks.entry(&row.task).or_default();
        *gain += i128::from(row.scores[1]) - i128::from(row.scores[0]);
        *cost += row.costs[1].0 - row.costs[0].0;
    }
    let mut order: Vec<_> = tasks.into_iter().collect();
    // a/b > c/d without division; costs are positive.
    order.sort_by(|(_, one), (_, two)| (two.0 * one.1).cmp(&(one.0 * two.1)));
    order.into_iter().map(|(task, _)| task.to_owned()).collect()
}
