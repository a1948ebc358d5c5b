//! Refreshing the book from newer files: what holds from which day, and a diff to read.
//!
//! **Invariant**: a refresh never changes the price of a moment before the day that it names (test
//! `a_refresh_keeps_the_past`).

use std::fmt;

use wire::usage::Tokens;

use crate::money::Price;
use crate::prices::bill::Class;
use crate::prices::calendar::Date;
use crate::prices::model::{Model, Row, Window};
use crate::prices::read::{self, PriceError};
use crate::prices::{Coverage, PriceBook, Provider, version};

/// One difference between the book before and after a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A model that was not known.
    Added {
        /// `provider/model`.
        model: String,
    },
    /// A rate that differs from a day on.
    Rate {
        /// `provider/model`.
        model: String,
        /// Tier, size and hours of the rate.
        row: String,
        /// The class of tokens.
        class: &'static str,
        /// The first day of the new rate.
        from: Date,
        /// The rate before; none if it was not known.
        before: Option<Price>,
        /// The rate after; none if it is no longer known.
        after: Option<Price>,
    },
    /// Something beside the token rates: names, limits, cache facts, searches, sources.
    Facts {
        /// `provider/model`.
        model: String,
    },
    /// A model that is no longer sold.
    Removed {
        /// `provider/model`.
        model: String,
        /// The first day without a price.
        from: Date,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |price: &Option<Price>| {
            price.map_or_else(|| "unknown".to_owned(), |price| price.to_string())
        };
        match self {
            Self::Added { model } => write!(f, "+ {model}"),
            Self::Rate {
                model,
                row,
                class,
                from,
                before,
                after,
            } => {
                let (before, after) = (shown(before), shown(after));
                write!(
                    f,
                    "~ {model} {row} {class}: {before} -> {after} from {from}"
                )
            }
            Self::Facts { model } => {
                write!(f, "~ {model}: names, limits, cache, searches or source")
            }
            Self::Removed { model, from } => write!(f, "- {model}: no price from {from}"),
        }
    }
}

impl PriceBook {
    /// This book overlaid with newer files, given as (name, text), and what that changes.
    ///
    /// A model's windows in the new file replace the old ones from the first `from` they give; a
    /// window without one holds from the file's `dated` day. Earlier rates stay as they were. Models
    /// that a file does not list stay too, unless it says `coverage = "whole"`.
    pub fn refreshed_with(
        &self,
        files: &[(&str, &str)],
    ) -> Result<(Self, Vec<Change>), PriceError> {
        let newer = Self::parse(files)?;
        let mut book = self.clone();
        let mut changes = Vec::new();
        for provider in newer.providers.into_values() {
            let id = provider.id.clone();
            let merged = if let Some(known) = book.providers.remove(&id) {
                let merged = overlay(known, provider, &mut changes);
                merged.map_err(|(row, message)| PriceError::row(&id, &row, &message))?
            } else {
                changes.extend(provider.models.iter().map(added));
                provider
            };
            book.providers.insert(id, merged);
        }
        book.dated = self.dated.max(newer.dated);
        book.version = version(book.dated, &format!("{}{}", self.version, newer.version));
        Ok((book, changes))
    }
}

/// Puts the newer rows of a provider over the known ones; an error names the row at fault.
fn overlay(
    mut known: Provider,
    newer: Provider,
    changes: &mut Vec<Change>,
) -> Result<Provider, (String, String)> {
    if newer.coverage == Coverage::Whole {
        let listed = |model: &Model| newer.models.iter().any(|row| row.id == model.id);
        for model in known.models.iter_mut().filter(|model| !listed(model)) {
            if close(&mut model.windows, newer.dated) {
                changes.push(Change::Removed {
                    model: full_name(model),
                    from: newer.dated,
                });
            }
        }
    }
    for mut model in newer.models {
        let Some(row) = known.models.iter_mut().find(|row| row.id == model.id) else {
            changes.push(added(&model));
            known.models.push(model);
            continue;
        };
        let from = model
            .windows
            .first()
            .and_then(|window| window.from)
            .unwrap_or(newer.dated);
        let windows = succeed(&row.windows, std::mem::take(&mut model.windows), from);
        let rates = rate_changes(row, &windows, from);
        model.windows.clone_from(&row.windows);
        if model != *row || (rates.is_empty() && windows != row.windows) {
            changes.push(Change::Facts {
                model: full_name(row),
            });
        }
        model.windows = windows;
        changes.extend(rates);
        *row = model;
    }
    known.dated = known.dated.max(newer.dated);
    known.names = read::index(&known.models)?;
    Ok(known)
}

fn full_name(model: &Model) -> String {
    format!("{}/{}", model.provider, model.id)
}

fn added(model: &Model) -> Change {
    Change::Added {
        model: full_name(model),
    }
}

/// Ends every window at `day`; whether that took a price away.
fn close(windows: &mut Vec<Window>, day: Date) -> bool {
    let before = windows.clone();
    windows.retain(|window| window.from.is_none_or(|from| from < day));
    for window in windows.iter_mut() {
        window.until = Some(window.until.map_or(day, |until| until.min(day)));
    }
    *windows != before
}

/// The old windows up to `day`, then the new ones; what says the same stays one window.
fn succeed(old: &[Window], mut new: Vec<Window>, day: Date) -> Vec<Window> {
    let mut windows = old.to_vec();
    close(&mut windows, day);
    new.retain(|window| window.until.is_none_or(|until| until > day));
    for window in &mut new {
        window.from = Some(window.from.map_or(day, |from| from.max(day)));
    }
    for window in new {
        match windows.last_mut() {
            Some(last) if last.until == window.from && says_the_same(last, &window) => {
                last.until = window.until;
            }
            _ => windows.push(window),
        }
    }
    windows
}

fn says_the_same(one: &Window, two: &Window) -> bool {
    let timeless = |window: &Window| Window {
        from: None,
        until: None,
        ..window.clone()
    };
    timeless(one) == timeless(two)
}

/// What differs from `day` on between a model's windows and those that are to replace them.
fn rate_changes(model: &Model, windows: &[Window], day: Date) -> Vec<Change> {
    let starts = model
        .windows
        .iter()
        .chain(windows)
        .filter_map(|window| window.from);
    let mut days: Vec<Date> = starts.filter(|start| *start > day).chain([day]).collect();
    days.sort_unstable();
    days.dedup();
    let mut changes: Vec<Change> = Vec::new();
    for day in days {
        let rows = |windows: &[Window]| {
            let window = windows.iter().find(|window| window.contains(day.start()));
            window.map(|window| window.rows.clone()).unwrap_or_default()
        };
        let (before, after) = (rows(&model.windows), rows(windows));
        let gone = before
            .iter()
            .filter(|row| !after.iter().any(|peer| same_place(row, peer)));
        for row in after.iter().chain(gone) {
            let price = |rows: &[Row], class| {
                let row = rows.iter().find(|peer| same_place(peer, row));
                row.and_then(|row| row.rates.price(class))
            };
            for class in Class::ALL {
                let (before, after) = (price(&before, class), price(&after, class));
                if before != after {
                    let change = Change::Rate {
                        model: full_name(model),
                        row: place(row),
                        class: class.name(),
                        from: day,
                        before,
                        after,
                    };
                    changes.push(change);
                }
            }
        }
    }
    changes
}

/// Whether two rows price the same tier, size and hours.
fn same_place(one: &Row, two: &Row) -> bool {
    one.tiers.first() == two.tiers.first()
        && one.from_input == two.from_input
        && one.hours == two.hours
}

/// A row's tier, size and hours for people.
fn place(row: &Row) -> String {
    let tier = row.tiers.first().map_or("", String::as_str);
    let size = match row.from_input {
        Tokens(0) => String::new(),
        from => format!(" from {from} tokens"),
    };
    let hours = if row.hours.is_some() {
        " at special hours"
    } else {
        ""
    };
    format!("{tier}{size}{hours}")
}
