//! Mutations: small changes to the code, each of which a test of the changed crate must notice.
//!
//! What cannot be noticed, or is as right as the code, is named in `.cargo/mutants.toml`.

use anyhow::Result;
use xshell::cmd;

use crate::{
    setup::{self, Install},
    workspace::{self, shell},
};

/// The options of `cargo xtask mutants`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The crates to change. Default: those without IO, and the hub.
    crates: Vec<String>,
    /// One of N equal parts of the mutations, counted from 0.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
}

/// Tests each mutation, and fails if one is not noticed. The lists are in `target/mutants.out`.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let program = setup::cargo_mutants(install)?;
    let crates = match &*arguments.crates {
        [] => CRATES.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    let packages = crates.iter().flat_map(|name| ["--package", name]);
    let shard = arguments.shard.iter().flat_map(|shard| ["--shard", shard]);
    let (sh, target) = (shell()?, workspace::target()?);
    let command = cmd!(sh, "{program} mutants {packages...} {shard...} --no-shuffle --output {target}");
    // It builds each mutation for itself, most of the time by linking.
    let command = command.env("CARGO_PROFILE_TEST_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
    // A test that takes long with a mutation has noticed it.
    Ok(command.args(["--timeout", "60"]).env("PROPTEST_CASES", "64").run()?)
}

const CRATES: [&str; 5] =
    ["longwire-frame", "longwire-deflate", "longwire-handshake", "longwire-protocol", "longwire-hub"];
