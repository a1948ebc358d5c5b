//! Opens recorded traffic, plain or gzip, and finds out by its content what format it has.
//!
//! **Invariant**: a file whose format is not known is an error that lists the known ones (test
//! `formats_are_told_apart`).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use serde_json::Value;

/// The first two bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A format of recorded traffic, one JSON document a line in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Agent trajectories: a pool of messages and, for each call, the ranges that it sent.
    Trajectories,
    /// Request bodies of either dialect.
    Requests,
    /// Serving traces: times, lengths and hashes of prompt blocks.
    Blocks,
    /// The gateway's own export: calls with usage and costs.
    Export,
}

impl Format {
    /// Tells the format from the first line.
    pub(super) fn of(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line).context("the first line is not JSON")?;
        let has = |name: &str| value.get(name).is_some();
        Ok(if has("steps") && has("messages") {
            Self::Trajectories
        } else if has("hash_ids") {
            Self::Blocks
        } else if has("messages") && has("model") {
            Self::Requests
        } else if has("call") && has("settled") {
            Self::Export
        } else {
            bail!(
                "the first line is none of the formats that replay knows: trajectories \
                 (`messages` and `steps`), request bodies (`model` and `messages`), serving traces \
                 (`hash_ids`) or an export of this gateway (`call` and `settled`)"
            )
        })
    }
}

/// An open file and its format.
pub(crate) struct Source {
    pub(crate) format: Format,
    first: Option<String>,
    lines: std::io::Lines<Box<dyn BufRead>>,
}

impl Source {
    /// Opens a file; `bar` follows how far it has been read.
    pub(crate) fn open(path: &Path, bar: &ProgressBar) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let mut magic = Vec::new();
        let head = &mut file.by_ref().take(2);
        head.read_to_end(&mut magic)
            .with_context(|| format!("cannot read {shown}"))?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = BufReader::new(bar.wrap_read(std::io::Cursor::new(magic).chain(file)));
        let reader: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::new(MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        let mut lines = reader.lines();
        let first = loop {
            match lines.next() {
                Some(line) => {
                    let line = line.with_context(|| format!("cannot read {shown}"))?;
                    if !line.trim().is_empty() {
                        break line;
                    }
                }
                None => bail!("{shown} is empty"),
            }
        };
        let format = Format::of(&first).with_context(|| format!("cannot replay {shown}"))?;
        Ok(Self {
            format,
            first: Some(first),
            lines,
        })
    }
}

impl Iterator for Source {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        self.lines
            .find(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    fn check(line: &str, expect: Option<Format>) {
        assert_eq!(Format::of(line).ok(), expect, "{line}");
    }

    #[test]
    fn formats_are_told_apart() {
        check(
            r#"{"id":"a","messages":[],"steps":[]}"#,
            Some(Format::Trajectories),
        );
        check(r#"{"model":"m","messages":[]}"#, Some(Format::Requests));
        check(
            r#"{"timestamp":0,"input_length":9,"hash_ids":[]}"#,
            Some(Format::Blocks),
        );
        check(r#"{"call":"call_1","settled":null}"#, Some(Format::Export));
        check(r#"{"prompt":"hi"}"#, None);
        check("hello", None);
    }
}
