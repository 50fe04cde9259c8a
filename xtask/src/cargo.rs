//! The checks performed by cargo.

use std::{env, process::Command};

use anyhow::Result;

use crate::{process, workspace};

/// Returns a cargo command in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args(arguments);
    command
}

/// Checks the formatting.
pub(crate) fn fmt() -> Result<()> {
    process::run(&mut cargo(&["fmt", "--all", "--check"]))
}

/// Runs clippy over every target, and checks the facade with the sets of features that omit something.
pub(crate) fn clippy() -> Result<()> {
    let everything = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    process::run(&mut cargo(&everything))?;
    for features in ["", "client", "server"] {
        let facade = ["clippy", "-p", "longwire", "--no-default-features", "--features", features];
        process::run(cargo(&facade).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Runs the tests, with nextest if it is installed: it runs the tests of all crates side by side.
pub(crate) fn test() -> Result<()> {
    let nextest = process::output(&mut cargo(&["nextest", "--version"])).is_ok();
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    process::run(cargo(runner).args(["--workspace", "--all-features", "--lib", "--bins", "--tests"]))
}

/// Runs the loom models: the interleavings of the threads that share a connection.
pub(crate) fn loom() -> Result<()> {
    let mut command = cargo(&["test", "--package", "longwire-connection", "--lib", "models"]);
    // A separate directory: the flag would cause a full rebuild, here and afterwards.
    let directory = workspace::target()?.join("loom");
    process::run(command.env("RUSTFLAGS", "--cfg longwire_loom").env("CARGO_TARGET_DIR", directory))
}

/// Runs the examples in the documentation.
pub(crate) fn doctest() -> Result<()> {
    process::run(&mut cargo(&["test", "--doc", "--workspace", "--all-features"]))
}

/// Builds the documentation of the crates.
pub(crate) fn doc() -> Result<()> {
    let mut command = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds the examples, reusing what the tests have built.
pub(crate) fn build_examples() -> Result<()> {
    process::run(&mut cargo(&["build", "--workspace", "--all-features", "--examples"]))
}

/// Builds some examples for load: optimized, but without link-time optimization, which would take minutes.
pub(crate) fn build_optimized(names: &[&str]) -> Result<()> {
    let mut command = cargo(&["build", "--profile", "checks", "--package", "longwire-examples"]);
    process::run(command.args(names.iter().flat_map(|name| ["--example", name])))
}
