//! From the file as written to a configuration that cannot be wrong.
//!
//! **Invariant**: each value is checked once, here, and a message names file, key, value and what
//! is allowed (test `bad_values_are_named`).

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::admin::token::AdminToken;
use gateway::setup::loops::Action;
use gateway::setup::{Access, AskUsage, LeverMode, Limits, Setup, SetupError, Think, Upstream};
use policy::admit::limit::Then;
use policy::dispatch::breaker;
use policy::prices::PriceBook;

use super::fault::ConfigError;
use super::providers::{self, Configured};
use super::raw::{
    BODY_BYTES_CEILING, BODY_BYTES_FLOOR, RawAskUsage, RawConfig, RawDurability, RawLeverMode,
    RawLogFormat, RawMode, TIMEOUT_MS_CEILING, TIMEOUT_MS_FLOOR,
};
use super::secret::Reference;
use super::{budgets, contexts, loops, names, router, routes, rules};
use crate::env::{DATA_HOME, Environment, HOME};

/// The path that keeps everything in memory.
const IN_MEMORY: &str = ":memory:";

/// 64 characters: ids stand in paths, headers and rows.
const ID_CHARACTERS_MAX: usize = 64;

/// What stands for a file where none is used.
pub(crate) const NO_FILE: &str = "built-in configuration";

/// Where calls and keys are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this file.
    File(PathBuf),
    /// Nowhere, once the process ends.
    Memory,
}

/// Everything that a command needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that it was read from.
    pub(crate) file: Option<PathBuf>,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Where calls and keys are remembered.
    pub(crate) place: Place,
    /// What an answered call survives.
    pub(crate) durability: RawDurability,
    /// Whether callers need a key.
    pub(crate) mode: RawMode,
    /// How log lines look.
    pub(crate) log_format: RawLogFormat,
    /// Which log lines are written.
    pub(crate) log_level: String,
    /// What the data path is told; its `access` is decided by [`Config::setup`].
    setup: Setup,
    /// Where each provider's key comes from.
    pub(crate) providers: Vec<Configured>,
    /// What the reader should know.
    pub(crate) remarks: Vec<String>,
}

/// Whether the store has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysMade {
    /// Not one, not even a disabled one.
    None,
    /// At least one.
    Some,
}

/// What a build works with.
pub(super) struct Build<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) environment: &'a Environment,
    /// The folder of the file, from which relative paths are taken.
    pub(super) folder: &'a Path,
    pub(super) file: Option<&'a Path>,
    pub(super) remarks: Vec<String>,
}

impl<'a> Build<'a> {
    /// For what a file says, or for nothing.
    pub(super) fn new(
        raw: &'a RawConfig,
        file: Option<&'a Path>,
        environment: &'a Environment,
    ) -> Self {
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        Self {
            raw,
            environment,
            folder,
            file,
            remarks: Vec::new(),
        }
    }

    /// A value that is not allowed.
    pub(super) fn fault(&self, key: String, problem: String) -> ConfigError {
        let file = self
            .file
            .map_or(NO_FILE.to_owned(), |file| file.display().to_string());
        ConfigError::Value { file, key, problem }
    }

    /// The value, if it lies within its bounds.
    pub(super) fn within<T: Copy + Display + PartialOrd>(
        &self,
        key: &str,
        value: T,
        allowed: RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        if allowed.contains(&value) {
            return Ok(value);
        }
        let (floor, ceiling) = allowed.into_inner();
        let problem = format!("is {value}; allowed: {floor} to {ceiling}");
        Err(self.fault(key.to_owned(), problem))
    }

    /// Refuses what cannot stand in paths, headers and rows.
    pub(super) fn check_id(&self, key: &str, id: &str) -> Result<(), ConfigError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if (1..=ID_CHARACTERS_MAX).contains(&id.len()) && id.chars().all(fits) {
            return Ok(());
        }
        let problem = format!(
            "is `{id}`; allowed: 1 to {ID_CHARACTERS_MAX} lowercase letters, digits, `-` and `_`"
        );
        Err(self.fault(key.to_owned(), problem))
    }
}

/// Builds a configuration from what a file says, or from nothing.
pub(crate) fn build(
    raw: &RawConfig,
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let mut build = Build::new(raw, file, environment);
    let listen = listen(&build)?;
    let place = place(&build)?;
    let prices = prices(&build)?;
    let providers = providers::build(&mut build, &prices)?;
    let setup = Setup {
        upstreams: upstreams(&providers),
        routes: routes::routes(&build)?,
        rules: rules::rules(&build)?,
        router: router::router(&build)?,
        retry: routes::failover(&build)?,
        breaker: breaker::Rules::default(),
        budgets: budgets::budgets(&build)?,
        cache: cache(&build)?,
        think: think(&build)?,
        loops: loops::everywhere(&build)?,
        ask_usage: ask_usage(&build)?,
        access: Access::Keys,
        names: names::names(&build)?,
        admin: admin(&build)?,
        limits: limits(&build)?,
        prices,
    };
    let setup = setup.validated();
    let setup =
        setup.map_err(|error| build.fault(key_of(&error), format!("cannot be used: {error}")))?;
    build.remarks.extend(routes::remarks(&setup));
    build.remarks.extend(rules::remarks(&setup));
    build.remarks.extend(contexts::remarks(&setup));
    build.remarks.extend(router::remarks(&setup));
    build.remarks.extend(budgets::remarks(&setup));
    if raw.log.level.trim().is_empty() {
        let problem = "is empty; write `error`, `warn`, `info`, `debug` or a filter".to_owned();
        return Err(build.fault("log.level".to_owned(), problem));
    }
    Ok(Config {
        file: file.map(Path::to_owned),
        listen,
        place,
        durability: raw.store.durability,
        mode: raw.access.mode,
        log_format: raw.log.format,
        log_level: raw.log.level.clone(),
        setup,
        providers,
        remarks: build.remarks,
    })
}

impl Config {
    /// What the data path is told, access included; open access beyond loopback is refused.
    pub(crate) fn setup(&self, listen: SocketAddr, keys: KeysMade) -> Result<Setup, ConfigError> {
        let access = match (self.mode, keys) {
            (RawMode::Keys, _) | (RawMode::Auto, KeysMade::Some) => Access::Keys,
            (RawMode::Open, _) | (RawMode::Auto, KeysMade::None) => Access::Open,
        };
        if access == Access::Open && !listen.ip().is_loopback() {
            let file = self.file.as_ref();
            return Err(ConfigError::Value {
                file: file.map_or(NO_FILE.to_owned(), |file| file.display().to_string()),
                key: "access.mode".to_owned(),
                problem: format!(
                    "lets everyone in at {listen}, which is not loopback; create a key with \
                     `tokenwise keys create NAME` and write `mode = \"keys\"`, or listen on \
                     127.0.0.1"
                ),
            });
        }
        Ok(Setup {
            access,
            ..self.setup.clone()
        })
    }

    /// The same configuration with all levers in one mode; off means untouched bodies, so that limits
    /// refuse where they would have changed one. Who only observes changes none for an agent's sake.
    pub(crate) fn with_levers(mut self, mode: RawLeverMode) -> Self {
        self.setup.cache = lever(mode);
        self.setup.think.mode = lever(mode);
        for rule in &mut self.setup.rules {
            rule.mode = lever(mode);
            rule.think.mode = lever(mode);
            rule.trim.mode = lever(mode);
            if let Some(cascade) = &mut rule.cascade {
                Arc::make_mut(cascade).mode = lever(mode);
            }
        }
        let most = match mode {
            RawLeverMode::Off => Action::Off,
            RawLeverMode::Observe => Action::Observe,
            RawLeverMode::On => return self,
        };
        let rules = self.setup.rules.iter_mut().map(|rule| &mut rule.loops);
        for loops in rules.chain([&mut self.setup.loops]) {
            let loops = Arc::make_mut(loops);
            loops.action = loops.action.min(most);
        }
        self.setup.budgets.wrap_up.clear();
        if mode == RawLeverMode::Off {
            for limit in &mut self.setup.budgets.limits {
                limit.then = Then::Refuse;
            }
            self.setup.ask_usage = AskUsage::Never;
        }
        self
    }

    /// What does not depend on who may call.
    pub(crate) fn settings(&self) -> &Setup {
        &self.setup
    }
}

/// The upstreams of the configured providers.
fn upstreams(providers: &[Configured]) -> Vec<Arc<Upstream>> {
    let upstreams = providers.iter().map(|row| row.upstream.clone());
    upstreams.map(Arc::new).collect()
}

/// Where to look for what several settings are wrong about.
fn key_of(error: &SetupError) -> String {
    match error {
        SetupError::NoUpstream | SetupError::DuplicateUpstream(_) => "providers".to_owned(),
        SetupError::TargetCount { alias, .. } | SetupError::UnknownTarget { alias, .. } => {
            format!("models.{alias}")
        }
        SetupError::UnknownStop { route, .. } => format!("routes.{route}.use"),
        SetupError::UnknownLesser { limit, .. } => format!("budgets.{limit}.degrade_to"),
        SetupError::UnknownRetreat { .. } => "loops.degrade_to".to_owned(),
        SetupError::Limits(_) => "budgets".to_owned(),
    }
}

fn listen(build: &Build<'_>) -> Result<SocketAddr, ConfigError> {
    let text = &build.raw.listen;
    let text_of = text.replace("localhost:", "127.0.0.1:");
    text_of.parse().map_err(|_| {
        let problem = format!(
            "is `{text}`; allowed: an IP address and a port from 0 to 65535, as `127.0.0.1:8787` \
             or `[::1]:8787`"
        );
        build.fault("listen".to_owned(), problem)
    })
}

/// What opens the admin API.
fn admin(build: &Build<'_>) -> Result<Option<AdminToken>, ConfigError> {
    let Some(text) = &build.raw.admin.token else {
        return Ok(None);
    };
    let fault = |problem: String| build.fault("admin.token".to_owned(), problem);
    let reference = match Reference::read(text) {
        Ok(reference @ (Reference::Variable(_) | Reference::File(_))) => reference,
        Err(problem) if text.starts_with("env:") || text.starts_with("file:") => {
            return Err(fault(problem));
        }
        Ok(Reference::Client | Reference::Nothing) | Err(_) => {
            let problem = "is no reference (not shown); put the token into an environment variable \
                           and write `env:NAME`, or into a file and write `file:PATH`";
            return Err(fault(problem.to_owned()));
        }
    };
    let token = reference.secret(build.environment, build.folder);
    let token = token.map_err(&fault)?.unwrap_or_default();
    let token = AdminToken::new(&token);
    token
        .map(Some)
        .map_err(|weak| fault(format!("leads to a token that {weak}")))
}

/// Where calls and keys are remembered.
pub(super) fn place(build: &Build<'_>) -> Result<Place, ConfigError> {
    match &build.raw.store.path {
        Some(path) if path.as_os_str() == IN_MEMORY => Ok(Place::Memory),
        Some(path) if path.as_os_str().is_empty() => {
            let problem = "is empty; write a file's path, or `:memory:`".to_owned();
            Err(build.fault("store.path".to_owned(), problem))
        }
        Some(path) => Ok(Place::File(build.environment.path(build.folder, path))),
        None => build
            .environment
            .default_ledger()
            .map(Place::File)
            .ok_or_else(|| {
                let problem = format!(
                    "is missing, and neither `{DATA_HOME}` nor `{HOME}` says where data belongs; \
                 write a file's path, or `:memory:`"
                );
                build.fault("store.path".to_owned(), problem)
            }),
    }
}

/// What models cost.
pub(super) fn prices(build: &Build<'_>) -> Result<PriceBook, ConfigError> {
    let fault = |problem| build.fault("prices.files".to_owned(), problem);
    let files = &build.raw.prices.files;
    if files.is_empty() {
        return Ok(PriceBook::built_in().clone());
    }
    let mut book = PriceBook::built_in().clone();
    for file in files {
        let path = build.environment.path(build.folder, file);
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| fault(format!("names {name}, which cannot be read: {error}")))?;
        let refreshed = book.refreshed_with(&[(&name, &text)]);
        book = refreshed
            .map_err(|error| fault(format!("holds a faulty file: {error}")))?
            .0;
    }
    Ok(book)
}

const fn lever(mode: RawLeverMode) -> LeverMode {
    match mode {
        RawLeverMode::Off => LeverMode::Off,
        RawLeverMode::Observe => LeverMode::Observe,
        RawLeverMode::On => LeverMode::On,
    }
}

fn cache(build: &Build<'_>) -> Result<LeverMode, ConfigError> {
    match (build.raw.levers.passthrough, build.raw.levers.cache) {
        (false, mode) => Ok(mode.map_or(LeverMode::default(), lever)),
        (true, None | Some(RawLeverMode::Off)) => Ok(LeverMode::Off),
        (true, Some(RawLeverMode::On | RawLeverMode::Observe)) => {
            Err(contradiction(build, "levers.cache", "off"))
        }
    }
}

/// A lever that can change answers: it observes unless it is told to act.
pub(super) fn observing(
    build: &Build<'_>,
    key: &str,
    mode: Option<RawLeverMode>,
) -> Result<LeverMode, ConfigError> {
    match (build.raw.levers.passthrough, mode) {
        (false, mode) => Ok(mode.map_or(LeverMode::Observe, lever)),
        (true, None | Some(RawLeverMode::Off)) => Ok(LeverMode::Off),
        (true, Some(RawLeverMode::On | RawLeverMode::Observe)) => {
            Err(contradiction(build, key, "off"))
        }
    }
}

/// The think lever, for calls that no route takes.
fn think(build: &Build<'_>) -> Result<Think, ConfigError> {
    let mode = observing(build, "levers.think", build.raw.levers.think)?;
    Ok(Think {
        mode,
        with_tools: false,
    })
}

fn ask_usage(build: &Build<'_>) -> Result<AskUsage, ConfigError> {
    match (build.raw.levers.passthrough, build.raw.levers.ask_usage) {
        (false, None | Some(RawAskUsage::Always)) => Ok(AskUsage::Always),
        (_, Some(RawAskUsage::Never)) | (true, None) => Ok(AskUsage::Never),
        (true, Some(RawAskUsage::Always)) => Err(contradiction(build, "levers.ask_usage", "never")),
    }
}

fn contradiction(build: &Build<'_>, key: &str, allowed: &str) -> ConfigError {
    let problem = format!(
        "contradicts `passthrough = true`; allowed beside it: `{allowed}`, or leave one of them out"
    );
    build.fault(key.to_owned(), problem)
}

fn limits(build: &Build<'_>) -> Result<Limits, ConfigError> {
    let raw = &build.raw.limits;
    let time = |key: &str, value: u64| {
        let value = build.within(
            &format!("limits.{key}"),
            value,
            TIMEOUT_MS_FLOOR..=TIMEOUT_MS_CEILING,
        );
        value.map(Duration::from_millis)
    };
    let bytes = build.within(
        "limits.body_bytes_max",
        raw.body_bytes_max,
        BODY_BYTES_FLOOR..=BODY_BYTES_CEILING,
    )?;
    Ok(Limits {
        body_bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
        connect_timeout: time("connect_timeout_ms", raw.connect_timeout_ms)?,
        first_byte_timeout: time("first_byte_timeout_ms", raw.first_byte_timeout_ms)?,
        idle_timeout: time("idle_timeout_ms", raw.idle_timeout_ms)?,
        request_timeout: time("request_timeout_ms", raw.request_timeout_ms)?,
    })
}
