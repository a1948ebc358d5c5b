//! What the data path is told: validated, so that it cannot be wrong from here on.
//!
//! **Invariant**: a `Setup` has at least one upstream, and every alias names one of them
//! (test `a_setup_refuses_what_it_cannot_serve`).

pub mod cascade;
pub mod loops;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use policy::admit::book::hold::UnknownPrice;
use policy::admit::limit::{self, Limit, LimitError, LimitId, Then};
use policy::agents::runaway;
use policy::dispatch::lineup::CANDIDATES_MAX;
use policy::dispatch::{breaker, retry};
use policy::prices::PriceBook;
use policy::route::predictor::Predictor;
use policy::route::rules::When;
use policy::shape::context::budget::Budget;
use policy::shape::trim::Level;
use wire::dialect::Dialect;
use wire::provider::{Auth, CacheKey};
use wire::usage::Tokens;

use crate::admin::token::AdminToken;
use crate::receive::names::Names;
use crate::setup::cascade::Cascade;
use crate::setup::loops::Loops;

/// 32 MiB: Anthropic's own limit for `/v1/messages`; OpenAI's chat bodies stay below it.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// 64 MiB: an answer that is not a stream is read whole to meter it. One that is passed through and says
/// to be larger goes on unmetered.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// 10 s: a TCP and TLS handshake that takes longer has failed.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// 10 min: the official SDKs' own default; a thinking model may be silent for long.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);

/// 5 min: providers send pings or comments far more often than that.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// 60 s: the time a client has to send its whole request, once it has begun.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds on bytes and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Longest wait for a connection to an upstream.
    pub connect_timeout: Duration,
    /// Longest wait for an upstream's response head.
    pub first_byte_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// Longest wait for a client's request body.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            connect_timeout: CONNECT_TIMEOUT,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// What a lever may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeverMode {
    /// Nothing.
    Off,
    /// Decide and write down, change nothing.
    Observe,
    /// Decide and act.
    #[default]
    On,
}

impl LeverMode {
    /// The name in configuration and notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }
}

/// Whether streams that do not ask for usage are made to report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskUsage {
    /// Ask upstream, hide from the client: streams are billed exactly.
    #[default]
    Always,
    /// Leave the body alone: such streams are billed by estimate.
    Never,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone who reaches the port; only for loopback.
    Open,
    /// Holders of a key.
    Keys,
}

/// How calls to an upstream are authenticated.
#[derive(Clone)]
pub enum Credential {
    /// With this header value, marked sensitive.
    Configured(HeaderValue),
    /// With the client's own credential, passed on.
    FromClient,
    /// Not at all (local servers).
    Nothing,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Configured(_) => "***",
            Self::FromClient => "from client",
            Self::Nothing => "nothing",
        })
    }
}

/// One configured provider.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The id that targets, rows and headers use.
    pub id: String,
    /// The provider in the price book that sells its models.
    pub prices: String,
    /// The dialect that it speaks.
    pub dialect: Dialect,
    /// Scheme, host and path prefix of every call.
    pub base: Uri,
    /// Where the credential goes.
    pub auth: Auth,
    /// The credential.
    pub credential: Credential,
    /// Globs of the models that are routed here.
    pub models: Vec<String>,
    /// How a cache key is sent, if it takes one.
    pub cache_key: CacheKey,
    /// Whether it understands `stream_options.include_usage`.
    pub asks_usage: bool,
}

/// A model at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The upstream's id.
    pub provider: String,
    /// The model as the upstream knows it.
    pub model: String,
}

/// A route of the configuration: which calls it takes, and what may be done with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name in reports.
    pub name: String,
    /// Which calls it takes.
    pub when: When,
    /// In place of the model that the client asked for: a name of `routes`, or `provider/model`.
    pub to: Option<String>,
    /// Targets that its owner holds to be as good: cost alone decides between them.
    pub as_good: Vec<Target>,
    /// Targets that cost less and may be good enough: taken where that is known.
    pub cheaper: Vec<Target>,
    /// The share of the quality of a call's own target that cheaper ones must keep, 0..=1.
    pub quality: f64,
    /// The share of the calls that may be tried at a cheaper target of which nothing is known, 0..=1.
    pub explore: f64,
    /// The longest usual wait for a first token of a target that is chosen over the client's.
    pub first_token_ms_max: Option<u64>,
    /// The route lever.
    pub mode: LeverMode,
    /// A cheaper target that is asked before the call's own.
    pub cascade: Option<Arc<Cascade>>,
    /// The think lever.
    pub think: Think,
    /// What is done about agents that go in circles.
    pub loops: Arc<Loops>,
    /// The trim lever.
    pub trim: Trim,
    /// How much of a context there may be; also what the trim lever does beyond that.
    pub context: Arc<[Budget]>,
}

impl Rule {
    /// Whether what is learned of targets takes part in what it decides.
    pub fn learns(&self) -> bool {
        let cascade = self.cascade.as_ref();
        self.mode != LeverMode::Off && !self.cheaper.is_empty()
            || cascade.is_some_and(|it| it.mode != LeverMode::Off && it.quality.is_some())
    }
}

/// What the trim lever may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The lever.
    pub mode: LeverMode,
    /// How much may be left out; none where no route says so.
    pub level: Option<Level>,
    /// The most tokens of documents that a question comes with.
    pub focus: Option<Tokens>,
}

impl Trim {
    /// Nothing.
    pub const OFF: Self = Self {
        mode: LeverMode::Off,
        level: None,
        focus: None,
    };
}

/// What the think lever may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Think {
    /// The lever.
    pub mode: LeverMode,
    /// Whether calls with tools may be asked to think less than they would by default.
    pub with_tools: bool,
}

impl Think {
    /// Nothing.
    pub const OFF: Self = Self {
        mode: LeverMode::Off,
        with_tools: false,
    };
}

/// What may be used, by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// The limits; without any, nothing is held.
    pub limits: Vec<Limit>,
    /// What becomes of legs without a known price where money is limited.
    pub unknown_price: UnknownPrice,
    /// By limit: cheaper targets for calls that have no room, the best first.
    pub degrade_to: BTreeMap<LimitId, Vec<Target>>,
    /// The limits that ask agents to finish shortly before they are used up.
    pub wrap_up: BTreeSet<LimitId>,
    /// What follows when a task spends much faster than its kind does.
    pub runaway: Runaway,
    /// When that is so.
    pub runaway_rules: runaway::Rules,
}

/// What follows when a task spends much faster than its kind does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runaway {
    /// Nobody looks.
    Off,
    /// It is told of.
    #[default]
    Alarm,
    /// The task is stopped.
    Stop,
}

impl Budgets {
    /// Whether any limit prefers a lesser answer to none.
    pub fn degrade(&self) -> bool {
        self.limits.iter().any(|limit| limit.then == Then::Degrade)
    }
}

/// Everything that the data path needs to know.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Providers, in order of preference.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Names of ours for targets: of each list of equal deployments one is called; the next list is
    /// the fallback of the one before.
    pub routes: BTreeMap<String, Vec<Vec<Target>>>,
    /// Routes, of which the first takes a call whose conditions hold.
    pub rules: Vec<Rule>,
    /// The router that was learned from outcomes of one's own, if there is one.
    pub router: Option<Arc<Predictor>>,
    /// How legs that fail are followed up.
    pub retry: retry::Policy,
    /// When a target is left alone.
    pub breaker: breaker::Rules,
    /// What may be used.
    pub budgets: Budgets,
    /// The cache lever.
    pub cache: LeverMode,
    /// The think lever, for calls that no rule takes.
    pub think: Think,
    /// What is done about agents that go in circles, for calls that no rule takes.
    pub loops: Arc<Loops>,
    /// Usage on streams.
    pub ask_usage: AskUsage,
    /// Who may call.
    pub access: Access,
    /// Where clients name what a call belongs to, besides our own headers.
    pub names: Names,
    /// What opens the admin API; without it, it is closed.
    pub admin: Option<AdminToken>,
    /// Bounds.
    pub limits: Limits,
    /// Prices.
    pub prices: PriceBook,
}

/// Why a setup cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Nothing to call.
    #[error(
        "no provider is configured; set a provider's key in the environment (for instance \
         OPENAI_API_KEY or ANTHROPIC_API_KEY) or add a [[providers]] table"
    )]
    NoUpstream,
    /// Two upstreams with one id.
    #[error("provider `{0}` is configured twice; give each its own id")]
    DuplicateUpstream(String),
    /// A route without a target, or with more than can be told apart.
    #[error("model `{alias}` has {given} targets; allowed: 1 to {CANDIDATES_MAX}")]
    TargetCount {
        /// The route.
        alias: String,
        /// How many it has.
        given: usize,
    },
    /// Limits that contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// A route to nowhere.
    #[error(
        "route `{route}` leads to `{provider}`, which is neither a name of `[models]` nor a model of \
         a configured provider; configured: {configured}"
    )]
    UnknownStop {
        /// The route.
        route: String,
        /// What it names.
        provider: String,
        /// What there is.
        configured: String,
    },
    /// A limit that degrades to nowhere.
    #[error(
        "limit `{limit}` degrades to a model of provider `{provider}`, which is not configured; \
         configured: {configured}"
    )]
    UnknownLesser {
        /// The limit.
        limit: LimitId,
        /// What it names.
        provider: String,
        /// What there is.
        configured: String,
    },
    /// Loops that are degraded to nowhere.
    #[error(
        "loops are degraded to a model of provider `{provider}`, which is not configured; \
         configured: {configured}"
    )]
    UnknownRetreat {
        /// What is named.
        provider: String,
        /// What there is.
        configured: String,
    },
    /// An alias to nowhere.
    #[error(
        "model alias `{alias}` names provider `{provider}`, which is not configured; configured: {configured}"
    )]
    UnknownTarget {
        /// The alias.
        alias: String,
        /// What it names.
        provider: String,
        /// What there is.
        configured: String,
    },
}

impl Setup {
    /// Checks what spans several settings; single values were checked where they entered.
    pub fn validated(self) -> Result<Self, SetupError> {
        if self.upstreams.is_empty() {
            return Err(SetupError::NoUpstream);
        }
        for (index, upstream) in self.upstreams.iter().enumerate() {
            if self
                .upstreams
                .iter()
                .take(index)
                .any(|earlier| earlier.id == upstream.id)
            {
                return Err(SetupError::DuplicateUpstream(upstream.id.clone()));
            }
        }
        for (alias, ranks) in &self.routes {
            let given = ranks.iter().map(Vec::len).sum();
            if given == 0 || given > CANDIDATES_MAX {
                let alias = alias.clone();
                return Err(SetupError::TargetCount { alias, given });
            }
            let mut targets = ranks.iter().flatten();
            if let Some(target) = targets.find(|it| self.upstream(&it.provider).is_none()) {
                return Err(SetupError::UnknownTarget {
                    alias: alias.clone(),
                    provider: target.provider.clone(),
                    configured: self.configured(),
                });
            }
        }
        for rule in &self.rules {
            self.check_rule(rule)?;
        }
        let retreat = self.loops.degrade_to.as_ref();
        if let Some(target) = retreat.filter(|it| self.upstream(&it.provider).is_none()) {
            return Err(SetupError::UnknownRetreat {
                provider: target.provider.clone(),
                configured: self.configured(),
            });
        }
        limit::check(&self.budgets.limits)?;
        for (limit, targets) in &self.budgets.degrade_to {
            let mut targets = targets.iter();
            if let Some(target) = targets.find(|it| self.upstream(&it.provider).is_none()) {
                return Err(SetupError::UnknownLesser {
                    limit: limit.clone(),
                    provider: target.provider.clone(),
                    configured: self.configured(),
                });
            }
        }
        Ok(self)
    }

    /// Refuses a route that names what is not there.
    fn check_rule(&self, rule: &Rule) -> Result<(), SetupError> {
        let unknown = |provider: &str| SetupError::UnknownStop {
            route: rule.name.clone(),
            provider: provider.to_owned(),
            configured: self.configured(),
        };
        let cheap = rule.cascade.as_ref().map(|cascade| &cascade.target);
        let targets = rule.as_good.iter().chain(&rule.cheaper).chain(cheap);
        let judges = rule.cascade.iter().flat_map(|it| it.judges());
        let targets = targets.chain(judges.map(|it| &it.target));
        let mut targets = targets.chain(&rule.loops.degrade_to);
        if let Some(target) = targets.find(|it| self.upstream(&it.provider).is_none()) {
            return Err(unknown(&target.provider));
        }
        let Some(to) = rule
            .to
            .as_deref()
            .filter(|to| !self.routes.contains_key(*to))
        else {
            return Ok(());
        };
        let provider = to.split_once('/').map_or(to, |(provider, _)| provider);
        match self.upstream(provider) {
            Some(_) if to.contains('/') => Ok(()),
            _ => Err(unknown(provider)),
        }
    }

    /// The upstream with this id.
    pub fn upstream(&self, id: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.id == id)
    }

    /// The ids of all upstreams, for messages.
    pub fn configured(&self) -> String {
        let ids: Vec<&str> = self
            .upstreams
            .iter()
            .map(|upstream| upstream.id.as_str())
            .collect();
        ids.join(", ")
    }
}

/// Setups for the tests of other files.
#[cfg(test)]
pub(crate) mod sample {
    use super::{
        Access, Arc, AskUsage, Auth, BTreeMap, Budgets, CacheKey, Credential, Dialect, LeverMode,
        Limits, Loops, Names, PriceBook, Setup, Think, Upstream, Uri, breaker, retry,
    };

    pub(crate) fn upstream(id: &str, dialect: Dialect, globs: &[&str]) -> Upstream {
        Upstream {
            id: id.to_owned(),
            prices: id.to_owned(),
            dialect,
            base: Uri::from_static("http://127.0.0.1:1"),
            auth: Auth::Bearer,
            credential: Credential::FromClient,
            models: globs.iter().map(|glob| (*glob).to_owned()).collect(),
            cache_key: CacheKey::None,
            asks_usage: false,
        }
    }

    pub(crate) fn setup(upstreams: Vec<Upstream>) -> Setup {
        Setup {
            upstreams: upstreams.into_iter().map(Arc::new).collect(),
            routes: BTreeMap::new(),
            rules: Vec::new(),
            router: None,
            retry: retry::Policy::default(),
            breaker: breaker::Rules::default(),
            budgets: Budgets::default(),
            cache: LeverMode::Off,
            think: Think::OFF,
            loops: Loops::OFF.into(),
            ask_usage: AskUsage::Never,
            access: Access::Open,
            names: Names::default(),
            admin: None,
            limits: Limits::default(),
            prices: PriceBook::built_in().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_refuses_what_it_cannot_serve() {
        for (ids, alias, expect) in [
            (&[][..], None, Some("no provider is configured")),
            (&["a", "a"], None, Some("`a` is configured twice")),
            (
                &["a"],
                Some("b"),
                Some("names provider `b`, which is not configured; configured: a"),
            ),
            (&["a", "b"], Some("b"), None),
        ] {
            let upstreams = ids
                .iter()
                .map(|id| sample::upstream(id, Dialect::OpenAiChat, &["*"]));
            let mut setup = sample::setup(upstreams.collect());
            if let Some(provider) = alias {
                let (provider, model) = (provider.to_string(), "m".to_owned());
                let target = Target { provider, model };
                setup.routes.insert("fast".to_owned(), vec![vec![target]]);
            }
            let found = setup.validated().err().map(|error| error.to_string());
            match (found, expect) {
                (None, None) => {}
                (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
                (found, expect) => assert_eq!(found.as_deref(), expect),
            }
        }
    }

    #[test]
    fn a_credential_never_shows() {
        let value = HeaderValue::from_static("Bearer sk-planted");
        let shown = format!("{:?}", Credential::Configured(value));
        assert_eq!(shown, "***");
    }
}
