//! Failures on one line, and the exit code that each has.
//!
//! **Invariant**: a wrong configuration or usage exits with 2, anything else with 1 (test
//! `failures_have_their_codes`).

use std::error::Error;

use store::error::StoreError;

use crate::config::fault::ConfigError;

/// The exit code of a wrong command line or configuration.
pub(crate) const USAGE: u8 = 2;

/// The exit code of anything else that went wrong.
pub(crate) const FAILED: u8 = 1;

/// A command line that makes no sense, with what would.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// The exit code for an error; `None` if it is no failure at all.
pub(crate) fn code(error: &anyhow::Error) -> Option<u8> {
    let mut causes = error.chain();
    if causes.any(is_closed_pipe) {
        return None;
    }
    let of_usage = |cause: &(dyn Error + 'static)| {
        cause.is::<ConfigError>()
            || cause.is::<UsageError>()
            || matches!(cause.downcast_ref(), Some(StoreError::Missing { .. }))
    };
    Some(if error.chain().any(of_usage) {
        USAGE
    } else {
        FAILED
    })
}

fn is_closed_pipe(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn failures_have_their_codes() {
        let value = ConfigError::Value {
            file: "a.toml".into(),
            key: "listen".into(),
            problem: "is wrong".into(),
        };
        for (error, expect, text) in [
            (
                anyhow::Error::new(value).context("cannot start"),
                USAGE,
                "cannot start: a.toml: `listen` is wrong",
            ),
            (UsageError("say when".into()).into(), USAGE, "say when"),
            (
                anyhow::anyhow!("broken\nin two").context("x"),
                FAILED,
                "x: broken in two",
            ),
        ] {
            assert_eq!(code(&error), Some(expect));
            assert_eq!(chain(error.as_ref()), text);
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let result: Result<(), _> = Err(closed);
        assert_eq!(code(&result.context("cannot write").unwrap_err()), None);
    }
}
