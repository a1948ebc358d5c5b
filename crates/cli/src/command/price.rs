//! `tokenwise price`: the price book, looked up, listed and refreshed.
//!
//! **Invariant**: what is printed is what calls are billed with: the same book, the same rules (test
//! `usage_is_read_by_class`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use policy::moment::Moment;
use policy::prices::PriceBook;
use policy::prices::bill::{Bill, Class};
use policy::prices::calendar::Date;
use policy::prices::model::{Model, Row, Window};
use serde_json::{Map, Value, json};
use wire::usage::{Tokens, Usage};

use super::now;
use crate::config::Source;
use crate::env::Environment;
use crate::print::amount::{count, pico};
use crate::print::failure::UsageError;
use crate::print::table::{Set, table};
use crate::print::{self, Format, time};

/// Show what a model costs, list the price book, or refresh it from a file.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// A model, as `claude-sonnet-4-6` or `openrouter/some-model`.
    #[arg(required = true)]
    model: Option<String>,
    /// The day whose prices to show, as `2026-11-24` (UTC); default: today.
    #[arg(long, value_name = "DAY")]
    at: Option<String>,
    /// Tokens to price, by class, as `input=1000,read=50000,write_5m=2000,output=300`.
    #[arg(long, value_name = "CLASSES")]
    usage: Option<String>,
    /// The tier to price them at, as named in responses.
    #[arg(long, value_name = "TIER", requires = "usage")]
    tier: Option<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List every model and its standard rates today.
    List {
        /// Only this provider.
        provider: Option<String>,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        format: Format,
    },
    /// Lay a newer price file over the book and print what changes; nothing is written without
    /// `--write`.
    Refresh {
        /// The price file.
        file: PathBuf,
        /// Copy the file to `prices/` beside the configuration, where `[prices] files` can name it.
        #[arg(long)]
        write: bool,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        format: Format,
    },
}

/// Shows, lists or refreshes.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Some(Action::List {
            provider,
            source,
            format,
        }) => {
            list(&source.prices(environment)?, provider.as_deref(), *format)?;
        }
        Some(Action::Refresh {
            file,
            write,
            source,
            format,
        }) => {
            let changes = refresh(&source.prices(environment)?, file, *format)?;
            if *write {
                install(file, source, environment)?;
            } else if changes > 0 && !format.json {
                print::note("nothing was written; add --write to keep the file");
            }
        }
        None => show(arguments, environment)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &Arguments, environment: &Environment) -> anyhow::Result<()> {
    let book = arguments.source.prices(environment)?;
    let name = arguments.model.as_deref().unwrap_or_default();
    let at = match arguments.at.as_deref() {
        Some(text) => time::day(text).ok_or_else(|| {
            UsageError(format!("`{text}` is not a day; write it as `2026-11-24`"))
        })?,
        None => now(),
    };
    let model = book.find_any(name).ok_or_else(|| unknown(&book, name))?;
    let usage = arguments.usage.as_deref().map(read_usage).transpose()?;
    let usage = usage.map(|usage| Usage {
        tier: arguments.tier.clone(),
        ..usage
    });
    let bill = usage
        .as_ref()
        .map(|usage| model.cost(usage, at))
        .transpose()?;
    let window = model.window(at);
    if arguments.format.json {
        return print::json(&json!({
            "provider": model.provider,
            "model": model.id,
            "aliases": model.aliases,
            "at": Date::of(at).to_string(),
            "book": book.version(),
            "context_tokens": model.context.map(|tokens| tokens.0),
            "output_limit_tokens": model.output_limit.map(|tokens| tokens.0),
            "window": window.map(window_json),
            "bill": bill.map(|bill| bill_json(&bill)),
        }));
    }
    let mut text = head(model, window, at);
    if let Some(window) = window {
        text.push_str(&rates(&window.rows));
    }
    if let (Some(usage), Some(bill)) = (usage, bill) {
        put!(text, "\n{}", bill_text(&usage, &bill));
    }
    print::out(&text)
}

fn head(model: &Model, window: Option<&Window>, at: Moment) -> String {
    let mut text = format!("{}/{}", model.provider, model.id);
    let limits = [
        ("context", model.context),
        ("output limit", model.output_limit),
    ];
    for (label, tokens) in limits {
        if let Some(tokens) = tokens {
            put!(text, ", {label} {}", count(tokens.0));
        }
    }
    text.push('\n');
    let Some(window) = window else {
        put!(text, "no price is known on {}\n", Date::of(at));
        return text;
    };
    let from = window
        .from
        .map_or("always".to_owned(), |day| day.to_string());
    let until = window
        .until
        .map_or("until changed".to_owned(), |day| format!("until {day}"));
    let (source, read) = (&window.source, window.read);
    let confidence = window.confidence.name();
    put!(
        text,
        "in force from {from} {until}; {confidence}, read {read} from {source}\n"
    );
    if let Some(day) = model.retires {
        put!(text, "retires on {day}\n");
    }
    text.push_str("USD for a million tokens:\n\n");
    text
}

/// The rows of a window: one line for each tier, size and hour; one column for each priced class.
fn rates(rows: &[Row]) -> String {
    let classes: Vec<Class> = Class::ALL
        .into_iter()
        .filter(|class| rows.iter().any(|row| row.rates.price(*class).is_some()))
        .collect();
    let mut heads = vec![("tier", Set::Left), ("whole input", Set::Left)];
    heads.extend(classes.iter().map(|class| (class.name(), Set::Right)));
    let line = |row: &Row| {
        let tier = row.tiers.first().cloned().unwrap_or_default();
        let hours = if row.hours.is_some() {
            " (at special hours)"
        } else {
            ""
        };
        let mut cells = vec![format!("{tier}{hours}"), size(row)];
        let price = |class: &Class| row.rates.price(*class);
        cells.extend(
            classes
                .iter()
                .map(|class| price(class).map_or("–".to_owned(), |price| price.to_string())),
        );
        cells
    };
    table(&heads, &rows.iter().map(line).collect::<Vec<_>>())
}

fn size(row: &Row) -> String {
    match (row.from_input, row.up_to) {
        (Tokens(0), None) => "any".to_owned(),
        (Tokens(0), Some(up_to)) => format!("up to {}", count(up_to.0)),
        (from, None) => format!("from {}", count(from.0)),
        (from, Some(up_to)) => format!("{} to {}", count(from.0), count(up_to.0)),
    }
}

fn window_json(window: &Window) -> Value {
    let rows: Vec<Value> = window
        .rows
        .iter()
        .map(|row| {
            let rates: Map<String, Value> = Class::ALL
                .iter()
                .filter_map(|class| {
                    let price = row.rates.price(*class)?;
                    Some((class.name().to_owned(), price.micro_usd_per_mtok().into()))
                })
                .collect();
            json!({
                "tiers": row.tiers,
                "from_input_tokens": row.from_input.0,
                "up_to_input_tokens": row.up_to.map(|tokens| tokens.0),
                "special_hours": row.hours.is_some(),
                "micro_usd_per_million_tokens": rates,
                "web_search_pico_usd": row.rates.web_search.map(pico),
            })
        })
        .collect();
    json!({
        "from": window.from.map(|day| day.to_string()),
        "until": window.until.map(|day| day.to_string()),
        "source": window.source,
        "read": window.read.to_string(),
        "confidence": window.confidence.name(),
        "rows": rows,
    })
}

fn bill_json(bill: &Bill) -> Value {
    let lines: Map<String, Value> = Class::ALL
        .iter()
        .map(|class| (class.name().to_owned(), pico(bill.line(*class))))
        .collect();
    json!({
        "lines_pico_usd": lines,
        "web_search_pico_usd": pico(bill.web_search),
        "total_pico_usd": pico(bill.total()),
    })
}

/// Usage times price, class by class.
pub(crate) fn bill_text(usage: &Usage, bill: &Bill) -> String {
    let mut rows: Vec<Vec<String>> = Class::ALL
        .iter()
        .filter(|class| class.tokens(usage) > Tokens(0))
        .map(|class| {
            let amount = bill.line(*class).to_string();
            vec![
                class.name().to_owned(),
                count(class.tokens(usage).0),
                amount,
            ]
        })
        .collect();
    if usage.web_searches > 0 {
        let searches = count(usage.web_searches);
        rows.push(vec![
            "web searches".to_owned(),
            searches,
            bill.web_search.to_string(),
        ]);
    }
    rows.push(vec![
        "total".to_owned(),
        String::new(),
        bill.total().to_string(),
    ]);
    table(
        &[
            ("class", Set::Left),
            ("tokens", Set::Right),
            ("USD", Set::Right),
        ],
        &rows,
    )
}

/// Reads `input=1000,read=50000`.
fn read_usage(text: &str) -> Result<Usage, UsageError> {
    let names: Vec<&str> = Class::ALL.iter().map(|class| class.name()).collect();
    let mut usage = Usage::default();
    for part in text.split(',') {
        let fault = || {
            UsageError(format!(
                "`{part}` is no usage; write CLASS=TOKENS with one of {}, or web_search=COUNT",
                names.join(", ")
            ))
        };
        let (name, number) = part.trim().split_once('=').ok_or_else(fault)?;
        let number: u64 = number.replace('_', "").parse().map_err(|_| fault())?;
        if name == "web_search" {
            usage.web_searches = number;
            continue;
        }
        let class = Class::ALL.into_iter().find(|class| class.name() == name);
        match class.ok_or_else(fault)? {
            Class::Input => usage.uncached = Tokens(number),
            Class::CacheRead => usage.cache_read = Tokens(number),
            Class::CacheWrite(ttl) => *usage.cache_write.of_mut(ttl) = Tokens(number),
            Class::AudioInput => usage.audio_input = Tokens(number),
            Class::Output => usage.output = Tokens(number),
            Class::AudioOutput => usage.audio_output = Tokens(number),
        }
    }
    Ok(usage)
}

/// 5: enough to find the model that was meant.
const SUGGESTIONS: usize = 5;

fn unknown(book: &PriceBook, name: &str) -> UsageError {
    let bare = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let stem = bare.split(['-', ':']).next().unwrap_or_default();
    let models = book.providers().flat_map(policy::prices::Provider::models);
    let near: Vec<String> = models
        .filter(|model| !stem.is_empty() && model.id.to_ascii_lowercase().contains(stem))
        .take(SUGGESTIONS)
        .map(|model| format!("{}/{}", model.provider, model.id))
        .collect();
    let hint = if near.is_empty() {
        "`tokenwise price list` shows all".to_owned()
    } else {
        format!(
            "known: {}; write `provider/model` where several sell it",
            near.join(", ")
        )
    };
    UsageError(format!("no single price is known for `{name}`; {hint}"))
}

fn list(book: &PriceBook, provider: Option<&str>, format: Format) -> anyhow::Result<()> {
    let at = now();
    if let Some(name) = provider
        && book.provider(name).is_none()
    {
        let ids: Vec<&str> = book
            .providers()
            .map(|provider| provider.id.as_str())
            .collect();
        let problem = format!("no prices of `{name}`; known: {}", ids.join(", "));
        return Err(UsageError(problem).into());
    }
    let chosen = provider
        .and_then(|name| book.provider(name))
        .map(|provider| &provider.id);
    let providers = book
        .providers()
        .filter(|it| chosen.is_none_or(|id| *id == it.id));
    let models: Vec<&Model> = providers
        .flat_map(policy::prices::Provider::models)
        .collect();
    if format.json {
        let entry = |model: &&Model| {
            json!({
                "provider": model.provider,
                "model": model.id,
                "window": model.window(at).map(window_json),
            })
        };
        let models: Vec<Value> = models.iter().map(entry).collect();
        return print::json(&json!({"book": book.version(), "models": models}));
    }
    let classes = [
        Class::Input,
        Class::CacheRead,
        Class::CacheWrite(wire::usage::Ttl::Minutes5),
        Class::CacheWrite(wire::usage::Ttl::Minutes30),
        Class::Output,
    ];
    let mut heads = vec![("model", Set::Left)];
    heads.extend(classes.iter().map(|class| (class.name(), Set::Right)));
    let row = |model: &&Model| {
        let rates = model.rates(at, Tokens(0), None).ok();
        let mut cells = vec![format!("{}/{}", model.provider, model.id)];
        cells.extend(classes.iter().map(|class| {
            let price = rates.as_ref().and_then(|rates| rates.price(*class));
            price.map_or("–".to_owned(), |price| price.to_string())
        }));
        cells
    };
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    let (table, version) = (table(&heads, &rows), book.version());
    let total = count(rows.len() as u64);
    print::out(&format!(
        "{table}\n{total} models, USD for a million tokens today, smallest input, standard tier; \
         price book {version}\n"
    ))
}

/// Prints what a file changes, and returns how many changes there are.
fn refresh(book: &PriceBook, file: &Path, format: Format) -> anyhow::Result<usize> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the price file {name}"))?;
    let (newer, changes) = book
        .refreshed_with(&[(&name, &text)])
        .map_err(|error| UsageError(error.to_string()))?;
    if format.json {
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        print::json(&json!({
            "before": book.version(), "after": newer.version(), "changes": lines,
        }))?;
    } else {
        for change in &changes {
            print::out(&format!("{change}\n"))?;
        }
        let (before, after) = (book.version(), newer.version());
        let total = count(changes.len() as u64);
        print::out(&format!(
            "{total} changes; price book {before} -> {after}\n"
        ))?;
    }
    Ok(changes.len())
}

/// Copies a price file to where the configuration can name it.
fn install(file: &Path, source: &Source, environment: &Environment) -> anyhow::Result<()> {
    let config = source
        .file(environment)
        .or_else(|| environment.default_config());
    let folder = config.as_deref().and_then(Path::parent).ok_or_else(|| {
        UsageError(
            "there is no configuration to keep the file beside; name one with `--config`"
                .to_owned(),
        )
    })?;
    let name = file
        .file_name()
        .ok_or_else(|| UsageError(format!("{} names no file", file.display())))?;
    let prices = folder.join("prices");
    let target = prices.join(name);
    std::fs::create_dir_all(&prices)
        .and_then(|()| std::fs::copy(file, &target))
        .with_context(|| format!("cannot write {}", target.display()))?;
    print::note(&format!(
        "wrote {}; use it with `[prices] files = [\"prices/{}\"]`, then send SIGHUP to a running gateway",
        target.display(),
        name.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::usage::Ttl;

    use super::*;

    #[test]
    fn usage_is_read_by_class() {
        let usage = read_usage("input=1_000, read=2,write_1h=3,output=4,web_search=5").unwrap();
        let classes = [
            Class::Input,
            Class::CacheRead,
            Class::CacheWrite(Ttl::Hour1),
            Class::Output,
        ];
        let tokens: Vec<u64> = classes.iter().map(|class| class.tokens(&usage).0).collect();
        assert_eq!((tokens, usage.web_searches), (vec![1_000, 2, 3, 4], 5));
        for bad in ["", "input", "input=", "input=-1", "inputs=1"] {
            let message = read_usage(bad).unwrap_err().to_string();
            assert!(message.contains("write_5m"), "{message}");
        }
    }

    #[test]
    fn unknown_models_get_a_suggestion() {
        let book = PriceBook::built_in();
        let message = unknown(book, "claude-sonet").to_string();
        assert!(message.contains("anthropic/claude-"), "{message}");
        assert!(unknown(book, "-").to_string().contains("price list"));
    }
}
