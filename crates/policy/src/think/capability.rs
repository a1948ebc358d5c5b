//! What each model can be asked: the field, the levels, the default, and what is refused beside it.
//!
//! **Invariant**: every row has a source and a day, names models of the price book once, and lists
//! its default among its levels (test `every_row_is_sound`).

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::effort::Effort;
use crate::prices::PriceBook;
use crate::prices::model::Confidence;
use crate::prices::names::lowered;

/// The table in the binary.
const TEXT: &str = include_str!("../../think/models.toml");

static BUILT_IN: LazyLock<Table> =
    LazyLock::new(|| Table::parse(TEXT).expect("the test `every_row_is_sound` parses this file"));

/// How a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// `thinking: {type: adaptive | disabled}` with `output_config.effort`; off unless asked for.
    Adaptive,
    /// `thinking: {type: enabled, budget_tokens}`; off unless asked for.
    BudgetTokens,
    /// `output_config.effort`; always on.
    Effort,
    /// `output_config.effort`, or `thinking: {type: disabled}`; on by default.
    EffortOrOff,
    /// `enable_thinking`.
    EnableThinking,
    /// `reasoning_effort`.
    ReasoningEffort,
    /// `thinking: {type: disabled}`, or `reasoning_effort`.
    ThinkingType,
}

/// Whether something is taken beside a level above `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// It is.
    #[default]
    Taken,
    /// It is answered with an error.
    Refused,
}

/// Whether tools may be sent with a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithTools {
    /// With any.
    #[default]
    Any,
    /// Only with `none`.
    OnlyAtNone,
    /// With no level that we could set.
    Never,
}

/// One row: what some models of some providers can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// Providers whose models these are.
    pub providers: Vec<String>,
    /// Ids as in the price book.
    pub ids: Vec<String>,
    /// How they are asked.
    pub ask: Ask,
    /// The levels that they take, least first.
    pub levels: Vec<Effort>,
    /// What they do unasked; none where it is not known.
    pub default: Option<Effort>,
    /// `temperature`, `top_p` and `top_k`.
    #[serde(default)]
    pub sampling: Beside,
    /// A `tool_choice` that forces a tool.
    #[serde(default)]
    pub forced_tool: Beside,
    /// Whether its thinking blocks are valid only behind the very bytes that were before them.
    #[serde(default)]
    pub binds_prefix: bool,
    /// Tools at all.
    #[serde(default)]
    pub tools: WithTools,
    /// Where this was read.
    pub source: String,
    /// When.
    pub read: toml::value::Datetime,
    /// How sure it is.
    #[serde(default)]
    pub confidence: Confidence,
}

impl Capability {
    /// Whether the model takes this level.
    pub fn takes(&self, effort: Effort) -> bool {
        self.levels.contains(&effort)
    }

    /// The level to send for one that was meant: itself, else the next higher, else the highest.
    pub fn nearest(&self, effort: Effort) -> Option<Effort> {
        let higher = self.levels.iter().find(|level| **level >= effort);
        higher.or(self.levels.last()).copied()
    }

    /// The lowest level from `floor` on that is surely below the default; none if there is none.
    pub fn lowered(&self, floor: Effort) -> Option<Effort> {
        let lowest = *self.levels.iter().find(|level| **level >= floor)?;
        match self.default {
            Some(default) => (lowest < default).then_some(lowest),
            // No default can be below the lowest level of all.
            None => {
                (self.levels.len() > 1 && self.levels.first() == Some(&lowest)).then_some(lowest)
            }
        }
    }

    /// One level above; none at the top.
    pub fn raised(&self, effort: Effort) -> Option<Effort> {
        self.levels.iter().find(|level| **level > effort).copied()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    dated: toml::value::Datetime,
    model: Vec<Capability>,
}

/// What all known models can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The day that the table describes.
    pub dated: toml::value::Datetime,
    rows: Vec<Capability>,
    /// By provider, then by model.
    by_model: HashMap<String, HashMap<String, usize>>,
}

/// A table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is not TOML of the expected shape.
    #[error("{0}")]
    Shape(String),
    /// A row contradicts itself or another.
    #[error("`{id}`: {message}")]
    Row {
        /// The model.
        id: String,
        /// What is wrong, and what is allowed.
        message: &'static str,
    },
}

impl Table {
    /// The table that ships in the binary. Parsed at first use.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Reads a table.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let raw: RawTable =
            toml::from_str(text).map_err(|error| TableError::Shape(error.to_string()))?;
        let mut by_model = HashMap::<String, HashMap<String, usize>>::new();
        for (index, row) in raw.model.iter().enumerate() {
            let fault = |message| TableError::Row {
                id: row.ids.first().cloned().unwrap_or_default(),
                message,
            };
            if row.levels.is_empty() || !row.levels.is_sorted_by(|one, two| one < two) {
                return Err(fault("`levels` must be given, least first, each once"));
            }
            if row.default.is_some_and(|level| !row.takes(level)) {
                return Err(fault("`default` must be one of `levels`"));
            }
            if row.source.is_empty() {
                return Err(fault("`source` must say where this was read"));
            }
            for provider in &row.providers {
                let models = by_model.entry(provider.clone()).or_default();
                for id in &row.ids {
                    if models.insert(id.to_ascii_lowercase(), index).is_some() {
                        return Err(fault("a model may stand in one row only"));
                    }
                }
            }
        }
        Ok(Self {
            dated: raw.dated,
            rows: raw.model,
            by_model,
        })
    }

    /// What a model can be asked, by any name that the price book knows; none if it is not known.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Capability> {
        let models = self.by_model.get(provider)?;
        let row = |id: &str| self.rows.get(*models.get(&*lowered(id))?);
        row(model).or_else(|| row(&PriceBook::built_in().find(provider, model)?.id))
    }

    /// Every row.
    pub fn rows(&self) -> &[Capability] {
        &self.rows
    }
}
