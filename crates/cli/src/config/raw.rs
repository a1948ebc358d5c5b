//! The configuration file as it is written: one documented field for each setting. These comments
//! are the manual; `docs/reference.md` and `schema.json` are made from them.
//!
//! **Invariant**: what is not known is refused, and every field is optional (test
//! `an_empty_file_is_a_configuration`).

pub(crate) mod budget;
pub(crate) mod route;

use std::collections::BTreeMap;
use std::path::PathBuf;

use gateway::setup::{
    BODY_BYTES_MAX, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, IDLE_TIMEOUT, REQUEST_TIMEOUT,
};
use policy::dispatch::hedge::PERCENT;
use policy::dispatch::lineup::CANDIDATES_MAX;
use policy::dispatch::retry::{DEADLINE_MS, LEGS_MAX, RETRIES, WAIT_MS_MAX};
use schemars::JsonSchema;
use serde::Deserialize;

use budget::{RawBudget, RawBudgetRules};
use route::{RawLoops, RawRule};

/// Loopback, so that nobody else on the network is let in by default.
pub(crate) const LISTEN: &str = "127.0.0.1:8787";

/// 1 KiB: below that no conversation fits.
pub(crate) const BODY_BYTES_FLOOR: u64 = 1 << 10;

/// 1 GiB: a body is held in memory while it is read.
pub(crate) const BODY_BYTES_CEILING: u64 = 1 << 30;

/// 10 ms: a connection across a room takes longer.
pub(crate) const TIMEOUT_MS_FLOOR: u64 = 10;

/// 1 h: a call that waits longer has been forgotten.
pub(crate) const TIMEOUT_MS_CEILING: u64 = 3_600_000;

/// 10: beyond that, a target that fails is only asked again for the sake of asking.
pub(crate) const RETRIES_CEILING: u32 = 10;

/// 50 ms: a round trip to a provider; whoever hedges sooner asks twice for every call.
pub(crate) const HEDGE_MS_FLOOR: u64 = 50;

/// 1: the call itself, which is then never followed up.
pub(crate) const ATTEMPTS_FLOOR: u32 = 1;

/// 64: every target of the longest route once.
pub(crate) const ATTEMPTS_CEILING: u32 = 64;
const _: () = assert!(
    ATTEMPTS_CEILING as usize == CANDIDATES_MAX,
    "one for each target"
);

/// The whole file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Tokenwise configuration")]
pub(crate) struct RawConfig {
    /// Address and port to listen on. Port 0 takes a free one. A change needs a restart.
    pub(crate) listen: String,
    /// Where calls and keys are remembered.
    pub(crate) store: RawStore,
    /// Who may call.
    pub(crate) access: RawAccess,
    /// Where clients name what a call belongs to already, besides `x-tokenwise-session`,
    /// `x-tokenwise-task` and `x-tokenwise-parent-task`, which count first.
    pub(crate) names: RawNames,
    /// The admin API: keys, stops and budgets over HTTP (see [docs/admin.md](admin.md)).
    pub(crate) admin: RawAdmin,
    /// Providers, in order of preference: where two serve a model, the first is called. Without
    /// any, the providers whose key variables are set in the environment are used; if none is set,
    /// `openai` and `anthropic` with each client's own key.
    pub(crate) providers: Vec<RawProvider>,
    /// Names of your own for models: `fast = "openai/gpt-5.4-mini"` serves calls that ask for
    /// `fast` with that model of that provider. A list gives fallbacks, asked in order when the one
    /// before fails: `fast = ["openai/gpt-5.4-mini", "groq/llama-3.3-70b-versatile"]`. A list within
    /// it gives equal deployments, of which the healthier one is asked:
    /// `fast = [["east/gpt-5.4", "west/gpt-5.4"], "openai/gpt-5.4"]`. A call only goes to targets
    /// that speak its own dialect.
    pub(crate) models: BTreeMap<String, RawRoute>,
    /// Which calls go where: one table for each kind of call, of which the first takes a call whose
    /// conditions all hold. A call that none takes goes where its client sent it.
    pub(crate) routes: Vec<RawRule>,
    /// A file that `tokenwise learn` has written from outcomes of your own: for which calls the
    /// `cheaper` targets of routes are good enough. A relative path is taken from the folder of this
    /// file.
    pub(crate) router: Option<PathBuf>,
    /// How calls are followed up that fail at their target before the client has seen any of the
    /// answer.
    pub(crate) failover: RawFailover,
    /// What may be used: one table for each limit. What a call may cost is held before it is sent
    /// and replaced by what it did cost, over all limits that apply to it at once. A changed limit
    /// does not reset what was used. Without any table, nothing is limited.
    pub(crate) budgets: Vec<RawBudget>,
    /// What holds for all budgets.
    pub(crate) budget_rules: RawBudgetRules,
    /// What may be done to save money.
    pub(crate) levers: RawLevers,
    /// What is done about agents that go in circles, for calls whose route does not say so itself.
    pub(crate) loops: RawLoops,
    /// Bounds on bytes and time.
    pub(crate) limits: RawLimits,
    /// What models cost.
    pub(crate) prices: RawPrices,
    /// What is written to standard error.
    pub(crate) log: RawLog,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: LISTEN.to_owned(),
            store: RawStore::default(),
            access: RawAccess::default(),
            names: RawNames::default(),
            admin: RawAdmin::default(),
            providers: Vec::new(),
            models: BTreeMap::new(),
            routes: Vec::new(),
            router: None,
            failover: RawFailover::default(),
            budgets: Vec::new(),
            budget_rules: RawBudgetRules::default(),
            levers: RawLevers::default(),
            loops: RawLoops::default(),
            limits: RawLimits::default(),
            prices: RawPrices::default(),
            log: RawLog::default(),
        }
    }
}

/// Where calls and keys are remembered.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStore {
    /// The ledger's file, on a local disk; a relative path is taken from the folder of this file.
    /// `:memory:` forgets everything at the end. Default: `tokenwise/ledger.db` in
    /// `$XDG_DATA_HOME` or `~/.local/share`. A change needs a restart.
    pub(crate) path: Option<PathBuf>,
    /// What an answered call survives. A change needs a restart.
    pub(crate) durability: RawDurability,
}

/// What an answered call survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawDurability {
    /// The death of the process; a power cut may cost the last moments.
    #[default]
    Process,
    /// Also a power cut, for one disk synchronisation with each group of calls.
    Power,
}

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAccess {
    /// Whether callers need a key of this gateway.
    pub(crate) mode: RawMode,
}

/// Where clients name what a call belongs to: names of headers, as `x-session-id`, and members of the
/// body's `metadata`, as `metadata.session_id`. The first that is there counts, headers before metadata;
/// a name that is no text of 1 to 256 bytes is refused.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawNames {
    /// The session.
    pub(crate) session: Vec<String>,
    /// The task.
    pub(crate) task: Vec<String>,
    /// What the task is part of, the nearest first, with commas between them.
    pub(crate) parent_task: Vec<String>,
}

/// Whether callers need a key of this gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawMode {
    /// Once a key has been made; until then everyone who reaches the port may call, which is only
    /// allowed on loopback, but for web pages from elsewhere.
    #[default]
    Auto,
    /// No; only allowed on loopback, and web pages from elsewhere may not call.
    Open,
    /// Always.
    Keys,
}

/// The admin API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAdmin {
    /// Where the token that opens it comes from, never the token itself: `env:NAME` (a variable) or
    /// `file:PATH` (read again on reload). It has at least 16 bytes of visible ASCII characters.
    /// Without it, the admin API is closed.
    pub(crate) token: Option<String>,
}

/// One provider to call.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProvider {
    /// A provider that is known here (`tokenwise check --providers` lists them), or a name of your
    /// own with `dialect` and `base_url`: lowercase letters, digits, `-` and `_`.
    pub(crate) id: String,
    /// The language that it speaks. Default: that of the known provider.
    #[serde(default)]
    pub(crate) dialect: Option<RawDialect>,
    /// Scheme, host and path before `/chat/completions` (OpenAI) or before `/v1/messages`
    /// (Anthropic, where a `/v1` at the end is as good). Default: that of the known provider.
    #[serde(default)]
    pub(crate) base_url: Option<String>,
    /// Where its key comes from, never the key itself: `env:NAME` (a variable), `file:PATH` (read
    /// again on reload), `client` (each caller's own key is passed on) or `none`. Default: the
    /// known provider's usual variable; `none` for others.
    #[serde(default)]
    pub(crate) api_key: Option<String>,
    /// Globs of the models that it serves; `*` stands for any text, and alone takes what no other
    /// provider names. Default: those of the known provider, else `*`. Any model is also reached as
    /// `id/model`.
    #[serde(default)]
    pub(crate) models: Option<Vec<String>>,
    /// The provider of the price book whose prices apply (`tokenwise price list` shows them).
    /// Default: its own. Without prices, cost is *unknown*, never zero.
    #[serde(default)]
    pub(crate) prices: Option<String>,
}

/// The language that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawDialect {
    /// Anthropic `POST /v1/messages`.
    AnthropicMessages,
    /// OpenAI `POST /v1/chat/completions`.
    #[serde(rename = "openai_chat")]
    OpenAiChat,
}

/// What a name of your own stands for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "allowed: `provider/model` in quotes, or a list of them in which a list within stands \
                 for equal deployments"
)]
pub(crate) enum RawRoute {
    /// One target, as `provider/model`.
    One(String),
    /// A target and its fallbacks, in order.
    Several(Vec<RawStep>),
}

/// One step of a route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawStep {
    /// One target, as `provider/model`.
    One(String),
    /// Equal deployments, one of which is asked.
    Equal(Vec<String>),
}

/// How calls are followed up that fail at their target before the client has seen any of the
/// answer.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFailover {
    /// How often one target is asked again that failed in a way that may pass, before the next one
    /// is asked.
    #[schemars(range(min = 0, max = RETRIES_CEILING))]
    pub(crate) retries: u32,
    /// Attempts of a call in all, over all of its targets; 1 never follows up.
    #[schemars(range(min = ATTEMPTS_FLOOR, max = ATTEMPTS_CEILING))]
    pub(crate) attempts_max: u32,
    /// From the first attempt until the answer begins, in milliseconds; no attempt begins later.
    #[schemars(range(min = TIMEOUT_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) deadline_ms: u64,
    /// The longest that a provider's own wish to wait (`Retry-After`) is followed, in milliseconds;
    /// for a longer one, the next target is asked at once.
    #[schemars(range(min = 0, max = TIMEOUT_MS_CEILING))]
    pub(crate) wait_ms_max: u64,
    /// How long the first target of a call may be silent, in milliseconds, before another one of its
    /// route is asked beside it; who begins first answers, and the other is given up. What is given
    /// up is paid for: take the time that 95 % of your calls begin within. Default: never.
    #[schemars(range(min = HEDGE_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) hedge_after_ms: Option<u64>,
    /// How many calls in a hundred may have such a second attempt.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) hedge_percent_max: u32,
}

impl Default for RawFailover {
    fn default() -> Self {
        Self {
            retries: RETRIES,
            attempts_max: LEGS_MAX,
            deadline_ms: DEADLINE_MS,
            wait_ms_max: WAIT_MS_MAX,
            hedge_after_ms: None,
            hedge_percent_max: PERCENT,
        }
    }
}

/// What may be done to save money.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLevers {
    /// Everything off: bodies leave byte for byte as they came, and usage is not asked for.
    pub(crate) passthrough: bool,
    /// The providers' prompt caches: markers, keys and lifetimes. Default: `on`.
    pub(crate) cache: Option<RawLeverMode>,
    /// Whether models may be asked to think less where the question is easy: once for a conversation,
    /// never with tools, and never against what the client says. Default: `observe`.
    pub(crate) think: Option<RawLeverMode>,
    /// Whether results of tools may be said in fewer tokens, on the routes that say how (`trim`).
    /// Default: `observe`.
    pub(crate) trim: Option<RawLeverMode>,
    /// Whether streams that do not ask for usage are made to report it, hidden from the client.
    /// Default: `always`.
    pub(crate) ask_usage: Option<RawAskUsage>,
}

/// What a lever may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLeverMode {
    /// Nothing.
    Off,
    /// Decide and write down what would have been done, change nothing.
    Observe,
    /// Decide and act.
    On,
}

/// Whether streams that do not ask for usage are made to report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawAskUsage {
    /// Yes: streams are billed exactly.
    Always,
    /// No: such streams are billed by estimate.
    Never,
}

/// Bounds on bytes and time.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    /// Bytes of the largest request body.
    #[schemars(range(min = BODY_BYTES_FLOOR, max = BODY_BYTES_CEILING))]
    pub(crate) body_bytes_max: u64,
    /// Longest wait for a connection to a provider, in milliseconds. A change needs a restart.
    #[schemars(range(min = TIMEOUT_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) connect_timeout_ms: u64,
    /// Longest wait for the head of a provider's answer, in milliseconds.
    #[schemars(range(min = TIMEOUT_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) first_byte_timeout_ms: u64,
    /// Longest silence within an answer, in milliseconds.
    #[schemars(range(min = TIMEOUT_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) idle_timeout_ms: u64,
    /// Longest wait for a client's whole request, in milliseconds.
    #[schemars(range(min = TIMEOUT_MS_FLOOR, max = TIMEOUT_MS_CEILING))]
    pub(crate) request_timeout_ms: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            body_bytes_max: BODY_BYTES_MAX as u64,
            connect_timeout_ms: millis(CONNECT_TIMEOUT),
            first_byte_timeout_ms: millis(FIRST_BYTE_TIMEOUT),
            idle_timeout_ms: millis(IDLE_TIMEOUT),
            request_timeout_ms: millis(REQUEST_TIMEOUT),
        }
    }
}

/// What models cost.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPrices {
    /// Price files that are laid over the built-in book, in this order; relative paths are taken
    /// from the folder of this file. They are read again when this file changes, or on SIGHUP.
    pub(crate) files: Vec<PathBuf>,
}

/// What is written to standard error. A change needs a restart.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    /// How lines look.
    pub(crate) format: RawLogFormat,
    /// The least severe level that is written, or a filter such as `warn,gateway=debug`.
    pub(crate) level: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: RawLogFormat::default(),
            level: "info".to_owned(),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_configuration() {
        let raw: RawConfig = toml::from_str("").unwrap();
        assert_eq!(raw.listen, LISTEN);
        assert_eq!(raw.limits.body_bytes_max, BODY_BYTES_MAX as u64);
        assert_eq!(
            (raw.access.mode, raw.log.level.as_str()),
            (RawMode::Auto, "info")
        );
        assert!(toml::from_str::<RawConfig>("lisen = 1").is_err());
    }
}
