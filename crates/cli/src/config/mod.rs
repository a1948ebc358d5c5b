//! Configuration: a file or nothing → `RawConfig` → `Config`, and its generated reference.
//!
//! **Invariant**: a secret is only ever named, never held in the file or shown (test
//! `secrets_are_never_shown`).

pub(crate) mod budgets;
pub(crate) mod build;
mod cascades;
mod contexts;
pub(crate) mod fault;
mod loops;
mod names;
pub(crate) mod providers;
pub(crate) mod raw;
mod router;
pub(crate) mod routes;
#[cfg(test)]
mod rows;
mod rules;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod watch;

use std::path::{Path, PathBuf};

use build::{Build, Config, Place};
use fault::ConfigError;
use gateway::setup::Budgets;
use policy::prices::PriceBook;
use raw::RawConfig;

use crate::env::{CONFIG, Environment};

/// Which configuration a command works with.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Source {
    /// The configuration file; default: `$TOKENWISE_CONFIG`, else `tokenwise/config.toml` in
    /// `$XDG_CONFIG_HOME` or `~/.config` if it is there, else none.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Source {
    /// The file that this names; none if there is nothing to read.
    pub(crate) fn file(&self, environment: &Environment) -> Option<PathBuf> {
        let named = self
            .config
            .clone()
            .or_else(|| environment.get(CONFIG).map(PathBuf::from));
        named.or_else(|| environment.default_config().filter(|path| path.exists()))
    }

    /// Reads and checks the configuration.
    pub(crate) fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        load(self.file(environment).as_deref(), environment)
    }
}

impl Source {
    /// Where the ledger is; nothing else is checked, so that it can be read without the providers'
    /// keys.
    pub(crate) fn place(&self, environment: &Environment) -> Result<Place, ConfigError> {
        let file = self.file(environment);
        let raw = read(file.as_deref())?;
        build::place(&Build::new(&raw, file.as_deref(), environment))
    }

    /// What may be used; nothing else is checked, so that it can be asked without the providers'
    /// keys.
    pub(crate) fn budgets(&self, environment: &Environment) -> Result<Budgets, ConfigError> {
        let file = self.file(environment);
        let raw = read(file.as_deref())?;
        budgets::checked(&Build::new(&raw, file.as_deref(), environment))
    }

    /// The price book; nothing else is checked.
    pub(crate) fn prices(&self, environment: &Environment) -> Result<PriceBook, ConfigError> {
        let file = self.file(environment);
        let raw = read(file.as_deref())?;
        build::prices(&Build::new(&raw, file.as_deref(), environment))
    }
}

/// Reads and checks a file, or what holds without one.
pub(crate) fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, ConfigError> {
    build::build(&read(file)?, file, environment)
}

/// What a file says; without one, nothing is said.
fn read(file: Option<&Path>) -> Result<RawConfig, ConfigError> {
    let Some(file) = file else {
        return Ok(RawConfig::default());
    };
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
        path: file.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::shape(file, &text, &error))
}
