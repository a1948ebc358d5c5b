//! `tokenwise export`: the ledger's calls for other programs, one a line.
//!
//! **Invariant**: what is exported adds up to what `report` says (test
//! `an_export_is_the_ledger_line_by_line` in `tests/it`).

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use policy::ports::read::LedgerReader as _;
use store::export::{csv_header, csv_line, json_line};

use super::which::Which;
use crate::env::Environment;
use crate::ledger::LedgerSource;

/// Write the ledger's calls for other programs: one a line, the oldest first.
///
/// Amounts are integer pico-dollars (10⁻¹² USD), times milliseconds since 1970 (UTC), and what is not
/// known is empty or `null`. No prompt and no answer is in it, for the ledger has none.
/// `tokenwise replay` reads the JSON Lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write CSV with a line of column names, a call's legs summed, instead of JSON Lines with each leg.
    #[arg(long)]
    csv: bool,
    /// Write JSON Lines; so it is without `--csv`, too.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    ledger: LedgerSource,
}

/// Exports.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let filter = arguments.which.filter()?;
    let reader = arguments.ledger.reader(environment)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let unwritten = "cannot write to standard output";
    if arguments.csv {
        csv_header(&mut out).context(unwritten)?;
    }
    for call in reader.calls(&filter) {
        let call = call?;
        let written = if arguments.csv {
            csv_line(&call, &mut out)
        } else {
            json_line(&call, &mut out)
        };
        written.context(unwritten)?;
    }
    out.flush().context(unwritten)?;
    Ok(ExitCode::SUCCESS)
}
