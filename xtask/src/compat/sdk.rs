//! The official SDKs: which there are, how they are installed, how their drivers are started.
//!
//! **Invariant**: SDKs live in the target folder and nothing is installed outside of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cargo::{answers, succeed};
use crate::tree::root;

/// What a driver speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
}

impl Dialect {
    /// What the SDK expects its base URL to end with.
    pub(super) fn base_path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1",
            Self::Anthropic => "",
        }
    }
}

/// The SDKs of one language.
pub(super) struct Kit {
    /// The row of the table.
    pub(super) step: &'static str,
    /// What the row says.
    pub(super) what: &'static str,
    /// Name, dialect, and file in `compat/` of each driver.
    pub(super) drivers: &'static [(&'static str, Dialect, &'static str)],
    /// The file in `compat/` that pins the versions.
    pins: &'static str,
    language: Language,
}

#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    Node,
}

pub(super) static KITS: &[Kit] = &[
    Kit {
        step: "compat python",
        what: "openai and anthropic, through the gateway and direct",
        drivers: &[
            ("openai-python", Dialect::OpenAi, "openai_python.py"),
            (
                "anthropic-python",
                Dialect::Anthropic,
                "anthropic_python.py",
            ),
        ],
        pins: "requirements.txt",
        language: Language::Python,
    },
    Kit {
        step: "compat node",
        what: "openai and @anthropic-ai/sdk, through the gateway and direct",
        drivers: &[
            ("openai-node", Dialect::OpenAi, "openai_node.mjs"),
            ("anthropic-node", Dialect::Anthropic, "anthropic_node.mjs"),
        ],
        pins: "package.json",
        language: Language::Node,
    },
    Kit {
        step: "compat agents",
        what: "claude code, opencode and qwen code, through the gateway and direct",
        drivers: &[
            ("claude-code", Dialect::Anthropic, "claude_code.mjs"),
            ("opencode", Dialect::OpenAi, "opencode.mjs"),
            ("qwen-code", Dialect::OpenAi, "qwen_code.mjs"),
        ],
        pins: "package.json",
        language: Language::Node,
    },
];

impl Kit {
    /// Installs the pinned versions into a folder, unless they are there already.
    pub(super) fn install(&self, folder: &Path) -> Result<(), String> {
        if !answers("python3", &["--version"]) {
            return Err("python3 is not installed; the results are compared with it".to_owned());
        }
        let pins_file = root().join("compat").join(self.pins);
        let pins = fs::read_to_string(&pins_file)
            .map_err(|error| format!("cannot read {}: {error}", pins_file.display()))?;
        let installed = folder.join(self.pins);
        let is_fresh =
            fs::read_to_string(folder.join("installed").join(self.pins)).is_ok_and(|it| it == pins);
        if !is_fresh {
            let write = |path: &Path| {
                fs::create_dir_all(path.parent().unwrap_or(folder))
                    .and_then(|()| fs::write(path, &pins))
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))
            };
            write(&installed)?;
            match self.language {
                Language::Python => install_python(folder, &pins_file)?,
                Language::Node => install_node(folder)?,
            }
            write(&folder.join("installed").join(self.pins))?;
        }
        match self.language {
            Language::Python => Ok(()),
            Language::Node => copy_node_drivers(folder),
        }
    }

    /// The command that starts a driver.
    pub(super) fn driver(&self, folder: &Path, file: &str) -> Command {
        match self.language {
            Language::Python => {
                let mut command = Command::new(folder.join("venv/bin/python"));
                command.arg("-B").arg(root().join("compat").join(file));
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                command.arg(folder.join(file));
                command
            }
        }
    }
}

fn install_python(folder: &Path, pins_file: &Path) -> Result<(), String> {
    let environment = folder.join("venv");
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment),
    )?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ])
    .arg(pins_file);
    succeed(&mut pip)
}

fn install_node(folder: &Path) -> Result<(), String> {
    if !answers("node", &["--version"]) || !answers("npm", &["--version"]) {
        return Err("node and npm are not installed".to_owned());
    }
    let quiet = [
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--loglevel=error",
    ];
    succeed(Command::new("npm").args(quiet).current_dir(folder))
}

/// Node looks for packages beside the script, so the scripts are put beside the packages.
fn copy_node_drivers(folder: &Path) -> Result<(), String> {
    let scripts = root().join("compat");
    let copy = || {
        for entry in fs::read_dir(&scripts)? {
            let path = entry?.path();
            if let (Some(name), Some("mjs")) = (
                path.file_name(),
                path.extension().and_then(|it| it.to_str()),
            ) {
                fs::copy(&path, folder.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error: std::io::Error| {
        format!("cannot copy the drivers of {}: {error}", scripts.display())
    })
}
