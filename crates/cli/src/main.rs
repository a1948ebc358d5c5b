//! `tokenwise`: the only binary. Reads the command line, runs one command, says what went wrong.
//!
//! **Invariant**: an error is one line on standard error and an exit code (test
//! `failures_have_their_codes`).

#[macro_use]
mod print;

mod command;
mod config;
mod env;
mod ledger;
mod replay;
mod restore;
mod simulate;
mod tokens;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::env::Environment;
use crate::print::failure;

/// A gateway between applications and LLM providers: the same work for less, with exact books.
#[derive(Debug, Parser)]
#[command(name = "tokenwise", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(command::serve::Arguments),
    Demo(command::demo::Arguments),
    Report(command::report::Arguments),
    Tasks(command::tasks::Arguments),
    Explain(command::explain::Arguments),
    Export(command::export::Arguments),
    Price(command::price::Arguments),
    Budgets(command::budgets::Arguments),
    Keys(command::keys::Arguments),
    Stop(command::stop::StopArguments),
    Resume(command::stop::ResumeArguments),
    Check(command::check::Arguments),
    Doctor(command::doctor::Arguments),
    Replay(replay::ReplayArguments),
    Cascade(command::cascade::Arguments),
    Focus(command::focus::Arguments),
    Route(command::route::Arguments),
    Learn(command::learn::Arguments),
    Simulate(command::simulate::Arguments),
    Think(command::think::Arguments),
    Agents(command::agents::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    let result = match arguments.command {
        Command::Serve(arguments) => command::serve::run(&arguments, environment),
        Command::Demo(arguments) => command::demo::run(&arguments),
        Command::Report(arguments) => command::report::run(&arguments, &environment),
        Command::Tasks(arguments) => command::tasks::run(&arguments, &environment),
        Command::Explain(arguments) => command::explain::run(&arguments, &environment),
        Command::Export(arguments) => command::export::run(&arguments, &environment),
        Command::Price(arguments) => command::price::run(&arguments, &environment),
        Command::Budgets(arguments) => command::budgets::run(&arguments, &environment),
        Command::Keys(arguments) => command::keys::run(&arguments, &environment),
        Command::Stop(arguments) => command::stop::stop(&arguments, &environment),
        Command::Resume(arguments) => command::stop::resume(&arguments, &environment),
        Command::Check(arguments) => command::check::run(&arguments, &environment),
        Command::Doctor(arguments) => command::doctor::run(&arguments, &environment),
        Command::Replay(arguments) => {
            replay::run(&arguments, &mut std::io::stdout().lock()).map(|()| ExitCode::SUCCESS)
        }
        Command::Focus(arguments) => command::focus::run(&arguments),
        Command::Cascade(arguments) => command::cascade::run(&arguments),
        Command::Route(arguments) => command::route::run(&arguments, &environment),
        Command::Learn(arguments) => command::learn::run(&arguments),
        Command::Simulate(arguments) => command::simulate::run(arguments),
        Command::Think(arguments) => command::think::run(&arguments),
        Command::Agents(arguments) => command::agents::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => match failure::code(&error) {
            Some(code) => {
                print::note(&format!("error: {}", failure::chain(error.as_ref())));
                ExitCode::from(code)
            }
            None => ExitCode::SUCCESS,
        },
    }
}
