//! The project's own commands: `cargo xtask ci` runs every check, and each check has its own name.

#![forbid(unsafe_code)]

mod abuse;
mod api;
mod autobahn;
mod bench;
mod browser;
mod cargo;
mod ci;
mod examples;
mod interop;
mod process;
mod programs;
mod setup;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check, the cheap ones first, and stops at the first that fails.
    Ci,
    /// Checks the formatting.
    Fmt,
    /// Runs clippy over everything, and checks the facade with each set of its features.
    Clippy,
    /// Checks the promises of the architecture and the style that no compiler checks.
    Tidy,
    /// Runs the tests.
    Test,
    /// Runs the loom models of the state that the tasks of a connection share.
    Loom,
    /// Runs the examples in the documentation.
    Doctest,
    /// Builds the documentation.
    Doc,
    /// Compares the public API with the listing in `docs/api`.
    Api(api::Arguments),
    /// Builds the examples and runs each with a fixed script.
    Examples,
    /// Tests the examples against Node's `ws`, undici, Python's `websockets`, curl, Java and proxies.
    Interop(interop::Arguments),
    /// Drives the pages of `demo` and `session`, and pages that exchange messages with servers, in headless Chromium.
    Browser(browser::Arguments),
    /// Runs the Autobahn test suite against longwire's server and its client.
    Autobahn(autobahn::Arguments),
    /// Attacks the echo server, and fails if memory, descriptors or an honest client suffer (Linux).
    Abuse(abuse::Arguments),
    /// Compares longwire's echo server with those of other libraries.
    Bench(bench::Arguments),
    /// Installs the requirements of the other commands that are missing.
    Setup,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Ci => ci::run(),
        Command::Fmt => cargo::fmt(),
        Command::Clippy => cargo::clippy(),
        Command::Tidy => tidy::run(),
        Command::Test => cargo::test(),
        Command::Loom => cargo::loom(),
        Command::Doctest => cargo::doctest(),
        Command::Doc => cargo::doc(),
        Command::Api(arguments) => api::run(&arguments),
        Command::Examples => examples::run(),
        Command::Interop(arguments) => interop::run(&arguments),
        Command::Browser(arguments) => browser::run(&arguments),
        Command::Autobahn(arguments) => autobahn::run(&arguments),
        Command::Abuse(arguments) => abuse::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Setup => setup::everything(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason:#}");
            ExitCode::FAILURE
        }
    }
}
