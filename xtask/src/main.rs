//! One command with nothing to install: `cargo xtask test` runs everything that CI runs.
//!
//! **Invariant**: std only, so that a bare clone can start it at once; and no step is left out in
//! silence (test `a_run_ends_with_its_counts`).

#[macro_use]
mod screen;

mod bench;
mod cargo;
mod check;
mod compat;
mod deny;
mod dist;
mod generate;
mod outcome;
mod source;
mod steps;
mod test;
mod tidy;
mod transcripts;
mod tree;
mod typos;

use std::process::ExitCode;

use steps::Steps;

/// A command, its line in the usage text, and what it runs.
struct Command {
    name: &'static str,
    says: &'static str,
    run: fn(&mut Steps, &[String]),
}

/// Sorted by name.
static COMMANDS: &[Command] = &[
    Command {
        name: "bench",
        says: "the benchmarks of bench/; arguments are passed on",
        run: bench::run,
    },
    Command {
        name: "check",
        says: "the quick part of test: format, tidy, lints",
        run: check::run,
    },
    Command {
        name: "compat",
        says: "the official SDKs through the real binary (--binary PATH)",
        run: compat::run,
    },
    Command {
        name: "deny",
        says: "licences, advisories, banned and doubled packages",
        run: deny::run,
    },
    Command {
        name: "dist",
        says: "a release for what runs for long, optimised by a profile of the demo",
        run: dist::run,
    },
    Command {
        name: "gen",
        says: "rewrites the reference, the schema and other generated files",
        run: generate::run,
    },
    Command {
        name: "test",
        says: "everything that CI runs, ending with a table",
        run: test::run,
    },
    Command {
        name: "transcripts",
        says: "runs the transcripts (--update rewrites what they expect)",
        run: transcripts::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = arguments
        .first()
        .and_then(|name| COMMANDS.iter().find(|command| command.name == name));
    let Some(command) = chosen else {
        say!("usage: cargo xtask COMMAND\n");
        for command in COMMANDS {
            say!("  {:<12} {}", command.name, command.says);
        }
        let asked_for_help = arguments
            .first()
            .is_some_and(|it| matches!(it.as_str(), "help" | "--help" | "-h"));
        return if asked_for_help {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    };
    let mut steps = Steps::new(steps::place());
    (command.run)(&mut steps, &arguments[1..]);
    steps.finish()
}
