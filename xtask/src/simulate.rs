//! The simulation, whose first seeds are tests: this command runs as many as wanted.

use anyhow::Result;
use xshell::cmd;

use crate::workspace::shell;

/// The options of `cargo xtask simulate`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The number of seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Worlds of several nodes with a broker, not of one server.
    #[arg(long)]
    cluster: bool,
}

/// Runs worlds of the crate `simulation`. Prints the seeds of those that are not as they must be, and fails then.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (from, seeds) = (arguments.from.to_string(), arguments.seeds.to_string());
    let sh = shell()?;
    let world = arguments.cluster.then_some("cluster");
    Ok(cmd!(sh, "cargo run --profile checks --package simulation -- {world...} {from} {seeds}").run()?)
}
