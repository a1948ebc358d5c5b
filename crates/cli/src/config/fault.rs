//! What is wrong with a configuration: which file, which key, which value, what is allowed.
//!
//! **Invariant**: a value that may be a secret is never part of a message (test
//! `secrets_are_never_shown` in `rows.rs`).

use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}; name another with `--config`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML, or has a field or type that is not known.
    #[error("{place}: {message}; `tokenwise check --schema` lists every field")]
    Shape {
        /// File, line and key.
        place: String,
        /// What the parser says.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{file}: `{key}` {problem}")]
    Value {
        /// The file, or what stands for it.
        file: String,
        /// The key, as a path.
        key: String,
        /// The value where it may be shown, what is allowed, and what to do.
        problem: String,
    },
}

impl ConfigError {
    /// What the parser refused, at its line; the rest of the line is not shown, for it may hold a
    /// secret.
    pub(crate) fn shape(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default().trim();
        let message = error.message().replace('\n', " ");
        Self::Shape {
            place: format!("{}:{number}: `{key}`", path.display()),
            message,
        }
    }
}
