//! The repository as a list of texts, read once and handed to the tidy rules.
//!
//! **Invariant**: rules see only this list, never the disk, so that each can be shown a small bad
//! tree (the self-tests of `tidy`).

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::source;

/// Folders that the build, the package managers and the benches write.
const GENERATED_FOLDERS: &[&str] = &[
    ".git",
    ".venv",
    "__pycache__",
    "bench/out",
    "bench/peers",
    "bench/payloads",
    "bench/run",
    "node_modules",
    "target",
];

/// A text file of the repository.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// From the root, with `/` between the parts.
    pub(crate) path: String,
    /// As it is on disk.
    pub(crate) text: String,
    /// The text without comments and literals; empty unless Rust.
    pub(crate) code: String,
    /// The code without tests; empty unless Rust, and empty in a file of tests.
    pub(crate) shipped: String,
}

/// All text files of the repository, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Sorted by path.
    pub(crate) files: Vec<File>,
}

impl File {
    /// A file from its path and text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut file = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            ..Self::default()
        };
        if file.extension() == "rs" {
            file.code = source::code(text);
        }
        if !path.contains("/tests/") && file.name() != "tests.rs" {
            file.shipped = source::shipped(&file.code);
        }
        file
    }

    /// What the name ends with, without the dot; empty if there is none.
    pub(crate) fn extension(&self) -> &str {
        self.name()
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension)
    }

    /// The folder under `crates/` that holds the file, if any.
    pub(crate) fn room(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl Tree {
    /// Reads every text file under the root, except what is generated.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut files = Vec::new();
        read_folder(root, "", &mut files)
            .map_err(|error| format!("cannot read {}: {error}", root.display()))?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.extension() == "rs")
    }

    /// The file at a path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// The root of the repository: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if GENERATED_FOLDERS.contains(&path.as_str()) || GENERATED_FOLDERS.contains(&name.as_str())
        {
            continue;
        }
        if entry.file_type()?.is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files)?;
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.push(File::new(&path, &text));
        }
    }
    Ok(())
}

#[cfg(test)]
impl Tree {
    /// A small tree for the self-tests of the rules.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new(path, text))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tree, root};

    #[test]
    fn the_tree_holds_the_sources_and_nothing_generated() {
        let tree = Tree::read(&root()).unwrap();
        assert!(tree.file("xtask/src/tree.rs").is_some());
        assert!(
            tree.files
                .iter()
                .all(|file| !file.path.starts_with("target/"))
        );
    }
}
