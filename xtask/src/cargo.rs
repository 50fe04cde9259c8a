//! The checks performed by cargo.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::{
    setup::{self, Install},
    workspace::{self, shell},
};

/// Checks the formatting.
pub(crate) fn fmt() -> Result<()> {
    let sh = shell()?;
    Ok(cmd!(sh, "cargo fmt --all --check").run()?)
}

/// Runs clippy over every target, and over each published crate by itself: without features, with the default ones, and
/// with each of its features alone. In the workspace, one crate's features are on because another needs them.
pub(crate) fn clippy() -> Result<()> {
    let sh = shell()?;
    cmd!(sh, "cargo clippy --workspace --all-targets --all-features -- -D warnings").run()?;
    // `--all-targets` omits what plain `cargo test` does not run.
    cmd!(sh, "cargo clippy --package xtask --test examples -- -D warnings").run()?;
    for package in workspace::published()? {
        let name = package.name.as_str();
        let alone = package.features.keys().filter(|feature| *feature != "default").map(String::as_str);
        for feature in std::iter::once("").chain(alone) {
            cmd!(
                sh,
                "cargo clippy --quiet -p {name} --no-default-features --features {feature} -- -D warnings"
            )
            .run()?;
        }
        cmd!(sh, "cargo clippy --quiet -p {name} -- -D warnings").run()?;
    }
    Ok(())
}

/// Runs the tests, with nextest if it is installed: it runs the tests of all crates side by side.
pub(crate) fn test(install: Install) -> Result<()> {
    // Here, because tests that run side by side must not install the same thing.
    setup::brokers(install)?;
    let valkey = setup::valkey(install)?;
    let sh = shell()?;
    let _valkey = sh.push_env("LONGWIRE_VALKEY", valkey);
    let runner = runner(&sh);
    Ok(cmd!(sh, "cargo {runner...} --workspace --all-features --lib --bins --tests").run()?)
}

/// Returns cargo's arguments that run tests.
fn runner(sh: &Shell) -> &'static [&'static str] {
    let nextest = cmd!(sh, "cargo nextest --version").quiet().ignore_stderr().read().is_ok();
    if nextest { &["nextest", "run"] } else { &["test"] }
}

/// The packages with loom models, and the features that they need.
const MODELS: &[(&str, &[&str])] = &[
    ("longwire-deflate", &[]),
    ("longwire-connection", &["--features", "deflate"]),
    ("longwire-hub", &[]),
    ("longwire-server", &[]),
    ("longwire-client", &[]),
];

/// Runs the loom models: the interleavings of the threads that share a connection, a hub, or another state.
pub(crate) fn loom() -> Result<()> {
    // A separate directory: the flag would cause a full rebuild, here and afterwards.
    let directory = workspace::target()?.join("loom");
    let sh = shell()?;
    // The stacks of loom's threads are too short to print a backtrace.
    let _backtrace = sh.push_env("RUST_BACKTRACE", "0");
    let _flags = sh.push_env("RUSTFLAGS", "--cfg longwire_loom");
    let _directory = sh.push_env("CARGO_TARGET_DIR", directory);
    for &(package, features) in MODELS {
        cmd!(sh, "cargo test --package {package} {features...} --lib models").run()?;
    }
    Ok(())
}

/// Runs the examples in the documentation.
pub(crate) fn doctest() -> Result<()> {
    let sh = shell()?;
    Ok(cmd!(sh, "cargo test --doc --workspace --all-features").run()?)
}

/// Builds the documentation of the crates.
pub(crate) fn doc() -> Result<()> {
    let sh = shell()?;
    let command = cmd!(sh, "cargo doc --workspace --all-features --no-deps");
    Ok(command.env("RUSTDOCFLAGS", "-D warnings").run()?)
}

/// Builds the examples and the program `longwire`, reusing what the tests have built.
pub(crate) fn build_examples() -> Result<()> {
    let sh = shell()?;
    Ok(cmd!(sh, "cargo build --workspace --all-features --examples --bin longwire").run()?)
}

/// Runs the tests of the examples, which must have been built; `test` leaves them out.
pub(crate) fn test_examples() -> Result<()> {
    let sh = shell()?;
    let runner = runner(&sh);
    Ok(cmd!(sh, "cargo {runner...} --package xtask --test examples").run()?)
}

/// Builds some examples for load: optimized, but without link-time optimization, which would take minutes.
pub(crate) fn build_optimized(names: &[&str]) -> Result<()> {
    let examples = names.iter().flat_map(|name| ["--example", name]);
    let sh = shell()?;
    Ok(cmd!(sh, "cargo build --profile checks --package longwire-examples {examples...}").run()?)
}
