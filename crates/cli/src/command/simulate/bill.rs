//! `tokenwise simulate --conversations`: a replay, scaled to a monthly bill with and without each
//! lever, with the arithmetic.
//!
//! **Invariant**: what is measured changes no answer; what may change one is marked as estimated, with
//! where the estimate comes from (test `a_bill_is_scaled_exactly`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use policy::money::{PicoUsd, Price};
use policy::prices::model::Rates;
use serde_json::{Value, json};
use sim::bill::Sum;
use wire::dialect::Dialect;
use wire::usage::{Tokens, Ttl};

use super::outcomes::{self, Pair};
use crate::command::demo::workload::support;
use crate::command::think::traffic;
use crate::print::amount::{count, pico, share};
use crate::print::table::{Set, table};
use crate::print::{self, Format};
use crate::replay::trimmed::TrimChoice;
use crate::replay::{self, MODEL, MadeUp, ReplayArguments, Replayed};

/// 30 days: a month of the bill.
const MONTH_DAYS: u64 = 30;

/// Pico-dollars of a dollar.
const PICO: i128 = 1_000_000_000_000;

/// 60 conversations are made up where none were recorded: the first one's writing of what all share
/// is then below 2 % of the bill.
const MADE_UP: usize = 60;

/// 90 tokens: an answer of 70 words, as the demo's.
const ANSWER: Tokens = Tokens(90);

/// 50 %: of its hidden reasoning a session keeps half at a lower effort, as `tokenwise think eval`
/// assumes.
const THINKING_KEPT_PERCENT: u64 = 50;

/// What to scale.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scaled {
    /// Print the monthly bill of so many conversations instead, as `10M/day`, `250k/month` or
    /// `900/hour`, and end.
    #[arg(long, value_name = "COUNT/PERIOD", conflicts_with_all = ["listen", "first_frame_ms", "next_frame_ms"])]
    pub(crate) conversations: Option<Rate>,
    /// Recorded conversations, as `tokenwise replay` reads them; without any, a support agent is made
    /// up.
    #[arg(long, value_name = "FILE", requires = "conversations")]
    traffic: Vec<PathBuf>,
    /// The model at whose prices and cache they are replayed.
    #[arg(long, value_name = "MODEL", default_value = MODEL, requires = "conversations")]
    model: String,
    /// A cheaper model, for what moving calls could add.
    #[arg(
        long,
        value_name = "MODEL",
        default_value = "claude-haiku-4-5",
        requires = "conversations"
    )]
    cheaper: String,
    #[command(flatten)]
    format: Format,
}

/// Conversations in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no rate; write a count and `/hour`, `/day` or `/month`, as `10M/day`"
            )
        };
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let (digits, unit) = match count.char_indices().last() {
            Some((at, 'k')) => (&count[..at], 1_000),
            Some((at, 'M')) => (&count[..at], 1_000_000),
            _ => (count, 1),
        };
        let times = match period {
            "hour" => 24 * MONTH_DAYS,
            "day" => MONTH_DAYS,
            "month" => 1,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let month = count
            .checked_mul(unit)
            .and_then(|count| count.checked_mul(times));
        month.filter(|month| *month > 0).map(Self).ok_or_else(wrong)
    }
}

/// What some conversations cost, and so many in a month.
#[derive(Clone, Copy)]
struct Scale {
    conversations: u64,
    month: Rate,
}

impl Scale {
    /// Of one, rounded down.
    fn one(self, cost: PicoUsd) -> PicoUsd {
        PicoUsd(cost.0 / i128::from(self.conversations.max(1)))
    }

    /// Of all in a month: multiplied first, rounded down once.
    fn month(self, cost: PicoUsd) -> PicoUsd {
        let all = cost.0.saturating_mul(i128::from(self.month.0));
        PicoUsd(all / i128::from(self.conversations.max(1)))
    }
}

/// A lever that may change an answer.
struct Estimate {
    lever: &'static str,
    /// What it saves of the bill with the cache lever; none if nothing is known.
    saved: Option<PicoUsd>,
    source: String,
}

/// Prints the bill.
pub(crate) fn run(arguments: &Scaled, month: Rate) -> anyhow::Result<ExitCode> {
    let replayed = |model: &str, trim| ReplayArguments {
        files: arguments.traffic.clone(),
        model: model.to_owned(),
        beside: None,
        policy: None,
        trim,
        prune: None,
        evidence: None,
        json: false,
    };
    let (own, cheap) = (
        replayed(&arguments.model, TrimChoice::Folded),
        replayed(&arguments.cheaper, TrimChoice::Off),
    );
    let made_up = |provider: &str| {
        if arguments.traffic.is_empty() {
            made_up(replay::trajectory::dialect_of(provider))
        } else {
            Vec::new()
        }
    };
    let provider = |name: &str| {
        let book = policy::prices::PriceBook::built_in();
        book.find_any(name)
            .map(|model| model.provider.clone())
            .unwrap_or_default()
    };
    let measured = replay::measure(&own, &made_up(&provider(&arguments.model)))?;
    let cheaper = replay::measure(&cheap, &made_up(&provider(&arguments.cheaper)))?;
    let bill = Bill {
        scale: Scale {
            conversations: u64::try_from(measured.sums.tasks.len()).unwrap_or(u64::MAX),
            month,
        },
        rates: measured.model.rates(measured.priced_at, Tokens(0), None)?,
        estimates: estimates(arguments, &measured, &cheaper)?,
        measured,
        of: match arguments.traffic.as_slice() {
            [] => "of a made-up support agent".to_owned(),
            files => {
                let names = files.iter().filter_map(|file| file.file_name());
                let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
                format!("of {}", names.join(" and "))
            }
        },
    };
    if arguments.format.json {
        print::json(&bill.json())?;
    } else {
        print::out(&bill.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn made_up(dialect: Dialect) -> Vec<MadeUp> {
    let requests = support(dialect, MADE_UP).into_iter();
    let call = requests.map(|request| MadeUp {
        task: request.task,
        body: request.body,
        output: ANSWER,
    });
    call.collect()
}

/// What each lever that may change an answer could add.
fn estimates(
    arguments: &Scaled,
    measured: &Replayed<'_>,
    cheaper: &Replayed<'_>,
) -> anyhow::Result<Vec<Estimate>> {
    let (bill, cheap) = (measured.sums.policy.cost, cheaper.sums.policy.cost);
    let trim = Estimate {
        lever: "trim (folded)",
        saved: measured.trimmed_cost().map(|trimmed| bill - trimmed),
        source: "the same replay with `--trim folded`; whether answers change was not measured"
            .to_owned(),
    };
    let pair = outcomes::pair(&arguments.traffic)?;
    let unknown =
        || "not known without recorded outcomes of two models on the same tasks".to_owned();
    let part = |pair: &Pair, amount: PicoUsd| {
        PicoUsd(amount.0 * i128::from(pair.as_good) / i128::from(pair.tasks.max(1)))
    };
    let says = |pair: &Pair| {
        format!(
            "{} did as well as {} in {} of {} recorded tasks that both did; \
             each such conversation at {}",
            pair.weak, pair.strong, pair.as_good, pair.tasks, arguments.cheaper
        )
    };
    let route = Estimate {
        lever: "route, at most",
        saved: pair.as_ref().map(|pair| part(pair, bill - cheap)),
        source: pair.as_ref().map_or_else(unknown, |pair| {
            format!("{}, by a router that knows beforehand", says(pair))
        }),
    };
    let cascade = Estimate {
        lever: "cascade, at most",
        saved: pair.as_ref().map(|pair| part(pair, bill) - cheap),
        source: pair.as_ref().map_or_else(unknown, |pair| {
            format!(
                "{}, by a check that never errs; all others are paid twice",
                says(pair)
            )
        }),
    };
    Ok(vec![trim, think(arguments)?, route, cascade])
}

/// Hidden reasoning was recorded of some models only, and none of it is in the bill, which counts
/// what can be seen.
fn think(arguments: &Scaled) -> anyhow::Result<Estimate> {
    let (mut all, mut saved) = (PicoUsd::ZERO, PicoUsd::ZERO);
    for file in &arguments.traffic {
        let (_, value) = traffic::evaluate(file, THINKING_KEPT_PERCENT)?;
        let models = value.as_object().into_iter().flatten();
        for (_, figures) in models.filter(|(model, _)| model.contains("claude")) {
            let amount = |name: &str| PicoUsd(figures[name].as_i64().unwrap_or(0).into());
            all += amount("bill_pico_usd");
            saved += amount("opted_in_pico_usd");
        }
    }
    let source = if all > PicoUsd::ZERO {
        format!(
            "nothing of this bill, which counts visible output; of what Claude models were recorded to \
             cost with their hidden reasoning {}, if a session keeps {THINKING_KEPT_PERCENT} % of it \
             (assumed)",
            share(saved, all)
        )
    } else {
        "not known: no hidden reasoning of a Claude model was recorded".to_owned()
    };
    Ok(Estimate {
        lever: "think",
        saved: None,
        source,
    })
}

/// Whole dollars, with separators.
fn dollars(amount: PicoUsd) -> String {
    let rounded = (amount.0.abs() + PICO / 2) / PICO;
    let sign = if amount < PicoUsd::ZERO { "-" } else { "" };
    format!(
        "{sign}${}",
        count(u64::try_from(rounded).unwrap_or(u64::MAX))
    )
}

/// All that is printed.
struct Bill<'a> {
    scale: Scale,
    rates: Rates,
    estimates: Vec<Estimate>,
    measured: Replayed<'a>,
    of: String,
}

/// A class of tokens with its price.
type Line = (&'static str, Option<Price>, fn(&Sum) -> Tokens);

impl Bill<'_> {
    fn lines(&self) -> [Line; 5] {
        let rates = &self.rates;
        [
            ("uncached input", rates.input, |sum| sum.input.uncached),
            ("cache read", rates.read, |sum| sum.input.read),
            ("cache write 5m", rates.write_5m, |sum| {
                sum.input.written.of(Ttl::Minutes5)
            }),
            ("cache write 1h", rates.write_1h, |sum| {
                sum.input.written.of(Ttl::Hour1)
            }),
            ("output", rates.output, |sum| sum.output),
        ]
    }

    fn text(&self) -> String {
        let (scale, sums) = (self.scale, &self.measured.sums);
        let (before, after) = (sums.untouched.cost, sums.policy.cost);
        let mut text = format!(
            "{} conversations {}, {} calls, replayed at {} (prices {})\n\n\
             Measured by the replay, on simulated provider caches; no answer changes\n",
            count(scale.conversations),
            self.of,
            count(sums.calls),
            self.measured.model.id,
            self.measured.prices
        );
        text += &self.arithmetic();
        let heads = [
            ("", Set::Left),
            ("a conversation", Set::Right),
            ("a month", Set::Right),
            ("", Set::Right),
        ];
        let row = |name: &str, cost: PicoUsd| {
            let of = share(cost, before);
            vec![
                name.to_owned(),
                scale.one(cost).to_string(),
                dollars(scale.month(cost)),
                of,
            ]
        };
        let rows = [
            row("untouched", before),
            row("cache lever", after),
            row("saved", before - after),
        ];
        put!(
            text,
            "\n{} conversations a month, each as the mean of those replayed\n{}",
            count(scale.month.0),
            table(&heads, &rows)
        );
        text += "\nEstimated: what levers that may change an answer could take off the rest, each alone\n";
        for estimate in &self.estimates {
            let figure = estimate.saved.map_or_else(
                || "–".to_owned(),
                |saved| {
                    format!(
                        "{} a month, {} of the rest",
                        dollars(scale.month(saved)),
                        share(saved, after)
                    )
                },
            );
            put!(
                text,
                "{}: {figure}\n  {}\n",
                estimate.lever,
                estimate.source
            );
        }
        text
    }

    /// Tokens of all conversations by class, times their prices.
    fn arithmetic(&self) -> String {
        let sums = &self.measured.sums;
        let sides = [&sums.untouched, &sums.policy];
        let cost = |price: Option<Price>, tokens: Tokens| {
            price.map_or(PicoUsd::ZERO, |price| price.cost(tokens))
        };
        let mut rest = sides.map(|sum| sum.cost);
        let mut rows = Vec::new();
        for (name, price, tokens) in self.lines() {
            let mut row = vec![
                name.to_owned(),
                price.map_or_else(String::new, |it| it.to_string()),
            ];
            for (sum, rest) in sides.iter().zip(&mut rest) {
                let tokens = tokens(sum);
                let cost = cost(price, tokens);
                *rest -= cost;
                row.extend([count(tokens.0), cost.to_string()]);
            }
            rows.push(row);
        }
        let lines = [
            ("other prices, as of large contexts", rest),
            ("all", sides.map(|sum| sum.cost)),
        ];
        for (name, [before, after]) in lines {
            if name == "all" || before != PicoUsd::ZERO || after != PicoUsd::ZERO {
                let blank = String::new;
                rows.push(vec![
                    name.to_owned(),
                    blank(),
                    blank(),
                    before.to_string(),
                    blank(),
                    after.to_string(),
                ]);
            }
        }
        let heads = [
            ("tokens of all", Set::Left),
            ("a million", Set::Right),
            ("untouched", Set::Right),
            ("cost", Set::Right),
            ("cache lever", Set::Right),
            ("cost", Set::Right),
        ];
        table(&heads, &rows)
    }

    fn json(&self) -> Value {
        let (scale, sums) = (self.scale, &self.measured.sums);
        let side = |sum: &Sum| {
            let tokens = self
                .lines()
                .map(|(name, _, tokens)| (name.replace(' ', "_"), tokens(sum).0.into()));
            json!({
                "tokens": Value::Object(tokens.into_iter().collect()),
                "pico_usd": pico(sum.cost),
                "month_pico_usd": pico(scale.month(sum.cost)),
            })
        };
        let estimates = self.estimates.iter().map(|estimate| {
            json!({
                "lever": estimate.lever,
                "estimated": true,
                "month_saved_pico_usd": estimate.saved.map(|saved| pico(scale.month(saved))),
                "source": estimate.source,
            })
        });
        json!({
            "model": self.measured.model.id,
            "prices": self.measured.prices,
            "conversations": scale.conversations,
            "conversations_a_month": scale.month.0,
            "calls": sums.calls,
            "untouched": side(&sums.untouched),
            "cache": side(&sums.policy),
            "estimates": estimates.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use policy::money::PicoUsd;

    use super::{Rate, Scale, dollars};

    #[test]
    fn a_bill_is_scaled_exactly() {
        for (text, expect) in [
            ("10M/day", Some(300_000_000)),
            ("250k/month", Some(250_000)),
            ("2/hour", Some(1_440)),
            ("0/day", None),
            ("M/day", None),
            ("10M", None),
            ("1/year", None),
            ("99999999999999M/day", None),
        ] {
            assert_eq!(text.parse().ok(), expect.map(Rate), "{text}");
        }
        let scale = Scale {
            conversations: 3,
            month: Rate(300),
        };
        // A third is not rounded before it is multiplied.
        assert_eq!(scale.month(PicoUsd(10)), PicoUsd(1_000));
        assert_eq!(scale.one(PicoUsd(10)), PicoUsd(3));
        assert_eq!(dollars(PicoUsd(1_234_500_000_000_000)), "$1,235");
    }
}
