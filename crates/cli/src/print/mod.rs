//! What people and programs read: tables, amounts, dates, JSON, errors.
//!
//! **Invariant**: everything leaves through [`out`], so that a closed pipe ends a command quietly
//! (test `a_closed_pipe_is_no_failure`).

/// Appends formatted text to a `String`, which cannot fail.
macro_rules! put {
    ($text:expr, $($argument:tt)*) => {{
        use std::fmt::Write as _;
        write!($text, $($argument)*).ok();
    }};
}

pub(crate) mod amount;
pub(crate) mod failure;
pub(crate) mod figures;
pub(crate) mod table;
pub(crate) mod time;

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::Value;

/// How a command writes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Format {
    /// Print JSON instead of tables; amounts are integer pico-dollars (10⁻¹² USD).
    #[arg(long)]
    pub(crate) json: bool,
}

/// Writes to standard output.
pub(crate) fn out(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    stdout.flush().context("cannot write to standard output")
}

/// Writes a JSON document to standard output.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    out(&format!("{value:#}\n"))
}

/// Writes for people to standard error, where a result on standard output must stay clean.
pub(crate) fn note(text: &str) {
    // A note that nobody can read is no reason to stop.
    writeln!(std::io::stderr().lock(), "{text}").ok();
}
