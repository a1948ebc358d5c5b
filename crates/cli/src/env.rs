//! The environment: the only place that reads variables, and the list of those that mean something.
//!
//! **Invariant**: values never show, for some are secrets (test `values_do_not_show`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names the configuration file, where `--config` does not.
pub(crate) const CONFIG: &str = "TOKENWISE_CONFIG";

/// The folder of people's configuration files; default `~/.config`.
pub(crate) const CONFIG_HOME: &str = "XDG_CONFIG_HOME";

/// The folder of people's data; default `~/.local/share`.
pub(crate) const DATA_HOME: &str = "XDG_DATA_HOME";

/// The home folder.
pub(crate) const HOME: &str = "HOME";

/// Rewrites generated files instead of comparing them; looked at by tests only.
#[cfg(test)]
pub(crate) const UPDATE: &str = "UPDATE";

/// Our folder below those of the platform.
const FOLDER: &str = "tokenwise";

/// The variables that a process was started with.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process; what is not UTF-8 is left out.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Where the configuration file is looked for when nobody names one.
    pub(crate) fn default_config(&self) -> Option<PathBuf> {
        Some(self.folder(CONFIG_HOME, ".config")?.join("config.toml"))
    }

    /// Where the ledger is when nobody says otherwise.
    pub(crate) fn default_ledger(&self) -> Option<PathBuf> {
        Some(self.folder(DATA_HOME, ".local/share")?.join("ledger.db"))
    }

    /// A path as people write it: `~/` is the home, and a relative one starts at `folder`.
    pub(crate) fn path(&self, folder: &Path, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.get(HOME)) {
            (Ok(rest), Some(home)) => Path::new(home).join(rest),
            (Ok(_) | Err(_), _) => folder.join(path),
        }
    }

    /// Our folder below the one that a variable names, or below a folder of the home.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.get(variable).map(PathBuf::from);
        let base = named.or_else(|| Some(PathBuf::from(self.get(HOME)?).join(below_home)))?;
        Some(base.join(FOLDER))
    }
}

/// The platform's folder for files that may go at any time.
pub(crate) fn scratch_folder() -> PathBuf {
    std::env::temp_dir()
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
impl Environment {
    /// Adds a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_show() {
        let environment = Environment::from([("OPENAI_API_KEY", "sk-planted"), (HOME, "/h")]);
        let shown = format!("{environment:?}");
        assert!(
            shown.contains("OPENAI_API_KEY") && !shown.contains("sk-planted"),
            "{shown}"
        );
    }

    #[test]
    fn paths_are_taken_from_the_file_or_the_home() {
        let environment = Environment::from([(HOME, "/h")]);
        for (path, expect) in [
            ("a", "/f/a"),
            ("~/a", "/h/a"),
            ("/a", "/a"),
            ("~a", "/f/~a"),
        ] {
            assert_eq!(
                environment.path(Path::new("/f"), Path::new(path)),
                Path::new(expect)
            );
        }
    }

    #[test]
    fn platform_folders_win_over_the_home() {
        for (environment, expect) in [
            (Environment::from([]), None),
            (
                Environment::from([(HOME, "/h")]),
                Some("/h/.local/share/tokenwise/ledger.db"),
            ),
            (
                Environment::from([(HOME, "/h"), (DATA_HOME, "/d")]),
                Some("/d/tokenwise/ledger.db"),
            ),
        ] {
            assert_eq!(environment.default_ledger(), expect.map(PathBuf::from));
        }
        let environment = Environment::from([(HOME, "/h")]);
        assert_eq!(
            environment.default_config(),
            Some("/h/.config/tokenwise/config.toml".into())
        );
    }
}
