//! Price files: TOML in, validated rows out.
//!
//! **Invariant**: what comes out cannot be wrong in form: windows do not overlap, every tier has a
//! base rate, names are unique, money is exact (test `faulty_files_are_refused_with_the_place`).

use std::collections::BTreeMap;

use serde::Deserialize;
use wire::usage::Tokens;

use crate::money::{MoneyError, PicoUsd, Ratio};
use crate::prices::calendar::{Date, Hours};
use crate::prices::model::{
    CacheFacts, CacheFamily, Confidence, Model, Rates, Row, STANDARD, Window,
};
use crate::prices::names::Names;
use crate::prices::{Coverage, Provider, Seller};

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The other name of the standard tier; responses of several providers use it.
const DEFAULT: &str = "default";

/// Minutes in a day: the end of the last hour.
const MINUTES_MAX: u16 = 1_440;

/// A price file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// It is not TOML of the expected shape.
    #[error("{file}: {message}")]
    Shape {
        /// The file's name.
        file: String,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A row contradicts itself or another.
    #[error("{file}: `{row}`: {message}")]
    Row {
        /// The file's name.
        file: String,
        /// The provider's or model's id.
        row: String,
        /// What was given, what is allowed, what to do.
        message: String,
    },
}

impl PriceError {
    pub(crate) fn row(file: &str, row: &str, message: &str) -> Self {
        Self::Row {
            file: file.to_owned(),
            row: row.to_owned(),
            message: message.to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    provider: String,
    #[serde(default)]
    aliases: Vec<String>,
    dated: toml::value::Datetime,
    #[serde(default)]
    coverage: Coverage,
    #[serde(default)]
    seller: Seller,
    /// Tier → other names under which responses report it.
    #[serde(default)]
    tiers: BTreeMap<String, Vec<String>>,
    /// USD for one search, for every model that does not say otherwise.
    web_search: Option<String>,
    #[serde(default)]
    model: Vec<RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    globs: Vec<String>,
    context: Option<u64>,
    output_limit: Option<u64>,
    retires: Option<toml::value::Datetime>,
    #[serde(default)]
    cache: RawCache,
    #[serde(default)]
    regions: BTreeMap<String, String>,
    web_search: Option<String>,
    source: String,
    read: toml::value::Datetime,
    #[serde(default)]
    confidence: Confidence,
    window: Vec<RawWindow>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCache {
    family: CacheFamily,
    minimum: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    from: Option<toml::value::Datetime>,
    until: Option<toml::value::Datetime>,
    source: Option<String>,
    read: Option<toml::value::Datetime>,
    confidence: Option<Confidence>,
    rates: Vec<RawRates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRates {
    tier: Option<String>,
    /// Applies to inputs above this size.
    over: Option<u64>,
    /// Applies to inputs of this size and more.
    at_least: Option<u64>,
    /// Nothing is known above this size.
    up_to: Option<u64>,
    /// `01:00-04:00`, UTC; the end does not belong.
    hours: Option<Vec<String>>,
    /// `mon` … `sun`; without it, every day.
    days: Option<Vec<String>>,
    input: Option<String>,
    output: Option<String>,
    read: Option<String>,
    write_5m: Option<String>,
    write_30m: Option<String>,
    write_1h: Option<String>,
    write_12h: Option<String>,
    audio_input: Option<String>,
    audio_output: Option<String>,
}

/// Reads one provider's file.
pub(crate) fn provider(file: &str, text: &str) -> Result<Provider, PriceError> {
    let raw: RawFile = toml::from_str(text).map_err(|error| PriceError::Shape {
        file: file.to_owned(),
        message: error.to_string(),
    })?;
    let fault = |message: String| PriceError::row(file, &raw.provider, &message);
    let dated = date(raw.dated).map_err(fault)?;
    let mut models = Vec::with_capacity(raw.model.len());
    for row in &raw.model {
        let model = model(&raw, row).map_err(|message| PriceError::row(file, &row.id, &message))?;
        models.push(model);
    }
    let names = index(&models).map_err(|(row, message)| PriceError::row(file, &row, &message))?;
    Ok(Provider {
        id: raw.provider,
        aliases: raw.aliases,
        dated,
        coverage: raw.coverage,
        seller: raw.seller,
        models,
        names,
    })
}

/// Indexes models by every name, or says which row claims a name that another has.
pub(crate) fn index(models: &[Model]) -> Result<Names, (String, String)> {
    let mut names = Names::default();
    for (position, model) in models.iter().enumerate() {
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            if !names.add(name, position) {
                return Err(taken(model, name));
            }
        }
        for glob in &model.globs {
            if !names.add_glob(glob, position) {
                return Err(taken(model, glob));
            }
        }
    }
    Ok(names)
}

fn taken(model: &Model, name: &str) -> (String, String) {
    let message = format!("the name `{name}` belongs to an earlier row; a name has one meaning");
    (model.id.clone(), message)
}

fn model(file: &RawFile, raw: &RawModel) -> Result<Model, String> {
    if raw.source.is_empty() {
        return Err("`source` is empty; name where the price was read".to_owned());
    }
    if raw.window.is_empty() {
        return Err("no `window`; give at least one with rates".to_owned());
    }
    let mut windows = raw
        .window
        .iter()
        .map(|window| self::window(file, raw, window))
        .collect::<Result<Vec<_>, _>>()?;
    windows.sort_by_key(|window| window.from);
    for pair in windows.windows(2) {
        if let [earlier, later] = pair
            && earlier
                .until
                .is_none_or(|until| later.from.is_none_or(|from| from < until))
        {
            return Err("two windows overlap; end the earlier with `until`".to_owned());
        }
    }
    let regions = raw.regions.iter().map(|(name, factor)| {
        let ratio: Result<Ratio, MoneyError> = factor.parse();
        ratio
            .map(|ratio| (name.clone(), ratio))
            .map_err(|error| error.to_string())
    });
    Ok(Model {
        provider: file.provider.clone(),
        id: raw.id.clone(),
        aliases: raw.aliases.clone(),
        globs: raw.globs.clone(),
        context: raw.context.map(Tokens),
        output_limit: raw.output_limit.map(Tokens),
        retires: raw.retires.map(date).transpose()?,
        cache: CacheFacts {
            family: raw.cache.family,
            minimum: raw.cache.minimum.map(Tokens),
        },
        regions: regions.collect::<Result<_, _>>()?,
        windows,
    })
}

fn window(file: &RawFile, model: &RawModel, raw: &RawWindow) -> Result<Window, String> {
    let from = raw.from.map(date).transpose()?;
    let until = raw.until.map(date).transpose()?;
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        return Err("a window ends before it begins; `until` is the first day after it".to_owned());
    }
    let search = model.web_search.as_ref().or(file.web_search.as_ref());
    let search = search.map(|text| text.parse::<PicoUsd>()).transpose();
    let search = search.map_err(|error| error.to_string())?;
    let rows = raw
        .rates
        .iter()
        .map(|rates| row(file, rates, search))
        .collect::<Result<Vec<_>, _>>()?;
    unambiguous(&rows)?;
    Ok(Window {
        from,
        until,
        source: raw.source.as_ref().unwrap_or(&model.source).clone(),
        read: date(raw.read.unwrap_or(model.read))?,
        confidence: raw.confidence.unwrap_or(model.confidence),
        rows,
    })
}

fn row(file: &RawFile, raw: &RawRates, web_search: Option<PicoUsd>) -> Result<Row, String> {
    let tier = raw.tier.as_deref().unwrap_or(STANDARD);
    let own_name = if tier == STANDARD {
        vec![tier, DEFAULT]
    } else {
        vec![tier]
    };
    let other_names = file
        .tiers
        .get(tier)
        .into_iter()
        .flatten()
        .map(String::as_str);
    let tiers = own_name
        .into_iter()
        .chain(other_names)
        .map(str::to_owned)
        .collect();
    let from_input = match (raw.over, raw.at_least) {
        (None, None) => 0,
        (Some(over), None) => over.saturating_add(1),
        (None, Some(at_least)) => at_least,
        (Some(_), Some(_)) => return Err("both `over` and `at_least`; keep one".to_owned()),
    };
    let price = |text: &Option<String>| {
        let price = text.as_ref().map(|text| text.parse()).transpose();
        price.map_err(|error: MoneyError| error.to_string())
    };
    Ok(Row {
        tiers,
        from_input: Tokens(from_input),
        up_to: raw.up_to.map(Tokens),
        hours: hours(raw)?,
        rates: Rates {
            input: price(&raw.input)?,
            output: price(&raw.output)?,
            read: price(&raw.read)?,
            write_5m: price(&raw.write_5m)?,
            write_30m: price(&raw.write_30m)?,
            write_1h: price(&raw.write_1h)?,
            write_12h: price(&raw.write_12h)?,
            audio_input: price(&raw.audio_input)?,
            audio_output: price(&raw.audio_output)?,
            web_search,
        },
    })
}

/// Two rows never apply at once, and every tier has a rate that holds whatever the size and hour.
fn unambiguous(rows: &[Row]) -> Result<(), String> {
    for (index, row) in rows.iter().enumerate() {
        let tier = row.tiers.first().map_or(STANDARD, String::as_str);
        let peers = || {
            rows.iter()
                .filter(|peer| peer.tiers.first() == row.tiers.first())
        };
        if !peers().any(|peer| peer.from_input == Tokens(0) && peer.hours.is_none()) {
            return Err(format!(
                "tier `{tier}` has no base rate; add one without size and hours"
            ));
        }
        let clashes = |peer: &Row| {
            peer.from_input == row.from_input
                && match (&peer.hours, &row.hours) {
                    (Some(one), Some(two)) => one.overlap(two),
                    (one, two) => one.is_none() == two.is_none(),
                }
        };
        let later = rows.iter().skip(index + 1);
        if later
            .filter(|peer| peer.tiers.first() == row.tiers.first())
            .any(clashes)
        {
            return Err(format!(
                "two rates of tier `{tier}` apply at once; keep one"
            ));
        }
    }
    Ok(())
}

fn hours(raw: &RawRates) -> Result<Option<Hours>, String> {
    let Some(texts) = &raw.hours else {
        return match raw.days {
            None => Ok(None),
            Some(_) => Err("`days` without `hours`; add `hours = [\"00:00-24:00\"]`".to_owned()),
        };
    };
    let ranges = texts.iter().map(|text| {
        let range = text
            .split_once('-')
            .and_then(|(from, until)| minute(from).zip(minute(until)));
        let range = range.filter(|(from, until)| from < until);
        range.ok_or_else(|| format!("`{text}` is not a span of hours; write `01:00-04:00`"))
    });
    let mut days = [raw.days.is_none(); 7];
    for text in raw.days.iter().flatten() {
        let index = WEEKDAYS.iter().position(|day| day == text);
        let day = index.and_then(|index| days.get_mut(index));
        *day.ok_or_else(|| format!("`{text}` is not a day; write `mon` to `sun`"))? = true;
    }
    Ok(Some(Hours {
        ranges: ranges.collect::<Result<_, _>>()?,
        days,
    }))
}

/// Minutes since midnight of `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour.checked_mul(60)?.checked_add(minute)?;
    (minute < 60 && total <= MINUTES_MAX).then_some(total)
}

fn date(given: toml::value::Datetime) -> Result<Date, String> {
    let plain = given.date.filter(|_| given.time.is_none());
    let date = plain.and_then(|date| Date::new(date.year, date.month, date.day));
    date.ok_or_else(|| format!("`{given}` is not a day from 1970 on; write `2026-11-24`"))
}
