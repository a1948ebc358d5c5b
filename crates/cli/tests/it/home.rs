//! A home folder for one test, and the binary in it.
//!
//! **Invariant**: the binary sees only the variables that a test names.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A secret that must never show.
pub(crate) const PLANTED: &str = "sk-planted-secret";

/// A folder that stands for a user's home.
pub(crate) struct Home(TempDir);

impl Home {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A configuration on a free port with this address as `openai`, and further tables.
    pub(crate) fn before(&self, provider: &str, more: &str) -> String {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[[providers]]\nid = \"openai\"\nbase_url = \"{provider}\"\n{more}"
        );
        let path = self.file("a.toml", &text);
        path.to_str().unwrap().to_owned()
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The binary with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenwise"));
        command
            .env_clear()
            .current_dir(self.path())
            .env("HOME", self.path());
        command
            .env("TMPDIR", self.path())
            .env("OPENAI_API_KEY", PLANTED)
            .args(arguments);
        command
    }

    /// Runs to the end; the planted secret must not show.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!shown.contains(PLANTED), "{arguments:?}: {shown}");
        output
    }

    /// What a successful run prints.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// What a successful run prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.prints(arguments);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// The exit code and the message of a run that fails.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(
            !output.status.success(),
            "{arguments:?}: {}",
            text(&output.stdout)
        );
        (output.status.code().unwrap(), text(&output.stderr))
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
