//! Where a provider's key comes from: a reference, never the key itself.
//!
//! **Invariant**: a literal key is refused without being repeated (test
//! `references_are_read_and_literals_refused`).

use std::path::{Path, PathBuf};

use crate::env::Environment;

/// 64 KiB: a file that is larger holds something else than a key.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// This variable of the environment.
    Variable(String),
    /// This file.
    File(PathBuf),
    /// Each caller brings its own.
    Client,
    /// There is none.
    Nothing,
}

impl Reference {
    /// Reads a reference; an error says what is allowed.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let named = |what: &str, name: &str| match name.trim() {
            "" => Err(format!("names no {what} behind the colon")),
            name => Ok(name.to_owned()),
        };
        match text.split_once(':') {
            Some(("env", name)) => named("variable", name).map(Self::Variable),
            Some(("file", path)) => named("file", path).map(|path| Self::File(path.into())),
            _ if text == "client" => Ok(Self::Client),
            _ if text == "none" => Ok(Self::Nothing),
            _ => Err(
                "looks like a key itself (not shown); put it into an environment variable \
                      and write `env:NAME`, or into a file and write `file:PATH`; also allowed: \
                      `client`, `none`"
                    .to_owned(),
            ),
        }
    }

    /// The secret, if the reference leads to one; files are sought from `folder`.
    pub(crate) fn secret(
        &self,
        environment: &Environment,
        folder: &Path,
    ) -> Result<Option<String>, String> {
        match self {
            Self::Client | Self::Nothing => Ok(None),
            Self::Variable(name) => {
                let value = environment.get(name).map(|value| value.trim().to_owned());
                value.map(Some).ok_or_else(|| {
                    format!("names the variable `{name}`, which is not set; export it first")
                })
            }
            Self::File(path) => {
                let path = environment.path(folder, path);
                let fault = |what: &str| format!("names the file {}, which {what}", path.display());
                let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if length > FILE_BYTES_MAX {
                    return Err(fault(
                        "is too large for a key; name a file with the key alone",
                    ));
                }
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| fault(&format!("cannot be read: {error}")))?;
                match text.trim() {
                    "" => Err(fault("is empty; write the key into it")),
                    key => Ok(Some(key.to_owned())),
                }
            }
        }
    }
}

impl std::fmt::Display for Reference {
    /// Where it comes from, for people: `*** (env:NAME)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "*** (env:{name})"),
            Self::File(path) => write!(f, "*** (file:{})", path.display()),
            Self::Client => f.write_str("each client's own"),
            Self::Nothing => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_literals_refused() {
        for (text, expect) in [
            ("env:A", Ok(Reference::Variable("A".into()))),
            ("file:/k/a", Ok(Reference::File("/k/a".into()))),
            ("client", Ok(Reference::Client)),
            ("none", Ok(Reference::Nothing)),
            ("env:", Err("names no variable")),
            ("sk-planted", Err("looks like a key itself (not shown)")),
            (
                "http://sk-planted",
                Err("looks like a key itself (not shown)"),
            ),
        ] {
            match (Reference::read(text), expect) {
                (Ok(read), Ok(expect)) => assert_eq!(read, expect, "{text}"),
                (Err(message), Err(part)) => {
                    assert!(
                        message.contains(part) && !message.contains("planted"),
                        "{message}"
                    );
                }
                (read, expect) => panic!("{text}: {read:?}, not {expect:?}"),
            }
        }
    }

    #[test]
    fn a_reference_leads_to_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "sk-file\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let environment = Environment::from([("A", " sk-env ")]);
        for (reference, expect) in [
            ("env:A", Ok(Some("sk-env"))),
            ("env:B", Err("variable `B`, which is not set")),
            ("file:key", Ok(Some("sk-file"))),
            ("file:empty", Err("is empty")),
            ("file:absent", Err("cannot be read")),
            ("client", Ok(None)),
        ] {
            let secret = Reference::read(reference)
                .unwrap()
                .secret(&environment, folder.path());
            match (secret, expect) {
                (Ok(secret), Ok(expect)) => assert_eq!(secret.as_deref(), expect),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (secret, expect) => panic!("{reference}: {secret:?}, not {expect:?}"),
            }
        }
    }
}
