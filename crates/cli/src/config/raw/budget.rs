//! `[[budgets]]` and `[budget_rules]` as they are written; these comments, too, are the manual.
//!
//! **Invariant**: the cautious choice is the default: `hard` limits, and no call that has no price
//! (test `a_budget_is_meant_seriously`).

use schemars::JsonSchema;
use serde::Deserialize;

/// One limit: how much of what may be used by whom in which time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBudget {
    /// Its name in errors, headers and reports: lowercase letters, digits, `-` and `_`.
    pub(crate) id: String,
    /// What is limited.
    pub(crate) applies_to: RawPayer,
    /// One of them, as `only = "search"` for one team: in the same unit, `per` and `time_zone`, it
    /// has this limit in place of those for each. Default: each has a limit of its own, also one
    /// that was never seen before.
    #[serde(default)]
    pub(crate) only: Option<String>,
    /// Dollars, in quotes and exact: `usd = "20.50"`. Of `usd`, `tokens`, `requests` and
    /// `concurrent`, write exactly one; for more, write more tables.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) usd: Option<RawUsd>,
    /// Tokens, input and output.
    #[serde(default)]
    pub(crate) tokens: Option<u64>,
    /// Calls.
    #[serde(default)]
    pub(crate) requests: Option<u64>,
    /// Calls under way at the same time; without `per`.
    #[serde(default)]
    pub(crate) concurrent: Option<u64>,
    /// The time in which so much may be used; required, except with `concurrent`.
    #[serde(default)]
    pub(crate) per: Option<RawPeriod>,
    /// Whose clocks and calendar say when that time begins: an IANA name, as `Europe/Berlin`.
    /// Default: `UTC`.
    #[serde(default)]
    pub(crate) time_zone: Option<String>,
    /// How seriously it is meant. Default: `hard`.
    #[serde(default)]
    pub(crate) mode: RawBudgetMode,
    /// What becomes of a call for which there is no room. Default: `refuse`.
    #[serde(default)]
    pub(crate) then: RawThen,
    /// With `then = "degrade"`: cheaper targets, as `["provider/model"]`, the best first. Those of
    /// the call's route (`as_good`) come after them.
    #[serde(default)]
    pub(crate) degrade_to: Vec<String>,
    /// Whether agents are asked to finish from 95 % of the amount on, for sessions and tasks: a note
    /// at the end of the newest message says how much is left, once, and stays in its place when the
    /// conversation comes again. Default: false.
    #[serde(default)]
    pub(crate) wrap_up: bool,
}

/// What becomes of a call for which a limit has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawThen {
    /// It is refused.
    #[default]
    Refuse,
    /// It gets a lesser answer. From 80 % of the amount on, conversations that begin are asked to
    /// think little, unless the client says how hard. A call without room goes to a cheaper target,
    /// under `soft` from 95 % on; it is refused where none has room either.
    Degrade,
}

/// Dollars, as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "allowed: dollars in quotes, as \"20.50\", so that they stay exact"
)]
pub(crate) enum RawUsd {
    /// As written.
    Text(String),
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawPayer {
    /// An organisation, all of its teams included.
    Organisation,
    /// A team, all of its keys included.
    Team,
    /// A key, by its id (`tokenwise keys list` shows it).
    Key,
    /// A person or service that the client names, else the owner of the key.
    User,
    /// A conversation.
    Session,
    /// A piece of work that the client names.
    Task,
    /// A label of the key or of the client.
    Tag,
    /// A model, by whatever name it is asked for: its own, `provider/model`, or one of yours.
    Model,
}

/// The time in which so much may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawPeriod {
    /// From one full minute to the next.
    Minute,
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// From the first of a month to the first of the next.
    Month,
    /// For ever: it never starts anew.
    Lifetime,
}

/// How seriously a limit is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBudgetMode {
    /// It refuses nothing and says what it would have refused.
    Observe,
    /// It holds what a call is expected to cost: calls under way may go beyond it by as much as they
    /// turn out dearer.
    Soft,
    /// It holds the most that a call can cost: it is never exceeded.
    #[default]
    Hard,
}

/// What holds for all budgets.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawBudgetRules {
    /// What becomes of calls to models without a known price where money is limited. Default:
    /// `block`.
    pub(crate) unknown_price: RawUnknownPrice,
    /// What follows when a task (or a session, where no task is named) spends in a minute far more
    /// than tasks with the same tools and instructions do: `off`, `alarm` (the default: in the log,
    /// the metrics and the call's notes) or `stop`, which also stops the task until
    /// `tokenwise resume task NAME`. Nothing follows before 100 minutes of such tasks were seen.
    pub(crate) runaway: RawRunaway,
    /// So many times what all but one in a hundred of their minutes spend. Default: 5.
    pub(crate) runaway_times: Option<u32>,
    /// A task that spends less in a minute is never one; dollars, in quotes. Default: `"1"`.
    #[schemars(with = "Option<String>")]
    pub(crate) runaway_usd: Option<RawUsd>,
}

/// What follows when a task spends too fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawRunaway {
    /// Nobody looks.
    Off,
    /// It is told of.
    #[default]
    Alarm,
    /// The task is stopped.
    Stop,
}

/// What becomes of calls to models without a known price where money is limited.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawUnknownPrice {
    /// They are refused: what cannot be priced cannot be kept within an amount.
    #[default]
    Block,
    /// They pass until the amount is reached, and count as nothing.
    Allow,
    /// Each holds this many dollars, in quotes, and is booked with them unless its price becomes
    /// known.
    HoldUsd(#[schemars(with = "String")] RawUsd),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_meant_seriously() {
        let budget: RawBudget = toml::from_str("id = \"a\"\napplies_to = \"team\"").unwrap();
        assert_eq!(budget.mode, RawBudgetMode::Hard);
        assert_eq!(budget.then, RawThen::Refuse);
        let rules: RawBudgetRules = toml::from_str("").unwrap();
        assert!(matches!(rules.unknown_price, RawUnknownPrice::Block));
    }
}
