//! The project's own commands: `cargo xtask ci` runs every check, and each check has its own name.
//!
//! A library, so that the tests of the examples can use what the commands use: programs in conversation with a test.

#![forbid(unsafe_code)]

mod abuse;
mod api;
mod autobahn;
mod bench;
mod browser;
mod cargo;
mod ci;
mod coverage;
mod examples;
mod fuzz;
mod interop;
mod mutants;
pub mod process;
pub mod programs;
pub mod setup;
mod simulate;
mod soak;
mod supply;
mod tidy;
pub mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use setup::{Install, Tool};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Installs nothing: if a tool is missing, fails with the command that would install it.
    #[arg(long, global = true)]
    no_install: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check, the cheap ones first, and stops at the first that fails.
    Ci,
    /// Checks the formatting.
    Fmt,
    /// Runs clippy over everything, and over each published crate with each of its features alone.
    Clippy,
    /// Checks the promises of the architecture and the style that no compiler checks.
    Tidy,
    /// Runs the tests.
    Test,
    /// Runs the loom models of the state that several threads share.
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
    /// Drives the pages of examples, and pages that exchange messages with servers, in headless Chromium.
    Browser(browser::Arguments),
    /// Runs the Autobahn test suite against longwire's server and its client.
    Autobahn(autobahn::Arguments),
    /// Attacks the echo server, and fails if memory, descriptors or an honest client suffer (Linux).
    Abuse(abuse::Arguments),
    /// Fuzzes the parsers, the state machines, whole connections and the hub with libFuzzer.
    Fuzz(fuzz::Arguments),
    /// Measures which lines of the libraries the tests cover, and fails below the goals.
    Coverage(coverage::Arguments),
    /// Changes the code in small ways, and fails if the tests do not notice.
    Mutants(mutants::Arguments),
    /// Runs worlds of servers, clients and networks in virtual time, from seeds.
    Simulate(simulate::Arguments),
    /// Puts a server under a long mixed load, and fails if anything stays or grows (Linux).
    Soak(soak::Arguments),
    /// Checks advisories, licences and sources of dependencies, and that packages can be built again.
    Supply(supply::Arguments),
    /// Compares longwire's echo server with those of other libraries.
    Bench(bench::Arguments),
    /// Installs the requirements of the other commands that are missing.
    Setup {
        /// Only these tools.
        only: Vec<Tool>,
    },
}

/// Runs the command that the arguments of this program name.
pub fn main() -> ExitCode {
    let Arguments { command, no_install } = Arguments::parse();
    let install = if no_install { Install::Forbidden } else { Install::Allowed };
    let outcome = match command {
        Command::Ci => ci::run(install),
        Command::Fmt => cargo::fmt(),
        Command::Clippy => cargo::clippy(),
        Command::Tidy => tidy::run(),
        Command::Test => cargo::test(install),
        Command::Loom => cargo::loom(),
        Command::Doctest => cargo::doctest(),
        Command::Doc => cargo::doc(),
        Command::Api(arguments) => api::run(&arguments),
        Command::Examples => examples::run(install),
        Command::Interop(arguments) => interop::run(&arguments, install),
        Command::Browser(arguments) => browser::run(&arguments, install),
        Command::Autobahn(arguments) => autobahn::run(&arguments, install),
        Command::Abuse(arguments) => abuse::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments, install),
        Command::Coverage(arguments) => coverage::run(&arguments, install),
        Command::Mutants(arguments) => mutants::run(&arguments, install),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Supply(arguments) => supply::run(&arguments, install),
        Command::Bench(arguments) => bench::run(&arguments, install),
        Command::Setup { only } => setup::run(&only, install),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason:#}");
            ExitCode::FAILURE
        }
    }
}
