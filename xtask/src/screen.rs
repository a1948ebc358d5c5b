//! Writes lines for the person who started the command.
//!
//! **Invariant**: a reader that went away (`cargo xtask test | head`) does not end the run.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes one line to standard output.
pub(crate) fn line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // A closed pipe means that nobody reads; the steps matter all the same.
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}

/// Writes one formatted line to standard output; every file of the package can say it.
macro_rules! say {
    ($($argument:tt)*) => { $crate::screen::line(format_args!($($argument)*)) };
}
